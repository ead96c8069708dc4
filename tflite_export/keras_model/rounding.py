"""How far float32 alone moves a model's answers, measured on the model itself."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tflite_export.keras_model.source import NOT_FLOAT32, Source
from tflite_export.perturbation import Array, Change, moved_by_rounding

_MOST = 256


def computes_in(model: Any) -> str | None:
    """Return what a layer of a model computes in that is not float32; None where all do."""
    found = {layer.compute_dtype for layer in model._flatten_layers()}
    return next((name for name in NOT_FLOAT32 if name in found), None)


def rounding(origin: Source, values: Sequence[Array]) -> list[float]:
    """Measure it of a model that is ready to be traced.

    Args:
        origin: The model.
        values: Samples, one array of shape (samples, ...) per input; the first 256 are used.

    Returns:
        As `moved_by_rounding`.
    """
    import tensorflow as tf  # noqa: PLC0415  (elsewhere Keras may run on another backend)

    chosen = [weight for weight in origin.weights if np.dtype(weight.dtype).kind == "f"]
    exact = [np.asarray(weight) for weight in chosen]
    run = tf.function(
        lambda inputs, others: origin.call_with(inputs, list(zip(chosen, others, strict=True))),
        autograph=False,
    )

    def ask(change: Change) -> list[Array]:
        inputs = [tf.constant(change("", array[:_MOST])) for array in values]
        named = zip(chosen, exact, strict=True)
        others = [tf.constant(change(weight.name, value)) for weight, value in named]
        return [np.asarray(answer) for answer in run(inputs, others)]

    return moved_by_rounding(ask)
