"""Tensors of torch."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import torch
from keras import ops
from numpy.typing import NDArray

_SHARED = {
    np.dtype(name)
    for name in ("bool", "uint8", "int8", "int16", "int32", "int64", "float32", "float64")
}
"""What torch reads in numpy's own memory, and Keras knows by the same name."""


def is_tensor(x: Any) -> bool:
    """Return whether something is a tensor of the backend, dense, with or without its values."""
    return isinstance(x, torch.Tensor)


def is_floating(x: Any) -> bool:
    """Return whether a tensor holds floating-point numbers."""
    return bool(x.dtype.is_floating_point)


def as_tensor(x: Any) -> Any:
    """Return an array or a variable as a tensor of its own dtype, in the memory of the array.

    It is to be read only. Text is no tensor in torch, and is returned as it is.
    """
    if isinstance(x, torch.Tensor) or not isinstance(x, np.ndarray):
        found = ops.convert_to_tensor(x)
        return found.detach() if isinstance(x, keras.Variable) else found
    if x.dtype.kind in "OSU":
        return x
    if x.dtype not in _SHARED or not x.flags.writeable or any(step < 0 for step in x.strides):
        return ops.convert_to_tensor(x)
    return ops.convert_to_tensor(torch.from_numpy(x))


def taken_over(x: NDArray[Any]) -> Any:
    """Return an array that nobody else has as a tensor, in its memory where that can be."""
    return as_tensor(x)


def unshared(x: Any) -> Any:
    """Return a tensor that is to be a variable's value: torch copies it then."""
    return x


def as_array(x: Any) -> NDArray[Any]:
    """Return the values of a tensor or variable as an array, not copied where numpy knows the type.

    It is to be read only, and before the values change.
    """
    tensor = ops.convert_to_tensor(x)
    if tensor.dtype == torch.bfloat16:
        return np.asarray(ops.convert_to_numpy(tensor))
    return np.asarray(tensor.detach().cpu().numpy())


def size_in_bytes(x: Any) -> int:
    """Return how much memory the values of a tensor take."""
    return int(x.numel() * x.element_size())
