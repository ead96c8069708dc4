"""What a model decides: the one rule for agreement, accuracy and figures per label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tflite_export.errors import OptionError
from tflite_export.keras_model.ports import Port

Array = np.ndarray[Any, Any]
# A vector of so many numbers that has an input's shape is that input rebuilt, not scores of labels.
_PICTURE = 16


def decide(answers: Array, like: Array | None = None) -> Array | None:
    """Turn one output's answers into decisions.

    Args:
        answers: Shape (samples, ..., labels).
        like: The answers that tell what kind of output it is; `answers` by default. A file
            is judged by the kind of its model.

    Returns:
        The position of the largest answer; for a single probability whether it is above 0.5;
        `None` for an output that decides nothing.
    """
    kind = answers if like is None else like
    if kind.ndim < 2 or not kind.size:
        return None
    if kind.shape[-1] > 1:
        return np.asarray(answers.argmax(axis=-1))
    if kind.min() >= 0 and kind.max() <= 1:
        return np.asarray(answers[..., 0] > 0.5).astype(np.int64)
    return None


def decides(port: Port, answers: Array, inputs: Sequence[Port]) -> bool:
    """Whether the largest number means a decision: not in a picture, nor in an input rebuilt.

    Args:
        port: The output.
        answers: What it gives, of shape (samples, ..., labels).
        inputs: The model's inputs.
    """
    if answers.min(initial=0.0) >= 0 and np.allclose(answers.sum(axis=-1), 1, atol=1e-3):
        return True
    alike = any(port.shape[1:] == other.shape[1:] for other in inputs)
    if alike and answers[:1].size >= _PICTURE:
        return False
    return answers.ndim < 4 or answers.shape[-1] == 1


def target_indices(targets: Any, count: int, width: int | None) -> Array:
    """Turn integer or one-hot targets into one label index per sample.

    Args:
        targets: What the user gave.
        count: Number of samples.
        width: Number of labels; `None` where the output does not tell.

    Raises:
        OptionError: Not one target per sample, or a label that the output does not have.
    """
    array = np.asarray(targets)
    if array.ndim == 2 and array.shape[1] == (width or array.shape[1]) > 1:
        array = array.argmax(axis=1)
    array = array.reshape(-1) if array.ndim == 2 and array.shape[1] == 1 else array
    if array.shape != (count,) or array.dtype.kind not in "biuf":
        columns = "labels" if width is None else width
        raise OptionError(
            f"targets must be one label index per sample, shape ({count},), or one-hot, shape "
            f"({count}, {columns}). Received: shape {array.shape}, type {array.dtype}."
        )
    whole = array.astype(np.int64)
    labels = int(whole.max(initial=1)) + 1 if width is None else max(width, 2)
    if not np.array_equal(whole, array) or whole.min() < 0 or whole.max() >= labels:
        raise OptionError(
            f"targets must be whole numbers from 0 to {labels - 1}. Received: from "
            f"{array.min()} to {array.max()}."
        )
    return whole
