"""Samples taken out of data of any length while it is gone over once."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_nns.data.batches import Batch

_SPREAD = 4
"""Samples held for each that is asked for, until it is known how many there are."""


class Spread:
    """Samples taken out of data while it is gone over, spread over the whole of it.

    Args:
        count: How many, if there are so many.

    Attributes:
        kept: How many are kept so far, at least as many as are asked for in the end if there are.
    """

    def __init__(self, count: int) -> None:
        self.kept = 0
        self._count = count
        self._position, self._step = 0, 1
        self._held: Any = None

    def add(self, batch: Batch) -> None:
        """Look at the next batch."""
        if not batch.size:
            return
        chosen = slice(-self._position % self._step, None, self._step)
        part = _rows((batch.inputs, batch.labels), chosen)
        tree = keras.tree
        self._held = part if self._held is None else tree.map_structure(_joined, self._held, part)
        self.kept += len(range(batch.size)[chosen])
        self._position += batch.size
        # How much data there is may be unknown: keep every second of what is kept, and go on.
        while self.kept > _SPREAD * self._count:
            self._held = _rows(self._held, slice(None, None, 2))
            self._step, self.kept = 2 * self._step, (self.kept + 1) // 2

    def taken(self, count: int | None = None) -> tuple[Any, NDArray[Any]]:
        """Return inputs and labels.

        Args:
            count: How many, if fewer than at first.
        """
        count = min(self._count if count is None else count, self.kept)
        evenly = np.linspace(0, self.kept - 1, count).round().astype(int)
        inputs, labels = _rows(self._held, evenly)
        return inputs, labels


def taken_of_both(own: Spread, others: Spread, count: int) -> tuple[Any, NDArray[Any]]:
    """Return samples of two kinds, half of each where there are so many.

    Args:
        own: Samples of one kind, `count` of them kept if there are so many.
        others: Samples of the other kind, as many.
        count: How many in all.
    """
    first = min(own.kept, max(count // 2, count - others.kept))
    numbers = [(own, first), (others, count - first)]
    parts = [spread.taken(number) for spread, number in numbers if spread.kept and number]
    inputs, labels = parts[0] if len(parts) == 1 else keras.tree.map_structure(_joined, *parts)
    return inputs, labels


def _rows(tree: Any, chosen: Any) -> Any:
    return keras.tree.map_structure(lambda array: np.asarray(array)[chosen], tree)


def _joined(first: Any, second: Any) -> NDArray[Any]:
    return np.concatenate([first, second])
