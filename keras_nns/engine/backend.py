"""The backend that the engine speaks, and a clear word where Keras runs on another."""

from __future__ import annotations

import keras

from keras_nns.errors import BackendError

if keras.config.backend() != "tensorflow":
    raise BackendError(
        f"keras_nns works with Keras on TensorFlow. Here Keras runs on "
        f"{keras.config.backend()!r}: set KERAS_BACKEND=tensorflow before anything imports Keras, "
        "or change `backend` in ~/.keras/keras.json. A model trained on another backend and saved "
        "as .keras can be loaded there."
    )

import tensorflow as tf

__all__ = ["tf"]
