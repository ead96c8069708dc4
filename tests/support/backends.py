"""What a test says where it is about one backend."""

from __future__ import annotations

import keras
import pytest


def on_tensorflow(why: str) -> pytest.MarkDecorator:
    """Leave a test out where Keras runs on another backend.

    Args:
        why: What of TensorFlow's own it is about.
    """
    return pytest.mark.skipif(keras.config.backend() != "tensorflow", reason=f"TensorFlow's: {why}")


def not_on(backend: str, why: str) -> pytest.MarkDecorator:
    """Leave a test out on a backend that cannot do what it takes.

    Args:
        backend: The backend.
        why: What that is.
    """
    return pytest.mark.skipif(keras.config.backend() == backend, reason=f"{backend} {why}")
