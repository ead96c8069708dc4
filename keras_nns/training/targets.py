"""What a training asks for: labels and parent's answers in the form that a loss compares."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_nns.data.batches import Batch
from keras_nns.data.targets import IGNORED, Kind
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
        asked: What the data has targets of; None where it has none that the parent answers.
        number: Whether the outputs are numbers, and the answer to no question.
        single: How many positions, each the only one, lie between samples and answers.
        others: Whether samples of which no answer is right teach too, by the parent's alone.
    """

    question: Question
    kind: str
    index: int
    alone: bool
    asked: Kind | None
    number: bool
    single: int
    others: bool

    @classmethod
    def of(cls, treatment: Treatment, *, others: bool = True) -> Pupil:
        """Read what a subnetwork under repair is to be taught.

        Args:
            treatment: Holds it, its parent and the data.
            others: As above.

        Raises:
            SurgeryError: Parent and subnetwork answer at other positions.
        """
        record, graph, division = treatment.record, treatment.graph, treatment.division
        known = [output.name for output in graph.outputs]
        index = known.index(record.output)
        small, parent = treatment.model.outputs[index], treatment.parent.outputs[index]
        if small.shape[:-1] != parent.shape[:-1] or len(parent.shape) < 2:
            raise SurgeryError(
                f"distill takes a row of answers at the same positions of both. Received: output "
                f"{record.output!r} of shapes {tuple(parent.shape)} and {tuple(small.shape)}."
            )
        asked, width = division.asked, int(parent.shape[-1])
        questioned = asked in ("labels", "positions")
        names = division.label_names if questioned else record.plan.label_names
        if record.head == "parent" and not questioned and len(names) != width:
            names = tuple(str(i) for i in range(width))
        question = question_of(record, names, int(small.shape[-1]), treatment.model.name)
        alone = treatment.kind == "sigmoid" and width > 1
        if treatment.kind == "linear" and asked == "labels":
            first = next(iter(division)).batch.labels
            alone = first.ndim == 2 and bool((first.sum(axis=1) != 1).any())
        if alone and question.head == "binary":
            alone = False
        number = asked == "values" or (treatment.kind == "linear" and width == 1)
        single = len(parent.shape) - 2 if asked == "labels" else 0
        return cls(question, treatment.kind, index, alone, asked, number, single, others)

    @property
    def judged(self) -> bool:
        """Whether the answers are held against what the data says, and not the parent's alone."""
        return self.asked == "values" or (self.asked is not None and not self.number)

    def target(self, batch: Batch) -> tuple[NDArray[np.bool_], NDArray[Any]]:
        """Return which samples are used, and their targets."""
        everything = np.ones(batch.size, dtype=bool)
        if self.asked == "values" and batch.targets is not None:
            return everything, batch.targets
        if not self.judged:
            shape = (batch.size, len(self.question.answers)) if self.alone else (batch.size,)
            return everything, np.zeros(shape, dtype=np.int32)
        if self.asked == "positions":
            truth, known = _at_positions(self.question, batch, several=self.alone)
            used = np.asarray(known.reshape(batch.size, -1).any(axis=1))
            right = truth.astype(np.int32) if self.alone else truth.argmax(axis=-1)
            known = known[..., None] if self.alone else known
            return used, np.where(known, right, IGNORED).astype(np.int32)
        labels = batch.labels
        truth = self.question.truth(labels)
        between = (1,) * self.single
        if self.alone:
            shape = (batch.size, *between, truth.shape[1])
            return everything, truth.astype(np.int32).reshape(shape)
        if labels.ndim == 2 and self.question.head != "binary":
            settle_labels(labels, labels.shape[1], False)
        any_right = np.asarray(truth.any(axis=1))
        right = np.where(any_right, truth.argmax(axis=1), IGNORED).astype(np.int32)
        used = everything if self.others else any_right
        return used, right.reshape(batch.size, *between)


@dataclass(frozen=True, eq=False)
class Labelling:
    """The parent's labels in the form that a loss compares with the outputs.

    Attributes:
        question: What the model answers; None where it is to give numbers.
        outputs: How many outputs it has.
        sparse: Whether the loss takes numbers; None where that is as the data has them.
        several: Whether a position can have several labels.
        single: How many positions, each the only one, lie between samples and answers.
        ignored: The number of a position that the loss leaves out; None where it leaves out none.
    """

    question: Question | None
    outputs: int
    sparse: bool | None
    several: bool = False
    single: int = 0
    ignored: int | None = None

    def target(self, batch: Batch) -> tuple[NDArray[np.bool_], NDArray[Any]]:
        """Return which samples are used, and their targets."""
        if self.question is None:
            assert batch.targets is not None
            return np.ones(batch.size, dtype=bool), batch.targets
        if batch.targets is not None:
            return self._at_positions(batch, self.question)
        labels, between = batch.labels, (1,) * self.single
        truth = self.question.truth(labels)
        single = bool((truth.sum(axis=1) <= 1).all())
        used = np.ones(len(truth), dtype=bool)
        if labels.ndim == 1 or single:
            used = np.asarray(truth.any(axis=1))
        if self.outputs == 1 and truth.shape[1] == 2:
            return used, truth[:, 1:].astype(np.float32).reshape(len(truth), *between, 1)
        sparse = labels.ndim == 1 if self.sparse is None else self.sparse
        if not sparse:
            return used, truth.astype(np.float32).reshape(len(truth), *between, -1)
        if not single:
            raise DataError(
                "The model's loss takes one label for each sample, and samples of the data have "
                "several. Pass one label for each, or loss='binary_crossentropy'."
            )
        right = truth.argmax(axis=1).astype(np.int32)
        return used, right.reshape(len(truth), *between)

    def _at_positions(
        self, batch: Batch, question: Question
    ) -> tuple[NDArray[np.bool_], NDArray[Any]]:
        truth, known = _at_positions(question, batch, several=self.several)
        used = np.asarray(known.reshape(batch.size, -1).any(axis=1))
        if self.outputs == 1 and truth.shape[-1] == 2:
            self._refuse_unknown(known)
            return used, truth[..., 1:].astype(np.float32)
        rows = batch.targets is not None and batch.targets.dtype == np.bool_
        if self.several or (rows if self.sparse is None else not self.sparse):
            # A row of zeros has no cross-entropy.
            return used, truth.astype(np.float32)
        if self.ignored is None:
            self._refuse_unknown(known)
        left = IGNORED if self.ignored is None else self.ignored
        return used, np.where(known, truth.argmax(axis=-1), left).astype(np.int32)

    def _refuse_unknown(self, known: NDArray[np.bool_]) -> None:
        if not known.all():
            raise DataError(
                "Some positions have none of the labels that the model answers, and its loss would "
                "count them. Pass a loss that leaves them out, such as loss=keras.losses."
                "SparseCategoricalCrossentropy(ignore_class=-1), or cut with head='other'."
            )


def _at_positions(
    question: Question, batch: Batch, *, several: bool
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which answers are right at every position, and which positions count.

    Args:
        question: What is answered.
        batch: Samples with a label, or rows of labels, at every position.
        several: Whether a position can have several labels, or none.

    Returns:
        Booleans `(samples, *positions, answers)` and `(samples, *positions)`.
    """
    targets = batch.targets
    assert targets is not None
    if targets.dtype == np.bool_:
        shape = targets.shape[:-1]
        truth = question.truth(targets.reshape(-1, targets.shape[-1]))
        known = np.ones(len(truth), dtype=bool) if several else np.asarray(truth.any(axis=1))
    else:
        shape = targets.shape
        flat = targets.reshape(-1)
        known = flat != IGNORED
        truth = question.truth(np.where(known, flat, 0))
        if not several:
            known &= truth.any(axis=1)
    return truth.reshape(*shape, -1), known.reshape(shape)


def feeds(
    division: Division,
    target: Target,
    how: Schooling,
    *,
    through: Callable[[Iterable[Batch]], Iterable[Batch]] | None = None,
    class_weight: Mapping[int | str, float] | None = None,
) -> tuple[Feed, Feed | None]:
    """Return what to train on, and what to judge by.

    Args:
        division: The samples.
        target: As in `Feed`.
        how: How the training goes.
        through: What makes features of batches, in the same order: they are computed once and held.
        class_weight: How much samples of a label count, by its number or name; 1 for the rest.

    Raises:
        DataError: `class_weight` makes no sense.
        SurgeryError: Answers are to be balanced besides.
    """
    by_label = None
    if class_weight is not None:
        if how.balance:
            raise SurgeryError(
                "balance=True lets all answers weigh alike, and class_weight says what they weigh. "
                "Pass one of the two."
            )
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
            augment=how.augment if shuffle else None,
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


def check_answers(
    step: str, survey: Survey, question: Question, parts: Sequence[int] = HALVES
) -> None:
    """Make sure that there are samples of every answer to fit on.

    Args:
        step: What fits.
        survey: How many samples there are.
        question: What is answered.
        parts: Which of the parts are fitted to.

    Raises:
        DataError: An answer has too few of them.
    """
    if question.head == "parent":
        return
    labels = survey.labels[list(parts)].sum(axis=0)
    named = question.named
    others = int(np.delete(labels, named).sum())
    if question.head == "binary":
        # Also where a sample has several labels, or none.
        others = int(survey.samples[list(parts)].sum() - labels[named].sum())
    found = [
        others if group is None else int(labels[list(group)].sum()) for group in question.groups
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
