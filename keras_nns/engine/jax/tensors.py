"""Arrays of jax."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from keras import ops
from numpy.typing import NDArray

from keras_nns.engine.jax.precision import wide


def is_tensor(x: Any) -> bool:
    """Return whether something is a tensor of the backend, dense, with or without its values."""
    return isinstance(x, jax.Array)


def is_floating(x: Any) -> bool:
    """Return whether a tensor holds floating-point numbers."""
    return bool(jnp.issubdtype(x.dtype, jnp.floating))


def as_tensor(x: Any) -> Any:
    """Return an array or a variable as a tensor of its own dtype.

    Text is no tensor in jax, and is returned as it is.
    """
    if isinstance(x, np.ndarray) and x.dtype.kind in "OSU":
        return x
    with wide():
        return ops.convert_to_tensor(x)


def taken_over(x: NDArray[Any]) -> Any:
    """Return an array that nobody else has as a tensor, in its memory where that can be."""
    return as_tensor(x)


def unshared(x: Any) -> Any:
    """Return a tensor in memory of its own: a variable that is trained gives its memory away."""
    return jnp.array(x, copy=True)


def as_array(x: Any) -> NDArray[Any]:
    """Return the values of a tensor or variable as an array, not copied where numpy knows the type.

    It is to be read only, and before the values change.
    """
    with wide():
        return np.asarray(ops.convert_to_tensor(x))


def size_in_bytes(x: Any) -> int:
    """Return how much memory the values of a tensor take."""
    return int(x.size * x.dtype.itemsize)
