"""How near a subnetwork is to its parent, and to targets that are no labels of samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_nns.judgement.question import Question, ask, question_of
from keras_nns.judgement.tallies import Reported, output_of, tally
from keras_nns.observation.forward import Forward, passed
from keras_nns.observation.holdout import Division
from keras_nns.surgery.lineage import Lineage

DISTANCE = "distance"
"""Mean absolute difference of a subnetwork's answers from its parent's, asked the same."""

BALANCED = "balanced acc."
"""Mean of recall and specificity, and the mean of that over the labels answered."""


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
    right = question.truth(truth)
    asked = np.ones(len(right), dtype=bool) if several else right.any(axis=1)
    each = (np.ones(len(right)) if weights is None else weights)[asked]
    answers = [1] if question.head == "binary" else range(right.shape[1])
    found = []
    for answer in answers:
        own, said = right[asked, answer], decided[asked, answer]
        if own.any() and not own.all():
            recall = np.average(said[own], weights=each[own])
            specificity = np.average(~said[~own], weights=each[~own])
            found.append((recall + specificity) / 2)
    return float(np.mean(found)) if found else float("nan")
