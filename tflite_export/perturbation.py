"""How far float32's rounding alone moves what is computed, measured by moving what it is made of.

Numpy alone: what asks a model stands where models are known.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Change = Callable[[str, Array], Array]
"""Gives another value for that of a weight, by its name and value; of an input the name is ""."""

_DRAWS = 4
_EPS = float(np.finfo(np.float32).eps) / 2


def moved_by_rounding(ask: Callable[[Change], Sequence[Array]]) -> list[float]:
    """Measure how far answers move when every weight and input is off by float32's rounding.

    A sum of n products computed in floating point is the exact sum for factors that are a
    little off, each by a relative error of sqrt(n) eps in the usual case (Higham 2002, *Accuracy
    and Stability of Numerical Algorithms*, 3.1; probabilistic: Higham and Mary 2019). So what
    another order of summation can do to a model is what such errors in its weights do: little
    where it is well conditioned, much where large weights meet features that hardly vary.

    Args:
        ask: Gives the model's answers, an array for each output, with every weight and input
            changed.

    Returns:
        For each output the largest absolute change over the samples and a few random draws.
    """
    rng = np.random.default_rng(0)
    plain = [answer.astype(np.float64) for answer in ask(lambda _, value: value)]
    moved = [0.0] * len(plain)
    for _ in range(_DRAWS):
        for number, answer in enumerate(ask(partial(_rounded, rng))):
            apart = np.abs(answer.astype(np.float64) - plain[number])
            moved[number] = max(moved[number], float(apart.max(initial=0.0)))
    return moved


def _rounded(rng: np.random.Generator, name: str, value: Array) -> Array:
    """Return a value with random relative errors of the rounding of the sum that it is in."""
    if value.dtype.kind != "f":
        return value
    errors = rng.choice((-1.0, 1.0), value.shape) * _EPS * math.sqrt(_terms(name, value.shape))
    moved: Array = (value.astype(np.float64) * (1 + errors)).astype(value.dtype)
    return moved


def _terms(name: str, shape: tuple[int, ...]) -> int:
    """How many products are summed up with a weight: all but the last axis of a kernel."""
    return math.prod(shape[:-1]) if "kernel" in name else 1
