"""What a model decides: the one rule for agreement, accuracy and figures per label."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

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
