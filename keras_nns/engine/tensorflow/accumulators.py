"""Sums in variables of TensorFlow."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray


class Accumulator:
    """An array that compiled steps read, add to and replace.

    Args:
        shape: Its shape.
        dtype: Name of its dtype.
        start: What every entry is in the beginning, and after `reset`.
    """

    def __init__(self, shape: tuple[int, ...], dtype: str = "float64", *, start: float = 0) -> None:
        self._shape, self._start = shape, np.array(start, dtype)
        # Of labels times units an array of starts beside it would take as much again.
        self._variable = tf.Variable(tf.fill(shape, self._start), trainable=False)

    @property
    def value(self) -> Any:
        """What it holds, as a tensor; inside a step at that point of it."""
        return self._variable.value()

    def add(self, values: Any) -> None:
        """Add values of its dtype."""
        self._variable.assign_add(values)

    def assign(self, values: Any) -> None:
        """Replace what it holds, by a tensor of its dtype or an array."""
        self._variable.assign(values)

    def reset(self) -> None:
        """Go back to the start."""
        self._variable.assign(tf.fill(self._shape, self._start))

    def numpy(self) -> NDArray[Any]:
        """Return what it holds, as an array of its own."""
        return np.asarray(self._variable.numpy())
