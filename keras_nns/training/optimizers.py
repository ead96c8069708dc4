"""Optimizers of our own: copies of those that are given, or the usual one."""

from __future__ import annotations

from typing import Any

import keras

RATE = 2e-3
"""What the usual rate starts from."""


def own_optimizer(given: Any, steps: int, rate: float = RATE) -> Any:
    """Return an optimizer of our own.

    Args:
        given: A Keras optimizer or its name, which is copied. None: Adam, whose rate falls to zero
            along a cosine.
        steps: How many steps there will be.
        rate: What that rate starts from.
    """
    if given is None:
        return keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(rate, steps))
    optimizer = keras.optimizers.get(given)
    return type(optimizer).from_config(optimizer.get_config())
