"""What went into a softmax or sigmoid, which Keras leaves on what comes out, where it can.

It cannot on tensors that jax traces.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from keras import activations
from keras.src.backend.common.tensor_attributes import get_tensor_attr, set_tensor_attr

from keras_nns.engine.backend import NAME

_LEAVING = (activations.softmax, activations.sigmoid)


def logits_of(outputs: Any) -> Any:
    """Return what went into the softmax or sigmoid that outputs came out of; None for unknown."""
    return get_tensor_attr(outputs, "_keras_logits")


def activated(activation: Callable[[Any], Any], x: Any) -> Any:
    """Return what an activation makes of a tensor, which `logits_of` finds behind it."""
    found = activation(x)
    if NAME == "jax" and activation in _LEAVING:
        set_tensor_attr(found, "_keras_logits", x)
    return found


@contextmanager
def logits_left(operation: Any) -> Iterator[None]:
    """While in the context, `logits_of` finds what went into the softmax or sigmoid of a layer."""
    activation = vars(operation).get("activation")
    if NAME != "jax" or activation not in _LEAVING:
        yield
        return
    vars(operation)["activation"] = lambda x: activated(activation, x)
    try:
        yield
    finally:
        vars(operation)["activation"] = activation
