"""Hold what models answer at positions, or in numbers, against the targets, batch by batch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import keras
import numpy as np
from numpy.typing import NDArray

from keras_nns.data.batches import Batch
from keras_nns.data.outputs import output_place
from keras_nns.data.targets import EVERYTHING, IGNORED, Kind
from keras_nns.errors import DataError
from keras_nns.graph.keras_internals import is_graph
from keras_nns.graph.output_kinds import kind_of
from keras_nns.judgement import bootstrap
from keras_nns.judgement.bootstrap import Interval, Weights
from keras_nns.judgement.figures import Evaluation
from keras_nns.judgement.question import Question, ask, reply
from keras_nns.judgement.replies import reported_answers
from keras_nns.judgement.rows import ErrorFigures, LabelFigures
from keras_nns.surgery.operating_points import BalancedDecisions

Float = NDArray[np.float64]

_FEW = 16
"""Outputs or channels that get a row of their own, and intervals of their R²."""


@dataclass(frozen=True)
class Reported:
    """What of a model is reported.

    Attributes:
        model: Its name.
        label_names: Names of all the parent's labels.
        wanted: Labels to report; None for all that have an answer of their own.
        confidence: Coverage of the intervals; None computes none.
        seed: Which resamples the intervals are from.
    """

    model: str
    label_names: Sequence[str]
    wanted: Sequence[int | str] | None = None
    confidence: float | None = None
    seed: int = 0


class Tally(Protocol):
    """Adds up how one model answers batch after batch."""

    def add(self, outputs: NDArray[Any], batch: Batch) -> None:
        """Add what the model gives for one batch."""

    def evaluation(self) -> Evaluation:
        """Return the figures of all batches."""


@dataclass(eq=False)
class PositionTally:
    """Counts right and wrong positions, sample by sample.

    Positions of one sample are no independent ones, so intervals are of whole samples drawn anew.

    Attributes:
        told: What is reported.
        question: What is asked at every position.
        several: Whether each label of a position is decided by itself.
        threshold: As in `evaluate`.
        balanced: That the model's decisions were set for balanced accuracy; only said.
        asked_of: What a parent's outputs mean that is asked a subnetwork's question; None where the
            outputs are answers to the question.
    """

    told: Reported
    question: Question
    several: bool = False
    threshold: float | None = None
    balanced: BalancedDecisions | None = None
    asked_of: str | None = None
    _counts: list[NDArray[np.int64]] = field(default_factory=list)
    _hits: list[NDArray[np.int64]] = field(default_factory=list)
    _weights: list[Float] = field(default_factory=list)
    _left_out: int = 0
    _point: str = ""
    _confusion: NDArray[np.int64] | None = None

    def add(self, outputs: NDArray[Any], batch: Batch) -> None:
        """Add what the model gives for one batch: `(samples, *positions, outputs)`."""
        labels, samples = flat_positions(batch, outputs, several=self.several)
        rows = outputs.reshape(-1, outputs.shape[-1])[samples >= 0]
        samples = samples[samples >= 0]
        if self.asked_of is not None:
            rows = ask(self.question, rows, self.asked_of)
        truth = self.question.truth(labels)
        answers = truth.shape[1]
        if not self.several:
            asked = np.asarray(truth.any(axis=1))
            self._left_out += int((~asked).sum())
            truth, rows, samples = truth[asked], rows[asked], samples[asked]
        self._weights.append(batch.each)
        if not len(rows):
            self._counts.append(np.zeros((batch.size, 3, answers), np.int64))
            self._hits.append(np.zeros((batch.size, 2), np.int64))
            return
        answered = reply(
            self.question,
            rows,
            multi_label=self.several,
            threshold=self.threshold,
            balanced=self.balanced,
        )
        self._point, given = answered.point, answered.decided
        parts = [truth & given, truth & ~given, ~truth & given]
        hits = np.asarray((truth == given).all(axis=1))
        self._counts.append(np.stack([_by_sample(p, samples, batch.size) for p in parts], axis=1))
        both = np.stack([hits, np.ones_like(hits)], axis=1)
        self._hits.append(_by_sample(both, samples, batch.size))
        if not self.several:
            places = truth.argmax(axis=1) * answers + given.argmax(axis=1)
            table = np.bincount(places, minlength=answers**2).reshape(answers, answers)
            self._confusion = table if self._confusion is None else self._confusion + table

    def evaluation(self) -> Evaluation:
        """Return the figures of all batches."""
        told, question = self.told, self.question
        counts, hits = np.concatenate(self._counts), np.concatenate(self._hits)
        weights = np.concatenate(self._weights)
        own = reported_answers(question, told.label_names, told.wanted)
        each = weights[None]
        strata = np.zeros(len(weights), np.int64)
        rows = []
        for i in own:
            figures = _label_figures(counts[:, :, i], hits[:, 1])
            group = question.groups[i] or ()
            values = {name: float(value[0]) for name, value in figures(each).items()}
            rows.append(
                LabelFigures(
                    label=group[0] if len(group) == 1 else None,
                    name=question.answers[i],
                    samples=int(counts[:, :2, i].sum()),
                    auc=math.nan,
                    intervals=self._intervals(figures, strata, weights),
                    **values,
                )
            )
        overall = bootstrap.together(
            [("accuracy", lambda w: _over(w @ hits[:, 0], w @ hits[:, 1]))]
        )
        return Evaluation(
            model=told.model,
            head=question.head,
            rows=tuple(rows),
            answers=question.answers,
            confusion=None if self.several else self._confusion,
            accuracy=float(overall(each)["accuracy"][0]),
            samples=len(weights),
            left_out=self._left_out,
            multi_label=self.several,
            point=self._point,
            confidence=told.confidence,
            intervals=self._intervals(overall, strata, weights),
            kind="positions",
            positions=int(hits[:, 1].sum()),
        )

    def _intervals(
        self, figures: bootstrap.Figures, strata: NDArray[np.int64], weights: Float
    ) -> Mapping[str, Interval]:
        confidence = self.told.confidence
        if confidence is None:
            return {}
        return bootstrap.intervals(
            figures, strata, confidence=confidence, seed=self.told.seed, weights=weights
        )


@dataclass(eq=False)
class ErrorTally:
    """Adds up how far numbers are off, sample by sample and channel by channel.

    Attributes:
        told: What is reported.
        against: What the answers are held against, in words.
    """

    told: Reported
    against: str = "the targets"
    _sums: list[Float] = field(default_factory=list)
    _weights: list[Float] = field(default_factory=list)

    def add(self, outputs: NDArray[Any], batch: Batch) -> None:
        """Add what the model gives for one batch, of the shape of its targets."""
        targets = batch.targets
        if targets is None:
            raise DataError("The data has no numbers to hold the model's answers against.")
        channels = outputs.shape[-1]
        given = outputs.reshape(batch.size, -1, channels).astype(np.float64)
        wanted = targets.reshape(batch.size, -1, channels).astype(np.float64)
        error = given - wanted
        ones = np.ones_like(wanted)
        parts = [np.abs(error), error**2, ones, wanted, wanted**2]
        self._sums.append(np.stack([part.sum(axis=1) for part in parts], axis=1))
        self._weights.append(batch.each)

    def evaluation(self) -> Evaluation:
        """Return the figures of all batches."""
        sums, weights = np.concatenate(self._sums), np.concatenate(self._weights)
        channels = sums.shape[2]
        chosen: dict[str, list[int]] = {EVERYTHING: list(range(channels))}
        if 1 < channels <= _FEW:
            chosen |= {f"output {i}": [i] for i in range(channels)}
        rows = tuple(self._row(name, sums[:, :, some], weights) for name, some in chosen.items())
        return Evaluation(
            model=self.told.model,
            head="parent",
            rows=(),
            answers=(),
            confusion=None,
            accuracy=math.nan,
            samples=len(weights),
            left_out=0,
            multi_label=False,
            point=self.against,
            confidence=self.told.confidence,
            kind="values",
            errors=rows,
        )

    def _row(self, name: str, sums: Float, weights: Float) -> ErrorFigures:
        figures = _error_figures(sums)
        values = {key: float(value[0]) for key, value in figures(weights[None]).items()}
        spread: Mapping[str, Interval] = {}
        if self.told.confidence is not None and sums.shape[2] <= _FEW:
            spread = bootstrap.intervals(
                figures,
                np.zeros(len(weights), np.int64),
                confidence=self.told.confidence,
                seed=self.told.seed,
                weights=weights,
            )
        return ErrorFigures(name=name, samples=len(weights), intervals=spread, **values)


def tally(
    kind: Kind | None,
    told: Reported,
    question: Question | None,
    *,
    meaning: str,
    threshold: float | None = None,
    balanced: BalancedDecisions | None = None,
    asked: bool = False,
) -> Tally:
    """Start to add up how a model answers targets of positions, or numbers.

    Args:
        kind: What the targets are; None where they are what a parent answers.
        told: What is reported.
        question: What is asked at every position; None for numbers.
        meaning: What the outputs mean that answer: `"softmax"`, `"sigmoid"` or `"linear"`.
        threshold: As in `evaluate`.
        balanced: That the decisions were set for balanced accuracy; only said.
        asked: Whether the outputs are a parent's that is asked its subnetwork's question.
    """
    if kind is None:
        return ErrorTally(told, "the parent's answers")
    if kind == "values" or question is None:
        return ErrorTally(told)
    alone = meaning == "sigmoid" and question.head != "binary" and len(told.label_names) > 2
    asked_of = meaning if asked else None
    return PositionTally(told, question, alone, threshold, balanced, asked_of)


def output_of(model: keras.Model, name: str | None) -> tuple[int, str]:
    """Return the width of the output that answers, and what it means.

    Args:
        model: A built model.
        name: The output's name, where there are several.
    """
    index = output_place(model, name) or 0
    meaning = kind_of(model, index) if is_graph(model) else "linear"
    return int(model.outputs[index].shape[-1] or 1), meaning


def flat_positions(
    batch: Batch, outputs: NDArray[Any], *, several: bool
) -> tuple[NDArray[Any], NDArray[np.int64]]:
    """Lay the positions of a batch in one row.

    Args:
        batch: Samples with targets of positions.
        outputs: What a model gives for them, `(samples, *positions, outputs)`.
        several: Whether a position can have several labels, or none.

    Returns:
        The labels of the positions that count: numbers, or bool rows `(rows, labels)` for several;
        and for every position the number of its sample, -1 where it does not count.

    Raises:
        DataError: Targets and outputs differ in their positions, or a position has several labels
            of which the model gives one.
    """
    targets = batch.targets
    assert targets is not None
    count = math.prod(outputs.shape[1:-1])
    rows = targets.dtype == np.bool_
    if math.prod(targets.shape[1 : -1 if rows else None]) != count:
        raise DataError(
            f"The model answers at {tuple(outputs.shape[1:-1])} positions, and the targets have "
            f"the shape {targets.shape}. Pass a label for each position that it answers at."
        )
    samples = np.repeat(np.arange(batch.size), count)
    if rows:
        table = targets.reshape(-1, targets.shape[-1])
        if several:
            return table, samples
        if (table.sum(axis=1) != 1).any():
            raise DataError(
                "The model gives every position one label, and positions of the data have none or "
                "several. Pass one for each, y.argmax(-1)."
            )
        return table.argmax(axis=1), samples
    labels = targets.reshape(-1)
    samples = np.where(labels == IGNORED, -1, samples)
    labels = labels[samples >= 0]
    if several:
        return labels[:, None] == np.arange(max(outputs.shape[-1], 2)), samples
    return labels, samples


def _by_sample(rows: NDArray[np.bool_], samples: NDArray[np.int64], size: int) -> NDArray[np.int64]:
    """Add up rows of the same sample, `(samples, columns)`."""
    columns = [np.bincount(samples, weights=column, minlength=size) for column in rows.T]
    return np.stack(columns, axis=1).astype(np.int64)


def _label_figures(counts: NDArray[np.int64], total: NDArray[np.int64]) -> bootstrap.Figures:
    """Return the figures of one label from what is right, missed and false in each sample."""

    def figures(weights: Weights) -> dict[str, Float]:
        right, missed, false = (weights @ column for column in counts.T)
        negative = weights @ total - right - missed
        recall, specificity = _over(right, right + missed), _over(negative - false, negative)
        return {
            "recall": recall,
            "specificity": specificity,
            "precision": _over(right, right + false),
            "balanced_accuracy": (recall + specificity) / 2,
            "iou": _over(right, right + missed + false),
        }

    return figures


def _error_figures(sums: Float) -> bootstrap.Figures:
    """Return the figures of numbers from sums of each sample, `(samples, 5, channels)`."""

    def figures(weights: Weights) -> dict[str, Float]:
        absolute, squared, count, first, second = np.tensordot(
            np.asarray(weights, np.float64), sums, axes=(1, 0)
        ).transpose(1, 0, 2)
        spread = (second - np.divide(first**2, count)).sum(axis=1)
        total = count.sum(axis=1)
        # Targets that are all alike vary by rounding alone.
        spread = np.where(spread > 1e-12 * np.abs(second).sum(axis=1), spread, 0.0)
        return {
            "mae": absolute.sum(axis=1) / total,
            "rmse": np.sqrt(squared.sum(axis=1) / total),
            "r2": 1 - _over(squared.sum(axis=1), spread),
        }

    return figures


def _over(part: Any, whole: Any) -> Float:
    part, whole = np.asarray(part, np.float64), np.asarray(whole, np.float64)
    found = np.full(part.shape, math.nan)
    np.divide(part, whole, out=found, where=whole > 0)
    return found
