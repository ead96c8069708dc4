"""What is not known where units are chosen: units nobody saw, data not all of which was seen."""

from __future__ import annotations

import warnings
from collections.abc import Container, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from keras_nns.errors import DataWarning
from keras_nns.observation.activity import Activity
from keras_nns.observation.layer_sums import Float
from keras_nns.plans.units import Member

REMEDY = (
    "To choose among them, go by their weights, score=nns.scores.magnitude(model, "
    "unobserved=True); nns.unfold(model) writes some such layers out."
)


def unknown_groups(activity: Activity, scores: Mapping[str, Float], score: str) -> dict[str, str]:
    """Say of which groups of units that could go nothing is known, and why.

    Args:
        activity: What was observed.
        scores: Scores `(labels, units)` by group.
        score: Name of the score.

    Returns:
        Reasons by name of the group.
    """
    found = {}
    for group in activity.layout.prunable:
        name = group.name
        if name in scores and free(activity, name, scores[name]).any():
            continue
        if name in activity.unwatched:
            found[name] = activity.unwatched[name]
        elif any(member.layer in activity.layers for member in group.members):
            found[name] = f"{score} gives them no score"
        else:
            found[name] = "`layers` of observe left them out"
    return found


def listed(reasons: Mapping[str, str], most: int = 4) -> str:
    """Write groups and their reasons in words, those of one reason together."""
    groups: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        groups.setdefault(reason, []).append(repr(name))
    parts = [f"{', '.join(names[:most])}{_more(names, most)} ({r})" for r, names in groups.items()]
    return f"{'; '.join(parts[:most])}{_more(parts, most)}"


def _more(items: Sequence[str], most: int) -> str:
    return f" and {len(items) - most} more" if len(items) > most else ""


def free(activity: Activity, name: str, values: Float) -> NDArray[np.bool_]:
    """Say which units of a group could go and have a score, `(units,)`."""
    free = np.asarray(~np.isneginf(values).all(axis=0), dtype=np.bool_)
    free[list(activity.layout[name].protected)] = False
    return free


def warn_of_shards(activity: Activity) -> None:
    """Warn where an activity is of some shards of the data alone."""
    if activity.shards is not None:
        warnings.warn(
            f"The activity is of {activity.shards} of the data alone, and so is what is selected "
            "by it. Add the others first: nns.add(parts), or keras-nns add in a shell.",
            DataWarning,
            stacklevel=3,
        )


def warn_of_unknown(
    activity: Activity, scores: Mapping[str, Float], score: str, asked: Container[str]
) -> None:
    """Warn of units that stay because no layer shows them, not of those left out on purpose.

    Dimensions of keys and values are left out: their heads are chosen among, and the plan counts
    them apart.

    Args:
        activity: What was observed.
        scores: Scores by group.
        score: Name of the score.
        asked: Groups that are chosen in.
    """
    chosen = {_layer_of(member) for name in scores for member in activity.layout[name].members}
    reasons = {
        name: reason
        for name, reason in unknown_groups(activity, scores, score).items()
        if name in activity.unwatched
        and name in asked
        and not chosen.issuperset(map(_layer_of, activity.layout[name].members))
    }
    if reasons:
        warnings.warn(
            f"Units of which nothing is known stay: {listed(reasons)}. {REMEDY}", stacklevel=3
        )


def _layer_of(member: Member) -> str:
    """Return the layer that makes units, of whatever kind they are."""
    return member.layer.partition(":")[0]
