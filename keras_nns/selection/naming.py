"""Scores by their names, as a shell has them."""

from __future__ import annotations

from typing import Any

from keras_nns.errors import SelectionError
from keras_nns.selection import activations, weights
from keras_nns.selection.activations import Score

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
