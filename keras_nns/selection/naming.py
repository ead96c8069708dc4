"""Scores by their names, as a shell has them; and which go with which rule."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_nns.errors import SelectionError
from keras_nns.observation.activity import Activity
from keras_nns.plans.keep_rules import KeepRule, above, as_rule, fraction
from keras_nns.selection import activations, weights
from keras_nns.selection.activations import Score, contrast, mean_activation

_OF_ACTIVITY = ("mean_activation", "firing_frequency", "active_share", "contrast", "d_prime",
                "block_influence")  # fmt: skip
_OF_WEIGHTS = ("magnitude", "geometric_median", "lamp", "batch_norm_scale")
_OF_DATA = ("reconstruction", "forward_selection", "contribution")


def as_score(given: Score | str, model: Any = None) -> Score:
    """Return the score that is meant by one, or by its name.

    Args:
        given: A score, or the name of one that needs activity alone; or with a model of one that
            reads its weights.
        model: The model that was observed, where it is at hand.

    Raises:
        SelectionError: There is no such score, or it needs more than is at hand.
    """
    if callable(given):
        return given
    if given in _OF_ACTIVITY:
        found: Score = getattr(activations, given)
        return found
    if given in _OF_WEIGHTS and model is not None:
        made: Score = getattr(weights, given)(model)
        return made
    if given in (*_OF_WEIGHTS, *_OF_DATA):
        needs = "model" if given in _OF_WEIGHTS else "model, data"
        raise SelectionError(
            f"The score {given!r} needs more than the activity. Make it: "
            f"score=nns.scores.{given}({needs})."
        )
    named = ", ".join(_OF_ACTIVITY if model is None else (*_OF_ACTIVITY, *_OF_WEIGHTS))
    raise SelectionError(
        f"`score` is a score such as nns.scores.contrast, or the name of one: {named}. Received: "
        f"{given!r}."
    )


def usual(
    activity: Activity, score: Score | str | None, keep: KeepRule | str | float | None
) -> tuple[Score, KeepRule]:
    """Return a score and a rule that go together, where one or both are left open.

    Args:
        activity: What was observed.
        score: As `select` takes it. None: `mean_activation` for the rule `above`, which is the
            paper's, and where fewer than two labels have samples or no means were watched; else
            `contrast`.
        keep: As `select` takes it. None: the paper's `above(0.4)` for `mean_activation` that was
            asked for, else `fraction(0.5)`.

    Raises:
        SelectionError: There is no such score or rule.
    """
    rule = None if keep is None else as_rule(keep)
    if score is None:
        alone = "mean" not in activity.statistics or (np.asarray(activity.samples) > 0).sum() < 2
        papers = rule is not None and rule.name.startswith("above")
        return mean_activation if alone or papers else contrast, rule or fraction(0.5)
    chosen = as_score(score)
    if rule is None:
        rule = above(0.4) if chosen is mean_activation else fraction(0.5)
    return chosen, rule
