"""The backend's own functions, which users give to layers as activations.

Another backend names the modules in which users find theirs.
"""

from __future__ import annotations

from typing import Any

from keras_nns.engine.backend import tf

_MODULES = (tf.nn, tf.math)


def functions_named(name: str) -> list[Any]:
    """Return the backend's functions of a name, such as `tf.nn.relu` for "relu"."""
    found = [getattr(module, name, None) for module in _MODULES]
    return [function for function in found if callable(function)]
