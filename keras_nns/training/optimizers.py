"""Optimizers of our own: copies of those that are given, or the usual one."""

from __future__ import annotations

import math
from typing import Any

import keras
from keras import ops

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


class FallingAdam(keras.optimizers.Adam):
    """Adam whose rate falls to zero along a cosine, and that can begin anew at another rate.

    What Keras's `CosineDecay` falls from is part of the compiled step. Here it is a variable, as
    the number of steps is: several rates are tried with one step compiled once.
    """

    def __init__(self) -> None:
        super().__init__(RATE)
        self._steps = self.add_variable((), initializer="ones", name="steps")

    def begin(self, rate: float, steps: int) -> None:
        """Forget what was, and fall from a rate to zero within so many steps.

        Args:
            rate: What it falls from.
            steps: When it is zero, 1 or more.
        """
        for variable in self.variables:
            variable.assign(ops.zeros(variable.shape, variable.dtype))
        self._steps.assign(steps)
        self.learning_rate = rate

    @property
    def learning_rate(self) -> Any:
        """The rate by now."""
        done = ops.minimum(ops.cast(self.iterations, "float32") / self._steps, 1.0)
        return super().learning_rate * (0.5 + 0.5 * ops.cos(math.pi * done))

    @learning_rate.setter
    def learning_rate(self, rate: Any) -> None:
        keras.optimizers.Adam.learning_rate.fset(self, rate)
