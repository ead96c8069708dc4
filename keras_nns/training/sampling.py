"""Samples to train on: in another order every epoch, the same for the same seed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
from keras import tree
from numpy.typing import NDArray

from keras_nns.data.batches import Batch
from keras_nns.engine import datasets
from keras_nns.errors import DataError
from keras_nns.training.augmentation import Augmentation

Rows = tuple[Any, NDArray[Any], NDArray[np.float32]]
"""Inputs as the model takes them, what is right for each, and how much each counts."""

Target = Callable[[Batch], tuple[NDArray[np.bool_], NDArray[Any]]]
"""From a batch to which of its samples are used, and what is right for each of all."""

BLOCK = 2**28
"""About how many bytes of samples are in memory at once, to be put in another order."""


class Feed:
    """Samples with their targets, as data for `fit` that needs no global random state.

    Data that is the same in every pass and fits one block is read once and kept. Any other is read
    anew for every epoch and shuffled block by block.

    Where samples are shuffled the last batch is filled up with some of them again: in a smaller one
    each would weigh more, batch norms would see few, and TensorFlow 2.21 was seen to fail there.

    Samples that weigh differently are given with their weights, as Keras's `fit` takes them. Where
    samples are drawn, a weight is how often a sample is drawn and not given on.

    Args:
        batches: Starts a pass.
        target: What is asked of a batch: which samples are used, and their targets.
        batch_size: Samples in a batch.
        seed: Of the order.
        shuffle: Whether to change the order; else it is the container's in every epoch.
        balance: Whether to give as many samples of every target: drawn with replacement, or where
            nothing is shuffled, each repeated as evenly as can be.
        constant: Whether every pass gives the same samples in the same order.
        augment: What changes the inputs of each batch as it is given on; None leaves them as they
            are.

    Attributes:
        size: How many samples it has.

    Raises:
        DataError: There is none.
        SurgeryError: What `augment` gives does not look like what it gets.
    """

    def __init__(
        self,
        batches: Callable[[], Iterable[Batch]],
        target: Target,
        *,
        batch_size: int,
        seed: int,
        shuffle: bool,
        balance: bool,
        constant: bool,
        augment: Augmentation | None = None,
    ) -> None:
        self._batches = batches
        self._target = target
        self._batch_size = batch_size
        self._seed = seed
        self._shuffle = shuffle
        self._balance = balance
        self._augment = augment
        self._weighted = False
        self._kept: list[Rows] | None = None
        self._epoch = 0
        self.size = 0
        blocks = 0
        rows: Any = None
        for blocks, rows in enumerate(self._blocks(), 1):  # noqa: B007
            self.size += len(rows[1])
        if not blocks:
            raise DataError("The data has no sample of what the model answers.")
        if augment is not None:
            # Here, where what it raises is seen as it is, and not as an error of the data set.
            augment(_taken(rows, np.arange(min(batch_size, len(rows[1]))))[0])
        if constant and blocks == 1:
            self._kept = [rows]
        self._spec = tree.map_structure(datasets.batch_spec, self._given(rows))

    def dataset(self, *, first: int | None = None) -> Any:
        """Return the samples as batches for `fit`; every pass is an epoch.

        Args:
            first: Number of the epoch that the first pass is; None goes on counting.
        """
        if first is not None:
            self._epoch = first
        batches = -(-self.size // self._batch_size)
        return datasets.passes(self._pass, self._spec, cardinality=batches)

    def _given(self, rows: Rows) -> tuple[Any, ...]:
        """Return what `fit` gets of rows."""
        return rows if self._weighted and not self._balance else rows[:2]

    def _pass(self) -> Iterator[tuple[Any, ...]]:
        change = None if self._augment is None else self._augment.begun(self._epoch)
        for inputs, *rest in self._in_order():
            yield self._given((inputs if change is None else change(inputs), *rest))

    def _in_order(self) -> Iterator[Rows]:
        random = np.random.default_rng((self._seed % 2**63, self._epoch))
        self._epoch += 1
        left: list[Rows] = []
        for rows in self._blocks():
            block = _joined([*left, rows])
            order = self._order(block, random)
            full = len(order) - len(order) % self._batch_size
            for start in range(0, full, self._batch_size):
                yield _taken(block, order[start : start + self._batch_size])
            left = [_taken(block, order[full:])] if full < len(order) else []
        if not left:
            return
        (last,) = left
        if self._shuffle and self.size > self._batch_size:
            order = self._order(block, random)
            missing = np.arange(self._batch_size - len(last[1]))
            last = _joined([last, _taken(block, order[missing % len(order)])])
        yield last

    def _order(self, rows: Rows, random: np.random.Generator) -> NDArray[np.int64]:
        _, y, weights = rows
        count = len(y)
        if not self._balance:
            return random.permutation(count) if self._shuffle else np.arange(count)
        share = weights.astype(np.float64)
        kinds = _kinds(y)
        share = share / np.bincount(kinds, weights=share)[kinds]
        share /= share.sum()
        if self._shuffle:
            return random.choice(count, count, p=share)
        # What is judged by is not left to chance: each as often as it weighs, as evenly as can be.
        order = np.arange(count)
        if self._weighted:
            # Weights that alternate could fall in step with the places.
            order = np.random.default_rng(0).permutation(count)
        order = order[np.argsort(kinds[order], kind="stable")]
        ends = np.cumsum(share[order])
        places = (np.arange(count) + 0.5) / count * ends[-1]
        return np.asarray(order[np.searchsorted(ends, places)])

    def _blocks(self) -> Iterator[Rows]:
        if self._kept is not None:
            yield from self._kept
            return
        held: list[Rows] = []
        size = 0
        for rows in self._read():
            held.append(rows)
            size += sum(t.nbytes for t in tree.flatten(rows))
            if size >= BLOCK:
                yield _joined(held)
                held, size = [], 0
        if held:
            yield _joined(held)

    def _read(self) -> Iterator[Rows]:
        for batch in self._batches():
            weights = batch.each
            answered, y = self._target(batch)
            used = answered & (weights > 0)
            if not used.any():
                continue
            if self._balance:
                _kinds(y[used])
            self._weighted |= bool((weights[used] != 1).any())
            inputs = tree.map_structure(lambda t, u=used: np.asarray(t)[u], batch.inputs)
            yield inputs, y[used], weights[used].astype(np.float32)


def _kinds(y: NDArray[Any]) -> NDArray[np.int64]:
    """Number the targets of samples: numbers, or one-hot rows.

    Raises:
        DataError: Samples have several targets, of which none can be balanced.
    """
    if y.ndim > 1 and y.shape[1] > 1:
        if (y.sum(axis=1) != 1).any():
            raise DataError(
                "balance=True draws samples of every answer equally often, which takes labels of "
                "which each sample has one. Leave balance out."
            )
        return np.asarray(y.argmax(axis=1), dtype=np.int64)
    return np.asarray(np.unique(y.reshape(-1), return_inverse=True)[1], dtype=np.int64)


def _joined(rows: list[Rows]) -> Rows:
    if len(rows) == 1:
        return rows[0]
    joined: Rows = tree.map_structure(lambda *parts: np.concatenate(parts), *rows)
    return joined


def _taken(rows: Rows, some: NDArray[np.int64]) -> Rows:
    taken: Rows = tree.map_structure(lambda t: t[some], rows)
    return taken
