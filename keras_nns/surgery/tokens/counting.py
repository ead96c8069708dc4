"""Count the tokens that texts are made of: what a vocabulary is cut by."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_nns.errors import DataError, SurgeryError
from keras_nns.files.atomic import Json
from keras_nns.surgery.tokens.known import pieces_of
from keras_nns.surgery.tokens.models import vocabulary_of
from keras_nns.surgery.tokens.pieces import Pieces, closed
from keras_nns.tables import Table, Tabular, share

_AT_ONCE = 256
"""Texts that are encoded together."""

_STEPS = (1, 2, 3, 5, 10, 20, 50, 100)


@dataclass(frozen=True, repr=False)
class TokenCounts(Tabular):
    """How often each token occurs in some texts. Print it for what cuts by it would leave.

    The counts of two parts of the texts add up: `counts + more`.

    Attributes:
        counts: How often, `(vocabulary,)`.
        texts: How many texts they are of.

    Example:
        >>> counts = nns.count_tokens(lm, texts[kinds == 0])
        >>> counts.counts.shape, counts.counts.sum() == 100 * 12
        ((40,), np.True_)
        >>> print((counts + nns.count_tokens(lm, texts[kinds == 1])).texts)
        200
    """

    counts: NDArray[np.int64]
    texts: int
    pieces: Pieces | None = None

    def __add__(self, other: TokenCounts) -> TokenCounts:
        """Return the counts of both texts.

        Raises:
            DataError: They are of other vocabularies.
        """
        names = [None if each.pieces is None else each.pieces.names for each in (self, other)]
        if self.counts.shape != other.counts.shape or names[0] != names[1]:
            raise DataError(
                f"Counts of two vocabularies, of {len(self.counts):,} and {len(other.counts):,} "
                "tokens, cannot be added. Count both kinds of text with the same tokenizer."
            )
        return TokenCounts(self.counts + other.counts, self.texts + other.texts, self.pieces)

    def used(self, min_count: int = 1) -> NDArray[np.int64]:
        """Return the numbers of the tokens that occur so often, rising."""
        return np.flatnonzero(self.counts >= max(1, min_count))

    def stay(self, min_count: int = 1) -> NDArray[np.int64]:
        """Return the numbers of the tokens that a cut by these counts leaves, rising.

        Beside those that occur so often, the ones that they are made of, and those that always
        stay, where the tokenizer is known.
        """
        used = self.used(min_count)
        if self.pieces is None:
            return used
        return np.array(sorted(closed(self.pieces, used.tolist())), np.int64)

    def covered(self, tokens: Iterable[int]) -> float:
        """Return the share of all that was counted that is of some tokens."""
        total = int(self.counts.sum())
        return float(self.counts[list(tokens)].sum()) / total if total else float("nan")

    def to_table(self) -> Table:
        """Return what is left of the vocabulary, by how often a token has to occur."""
        rows = []
        for least in _STEPS:
            used = self.used(least)
            if least > 1 and not used.size:
                break
            stay = self.stay(least)
            rows.append(
                (f"{least:,}", f"{used.size:,}", f"{stay.size:,}", share(self.covered(stay)))
            )
        total = int(self.counts.sum())
        caption = f"{total:,} tokens in {self.texts:,} texts, of a vocabulary of "
        caption += f"{len(self.counts):,}."
        if self.pieces is not None:
            caption += (
                " What others are made of, single bytes or characters, and special tokens stay too."
            )
        return Table(
            ("min_count", "tokens that occur so often", "tokens that stay", "of what was counted"),
            tuple(rows),
            caption,
        )

    def to_json(self) -> Json:
        """Return the counts as plain data: of the tokens that occur, by number."""
        occur = self.used().tolist()
        return {
            "texts": self.texts,
            "vocabulary": len(self.counts),
            "counts": {str(number): int(self.counts[number]) for number in occur},
        }


def count_tokens(
    model: Any, texts: Any, *, tokenizer: Any = None, layer: str | None = None
) -> TokenCounts:
    """Count how often each token occurs in texts of the kind that a model has to handle.

    Texts are read one after another; what is kept of them has the size of the vocabulary.

    Args:
        model: A language model: a task of KerasHub with its tokenizer, a backbone, or a functional
            model that looks tokens up.
        texts: Strings, one after another (a list, a generator), which the tokenizer encodes; or
            tokens: rows of numbers, or `{"token_ids": …, "padding_mask": …}` as the model takes it,
            of which padding does not count.
        tokenizer: What encodes the texts, where the model has none of its own.
        layer: Path of the embedding of tokens, where a functional model has several embeddings.

    Returns:
        The counts. Print them for a table of what cuts by them leave; `cut_vocabulary` takes them.

    Raises:
        DataError: There is no text, there are strings and no tokenizer, or a token is none of the
            vocabulary's.
        SurgeryError: The tokenizer cannot be cut, or the model looks no tokens up.

    Example:
        >>> counts = nns.count_tokens(lm, texts[kinds == 0][:20])
        >>> print(counts)
         min_count   tokens that occur so often   tokens that stay   of what was counted
        ...
        240 tokens in 20 texts, of a vocabulary of 40.
    """
    size, own = vocabulary_of(model, layer)
    pieces = reader_of(own, tokenizer)
    counts = np.zeros(size, np.int64)
    number = 0
    for row in _rows(texts, pieces):
        number += 1
        if row.size and not 0 <= row.min() <= row.max() < size:
            raise DataError(
                f"Text {number - 1} has token {int(row.max() if row.max() >= size else row.min())}"
                f", and the vocabulary of {model.name!r} has {size:,}."
            )
        counts += np.bincount(row, minlength=size)
    if not number:
        raise DataError("There is no text to count the tokens of.")
    return TokenCounts(counts, number, pieces)


def reader_of(own: Any, given: Any) -> Pieces | None:
    """Read the tokenizer that counts: the model's own, or the one that is given.

    Raises:
        SurgeryError: There are two, or it cannot be cut.
    """
    if own is not None and given is not None and given is not own:
        raise SurgeryError(
            f"The model has a tokenizer of its own ({type(own).__name__}), so another cannot be "
            "given. Leave tokenizer=… out, or take the preprocessor off: model.preprocessor = None."
        )
    tokenizer = given if own is None else own
    return None if tokenizer is None else pieces_of(tokenizer)


def _rows(texts: Any, pieces: Pieces | None) -> Iterator[NDArray[np.int64]]:
    """Yield the tokens of each text."""
    if isinstance(texts, str | bytes):
        raise DataError("Expected several texts. Received one string; put it into a list.")
    if isinstance(texts, Mapping):
        yield from _unpadded(texts)
        return
    given = iter(texts)
    while batch := list(islice(given, _AT_ONCE)):
        if not all(isinstance(text, str) for text in batch):
            yield from (_numbers(row) for row in batch)
        elif pieces is None:
            raise DataError(
                "The texts are strings, and the model has no tokenizer. Pass tokenizer=…, or give "
                "the tokens' numbers."
            )
        else:
            yield from (np.asarray(row, np.int64) for row in pieces.encode(batch))


def _unpadded(texts: Mapping[str, Any]) -> Iterator[NDArray[np.int64]]:
    if "token_ids" not in texts:
        raise DataError(f"Expected texts under 'token_ids'. Received: {list(texts)}.")
    tokens = np.asarray(texts["token_ids"])
    mask = np.asarray(texts.get("padding_mask", np.ones_like(tokens))).astype(bool)
    yield from (_numbers(row[stays]) for row, stays in zip(tokens, mask, strict=True))


def _numbers(row: Any) -> NDArray[np.int64]:
    tokens = np.asarray(row)
    if tokens.ndim != 1 or (tokens.size and not np.issubdtype(tokens.dtype, np.integer)):
        raise DataError(
            "Expected each text as a string or as a row of token numbers. Received: "
            f"{tokens.ravel()[:5]!r} of shape {tokens.shape}."
        )
    return tokens.astype(np.int64)
