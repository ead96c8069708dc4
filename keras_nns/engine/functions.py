"""The backend's own functions, which users give to layers as activations."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from keras_nns.engine.backend import NAME, ON_TENSORFLOW, tf

_MODULES = {"jax": ("jax.nn", "jax.numpy"), "torch": ("torch.nn.functional", "torch")}


def functions_named(name: str) -> list[Any]:
    """Return the backend's functions of a name, such as `tf.nn.relu` for "relu"."""
    modules = (tf.nn, tf.math) if ON_TENSORFLOW else map(import_module, _MODULES[NAME])
    found = [getattr(module, name, None) for module in modules]
    return [function for function in found if callable(function)]
