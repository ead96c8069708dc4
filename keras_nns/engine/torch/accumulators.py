"""Sums in tensors that are changed in place."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from keras import ops
from numpy.typing import NDArray


class Accumulator:
    """An array that steps read, add to and replace.

    Args:
        shape: Its shape.
        dtype: Name of its dtype.
        start: What every entry is in the beginning, and after `reset`.
    """

    def __init__(self, shape: tuple[int, ...], dtype: str = "float64", *, start: float = 0) -> None:
        self._start = start
        self._tensor = ops.full(shape, start, dtype=dtype)

    @property
    def value(self) -> Any:
        """What it holds, as a tensor; inside a step at that point of it."""
        return self._tensor.clone()

    def add(self, values: Any) -> None:
        """Add values of its dtype."""
        self._tensor.add_(_plain(values))

    def assign(self, values: Any) -> None:
        """Replace what it holds, by a tensor of its dtype or an array."""
        self._tensor.copy_(_plain(ops.convert_to_tensor(values)))

    def reset(self) -> None:
        """Go back to the start."""
        self._tensor.fill_(self._start)

    def numpy(self) -> NDArray[Any]:
        """Return what it holds, as an array of its own."""
        return np.array(self._tensor.cpu().numpy())


def _plain(values: Any) -> Any:
    return values.detach() if isinstance(values, torch.Tensor) else values
