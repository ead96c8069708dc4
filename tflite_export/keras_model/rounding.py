"""How far float32 alone moves a model's answers, measured on the model itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tflite_export.keras_model.source import Source

Array = np.ndarray[Any, Any]
_DRAWS = 4
_MOST = 256
_EPS = float(np.finfo(np.float32).eps) / 2


def rounding(origin: Source, values: Sequence[Array]) -> list[float]:
    """Measure how far answers move when every weight and input is off by float32's rounding.

    A sum of n products computed in floating point is the exact sum for factors that are a
    little off, each by a relative error of sqrt(n) eps in the usual case (Higham 2002, *Accuracy
    and Stability of Numerical Algorithms*, 3.1; probabilistic: Higham and Mary 2019). So what
    another order of summation can do to a model is what such errors in its weights do: little
    where it is well conditioned, much where large weights meet features that hardly vary.

    Args:
        origin: The model.
        values: Samples, one array of shape (samples, ...) per input; the first 256 are used.

    Returns:
        For each output the largest absolute change over the samples and a few random draws.
    """
    rng = np.random.default_rng(0)
    batch = [tf.constant(array[:_MOST]) for array in values]
    chosen = [weight for weight in origin.weights if np.dtype(weight.dtype).kind == "f"]
    exact = [np.asarray(weight) for weight in chosen]
    run = tf.function(
        lambda inputs, others: origin.call_with(inputs, list(zip(chosen, others, strict=True))),
        autograph=False,
    )
    plain = [np.asarray(answer, np.float64) for answer in run(batch, exact)]
    moved = [0.0] * len(plain)
    for _ in range(_DRAWS):
        inputs = [_off(rng, tensor.numpy(), 1) for tensor in batch]
        others = [
            _off(rng, value, _terms(weight.name, value.shape))
            for weight, value in zip(chosen, exact, strict=True)
        ]
        for number, answer in enumerate(run(inputs, others)):
            apart = np.abs(np.asarray(answer, np.float64) - plain[number])
            moved[number] = max(moved[number], float(apart.max(initial=0.0)))
    return moved


def _terms(name: str, shape: tuple[int, ...]) -> int:
    """How many products are summed up with a weight: all but the last axis of a kernel."""
    return math.prod(shape[:-1]) if "kernel" in name else 1


def _off(rng: np.random.Generator, value: Array, terms: int) -> Any:
    """A value with random relative errors of the rounding of a sum of so many terms."""
    if value.dtype.kind != "f":
        return tf.constant(value)
    errors = rng.choice((-1.0, 1.0), value.shape) * _EPS * math.sqrt(terms)
    return tf.constant((value.astype(np.float64) * (1 + errors)).astype(value.dtype))
