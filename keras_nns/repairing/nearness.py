"""How near a subnetwork is to its parent, and to targets that are no labels of samples."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import numpy as np

from keras_nns.judgement.question import ask, question_of
from keras_nns.judgement.tallies import Reported, output_of, tally
from keras_nns.observation.forward import passed
from keras_nns.observation.holdout import Division
from keras_nns.surgery.lineage import Lineage

DISTANCE = "distance"
"""Mean absolute difference of a subnetwork's answers from its parent's, asked the same."""


def nearness(
    models: Sequence[tuple[keras.Model, str | None]], division: Division, record: Lineage, kind: str
) -> dict[str, float]:
    """Judge a subnetwork on what is held out, or on everything where nothing is.

    Args:
        models: Parent and subnetwork, each with its output that answers.
        division: The data, whose targets are no labels of samples, or which has none.
        record: Where the subnetwork comes from.
        kind: What the parent's outputs mean.

    Returns:
        `DISTANCE`, and with targets the figure that counts most (`Evaluation.measure`).
    """
    _, (model, output) = models
    width, _ = output_of(model, output)
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
