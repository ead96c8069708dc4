"""What was changed of a file so that Keras 3 reads it."""

from __future__ import annotations


class Mended:
    """A list for the user: what was changed, and in which layers."""

    def __init__(self) -> None:
        self._found: dict[str, list[str]] = {}

    def add(self, what: str, where: str = "") -> None:
        """Add a change, and the layer or class that it was made in."""
        places = self._found.setdefault(what, [])
        if where and where not in places:
            places.append(where)

    def __bool__(self) -> bool:
        return bool(self._found)

    def __str__(self) -> str:
        told = [
            f"{what} ({', '.join(where[:5])}{', …' if len(where) > 5 else ''})" if where else what
            for what, where in self._found.items()
        ]
        return "; ".join(told)
