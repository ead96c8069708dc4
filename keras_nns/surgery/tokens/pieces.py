"""What is asked of a tokenizer that can be cut, whatever its kind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol


class Pieces(Protocol):
    """A tokenizer, read so that tokens of it can be left out.

    Attributes:
        names: Every token by its number.
        special: Those of them that mean something to the model (start, end, padding, unknown, …).
        fixed: Numbers of the tokens that always stay: the special ones, those that no text is made
            into (added by hand), and those without which some text could not be told.
    """

    names: Mapping[int, str]
    special: Mapping[int, str]
    fixed: frozenset[int]

    def made_of(self, tokens: Iterable[int]) -> set[int]:
        """Return the tokens that stand for a while where some tokens are being made."""

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token numbers of texts."""

    def cut(self, kept: Sequence[int]) -> Any:
        """Return a new tokenizer of the same class with tokens numbered as they stand here.

        Args:
            kept: Numbers in this one, rising; closed under `fixed` and `made_of`.
        """


def closed(pieces: Pieces, tokens: Iterable[int]) -> set[int]:
    """Return tokens with all that has to stay where they do."""
    stays = {*pieces.fixed, *tokens}
    return stays | pieces.made_of(stays)


def alone(names: Mapping[int, str], mark: str = "") -> tuple[set[int], set[int]]:
    """Return tokens of one character, and tokens with one that does not stand alone there.

    A text can be told in single characters where each has a token of its own. Where one has none,
    tokens that hold it stay.

    Args:
        names: Tokens by their number.
        mark: What stands in front of a token that goes on within a word. A character at the start
            of a word and within one are different ones then.
    """
    single, held = set(), {}
    for number, name in names.items():
        inside = bool(mark) and name.startswith(mark) and len(name) > len(mark)
        letters = name[len(mark) :] if inside else name
        # Only the first character of a token that begins a word begins one itself.
        within = [inside or (bool(mark) and place > 0) for place in range(len(letters))]
        held[number] = set(zip(letters, within, strict=True))
        if len(letters) == 1:
            single.add(number)
    known = set().union(*(held[number] for number in single))
    return single, {number for number, letters in held.items() if not letters <= known}
