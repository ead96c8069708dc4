"""Tensors of TensorFlow."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

_BY_DLPACK = ("float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8")
_ALIGNED = 64


def is_tensor(x: Any) -> bool:
    """Return whether something is a tensor of the backend, dense, with or without its values."""
    return isinstance(x, tf.Tensor)


def is_floating(x: Any) -> bool:
    """Return whether a tensor holds floating-point numbers."""
    return bool(x.dtype.is_floating)


def as_tensor(x: Any) -> Any:
    """Return an array, a variable or a list of text as a tensor of its own dtype."""
    return tf.convert_to_tensor(x)


def taken_over(x: NDArray[Any]) -> Any:
    """Return an array that nobody else has as a tensor, in its memory where that can be.

    TensorFlow copies an array twice on its way to a tensor, so that for a while there are three.
    """
    if x.dtype.name not in _BY_DLPACK or not x.size or x.ctypes.data % _ALIGNED:
        return tf.convert_to_tensor(x)
    return tf.experimental.dlpack.from_dlpack(x.__dlpack__())


def unshared(x: Any) -> Any:
    """Return a tensor that is to be a variable's value: it is copied before either is written."""
    return x


def as_array(x: Any) -> NDArray[Any]:
    """Return the values of a tensor or variable as an array, not copied where numpy knows the type.

    It is to be read only, and before the values change.
    """
    tensor = tf.convert_to_tensor(x)
    try:
        return np.asarray(memoryview(tensor))
    except ValueError:  # bfloat16 and its like
        return np.asarray(tensor.numpy())


def size_in_bytes(x: Any) -> int:
    """Return how much memory the values of a tensor take."""
    return int(math.prod(x.shape)) * int(tf.as_dtype(x.dtype).size)
