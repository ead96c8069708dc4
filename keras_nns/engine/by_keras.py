"""Operations that `keras.ops` lacks, written in it, for backends that have no kernels for them."""

from __future__ import annotations

from functools import reduce
from typing import Any

from keras import ops


def squared_difference(a: Any, b: Any) -> Any:
    """Return `(a - b)²`, element by element."""
    return ops.square(a - b)


def columns_product(a: Any, b: Any) -> Any:
    """Return `aᵀ b` of two matrices `(rows, …)`."""
    return ops.matmul(ops.transpose(a), b)


def total(tensors: list[Any]) -> Any:
    """Return the sum of several tensors of one shape and dtype."""
    return reduce(ops.add, tensors)


def gather(x: Any, places: Any, *, axis: int) -> Any:
    """Return the entries of a tensor at some places of an axis, counted from 0."""
    return ops.take(x, places, axis=axis)
