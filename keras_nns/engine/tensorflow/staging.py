"""Hand batches of a large array to compiled steps with one copy instead of two."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
from keras import tree
from numpy.typing import NDArray

from keras_nns.engine.tensorflow.devices import steps_end_at_once

_ALIGNED = 64
"""Bytes that kernels expect an address to be a multiple of."""


class Staging:
    """Memory that batches pass through on their way into a compiled step.

    `tf.convert_to_tensor` copies an array twice, into memory that is new each time, because
    somebody may change the array later; for a small network that is a tenth of the forward pass.
    A few labels are not worth a copy, but the way through TensorFlow's converters is the longer.
    Here every input has a buffer of its own that is filled again for each batch. So a tensor may be
    used in the one step it was staged for, and nothing may keep it.

    Where steps can run on after they were called (a GPU, asynchronous execution), tensors are made
    the usual way.
    """

    def __init__(self) -> None:
        self._buffers: dict[int, NDArray[Any]] = {}
        self._waits = steps_end_at_once()

    def tensors(self, arrays: Any) -> Any:
        """Return a structure of arrays as tensors that hold until the next call."""
        flat = tree.flatten(arrays)
        staged = [self._tensor(place, array) for place, array in enumerate(flat)]
        return tree.pack_sequence_as(arrays, staged)

    def _tensor(self, place: int, array: Any) -> Any:
        fits = isinstance(array, np.ndarray) and array.dtype.kind in "fiu"
        if not (self._waits and fits and array.ndim and array.nbytes):
            return tf.convert_to_tensor(array)
        buffer = self._buffers.get(place)
        if (
            buffer is None
            or (buffer.dtype, buffer.shape[1:]) != (array.dtype, array.shape[1:])
            or len(buffer) < len(array)
        ):
            buffer = self._buffers[place] = _aligned(array.shape, array.dtype)
        part = buffer[: len(array)]
        np.copyto(part, array)
        return tf.experimental.dlpack.from_dlpack(part.__dlpack__())


def _aligned(shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
    size = int(np.prod(shape)) * dtype.itemsize
    memory = np.empty(size + _ALIGNED, dtype=np.uint8)
    start = -memory.ctypes.data % _ALIGNED
    return memory[start : start + size].view(dtype).reshape(shape)
