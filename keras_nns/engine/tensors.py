"""Tell the backend's tensors apart, and go from arrays to tensors.

From a tensor to an array it is `np.asarray`, which copies nothing on a CPU. Another backend brings
its own class of tensor, and says which of them are ragged or sparse where it has such.
"""

from __future__ import annotations

from typing import Any

import tensorflow as tf


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
    """Return the name of the dtype of a tensor or a variable; "string" for text.

    Args:
        x: Anything with a `dtype`.
    """
    return str(getattr(x.dtype, "name", x.dtype))


def is_floating(x: Any) -> bool:
    """Return whether a tensor holds floating-point numbers."""
    return bool(x.dtype.is_floating)


def as_tensor(x: Any) -> Any:
    """Return an array, a variable or a list of text as a tensor of its own dtype."""
    return tf.convert_to_tensor(x)
