"""Choose how much to keep on samples that are neither watched nor held out for the figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.metrics import balanced_accuracy_score

from keras_nns.data.batches import as_batches, unweighted
from keras_nns.errors import SelectionError
from keras_nns.observation.activity import Activity
from keras_nns.plans.keep_rules import above
from keras_nns.selection.activations import Score
from keras_nns.selection.choosing import select
from keras_nns.surgery.cutting import cut

ZETAS = (0.5, 0.4, 0.3, 0.2, 0.1)
LOSS = 0.05
"""Balanced accuracy that a label's network may lose on average, in exchange for being small."""


@dataclass(frozen=True)
class Trial:
    """One value of ζ and what it gives.

    Attributes:
        zeta: Share of the highest score from which a unit is kept.
        kept: Mean share of the units that a label's network keeps.
        balanced_accuracy: Mean over the labels' networks, each as a detector of its label.
    """

    zeta: float
    kept: float
    balanced_accuracy: float


@dataclass(frozen=True)
class Tuning:
    """What was tried, and what was chosen.

    Attributes:
        chosen: The largest ζ whose networks lose little on average, or else the best one.
        parent: The parent's mean balanced accuracy on the same samples.
        trials: In the order in which they were tried.
        samples: How many samples they were tried on.
    """

    chosen: float
    parent: float
    trials: tuple[Trial, ...]
    samples: int


def choose_zeta(
    model: Any,
    activity: Activity,
    data: Any,
    y: Any = None,
    *,
    score: Score,
    zetas: Sequence[float] = ZETAS,
    loss: float = LOSS,
) -> Tuning:
    """Choose ζ of `above` for one network per label: the largest that costs little.

    Args:
        model: The observed model, whose single output answers the labels one against another.
        activity: What was observed of it.
        data: Labelled samples that were not observed and are not used to report figures.
        y: Labels, where `data` holds inputs only.
        score: How much a label needs a unit.
        zetas: What to try, from the largest; the first that is good enough is chosen.
        loss: How far the mean balanced accuracy may fall below the parent's.

    Returns:
        The choice and what led to it.

    Raises:
        DataError: The data does not fit the model.
        SelectionError: `zetas` is empty.
    """
    if not zetas:
        raise SelectionError("`zetas` is empty. Give at least one share to try.")
    read = as_batches(data, y, model=model, label_names=activity.label_names)
    batches = list(unweighted(read, "choose_zeta"))
    inputs = [batch.inputs for batch in batches]
    labels = np.concatenate([batch.labels for batch in batches])
    parent = _detection(lambda _: model, inputs, labels, len(activity.label_names))
    trials: list[Trial] = []
    for zeta in sorted(zetas, reverse=True):
        plans = select(activity, "each", score=score, keep=above(zeta))
        found = _detection(lambda label, p=plans: cut(model, p[label]), inputs, labels, len(plans))
        units = sum(plans[0].sizes.values())
        kept = [sum(map(len, plan.kept.values())) / units for plan in plans]
        trials.append(Trial(zeta, float(np.mean(kept)), found))
        if found >= parent - loss:
            break
    best = max(trials, key=lambda trial: trial.balanced_accuracy)
    return Tuning(best.zeta, parent, tuple(trials), len(labels))


def _detection(model_of: Any, inputs: list[Any], labels: Any, count: int) -> float:
    """Mean balanced accuracy of a model for each label, each as a detector of that label."""
    found = []
    for label in range(count):
        truth = labels == label if labels.ndim == 1 else labels[:, label]
        if not 0 < truth.sum() < len(truth):
            continue
        model = model_of(label)
        scores = np.concatenate([np.asarray(model(x, training=False)) for x in inputs])
        answers = scores[:, label] > 0.5 if labels.ndim == 2 else scores.argmax(axis=1) == label
        found.append(balanced_accuracy_score(truth, answers))
    return float(np.mean(found)) if found else float("nan")
