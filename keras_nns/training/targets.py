"""What a training asks for: labels and parent's answers in the form that a loss compares."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_nns.data.batches import Batch
from keras_nns.errors import DataError, SurgeryError
from keras_nns.judgement.question import Question, question_of
from keras_nns.observation.forward import settle_labels
from keras_nns.observation.holdout import Division, Survey
from keras_nns.observation.moments import HALVES
from keras_nns.repairing.patient import Treatment
from keras_nns.training.loop import Schooling
from keras_nns.training.sampling import Feed, Target

_LEAST = 2


@dataclass(frozen=True, eq=False)
class Pupil:
    """What a subnetwork is taught.

    Attributes:
        question: What it answers.
        kind: What the parent's outputs mean.
        index: Place of the output that answers.
        alone: Whether each answer stands alone.
        labelled: Whether the data has labels.
        number: Whether the output is a number, and the answer to no question.
    """

    question: Question
    kind: str
    index: int
    alone: bool
    labelled: bool
    number: bool

    @classmethod
    def of(cls, treatment: Treatment) -> Pupil:
        """Read what a subnetwork under repair is to be taught.

        Raises:
            SurgeryError: It does not answer with one row for each sample.
        """
        record, graph, division = treatment.record, treatment.graph, treatment.division
        known = [output.name for output in graph.outputs]
        index = known.index(record.output)
        small, parent = treatment.model.outputs[index], treatment.parent.outputs[index]
        if len(small.shape) != 2 or len(parent.shape) != 2:
            raise SurgeryError(
                f"distill takes one row of answers for each sample. Received: output "
                f"{record.output!r} of shape {tuple(parent.shape)}."
            )
        names = division.label_names if division.labelled else record.plan.label_names
        if record.head == "parent" and not names:
            names = tuple(str(i) for i in range(parent.shape[-1]))
        question = question_of(record, names, int(small.shape[-1]), treatment.model.name)
        alone = treatment.kind == "sigmoid" and parent.shape[-1] > 1
        if treatment.kind == "linear" and division.labelled:
            first = next(iter(division)).batch.labels
            alone = first.ndim == 2 and bool((first.sum(axis=1) != 1).any())
        if alone and question.head == "binary":
            alone = False
        number = treatment.kind == "linear" and parent.shape[-1] == 1
        return cls(question, treatment.kind, index, alone, division.labelled, number)

    def target(self, labels: NDArray[Any]) -> tuple[NDArray[np.bool_], NDArray[Any]]:
        """Return which samples are used, and the numbers of their answers."""
        everything = np.ones(len(labels), dtype=bool)
        if not self.labelled or self.number:
            shape = (len(labels), len(self.question.answers)) if self.alone else (len(labels),)
            return everything, np.zeros(shape, dtype=np.int32)
        truth = self.question.truth(labels)
        if self.alone:
            return everything, truth.astype(np.int32)
        if labels.ndim == 2 and self.question.head != "binary":
            settle_labels(labels, labels.shape[1], False)
        return np.asarray(truth.any(axis=1)), truth.argmax(axis=1).astype(np.int32)


@dataclass(frozen=True, eq=False)
class Labelling:
    """The parent's labels in the form that a loss compares with the outputs.

    Attributes:
        question: What the model answers.
        outputs: How many outputs it has.
        sparse: Whether the loss takes numbers; None where that is as the data has them.
    """

    question: Question
    outputs: int
    sparse: bool | None

    def target(self, labels: NDArray[Any]) -> tuple[NDArray[np.bool_], NDArray[Any]]:
        """Return which samples are used, and their targets."""
        truth = self.question.truth(labels)
        single = bool((truth.sum(axis=1) <= 1).all())
        used = np.ones(len(truth), dtype=bool)
        if labels.ndim == 1 or single:
            used = np.asarray(truth.any(axis=1))
        if self.outputs == 1 and truth.shape[1] == 2:
            return used, truth[:, 1:].astype(np.float32)
        sparse = labels.ndim == 1 if self.sparse is None else self.sparse
        if not sparse:
            return used, truth.astype(np.float32)
        if not single:
            raise DataError(
                "The model's loss takes one label for each sample, and samples of the data have "
                "several. Pass one label for each, or loss='binary_crossentropy'."
            )
        return used, truth.argmax(axis=1).astype(np.int32)


def feeds(
    division: Division,
    target: Target,
    how: Schooling,
    *,
    through: Callable[[Iterable[Batch]], Iterable[Batch]] | None = None,
    class_weight: Mapping[int | str, float] | None = None,
    draw: bool = False,
) -> tuple[Feed, Feed | None]:
    """Return what to train on, and what to judge by.

    Args:
        division: The samples.
        target: As in `Feed`.
        how: How the training goes.
        through: What makes features of batches, in the same order: they are computed once and held.
        class_weight: How much samples of a label count, by its number or name; 1 for the rest.
        draw: As in `Feed`.

    Raises:
        DataError: `class_weight` makes no sense.
    """
    by_label = None
    if class_weight is not None:
        by_label = _by_label(class_weight, division.label_names)

    def made(batches: Callable[[], Iterable[Batch]], *, shuffle: bool) -> Feed:
        held = None if through is None else list(through(batches()))
        opened = batches if held is None else lambda: held
        return Feed(
            opened if by_label is None else lambda: (_weighed(b, by_label) for b in opened()),
            target,
            batch_size=how.batch_size,
            seed=how.seed,
            shuffle=shuffle,
            balance=how.balance,
            constant=division.constant or held is not None,
            draw=draw,
        )

    feed = made(division.to_fit, shuffle=True)
    return feed, made(division.held_out, shuffle=False) if division.share else None


def _by_label(given: Mapping[int | str, float], names: Sequence[str]) -> NDArray[np.float64]:
    """Return the weight of every label.

    Raises:
        DataError: A label is not known, or a weight is none.
    """
    found = np.ones(len(names))
    for label, weight in given.items():
        number = names.index(label) if label in names else label
        if isinstance(number, str) or not 0 <= number < len(names):
            raise DataError(
                f"class_weight names the label {label!r}, which the data does not have. Expected "
                f"some of {list(names)}, or their numbers."
            )
        found[number] = weight
    if not np.isfinite(found).all() or (found < 0).any() or not found.any():
        raise DataError(
            f"class_weight holds finite numbers, 0 or more, not all 0. Received: {dict(given)}."
        )
    return found


def _weighed(batch: Batch, by_label: NDArray[np.float64]) -> Batch:
    """Return samples that weigh what their labels do, and what they did before, multiplied."""
    numbers, several = settle_labels(batch.labels, len(by_label), None)
    if several:
        raise DataError(
            "class_weight takes labels of which each sample has one, and samples of the data have "
            "none or several. Pass sample weights, as (x, y, sample_weight)."
        )
    weights = by_label[numbers]
    return replace(batch, weights=weights if batch.weights is None else batch.weights * weights)


def check_answers(step: str, survey: Survey, question: Question) -> None:
    """Make sure that there are samples of every answer to fit on.

    Raises:
        DataError: An answer has too few of them.
    """
    if question.head == "parent":
        return
    labels = survey.labels[list(HALVES)].sum(axis=0)
    named = question.named
    found = [
        int(np.delete(labels, named).sum() if group is None else labels[list(group)].sum())
        for group in question.groups
    ]
    for name, count in zip(question.answers[::-1], found[::-1], strict=True):
        if count < _LEAST:
            raise DataError(
                f"{step} needs at least {_LEAST} samples of every answer to fit on, and the data "
                f"has {count} of {name!r} beside what is held out. Pass more."
            )


def check_labels(step: str, survey: Survey, names: Sequence[str]) -> None:
    """Make sure that there are samples of every label to fit on.

    Raises:
        DataError: A label has too few of them.
    """
    found = survey.labels[list(HALVES)].sum(axis=0)
    few = [f"{n} of {name!r}" for name, n in zip(names, found.tolist(), strict=True) if n < _LEAST]
    if few:
        raise DataError(
            f"{step} needs at least {_LEAST} samples of every label to fit on. The data has "
            f"{', '.join(few)} beside what is held out. Pass more, or name only labels it has."
        )
