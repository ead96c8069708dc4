"""Tokenizers of KerasHub: byte pairs and WordPiece.

**WordPiece** takes the longest token that fits, from the start of a word on. Where a word is made
into tokens that all stay, each was the longest of all that fit and is the longest of fewer too: the
word is made into the same tokens, and no other is needed. `byte_pairs` says why it is so there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from keras_hub.tokenizers import BytePairTokenizer, WordPieceTokenizer

from keras_nns.errors import SurgeryError
from keras_nns.surgery.tokens.byte_pairs import Merges
from keras_nns.surgery.tokens.pieces import alone


class HubPieces:
    """What tokenizers of KerasHub have in common.

    Args:
        tokenizer: The user's; it is not changed.
        names: Every token by its number.
    """

    def __init__(self, tokenizer: Any, names: Mapping[int, str]) -> None:
        self.tokenizer = tokenizer
        self.names = names
        self.special = special_of(tokenizer, names)

    def encode(self, texts: Sequence[str]) -> list[list[int]]:
        """Return the token numbers of texts."""
        if not texts:
            return []
        found = self.tokenizer.tokenize(list(texts))
        rows = found.to_list() if hasattr(found, "to_list") else found
        return [[int(number) for number in row] for row in rows]

    def renewed(self) -> Any:
        """Return a tokenizer of the same class and settings, without a vocabulary."""
        old = self.tokenizer
        new = type(old).from_config(old.get_config())
        # Some classes are told their special tokens and do not write them down.
        for name in getattr(old, "_special_token_attrs", ()):
            setattr(new, name, getattr(old, name))
        if hasattr(old, "_special_token_attrs"):
            new._special_token_attrs = list(old._special_token_attrs)
        return new

    def checked(self, new: Any, kept: Sequence[int]) -> Any:
        """Return a cut tokenizer once its special tokens are the old ones, numbered anew.

        Raises:
            SurgeryError: One has another number, which its class has fixed.
        """
        places = {number: place for place, number in enumerate(kept)}
        for name, number in _numbers(self.tokenizer).items():
            if number in places and getattr(new, name, None) != places[number]:
                raise SurgeryError(
                    f"{type(new).__name__} has fixed {name} at {getattr(new, name, None)}, and "
                    f"token {number} becomes {places[number]}: its vocabulary cannot be cut."
                )
        return new


def special_of(tokenizer: Any, names: Mapping[int, str]) -> dict[int, str]:
    """Return the tokens that mean something to the model, by number."""
    found = set(_numbers(tokenizer).values())
    by_name = {name: number for number, name in names.items()}
    told = [
        *(getattr(tokenizer, "special_tokens", None) or ()),
        *(getattr(tokenizer, "unsplittable_tokens", None) or ()),
        *(getattr(tokenizer, "_init_special_tokens", None) or ()),
        getattr(tokenizer, "oov_token", None),
    ]
    found.update(by_name[name] for name in told if name in by_name)
    return {number: names[number] for number in sorted(found) if number in names}


def _numbers(tokenizer: Any) -> dict[str, int]:
    """Return the numbers of special tokens by attribute, such as `pad_token_id`."""
    own = {name: value for name, value in vars(tokenizer).items() if name.endswith("_id")}
    return {name: int(value) for name, value in own.items() if isinstance(value, int)}


class BytePairs(HubPieces):
    """A `BytePairTokenizer`."""

    def __init__(self, tokenizer: BytePairTokenizer) -> None:
        numbers = {name: int(number) for name, number in tokenizer.vocabulary.items()}
        super().__init__(tokenizer, {number: name for name, number in numbers.items()})
        merges = [tuple(m.split(" ")) for m in tokenizer.merges if not m.startswith("#version:")]
        self._merges = Merges(numbers, [(a, b) for a, b in merges])
        # Among what no merge makes are the bytes, and special tokens nobody named.
        fixed = {
            n for name, n in numbers.items() if len(name) == 1 or name not in self._merges.made
        }
        # The class cannot be without a merge.
        fixed.update(numbers[part] for m in merges[:1] for part in (*m, "".join(m)))
        self.fixed = fixed.union(self.special)

    def made_of(self, tokens: Iterable[int]) -> set[int]:
        """Return the tokens that stand for a while where some tokens are being made."""
        return self._merges.made_of(self.names[number] for number in tokens)

    def cut(self, kept: Sequence[int]) -> Any:
        """Return a new tokenizer of the same class with tokens numbered as they stand here."""
        vocabulary = {self.names[number]: place for place, number in enumerate(kept)}
        new = self.renewed()
        left = [f"{a} {b}" for a, b in self._merges.left(set(vocabulary))]
        new.set_vocabulary_and_merges(vocabulary, left)
        return self.checked(new, kept)


class WordPieces(HubPieces):
    """A `WordPieceTokenizer`."""

    def __init__(self, tokenizer: WordPieceTokenizer) -> None:
        super().__init__(tokenizer, dict(enumerate(tokenizer.vocabulary)))
        plain = {n: name for n, name in self.names.items() if n not in self.special}
        single, held = alone(plain, tokenizer.suffix_indicator)
        self.fixed = frozenset(single | held).union(self.special)

    def made_of(self, tokens: Iterable[int]) -> set[int]:
        """Return nothing: a token is looked up as it is."""
        return set()

    def cut(self, kept: Sequence[int]) -> Any:
        """Return a new tokenizer of the same class with tokens numbered as they stand here."""
        new = self.renewed()
        # Which the class does not write down.
        new.split_on_cjk = self.tokenizer.split_on_cjk
        new.set_vocabulary([self.names[number] for number in kept])
        return self.checked(new, kept)
