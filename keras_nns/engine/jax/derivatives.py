"""Gradients by zeros that are added."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from keras_nns.engine.jax.carrying import Within, carrying, current
from keras_nns.engine.jax.tensors import is_floating
from keras_nns.engine.layers import mask_of, with_mask

Watch = Callable[[Hashable, Any], Any]


def differentiated(
    function: Callable[[Watch], tuple[Any, Sequence[Any]]],
) -> tuple[dict[Any, Any], list[Any]]:
    """Return the gradient of a number by each of some tensors, once; see `engine.derivatives`."""
    shapes: dict[Hashable, Any] = {}

    def note(key: Hashable, tensor: Any) -> Any:
        if is_floating(tensor):
            shapes[key] = (tensor.shape, tensor.dtype)
        return tensor

    def look() -> None:
        with carrying(Within(current())):
            function(note)

    jax.eval_shape(look)
    keys = list(shapes)

    def run(zeros: list[Any]) -> tuple[Any, Any]:
        added = dict(zip(keys, zeros, strict=True))

        def watch(key: Hashable, tensor: Any) -> Any:
            if key not in added:
                return tensor
            return with_mask(tensor + added[key], mask_of(tensor))

        with carrying(Within(current())) as carry:
            value, others = function(watch)
        held.extend(carry.met[place] for place in carry.changed)
        return value, (list(others), list(carry.changed.values()))

    held: list[Any] = []
    zeros = [jnp.zeros(*shapes[key]) for key in keys]
    gradients, (others, changed) = jax.grad(run, has_aux=True)(zeros)
    outer = current()
    for one, value in zip(held, changed, strict=True):
        if outer is None:
            one._value = value
        else:
            outer.write(one, value)
    return dict(zip(keys, gradients, strict=True)), others
