"""How near a subnetwork is to its parent, and to targets that are no labels of samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_nns.judgement.question import Question, ask, question_of, reply
from keras_nns.judgement.tallies import Reported, output_of, tally
from keras_nns.observation.forward import Forward, Ran, passed, settle_labels
from keras_nns.observation.holdout import Division
from keras_nns.surgery.lineage import Lineage

DISTANCE = "distance"
"""Mean absolute difference of a subnetwork's answers from its parent's, asked the same."""

BALANCED = "balanced acc."
"""Mean of recall and specificity, and the mean of that over the labels answered."""


@dataclass(frozen=True, eq=False)
class Nearness:
    """How near a subnetwork is.

    Attributes:
        figures: `DISTANCE`; and `BALANCED` with labels, or the figure that counts most for other
            targets (`Evaluation.measure`).
        contributions: What each sample adds to `BALANCED`, `(samples,)`; None without labels.
    """

    figures: dict[str, float]
    contributions: NDArray[np.float64] | None = None

    def one_sample(self, other: Nearness) -> float:
        """Return how far apart in `BALANCED` two are by one sample answered otherwise, at most.

        Both are of the same samples; 0 without labels.
        """
        if self.contributions is None or other.contributions is None:
            return 0.0
        return float(np.abs(self.contributions - other.contributions).max(initial=0.0))


def nearness(
    models: Sequence[Forward], division: Division, record: Lineage, kind: str
) -> dict[str, float]:
    """Judge a subnetwork on what is held out, or on everything where nothing is.

    Args:
        models: Parent and subnetwork, each with its output that answers, compiled by then or not.
        division: The data, whose targets are no labels of samples, or which has none.
        record: Where the subnetwork comes from.
        kind: What the parent's outputs mean.

    Returns:
        `DISTANCE`, and with targets the figure that counts most (`Evaluation.measure`).
    """
    model = models[1].model
    width, _ = output_of(model, models[1].output)
    names = division.label_names if division.asked == "positions" else record.plan.label_names
    question = None
    if record.head != "parent" or division.asked == "positions":
        question = question_of(record, names, width, model.name)
    counted = None
    if division.asked is not None:
        threshold = 0.0 if kind == "linear" and width == 1 else None
        told = Reported(model.name, names)
        counted = tally(division.asked, told, question, meaning=kind, threshold=threshold)
    distance = total = 0.0
    for batch, (theirs, ours) in passed(models, division.held_out()):
        wanted = theirs
        if question is not None and record.head != "parent":
            rows = ask(question, theirs.reshape(-1, theirs.shape[-1]), kind)
            wanted = rows.reshape(ours.shape)
        apart = np.abs(ours - wanted).reshape(batch.size, -1).mean(axis=1)
        distance += float(batch.each @ apart)
        total += float(batch.each.sum())
        if counted is not None:
            counted.add(ours, batch)
    figures = {DISTANCE: distance / total}
    if counted is not None:
        judged = counted.evaluation()
        figures[judged.measure] = judged.worth
    return figures


def mean_distance(
    ours: NDArray[Any], theirs: NDArray[Any], weights: NDArray[np.float64] | None
) -> float:
    """Return how far answers `(samples, answers)` are from others on average."""
    return float(np.average(np.abs(ours - theirs).mean(axis=1), weights=weights))


def nearness_of_labels(
    ran: Ran, record: Lineage, kind: str, names: Sequence[str], model: str
) -> Nearness:
    """Judge a subnetwork on samples with labels.

    Args:
        ran: What parent and subnetwork answered.
        record: Where the subnetwork comes from.
        kind: What the parent's outputs mean.
        names: Of the parent's labels.
        model: Name of the subnetwork, for messages.
    """
    answered, ours = ran.outputs
    question = question_of(record, names, ours.shape[1], model)
    wanted = ask(question, answered, kind)
    truth, several = settle_labels(ran.labels, len(names), None)
    threshold = 0.0 if kind == "linear" and record.head == "parent" else None
    decided = reply(question, ours, multi_label=several, threshold=threshold).decided
    each = contributions(question, decided, truth, several, weights=ran.weights)
    distance = mean_distance(ours, wanted, ran.weights)
    return Nearness({DISTANCE: distance, BALANCED: float(each.sum())}, each)


def balanced_accuracy(
    question: Question,
    decided: NDArray[np.bool_],
    truth: NDArray[Any],
    several: bool,
    *,
    weights: NDArray[np.float64] | None = None,
) -> float:
    """Return the mean balanced accuracy over a question's answers that have samples.

    Args:
        question: What was asked.
        decided: Which answers were given, `(samples, answers)`.
        truth: Labels, numbers or multi-hot rows.
        several: Whether a sample can have several labels, or none.
        weights: How much each sample counts; None for all alike.
    """
    return float(contributions(question, decided, truth, several, weights=weights).sum())


def contributions(
    question: Question,
    decided: NDArray[np.bool_],
    truth: NDArray[Any],
    several: bool,
    *,
    weights: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Return what each sample adds to `balanced_accuracy`, `(samples,)`; NaN where there is none.

    Args:
        question: As there, and so is the rest.
        decided: Which answers were given.
        truth: Labels.
        several: Whether a sample can have several.
        weights: How much each counts.
    """
    right = question.truth(truth)
    each = np.ones(len(right)) if weights is None else np.asarray(weights, dtype=np.float64)
    each = each if several else each * right.any(axis=1)
    answers = [1] if question.head == "binary" else range(right.shape[1])
    found = []
    for answer in answers:
        own, said = right[:, answer], decided[:, answer]
        positive, negative = each * own, each * ~own
        if positive.sum() and negative.sum():
            recall = positive * said / positive.sum()
            found.append((recall + negative * ~said / negative.sum()) / 2)
    return np.mean(found, axis=0) if found else np.full(len(right), np.nan)
