"""What a model decides: the one rule for agreement, accuracy and figures per label."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


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
