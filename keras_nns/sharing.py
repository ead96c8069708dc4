"""What plans of one parent have in common: which units they keep, and how many they share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from keras_nns.errors import SelectionError
from keras_nns.layout import mask_of
from keras_nns.plan import Plan


def kept_matrix(plans: Sequence[Plan], group: str) -> NDArray[np.bool_]:
    """Say which units of a group each plan keeps.

    Args:
        plans: Plans of one parent.
        group: Name of the unit group.

    Returns:
        `(plans, units)`.

    Raises:
        SelectionError: No plan was given, they are of different models, or none has such a group.
    """
    _check(plans)
    if group not in plans[0].kept:
        raise SelectionError(
            f"No unit group {group!r} in the plans. Expected one of {list(plans[0].kept)}."
        )
    return np.stack([mask_of(plan.kept[group], plan.sizes[group]) for plan in plans])


def jaccard(plans: Sequence[Plan]) -> NDArray[np.float64]:
    """Compute how much each two plans share: units both keep, of all that either keeps.

    Args:
        plans: Plans of one parent.

    Returns:
        Jaccard indices over the units of all groups, `(plans, plans)`; NaN where neither plan
        keeps any.

    Raises:
        SelectionError: No plan was given, or they are of different models.
    """
    _check(plans)
    kept = np.concatenate([kept_matrix(plans, group) for group in plans[0].kept], axis=1)
    numbers = kept.astype(np.int64)
    shared = numbers @ numbers.T
    counts = np.diag(shared)
    either = counts[:, None] + counts[None, :] - shared
    values = np.full(shared.shape, np.nan)
    np.divide(shared, either, out=values, where=either > 0)
    return values


def _check(plans: Sequence[Plan]) -> None:
    if not plans:
        raise SelectionError("There is no plan to look at. Pass at least one.")
    sizes = [dict(plan.sizes) for plan in plans]
    if any(size != sizes[0] for size in sizes):
        raise SelectionError(
            "The plans are of different models: their unit groups differ. Pass plans of one parent."
        )
