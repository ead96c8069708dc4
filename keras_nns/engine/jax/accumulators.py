"""Sums in arrays that steps take in and give back."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
from numpy.typing import NDArray

from keras_nns.engine.jax.carrying import current
from keras_nns.engine.jax.precision import wide


class Accumulator:
    """An array that compiled steps read, add to and replace.

    Args:
        shape: Its shape.
        dtype: Name of its dtype.
        start: What every entry is in the beginning, and after `reset`.
    """

    def __init__(self, shape: tuple[int, ...], dtype: str = "float64", *, start: float = 0) -> None:
        self._shape, self._dtype, self._start = shape, dtype, start
        self._value: Any = None
        self.reset()

    @property
    def value(self) -> Any:
        """What it holds, as a tensor; inside a step at that point of it."""
        step = current()
        return self._value if step is None else step.read(self)

    def add(self, values: Any) -> None:
        """Add values of its dtype."""
        with wide():
            self._put(self.value + values)

    def assign(self, values: Any) -> None:
        """Replace what it holds, by a tensor of its dtype or an array."""
        with wide():
            self._put(jnp.broadcast_to(jnp.asarray(values), self._shape))

    def reset(self) -> None:
        """Go back to the start."""
        with wide():
            self._put(jnp.full(self._shape, self._start, self._dtype))

    def numpy(self) -> NDArray[Any]:
        """Return what it holds, as an array of its own."""
        return np.array(self._value)

    def _put(self, value: Any) -> None:
        value = value.astype(self._dtype)
        step = current()
        if step is None:
            self._value = value
        else:
            step.write(self, value)
