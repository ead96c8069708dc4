"""Which weights a training leaves: what is held out says whether it made anything worse."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_nns.repairing.nearness import DISTANCE, Nearness
from keras_nns.repairing.patient import Treatment
from keras_nns.training.checkpoints import Arrays, assign


@dataclass(frozen=True, eq=False)
class State:
    """Weights that a training could leave.

    Attributes:
        weights: Of all variables.
        loss: On what is held out.
        epoch: Behind which epoch; 0 for those before.
        note: What else there is to know.
    """

    weights: Arrays
    loss: float
    epoch: int
    note: str = ""


def halfway(variables: Sequence[Any], one: Arrays, other: Arrays) -> Arrays:
    """Return the mean of two states of the same variables; of what are no numbers, the other.

    Between the weights before a training and those behind it lies often a network that is better
    than both (Wortsman et al. 2022, "Robust fine-tuning of zero-shot models").
    """
    return [
        ((a.astype(np.float64) + b.astype(np.float64)) / 2).astype(b.dtype)
        if keras.backend.is_float_dtype(keras.backend.standardize_dtype(variable.dtype))
        else b
        for variable, a, b in zip(variables, one, other, strict=True)
    ]


def keep_best(treatment: Treatment, states: Sequence[State], before: Nearness) -> State:
    """Give a model the weights of least loss of those that made nothing worse.

    Args:
        treatment: Holds the model, and what is held out.
        states: The weights before the training, and others.
        before: What `treatment.judged` gave with the first.

    Returns:
        The state that the model is in: one whose loss is less than that of the first, and whose
        balanced accuracy is not lower by more than one sample makes, or what else counts most not
        at all; else the first.
    """
    old, *others = states
    was = before.figures
    counts = [name for name in was if name != DISTANCE]
    worse = []
    for state in sorted(others, key=lambda one: one.loss if math.isfinite(one.loss) else math.inf):
        if not state.loss < (old.loss if math.isfinite(old.loss) else math.inf):
            worse.append(f"the loss would be {state.loss:.4g}, not {old.loss:.4g}")
            continue
        assign(treatment.model.variables, state.weights)
        behind = treatment.judged()
        now, one = behind.figures, before.one_sample(behind)
        fallen = [name for name in counts if now[name] < was[name] - one]
        if not fallen:
            return state
        worse += [f"{name} would be {now[name]:.4g}, not {was[name]:.4g}" for name in fallen]
    assign(treatment.model.variables, old.weights)
    return State(old.weights, old.loss, 0, f"the old weights are kept: {worse[0]}")
