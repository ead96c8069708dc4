"""Choose the samples on which the ranges of activations are measured."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from tflite_export.errors import CalibrationWarning, ExportError

Array = np.ndarray[Any, Any]

# Ranges settle after a few hundred samples; below the lower bound they are a gamble.
MOST = 512
FEWEST = 100


def choose(
    values: Sequence[Array], targets: Array | None, decisions: Array | None, *, width: int
) -> list[Array]:
    """Draw samples balanced over the labels, and say where they are too few.

    Args:
        values: One array of shape (samples, ...) per input.
        targets: The label of each sample, or `None`.
        decisions: What the model decides on each sample, or `None` where it decides nothing;
            stands in for missing targets.
        width: Number of labels.

    Returns:
        At most `MOST` samples per input: the same share of every label, spread evenly over
        the array, since files are often sorted.

    Raises:
        ExportError: The model does not answer each sample once.
    """
    count = len(values[0])
    if decisions is not None and len(decisions) != count:
        raise ExportError(
            f"The model answers {len(decisions):,} rows for {count:,} samples, so it joins samples "
            "of a batch. A file takes one sample at a time: let the model answer each once, such "
            "as by another axis of Concatenate."
        )
    labels = decisions if targets is None else targets
    if count < FEWEST:
        _warn(
            f"only {count} samples to measure activations on; pass at least {FEWEST} (a few "
            "hundred), or ranges will clip what the device sees."
        )
    chosen = np.linspace(0, count - 1, min(count, MOST)).round().astype(int)
    if labels is not None and width > 1:
        chosen = _balanced(_groups(labels, width, given=targets is not None), min(count, MOST))
    drawn = [array[chosen] for array in values]
    different = len(
        {tuple(hash(array[i].tobytes()) for array in drawn) for i in range(len(chosen))}
    )
    if different < FEWEST <= len(chosen):
        _warn(
            f"only {different} of the {len(chosen)} samples drawn differ; pass at least {FEWEST} "
            "different ones, or ranges will clip what the device sees."
        )
    return drawn


def _groups(labels: Array, width: int, *, given: bool) -> list[Array]:
    """Positions of the samples of every label; a label without any is said."""
    groups = [np.flatnonzero(labels == label) for label in range(width)]
    missing = [label for label, group in enumerate(groups) if not len(group)]
    if missing:
        source = "the targets" if given else "the model's own answers"
        listed = ", ".join(map(str, missing[:10])) + (", …" if len(missing) > 10 else "")
        _warn(
            f"by {source} the samples hold nothing of label {listed} (of {width}): the ranges "
            "may clip what those labels need. Pass samples of every label.",
            up=1,
        )
    return groups


def _balanced(groups: list[Array], most: int) -> Array:
    """Take turns over the labels until enough are drawn; small labels give what they have."""
    quota = [0] * len(groups)
    left = most
    while left > 0:
        open_groups = [i for i, group in enumerate(groups) if quota[i] < len(group)]
        if not open_groups:
            break
        share = max(1, left // len(open_groups))
        for i in open_groups:
            taken = min(share, len(groups[i]) - quota[i], left)
            quota[i] += taken
            left -= taken
    parts = [
        group[np.linspace(0, len(group) - 1, number).round().astype(int)]
        for group, number in zip(groups, quota, strict=True)
        if number
    ]
    return np.sort(np.concatenate(parts))


def _warn(message: str, *, up: int = 0) -> None:
    # The line of the user who called `convert`.
    warnings.warn(message, CalibrationWarning, stacklevel=5 + up)
