"""Texts of several kinds as windows of tokens, as a language model takes them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from keras import tree
from numpy.typing import NDArray

from keras_nns.data.batches import as_batches
from keras_nns.data.labels import label_number
from keras_nns.engine import datasets
from keras_nns.errors import DataError

_SUFFIXES = {".keras", ".npz", ".zip", ".gz", ".png", ".jpg", ".jpeg", ".bmp", ".gif"}
_LEAST = 2
"""Tokens of a window, of which one is foretold."""


@dataclass(frozen=True, eq=False)
class Texts:
    """Windows of texts in tokens, with the kind of each.

    Attributes:
        inputs: What the model takes, arrays `(windows, steps)` in the structure of its inputs.
        kinds: Number of the kind of each window, `(windows,)`.
        names: Name of every kind.
        sources: Number of the text that each window is of, `(windows,)`.
    """

    inputs: Any
    kinds: NDArray[np.int64]
    names: tuple[str, ...]
    sources: NDArray[np.int64]

    @property
    def size(self) -> int:
        """How many windows there are."""
        return len(self.kinds)

    def only(self, chosen: NDArray[np.bool_]) -> Texts:
        """Return some of the windows."""
        inputs = tree.map_structure(lambda array: array[chosen], self.inputs)
        return Texts(inputs, self.kinds[chosen], self.names, self.sources[chosen])

    def of(self, labels: Sequence[int]) -> Texts:
        """Return the windows of some kinds."""
        return self.only(np.isin(self.kinds, list(labels)))

    def sample(self, tokens: int, seed: int) -> Texts:
        """Return windows of about as many tokens of each kind, drawn at random; all of fewer.

        Args:
            tokens: How many, of windows as long as the longest. One window at least is taken.
            seed: Which ones.
        """
        width = max(1, tree.flatten(self.inputs)[0].shape[1])
        most = max(1, -(-tokens // width))
        rng = np.random.default_rng(seed)
        chosen = np.zeros(self.size, dtype=bool)
        for number in range(len(self.names)):
            own = np.flatnonzero(self.kinds == number)
            chosen[own if len(own) <= most else rng.choice(own, most, replace=False)] = True
        return self.only(chosen)

    def divided(self, share: float, seed: int) -> tuple[Texts, Texts]:
        """Deal into texts to fit on and others held out, each kind by itself.

        Whole texts, never some of one's windows; texts that are equal stay together.

        Args:
            share: Of the texts, how many are held out.
            seed: Which ones.

        Raises:
            DataError: A kind has fewer than two different texts.
        """
        digests = self._digests(seed)
        held = np.zeros(self.size, dtype=bool)
        for number, name in enumerate(self.names):
            own = self.kinds == number
            known = sorted(set(digests[own].tolist()))
            if own.any() and len(known) < 2:
                raise DataError(
                    f"There is one text of kind {name!r}, and whole texts are held out to judge on:"
                    " each kind takes two at least. Pass more texts of it, or its files apart."
                )
            count = max(1, round(share * len(known)))
            held |= own & np.isin(digests, known[: min(count, len(known) - 1)])
        return self.only(~held), self.only(held)

    def _digests(self, seed: int) -> NDArray[np.uint64]:
        """Return a number for each window that goes by what is in all of its text."""
        arrays = [np.ascontiguousarray(array) for array in tree.flatten(self.inputs)]
        key = int(seed).to_bytes(8, "little", signed=True)
        found: dict[int, Any] = {}
        for place, source in enumerate(self.sources.tolist()):
            # Not the numbers by which a repair deals the rest: it would find none to hold out.
            made = hashlib.blake2b(digest_size=8, key=key, person=b"whole texts")
            digest = found.setdefault(source, made)
            for array in arrays:
                digest.update(array[place].tobytes())
        numbers = {one: int.from_bytes(made.digest(), "little") for one, made in found.items()}
        return np.array([numbers[one] for one in self.sources.tolist()], dtype=np.uint64)


def read_texts(
    model: Any,
    data: Any,
    y: Any = None,
    *,
    label_names: Sequence[Any] | None = None,
    window: int = 128,
    tokens: str = "token_ids",
    padding: str = "padding_mask",
) -> Texts:
    """Read texts and the kind of each as a language model takes them.

    Strings go through the model's own tokenizer and are dealt into windows, one behind the other;
    the last is padded. Tokens stay as they are, and each row counts as a text.

    Args:
        model: The language model.
        data: `(texts, kinds)`, texts strings or tokens; a dictionary of lists of strings by kind;
            the path of a folder with one sub-folder of text files for each kind; or tokens as
            `keras_nns.perplexity` takes them.
        y: Kinds, where `data` is texts alone.
        label_names: Name of every kind.
        window: Tokens of a window of a string.
        tokens: Which input holds the tokens, for models of several.
        padding: Which input is true where tokens count.

    Raises:
        DataError: The data does not fit, a kind is unknown, or strings are given to a model that
            has no tokenizer.
    """
    if isinstance(data, str | PathLike) and Path(data).is_dir():
        data = _folder(Path(data))
    if isinstance(data, Mapping) and y is None and all(map(_strings, data.values())):
        names = [str(name) for name in data]
        y = np.repeat(np.arange(len(names)), [len(texts) for texts in data.values()])
        data = [text for texts in data.values() for text in texts]
        label_names = names if label_names is None else label_names
        y = [names[number] for number in y]
    if y is None and isinstance(data, tuple) and len(data) == 2 and _strings(data[0]):
        data, y = data
    if _strings(data):
        if y is None:
            raise DataError("Texts need the kind of each. Pass (texts, kinds), or y beside texts.")
        numbers, known = _kinds(y, len(data), label_names)
        rows, sources = _windows(model, list(data), window)
        ids, mask = _padded(rows, window)
        return Texts({tokens: ids, padding: mask}, numbers[sources], known, sources)
    if y is None and isinstance(data, tuple) and len(data) == 2:
        data, y = data
    if isinstance(data, np.ndarray) and {tokens, padding} <= {one.name for one in model.inputs}:
        data = {tokens: data, padding: np.ones_like(data)}
    batches = as_batches(data, y, model=model, label_names=label_names, own_labels=True)
    inputs, kinds = [], []
    for batch in batches:
        if batch.labels.ndim > 1:
            raise DataError(
                "A text is of one kind here: pass one number or name for each, not several."
            )
        inputs.append(tree.map_structure(np.asarray, batch.inputs))
        kinds.append(np.asarray(batch.labels, np.int64))
    if not kinds:
        raise DataError("The data is empty: there is no text.")
    joined = tree.map_structure(lambda *parts: np.concatenate(parts), *inputs)
    numbers = np.concatenate(kinds)
    return Texts(joined, numbers, batches.label_names, np.arange(len(numbers)))


def are_kinds(data: Any, y: Any) -> bool:
    """Return whether data has one label for each text, and not what a model gives at every step."""
    if isinstance(data, str | PathLike | Mapping) and y is None:
        return True
    if datasets.is_dataset(data):
        spec = datasets.element_spec(data)
        return isinstance(spec, tuple) and len(spec) > 1 and len(spec[1].shape) == 1
    told = data[1] if y is None and isinstance(data, tuple) and len(data) > 1 else y
    return told is not None and np.ndim(told) == 1


def _strings(values: Any) -> bool:
    if isinstance(values, np.ndarray):
        return values.dtype.kind in "US" or (
            values.dtype == object and len(values) > 0 and isinstance(values.flat[0], str)
        )
    return isinstance(values, list | tuple) and bool(values) and isinstance(values[0], str)


def _folder(path: Path) -> dict[str, list[str]]:
    """Read the text files of a folder that has one sub-folder for each kind."""
    found: dict[str, list[str]] = {}
    for kind in sorted(entry for entry in path.iterdir() if entry.is_dir()):
        texts = []
        for file in sorted(one for one in kind.rglob("*") if one.is_file()):
            if file.name.startswith(".") or file.suffix.lower() in _SUFFIXES:
                continue
            try:
                text = file.read_text(encoding="utf-8")
            except (UnicodeDecodeError, OSError) as error:
                raise DataError(f"{file} is no text in UTF-8: {error}. Take it out.") from error
            if text.strip():
                texts.append(text)
        if texts:
            found[kind.name] = texts
    if not found:
        raise DataError(
            f"{path} has no texts: expected one sub-folder of text files for each kind, such as "
            f"{path / 'code'} and {path / 'prose'}."
        )
    return found


def _windows(
    model: Any, texts: Sequence[str], window: int
) -> tuple[list[NDArray[np.int32]], NDArray[np.int64]]:
    """Return the tokens of every window, and which text each is of."""
    if isinstance(window, bool) or not isinstance(window, int) or window < _LEAST:
        raise DataError(f"`window` is a number of tokens from {_LEAST}. Received: {window!r}.")
    tokenizer = getattr(getattr(model, "preprocessor", None), "tokenizer", None)
    if tokenizer is None:
        raise DataError(
            f"The texts are strings, and {model.name!r} has no preprocessor whose tokenizer would "
            "make tokens of them. Give the model one, or pass tokens: "
            "({'token_ids': …, 'padding_mask': …}, kinds)."
        )
    rows, sources = [], []
    for source, text in enumerate(texts):
        ids = np.asarray(tokenizer(text), np.int32).reshape(-1)
        for start in range(0, len(ids), window):
            part = ids[start : start + window]
            if len(part) >= _LEAST:
                rows.append(part)
                sources.append(source)
    if not rows:
        raise DataError(f"No text has {_LEAST} tokens, so there is none that could be foretold.")
    return rows, np.array(sources, np.int64)


def _padded(
    rows: Sequence[NDArray[np.int32]], window: int
) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Return rows in one array, and which of their tokens count.

    The mask says where padding is, so the number that stands there is never read.
    """
    ids = np.zeros((len(rows), window), np.int32)
    mask = np.zeros((len(rows), window), np.int32)
    for place, row in enumerate(rows):
        ids[place, : len(row)], mask[place, : len(row)] = row, 1
    return ids, mask


def _kinds(
    y: Any, texts: int, label_names: Sequence[Any] | None
) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Return the number of the kind of each text, and the names of all."""
    values = np.asarray(y)
    if values.shape != (texts,):
        raise DataError(
            f"There are {texts} texts, and kinds of shape {values.shape}. Pass one kind for each."
        )
    if values.dtype.kind in "iu":
        most = int(values.max())
        names = tuple(map(str, label_names or range(most + 1)))
        if int(values.min()) < 0 or most >= len(names):
            raise DataError(
                f"Kinds are numbers from 0 to {len(names) - 1}, as there are {len(names)} names. "
                f"Received: {int(values.min())} to {most}."
            )
        return values.astype(np.int64), names
    told = [str(value) for value in values.tolist()]
    names = tuple(map(str, label_names or sorted(set(told))))
    return np.array([label_number(one, names) for one in told], np.int64), names
