"""Operations as single kernels of TensorFlow; some run for every batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from keras_nns.engine import blas
from keras_nns.engine.tensorflow.devices import has_gpu


def squared_difference(a: Any, b: Any) -> Any:
    """Return `(a - b)²`, element by element, in one pass."""
    return tf.math.squared_difference(a, b)


def columns_product(a: Any, b: Any) -> Any:
    """Return `aᵀ b` of two matrices `(rows, …)`, without turning `a` round in memory."""
    return tf.matmul(a, b, transpose_a=True)


def gram(rows: NDArray[Any]) -> NDArray[Any]:
    """Return `rowsᵀ rows` of a matrix `(rows, columns)`."""
    if has_gpu():
        held = tf.convert_to_tensor(rows)
        return np.asarray(tf.matmul(held, held, transpose_a=True))
    return blas.gram(rows)


def total(tensors: list[Any]) -> Any:
    """Return the sum of several tensors of one shape and dtype, in one pass."""
    return tf.add_n(tensors)


def gather(x: Any, places: Any, *, axis: int) -> Any:
    """Return the entries of a tensor at some places of an axis, counted from 0.

    `keras.ops.take` looks for negative places first, which costs as much again where nothing is
    compiled.
    """
    return tf.gather(x, places, axis=axis)
