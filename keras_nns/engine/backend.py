"""The backend that the engine speaks, and a clear word where Keras runs on another."""

from __future__ import annotations

import keras

from keras_nns.engine.configured import WAY_ON
from keras_nns.errors import BackendError

if keras.config.backend() != "tensorflow":
    raise BackendError(
        "keras_nns works with Keras on TensorFlow. Here Keras runs on "
        f"{keras.config.backend()!r}: {WAY_ON}"
    )

import tensorflow as tf

__all__ = ["tf"]
