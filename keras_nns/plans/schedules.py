"""Schedules: how much of what is to be removed is gone by when. No Keras here."""

from __future__ import annotations

import math
from collections.abc import Callable

from keras_nns.errors import SelectionError

Schedule = Callable[[float], float]
"""From progress in [0, 1] to the share of the removal that is done, from 0 to 1, never falling."""


def agp(progress: float) -> float:
    """Remove much at first and ever less: `1 - (1 - progress)³`.

    Automated gradual pruning, Zhu and Gupta 2017 (*To prune, or not to prune*, eq. 1): while there
    is much that nobody misses it goes fast, and what is left has time to recover.

    Args:
        progress: How far it is, in [0, 1].

    Returns:
        The share of the removal that is done.

    Example:
        >>> nns.schedules.agp(0.5)
        0.875
    """
    return 1 - (1 - progress) ** 3


def linear(progress: float) -> float:
    """Remove evenly.

    Args:
        progress: How far it is, in [0, 1].

    Returns:
        The share of the removal that is done.

    Example:
        >>> nns.schedules.linear(0.5)
        0.5
    """
    return progress


def cosine(progress: float) -> float:
    """Remove little at first and at the end, and most half way: `(1 - cos(π · progress)) / 2`.

    Args:
        progress: How far it is, in [0, 1].

    Returns:
        The share of the removal that is done.

    Example:
        >>> round(nns.schedules.cosine(0.25), 3)
        0.146
    """
    return (1 - math.cos(math.pi * progress)) / 2


def shares_of(schedule: Schedule, steps: int, share: float) -> tuple[float, ...]:
    """Return the share of units that stays after each of several steps.

    Args:
        schedule: The schedule.
        steps: How many steps.
        share: What stays after the last.

    Raises:
        SelectionError: `steps` is below 1, `share` outside (0, 1], or the schedule falls, leaves
            [0, 1] or does not end at 1.
    """
    if steps < 1:
        raise SelectionError(f"`steps` must be 1 or more. Received: steps={steps}.")
    if not 0 < share <= 1:
        raise SelectionError(
            f"`share` is the share of the units that stays in the end. Expected a number in "
            f"(0, 1]. Received: share={share!r}."
        )
    done = [float(schedule(step / steps)) for step in range(1, steps + 1)]
    rising = all(a <= b + 1e-9 for a, b in zip([0.0, *done], done, strict=False))
    if not rising or not math.isclose(done[-1], 1.0, abs_tol=1e-6):
        raise SelectionError(
            "A schedule goes from progress in [0, 1] to the share of the removal that is done, "
            f"never falls, and is 1 in the end. Received: {done}."
        )
    # Exactly at the end: rounding must not leave a unit more.
    return (*(1 - (1 - share) * amount for amount in done[:-1]), share)
