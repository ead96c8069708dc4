"""Tell from a model's answers whether its inputs are scaled as in training."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_nns.data.answers import answers, embeds_tokens, tells_labels
from keras_nns.data.labels import output_label_count
from keras_nns.errors import DataError

_LEAST_SAMPLES, _MOST_SAMPLES, _LEAST_LABELS = 16, 64, 5
_CLEAR_GAIN = 0.3


def check_scale(model: keras.Model, inputs: Any, labels: NDArray[Any]) -> None:
    """Refuse inputs on which a trained model fails only because they are scaled wrongly.

    The evidence is the model's own answers. When it is right on less than half of the samples as
    they are, those of x / 255, x / 127.5 - 1 and x * 255 are tried that the range of values allows.
    One of them must be right on at least half of the samples, on 0.3 more of them than the inputs
    as they are, on twice as many, and on 0.3 more than the commonest label alone would be; and on
    half of the samples of at least 5 labels, since with fewer a model that knows nothing is too
    often right by luck.

    Nothing is said about a model that has not been trained, has several inputs or outputs, embeds
    tokens or keeps state between calls, nor from fewer than 16 samples.

    Args:
        model: A built model whose output answers the labels.
        inputs: Samples, in the structure of `model.input`; the first 64 are used.
        labels: Their labels, `(samples,)` or `(samples, labels)`.

    Raises:
        DataError: The scale is wrong. The message says by how much and what to pass instead.
    """
    count = output_label_count(model)
    if count is None or not hasattr(inputs, "shape") or len(model.inputs) != 1:
        return
    if embeds_tokens(model) or not tells_labels(model):
        return
    given = np.asarray(inputs[:_MOST_SAMPLES])
    truth = _truth(labels[:_MOST_SAMPLES], count)
    if truth is None or len(given) < _LEAST_SAMPLES or given.dtype.kind not in "biuf":
        return
    x = given.astype(np.float32)
    as_given = _right(model, x, truth).mean()
    if as_given >= 0.5:
        return
    commonest = float(truth.mean(axis=0).max())
    least = max(0.5, as_given + _CLEAR_GAIN, 2 * as_given, commonest + _CLEAR_GAIN)
    tried = [(_right(model, other, truth), words, how) for words, how, other in _other_scales(x)]
    if not tried:
        return
    right, words, how = max(tried, key=lambda one: one[0].sum())
    known = 2 * truth[right].sum(axis=0) >= np.maximum(truth.sum(axis=0), 1)
    if right.mean() >= least and known.sum() >= _LEAST_LABELS:
        raise DataError(
            f"The inputs look wrongly scaled: as given (range {x.min():g} to {x.max():g}) the "
            f"model is right on {as_given:.0%} of {len(x)} samples, {words} on {right.mean():.0%}. "
            f"Pass {how}, as the model was trained."
        )


def _other_scales(x: NDArray[np.float32]) -> Iterator[tuple[str, str, NDArray[np.float32]]]:
    """Give the scales that the data may have been meant to have: words, remedy, inputs."""
    low, high = float(x.min()), float(x.max())
    if low >= 0 and 1 < high <= 255:
        yield "divided by 255", "x / 255", x / np.float32(255)
        yield "scaled to -1..1", "x / 127.5 - 1", x / np.float32(127.5) - 1
    elif low >= 0 and high <= 1:
        yield "multiplied by 255", "x * 255", x * np.float32(255)


def _truth(labels: NDArray[Any], count: int) -> NDArray[np.bool_] | None:
    """Give a table of which outputs are right, or None where labels are not the outputs."""
    if labels.ndim == 2:
        return labels if labels.shape[1] == count else None
    table: NDArray[np.bool_] = labels[:, None] == np.arange(count)
    return table


def _right(
    model: keras.Model, x: NDArray[np.float32], truth: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    right: NDArray[np.bool_] = truth[np.arange(len(x)), answers(model, x)]
    return right
