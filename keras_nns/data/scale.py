"""Tell from a model's answers whether it is given what it was trained on."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_nns.data.answers import answers, embeds_tokens, gain, tells_labels
from keras_nns.data.labels import output_label_count
from keras_nns.data.preprocessing import rescaled_by
from keras_nns.errors import DataError, DataWarning

_LEAST_SAMPLES, _MOST_SAMPLES, _LEAST_LABELS = 16, 64, 5
_CLEAR_GAIN = 0.3
_FEWEST, _CHANCE, _NO_CHANCE = 32, 2.0, 4.0
"""Samples to say anything from; standard deviations that are chance, and that are none."""


def check_first_batch(model: keras.Model, inputs: Any, labels: NDArray[Any]) -> None:
    """Refuse inputs that are scaled wrongly, and warn where a trained model answers by chance.

    It does where the mean recall of the labels is within two standard deviations of what answers
    would have that know nothing of them. The arguments, and the models and data that nothing is
    said of, are those of `check_scale`; here models of several inputs and of tokens are looked at
    too, and 32 samples are the fewest.

    Raises:
        DataError: The scale is wrong.

    Warns:
        DataWarning: The model answers by chance.
    """
    check_scale(model, inputs, labels)
    count = output_label_count(model)
    if count is None or len(labels) < _FEWEST or not tells_labels(model):
        return
    places = _spread(len(labels))
    truth = _truth(labels[places], count)
    if truth is None or (truth.sum(axis=1) != 1).any():
        return
    numbers = truth.argmax(axis=1)
    if (numbers == numbers[0]).all():
        return
    some = keras.tree.map_structure(lambda part: np.asarray(part)[places], inputs)
    found = answers(model, some)
    if gain(_table(numbers, found, count)) >= _CHANCE:
        return
    warnings.warn(
        f"Model {model.name!r} answers this data as by chance: it is right on "
        f"{np.mean(found == numbers):.0%} of {len(numbers)} samples of "
        f"{len(set(numbers.tolist()))} labels, so what is found on the data says little about "
        f"it. {_first_guess(model, some, numbers, count)}",
        DataWarning,
        stacklevel=2,
    )


def _first_guess(model: keras.Model, x: Any, numbers: NDArray[np.int64], count: int) -> str:
    """Say what may be wrong: the scale, where another is better or the model wants another."""
    look = "Look whether the label numbers are those of its outputs, and the inputs as in training"
    if not hasattr(x, "dtype") or x.dtype.kind not in "biuf" or embeds_tokens(model):
        return f"{look}."
    x = x.astype(np.float32)
    span = f"{x.min():g} to {x.max():g}"
    for words, how, other in _other_scales(x):
        found = answers(model, other)
        if gain(_table(numbers, found, count)) >= _NO_CHANCE:
            return (
                f"The inputs may be wrongly scaled: {words} it is right on "
                f"{np.mean(found == numbers):.0%}. Pass {how}, if it was trained so."
            )
    why = rescaled_by(model, 255.0) if x.max() <= 1 else None
    if why:
        return f"The inputs run from {span}, but pictures of 0..255 are what fits it: {why}."
    return f"{look}: they run from {span}."


def _table(numbers: NDArray[np.int64], found: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    table = np.zeros((count, count), dtype=np.int64)
    np.add.at(table, (numbers, found), 1)
    return table


def _spread(size: int) -> NDArray[np.int64]:
    """Choose samples evenly, since data is often sorted by label."""
    return np.linspace(0, size - 1, min(size, _MOST_SAMPLES)).astype(np.int64)


def check_scale(model: keras.Model, inputs: Any, labels: NDArray[Any]) -> None:
    """Refuse inputs on which a trained model fails only because they are scaled wrongly.

    The evidence is the model's own answers. Those of x / 255, x / 127.5 - 1 and x * 255 are tried
    that the range of values allows. Where the model is right on half of the samples as they are,
    another must be better by four standard deviations (McNemar's test); on less than half, right on
    at least half of the samples, on 0.3 more of them than the inputs as they are, and on twice as
    many. Either must be right on 0.3 more than the commonest label alone would be, and on half of
    the samples of at least 5 labels, since with fewer a model that knows nothing is too often right
    by luck.

    Nothing is said about a model that has not been trained, has several inputs or outputs, embeds
    tokens or keeps state between calls, nor from fewer than 16 samples.

    Args:
        model: A built model whose output answers the labels.
        inputs: Samples, in the structure of `model.input`; 64 of them are used.
        labels: Their labels, `(samples,)` or `(samples, labels)`.

    Raises:
        DataError: The scale is wrong. The message says by how much and what to pass instead.
    """
    count = output_label_count(model)
    if count is None or not hasattr(inputs, "shape") or len(model.inputs) != 1:
        return
    if embeds_tokens(model) or not tells_labels(model):
        return
    places = _spread(len(labels))
    given = np.asarray(inputs)[places]
    truth = _truth(labels[places], count)
    if truth is None or len(given) < _LEAST_SAMPLES or given.dtype.kind not in "biuf":
        return
    x = given.astype(np.float32)
    right_as_given = _right(model, x, truth)
    as_given = right_as_given.mean()
    if as_given >= 0.5 and (1 - as_given) * len(x) < _NO_CHANCE**2:
        return  # So few are wrong that no other scale could be better by so much.
    commonest = float(truth.mean(axis=0).max())
    least = max(0.5, as_given + _CLEAR_GAIN, 2 * as_given, commonest + _CLEAR_GAIN)
    tried = [(_right(model, other, truth), words, how) for words, how, other in _other_scales(x)]
    if not tried:
        return
    right, words, how = max(tried, key=lambda one: one[0].sum())
    known = 2 * truth[right].sum(axis=0) >= np.maximum(truth.sum(axis=0), 1)
    if as_given >= 0.5:
        # It may well be half right on another scale. McNemar 1947: of the samples on which the two
        # differ, how many more the other is right on.
        apart = right.astype(int) - right_as_given
        clearly = apart.sum() >= _NO_CHANCE * np.sqrt(np.abs(apart).sum())
        least = commonest + _CLEAR_GAIN if clearly else np.inf
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
        yield (
            "multiplied by 255",
            "x * 255, or the pixels of a file as it stores them (its arrays; --no-scale in a "
            "shell)",
            x * np.float32(255),
        )


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
