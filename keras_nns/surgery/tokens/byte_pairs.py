"""Byte-pair encoding: which tokens others are made of, and the merges that are left.

A word is made into tokens by merging, again and again, the pair of neighbours whose merge ranks
first, the leftmost of several (Sennrich et al. 2016; Radford et al. 2019). Say that a word is made
into tokens that all stay. No merge went over the border of two of them, so each was made as it is
where it stands alone, and the tokens in between are those of `made_of`. All of these stay, so every
merge that was made is still there; the others that are left are fewer than before, so that at each
step the same one ranks first. The word is made into the same tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

Merge = tuple[str, str]


class Merges:
    """The merges of a byte-pair tokenizer.

    Args:
        numbers: Number of every token.
        merges: Pairs of tokens, the first ranks first.
    """

    def __init__(self, numbers: Mapping[str, int], merges: Sequence[Merge]) -> None:
        self._numbers = numbers
        self._merges = merges
        self._ranks = {merge: rank for rank, merge in reversed(list(enumerate(merges)))}
        self.made = {a + b for a, b in merges}
        """Tokens that some merge makes."""

    def made_of(self, tokens: Iterable[str]) -> set[int]:
        """Return the numbers of the tokens that stand for a while where tokens are made."""
        found: set[int] = set()
        for token in tokens:
            found.update(self._numbers[part] for part in self._steps(token))
        return found

    def _steps(self, token: str) -> list[str]:
        """Return all that a token is made of, or nothing where merging never makes it."""
        parts = list(token)
        seen = [part for part in parts if part in self._numbers]
        unranked = len(self._merges)
        while len(parts) > 1:
            ranks = [self._ranks.get(pair, unranked) for pair in pairwise(parts)]
            first = min(ranks)
            if first == unranked:
                return []
            place = ranks.index(first)
            parts[place : place + 2] = [parts[place] + parts[place + 1]]
            seen.append(parts[place])
        return seen

    def left(self, tokens: set[str]) -> list[Merge]:
        """Return the merges of which all three tokens stay."""
        return [m for m in self._merges if {*m, m[0] + m[1]} <= tokens]
