"""Tell the backend's tensors apart, and go from arrays to tensors and back."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from keras_nns.engine.backend import NAME

if TYPE_CHECKING or NAME == "tensorflow":
    from keras_nns.engine.tensorflow.tensors import (
        as_array,
        as_tensor,
        is_floating,
        is_tensor,
        size_in_bytes,
        taken_over,
        unshared,
    )
elif NAME == "jax":
    from keras_nns.engine.jax.tensors import (
        as_array,
        as_tensor,
        is_floating,
        is_tensor,
        size_in_bytes,
        taken_over,
        unshared,
    )
else:
    from keras_nns.engine.torch.tensors import (
        as_array,
        as_tensor,
        is_floating,
        is_tensor,
        size_in_bytes,
        taken_over,
        unshared,
    )

__all__ = [
    "as_array",
    "as_tensor",
    "dtype_of",
    "is_floating",
    "is_ragged",
    "is_sparse",
    "is_tensor",
    "size_in_bytes",
    "taken_over",
    "unshared",
]


def is_ragged(x: Any) -> bool:
    """Return whether something is a tensor of TensorFlow whose rows differ in length."""
    tensorflow = sys.modules.get("tensorflow")
    return tensorflow is not None and isinstance(x, tensorflow.RaggedTensor)


def is_sparse(x: Any) -> bool:
    """Return whether something is a tensor of TensorFlow that lists only what is not zero."""
    tensorflow = sys.modules.get("tensorflow")
    return tensorflow is not None and isinstance(x, tensorflow.SparseTensor)


def dtype_of(x: Any) -> str:
    """Return the name of the dtype of a tensor, a variable or an array; "string" for text.

    Args:
        x: Anything with a `dtype`.
    """
    if getattr(x.dtype, "kind", "") in ("O", "S", "U"):
        return "string"
    return str(getattr(x.dtype, "name", x.dtype)).removeprefix("torch.")
