"""Models in float64, also where their layers ask for float32."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import keras
import numpy as np
from keras.src import ops
from keras.src.backend.common import dtypes

from keras_nns.engine.backend import NAME
from keras_nns.engine.deferred import replaced
from keras_nns.engine.tensors import dtype_of

if NAME == "jax":
    from keras_nns.engine.jax.precision import wide

DOUBLE = "float64"

_ONE_AT_A_TIME = threading.RLock()


class _Narrowing(dict[str, str]):
    """Which dtypes Keras makes of others, but for float64 in one thread.

    Its operations make float32 of float64 everywhere but on TensorFlow, also where the backend has
    float64.
    """

    def __init__(self, others: dict[str, str], thread: int) -> None:
        super().__init__(others)
        self._thread = thread

    def get(self, key: str, default: Any = None) -> Any:
        """Return what becomes of a dtype."""
        if key == DOUBLE and threading.get_ident() == self._thread:
            return DOUBLE
        return super().get(key, default)


@contextmanager
def in_double() -> Iterator[None]:
    """Let what is float64 stay it while models are made and run, and JAX know it.

    Layers that cast to float32 by `keras.ops.cast`, as KerasHub's normalisations do to compute in
    no less, get the float64 that they gave; numbers of Python that are cast to float64 are not made
    float32 first, as TensorFlow does. Other threads are not concerned. What a layer casts by the
    backend itself is float32.
    """
    own = threading.get_ident()
    cast = keras.ops.cast

    def kept(x: Any, dtype: Any) -> Any:
        if threading.get_ident() == own:
            if dtype == "float32" and hasattr(x, "dtype") and dtype_of(x) == DOUBLE:
                dtype = DOUBLE
            elif dtype == DOUBLE and isinstance(x, float):
                x = np.float64(x)
        return cast(x, dtype)

    with _ONE_AT_A_TIME, ExitStack() as stack:
        if NAME == "jax":
            stack.enter_context(wide())
        narrowing = _Narrowing(dtypes.BIT64_TO_BIT32_DTYPE, own)
        stack.enter_context(replaced(dtypes, "BIT64_TO_BIT32_DTYPE", narrowing))
        for module in (keras.ops, ops):  # Those of Keras's own layers are elsewhere.
            stack.enter_context(replaced(module, "cast", kept))
        yield


def doubled(model: Any) -> Any:
    """Let every layer of a model that nobody else has compute in float64; return the model.

    Some make layers within that are float32 whatever they are told, such as a softmax. Quantised
    ones stay what they are.
    """
    for layer in model._flatten_layers():
        if layer.compute_dtype == "float32" and layer.quantization_mode is None:
            layer.dtype_policy = DOUBLE
        if NAME == "tensorflow":
            _hold_in_double(layer)
    return model


def _hold_in_double(layer: Any) -> None:
    """Let a layer hold its numbers, such as what attention divides by, as numpy's float64.

    TensorFlow takes those of Python for float32, whatever it is told to cast them to.
    """
    for name, value in list(vars(layer).items()):
        if type(value) is float:
            setattr(layer, name, np.float64(value))
