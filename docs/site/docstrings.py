"""Read docstrings as mkdocstrings does: its section of examples is called so in the plural."""

from __future__ import annotations

from typing import Any

from griffe import Extension, Object


class ExampleSections(Extension):
    """Rename the section `Example:`, which would be read as prose."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Change the docstring of whatever was loaded."""
        if obj.docstring is not None:
            lines = obj.docstring.value.splitlines()
            lines = ["Examples:" if line == "Example:" else line for line in lines]
            obj.docstring.value = "\n".join(lines)
