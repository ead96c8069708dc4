"""Say where a model hardly knows the samples it is converted with."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tflite_export.errors import CalibrationWarning
from tflite_export.keras_model.decisions import decide
from tflite_export.keras_model.source import Source, predict

Array = np.ndarray[Any, Any]

_ASKED = 128
# Share of the way from chance to never wrong below which a model does not know its samples.
_KNOWN = 0.25
# Standard deviations, and share of the samples, by which another scale must be better.
_CLEAR, _MORE = 4.0, 0.3


def check_known(origin: Source, values: Sequence[Array], targets: Array, *, width: int) -> None:
    """Warn where a model is mostly wrong on samples, or clearly better with them scaled otherwise.

    Up to 128 samples are looked at. Another scale is clearly better if it is right on 0.3 more of
    them and, by McNemar's test, by four standard deviations.

    Args:
        origin: The model, of one output `(samples, labels)`.
        values: One array of shape (samples, ...) per input.
        targets: The position in the output that is right for each sample.
        width: Number of labels.

    Warns:
        CalibrationWarning: The samples may not look as those it was trained on.
    """
    some = np.linspace(0, len(targets) - 1, min(len(targets), _ASKED)).round().astype(int)
    asked, known = [array[some] for array in values], targets[some]
    right = _right(origin, asked, known)
    if right is None:
        return
    wrong = len(right) - right.sum()
    # With fewer wrong no scale could be clearly better.
    for words, how, scaled in _other_scales(asked) if wrong >= _CLEAR**2 else ():
        other = _right(origin, scaled, known)
        if other is None:
            continue
        apart = other.astype(int) - right
        if np.mean(apart) >= _MORE and np.sum(apart) >= _CLEAR * np.sqrt(np.abs(apart).sum()):
            _warn(
                f"the model decides {right.mean():.0%} of the samples as their targets say, and "
                f"{other.mean():.0%} of them {words}: pass {how}, if it was trained so."
            )
            return
    chance = 1 / width
    if right.mean() < chance + _KNOWN * (1 - chance):
        _warn(
            f"the model decides {right.mean():.0%} of the samples as their targets say, where "
            f"chance is {chance:.0%}: look whether they are preprocessed as for training, and "
            "whether the targets are positions in the output."
        )


def _right(origin: Source, values: Sequence[Array], known: Array) -> Array | None:
    decisions = decide(predict(origin, values)[0])
    return None if decisions is None else np.asarray(decisions == known)


def _other_scales(values: Sequence[Array]) -> Iterator[tuple[str, str, list[Array]]]:
    """Give the scales that pictures may have been meant to have: words, remedy, inputs."""
    if len(values) != 1 or values[0].dtype.kind not in "uif":
        return
    (x,) = values
    low, high, x = float(x.min()), float(x.max()), x.astype(np.float32)
    if low >= 0 and 1 < high <= 255:
        yield "divided by 255", "samples / 255", [x / np.float32(255)]
        yield "scaled to -1..1", "samples / 127.5 - 1", [x / np.float32(127.5) - 1]
    elif low >= 0 and high <= 1 and (x % 1).any():  # Whole numbers may be tokens.
        yield "multiplied by 255", "samples * 255", [x * np.float32(255)]


def _warn(message: str) -> None:
    # The line of the user who called `convert`.
    warnings.warn(message, CalibrationWarning, stacklevel=4)
