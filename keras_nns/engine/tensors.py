"""Tell the backend's tensors apart, and go from arrays to tensors and back.

Another backend brings its own class of tensor, says which of them are ragged or sparse where it has
such, and how numpy may look at the memory of one without a copy.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_nns.engine.backend import tf


def is_tensor(x: Any) -> bool:
    """Return whether something is a tensor of the backend, dense, with or without its values."""
    return isinstance(x, tf.Tensor)


def is_ragged(x: Any) -> bool:
    """Return whether something is a tensor whose rows differ in length."""
    return isinstance(x, tf.RaggedTensor)


def is_sparse(x: Any) -> bool:
    """Return whether something is a tensor that lists only what is not zero."""
    return isinstance(x, tf.SparseTensor)


def dtype_of(x: Any) -> str:
    """Return the name of the dtype of a tensor, a variable or an array; "string" for text.

    Args:
        x: Anything with a `dtype`.
    """
    if getattr(x.dtype, "kind", "") in ("O", "S", "U"):
        return "string"
    return str(getattr(x.dtype, "name", x.dtype))


def is_floating(x: Any) -> bool:
    """Return whether a tensor holds floating-point numbers."""
    return bool(x.dtype.is_floating)


def as_tensor(x: Any) -> Any:
    """Return an array, a variable or a list of text as a tensor of its own dtype."""
    return tf.convert_to_tensor(x)


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
