"""Warnings of one thread kept, those of the others treated as they would have been."""

from __future__ import annotations

import contextlib
import threading
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, TextIO


@contextlib.contextmanager
def caught_here(said: list[str]) -> Iterator[None]:
    """Keep this thread's warnings as text, whatever the filters say about them.

    Python's filters belong to the whole process. While this thread's warnings always pass them,
    those of the others are held to the filters there were: shown, ignored, or raised.

    Args:
        said: Gets the warnings.
    """
    owner = threading.get_ident()
    before = tuple(warnings.filters)
    show = warnings.showwarning

    def shown(  # noqa: PLR0917 - as warnings.showwarning
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        if threading.get_ident() == owner:
            said.append(f"{category.__name__}: {message}")
            return
        action = _action(before, str(message), category, lineno)
        if action == "error":
            raise message if isinstance(message, Warning) else category(message)
        if action != "ignore":
            show(message, category, filename, lineno, file, line)

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = shown
        yield


def _action(
    filters: Sequence[tuple[Any, ...]], text: str, category: type[Warning], line: int
) -> str:
    """What the first filter that fits says; a filter for a module fits none, which is not known."""
    for action, message, kind, module, lineno in filters:
        fits = message is None or message.match(text)
        if fits and module is None and issubclass(category, kind) and lineno in (0, line):
            return str(action)
    return "default"
