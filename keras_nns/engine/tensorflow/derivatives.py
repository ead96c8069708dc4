"""Gradients by a tape."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import tensorflow as tf

Watch = Callable[[Hashable, Any], Any]


def differentiated(
    function: Callable[[Watch], tuple[Any, Sequence[Any]]],
) -> tuple[dict[Any, Any], list[Any]]:
    """Return the gradient of a number by each of some tensors, once.

    Args:
        function: Takes `watch(key, tensor)`, which returns what to go on with in place of a tensor,
            and returns the number, a scalar, and a list of other tensors that came up. It may be
            run twice, and changes no accumulator.

    Returns:
        The gradients by key, of the shapes of their tensors: zero where nothing leads from one to
        the number; tensors that hold no floating-point numbers have none. And the other tensors.
    """
    watched: dict[Hashable, Any] = {}
    with tf.GradientTape(watch_accessed_variables=False) as tape:

        def watch(key: Hashable, tensor: Any) -> Any:
            if tensor.dtype.is_floating:
                tape.watch(tensor)
                watched[key] = tensor
            return tensor

        value, others = function(watch)
    found = tape.gradient(
        value, list(watched.values()), unconnected_gradients=tf.UnconnectedGradients.ZERO
    )
    return dict(zip(watched, map(tf.convert_to_tensor, found), strict=True)), list(others)
