"""Patch a weak label: another network's answer takes its place where held-out figures improve."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_nns import tables
from keras_nns.composition.input_adapters import Adapt, adapted
from keras_nns.composition.joining import Joint, Label, Scion, Stock
from keras_nns.data.batches import unweighted
from keras_nns.errors import DataError, SelectionError
from keras_nns.files.atomic import Json
from keras_nns.judgement.figures import Evaluation
from keras_nns.judgement.question import Question, Reply, question_of, reply
from keras_nns.judgement.replies import judge
from keras_nns.observation.forward import Ran, parents_batches, run
from keras_nns.observation.holdout import Division
from keras_nns.observation.moments import HALVES


@dataclass(frozen=True, repr=False, eq=False)
class Patched(tables.Tabular):
    """A host with one label patched, or as it was. Printing it gives a table.

    Attributes:
        model: The patched host where the patch was accepted, else the host itself.
        accepted: Whether the figures below were good enough.
        reason: Why it was accepted or not, in words.
        label: The label's name.
        gain: By how much the label's balanced accuracy rose.
        error: Standard error of that rise, of samples paired.
        others: By how much the mean recall of the other labels rose; negative where it fell.
        before: How the host answers the samples held out.
        after: How the patched host answers them.
        fitted: How many samples the donor was weighed on.

    Example:
        >>> patched = nns.patch(model, eight, 8, *parts.calibrate)
        >>> patched.label, patched.fitted
        ('8', 111)
    """

    model: keras.Model
    accepted: bool
    reason: str
    label: str
    gain: float
    error: float
    others: float
    before: Evaluation
    after: Evaluation
    fitted: int

    def to_table(self) -> tables.Table:
        """Return recall and specificity of each label before and after, as a table."""
        rows = [
            (
                f"{old.name} (patched)" if old.name == self.label else old.name,
                tables.count(old.samples),
                *map(tables.share, (old.recall, new.recall, old.specificity, new.specificity)),
            )
            for old, new in zip(self.before.rows, self.after.rows, strict=True)
        ]
        columns = ("label", "samples", "recall", "after", "specificity", "after")
        return tables.Table(columns, tuple(rows), self.caption)

    @property
    def caption(self) -> str:
        """What was decided, and on how many samples."""
        return (
            f"{'Accepted' if self.accepted else 'Not accepted'}: {self.reason} Weighed on "
            f"{tables.count(self.fitted)} samples, judged on {tables.count(self.before.samples)} "
            "others."
        )

    def to_json(self) -> Json:
        """Return the figures as plain data."""
        return {
            "label": self.label,
            "accepted": self.accepted,
            "reason": self.reason,
            "gain": self.gain,
            "error": self.error,
            "others": self.others,
            "fitted": self.fitted,
            "before": self.before.to_json(),
            "after": self.after.to_json(),
        }


def patch(
    host: keras.Model,
    donor: keras.Model,
    label: Label,
    data: Any,
    y: Any = None,
    *,
    replaces: Label | None = None,
    held_out: float = 0.5,
    confidence: float = 0.95,
    most_lost: float = 0.001,
    adapt: Adapt = None,
    host_names: Sequence[Any] | None = None,
    label_names: Sequence[Any] | None = None,
    seed: int = 0,
    batch_size: int = 256,
) -> Patched:
    """Let another network answer for a label that the host knows badly, where that proves better.

    The host's output for the label goes, the donor joins as in `graft`, its answer weighed against
    the host's other labels on one part of the data (patching by modules, Qi et al. 2022,
    "CNNSplitter"). Host and patched host are judged on the other part. The patch is accepted when

    - the label's balanced accuracy rose by more than chance: the rise is above 0 at the given
      one-sided confidence, samples paired;
    - the mean recall over all labels rose.

    A host that knows a label badly seldom says it, and is the more often right about the others: a
    little of that is given back. How much may be is `most_lost`: the donor is believed less where
    the other labels' mean recall would fall by more, on the samples it is weighed on. With few
    samples of a label one of them is more than that already, and none is given up.

    Args:
        host: A model that tells labels apart by a softmax or logits. It is not changed.
        donor: The better subnetwork: what `cut` gave for the label, or any model that answers it.
        label: Name of the label that the donor answers, or its number in the donor's parent.
        data: Labelled samples as `keras_nns.observe` takes them, neither those the host and
            the donor were made from nor those the result is judged on.
        y: Labels, where `data` is inputs alone.
        replaces: The host's label, by name or number; by default the one of the donor's name.
        held_out: Share of the samples to judge on.
        confidence: How sure the rise has to be, from 0.5 (any rise) to below 1.
        most_lost: How much of the other labels' mean recall may be lost, as a share. With 1 what is
            most likely is answered, whatever they lose.
        adapt: As in `graft`.
        host_names: As in `graft`.
        label_names: Name of every label in the data; by default the host's.
        seed: Which samples are held out.
        batch_size: Samples in a batch, for arrays.

    Returns:
        The model to go on with, and the figures before and after.

    Raises:
        SelectionError: The host has no such label, the donor does not answer it, or an option makes
            no sense.
        ModelError: The inputs differ and `adapt` does not bring the one to the other.
        SurgeryError: The host's outputs are not one softmax or logits over its labels.
        DataError: The data does not fit, or a part has too few samples of the label or the others.

    Example:
        >>> patched = nns.patch(model, eight, 8, *parts.calibrate)
        >>> patched.model.output_shape  # the host itself where the patch was not accepted
        (None, 10)
    """
    _check(held_out, confidence, most_lost)
    stock = Stock.of(host, host_names)
    scion = Scion.of(donor, label, adapted(donor, host, adapt))
    place = stock.place(scion.name if replaces is None else replaces)
    joint = Joint(stock, scion, stock.names, place)
    batches = parents_batches(
        joint.as_it_is(), joint.known, data, y, batch_size=batch_size, label_names=label_names
    )
    division = Division(
        batches,
        None,
        model=host,
        held_out=held_out,
        seed=seed,
        batch_size=batch_size,
        label_names=label_names,
    )
    survey = division.survey()
    new = joint.calibrated(
        division.to_fit(), batches.label_names, lambda: survey.seen, most_lost=most_lost
    )
    ran = run([(host, None), (new, None)], unweighted(division.held_out(), "patch"))
    question = question_of(joint.known, batches.label_names, len(stock.names), host.name)
    said = [reply(question, rows, multi_label=False, threshold=None) for rows in ran.outputs]
    before, after = (_judged(host.name, question, one, ran, batches.label_names) for one in said)
    gain, error, others = _rise(question, said, ran.labels, place)
    name = stock.names[place]
    sure = NormalDist().inv_cdf(confidence) * error
    own = after[name].recall - before[name].recall
    overall = (own + others * (len(stock.names) - 1)) / len(stock.names)
    rose = (
        f"the balanced accuracy of {name!r} {_moved(gain)} ± {100 * error:.2f} points, the mean "
        f"recall of the others {_moved(others)}."
    )
    against = ""
    if gain <= sure:
        against = f" A rise must be above {100 * sure:.2f} to be more than chance."
    elif overall <= 0:
        against = f" The mean recall over all labels {_moved(overall)}, so nothing is won."
    accepted = not against
    return Patched(
        new if accepted else host,
        accepted,
        rose + against,
        name,
        gain,
        error,
        others,
        before,
        after,
        int(survey.samples[list(HALVES)].sum()),
    )


def _moved(change: float) -> str:
    """Say which way a share went, in points."""
    if not round(100 * change, 2):
        return "stayed as it was"
    return f"{'rose' if change > 0 else 'fell'} by {abs(100 * change):.2f}"


def _check(held_out: float, confidence: float, most_lost: float) -> None:
    if not 0 < held_out < 1:
        raise DataError(
            "A patch is judged on samples held out: `held_out` is a share of them, above 0 and "
            f"below 1. Received: held_out={held_out!r}."
        )
    if not 0.5 <= confidence < 1:
        raise SelectionError(
            "`confidence` is how sure the rise has to be, from 0.5 to below 1. Received: "
            f"confidence={confidence!r}."
        )
    if not 0 <= most_lost <= 1:
        raise SelectionError(
            f"`most_lost` is a share of recall, from 0 to 1. Received: most_lost={most_lost!r}."
        )


def _judged(
    model: str, question: Question, said: Reply, ran: Ran, names: Sequence[str]
) -> Evaluation:
    labels = ran.labels.argmax(axis=1) if ran.labels.ndim == 2 else ran.labels
    return judge(model, question, said, labels, label_names=names)


def _rise(
    question: Question, said: Sequence[Reply], labels: NDArray[Any], place: int
) -> tuple[float, float, float]:
    """Return the rise of one label's balanced accuracy, its standard error, and the others' rise.

    Args:
        question: What both models answer.
        said: What the one and the other said.
        labels: What is true.
        place: Which answer was patched.
    """
    truth = question.truth(labels)
    asked = truth.any(axis=1)
    truth = truth[asked]
    old, new = (one.decided[asked] for one in said)
    own = truth[:, place]
    if not own.any() or own.all():
        raise DataError(
            f"Of the samples held out {'all' if own.any() else 'none'} are of label "
            f"{question.answers[place]!r}, so a patch cannot be judged. Pass more data."
        )
    # For each sample 1 where only the new one is right about this label, -1 where only the old is.
    changed = (new[:, place] == own).astype(float) - (old[:, place] == own)
    parts = (changed[own], changed[~own])
    gain = sum(float(part.mean()) for part in parts) / 2
    error = float(np.sqrt(sum(part.var() / len(part) for part in parts))) / 2
    rises = [
        float(new[true, i].mean() - old[true, i].mean())
        for i, true in enumerate(truth.T)
        if i != place and true.any()
    ]
    return gain, error, float(np.mean(rises))
