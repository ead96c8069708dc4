"""The honest figures of one model: recall, specificity and what belongs beside them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_nns import tables
from keras_nns.errors import SelectionError
from keras_nns.files.atomic import Json
from keras_nns.judgement.bootstrap import Interval
from keras_nns.judgement.question import listed


@dataclass(frozen=True)
class LabelFigures:
    """How well one label is told from the others. A figure that is undefined is NaN.

    Attributes:
        label: The parent's label number; None where the answer stands for several labels.
        name: The label's name.
        samples: Samples of the label.
        recall: Share of the label's samples that are answered with the label.
        specificity: Share of the other samples that are not answered with the label.
        precision: Share of the label among the samples that are answered with it.
        balanced_accuracy: Mean of recall and specificity.
        auc: Area under the ROC curve of the label's output score, all others being negative.
        average_precision: Mean precision over the recalls of that score.
        brier: Mean squared distance of the label's probability from 0 or 1 (Brier 1950); like the
            next only where the outputs are probabilities.
        calibration_error: How far the label's probability is from how often it is true, as
            `resampling.calibration_errors` defines it.
        intervals: By name of the figure, where it lies with the confidence that was asked for.
    """

    label: int | None
    name: str
    samples: int
    recall: float
    specificity: float
    precision: float
    balanced_accuracy: float
    auc: float
    average_precision: float = math.nan
    brier: float = math.nan
    calibration_error: float = math.nan
    intervals: Mapping[str, Interval] = field(default_factory=dict, compare=False)

    def to_json(self) -> Json:
        """Return the figures as plain data, None where one is undefined."""
        found = {k: plain(v) for k, v in asdict(self).items() if k != "intervals"}
        return found | _plain_intervals(self.intervals)


@dataclass(frozen=True)
class UnseenLabel:
    """What a subnetwork takes samples of a label for that it was not made for.

    Attributes:
        label: The parent's label number.
        name: The label's name.
        samples: Samples of the label.
        answers: Names of the labels that the subnetwork was made for.
        called: Share of the samples that are answered with each of them.
        confident: Share that gets a probability of 0.9 or more for one of them; NaN where the
            outputs are no probabilities.
    """

    label: int
    name: str
    samples: int
    answers: tuple[str, ...]
    called: tuple[float, ...]
    confident: float

    def to_json(self) -> Json:
        """Return the figures as plain data, None where one is undefined."""
        return {
            "label": self.label,
            "name": self.name,
            "samples": self.samples,
            "called": dict(zip(self.answers, self.called, strict=True)),
            "confident": plain(self.confident),
        }


FIGURES: tuple[tuple[str, str, Callable[[LabelFigures], float]], ...] = (
    ("recall", "recall", lambda row: row.recall),
    ("specificity", "specificity", lambda row: row.specificity),
    ("precision", "precision", lambda row: row.precision),
    ("balanced acc.", "balanced_accuracy", lambda row: row.balanced_accuracy),
    ("AUC", "auc", lambda row: row.auc),
    ("avg. prec.", "average_precision", lambda row: row.average_precision),
    ("Brier", "brier", lambda row: row.brier),
    ("ECE", "calibration_error", lambda row: row.calibration_error),
)
"""The columns of a table: heading, name of the figure, and how to read it."""


@dataclass(frozen=True, eq=False)
class Evaluation:
    """How a model answers held-out data. Printing it gives a table.

    Attributes:
        model: Name of the model.
        head: What the model answers: `"parent"`, `"labels"`, `"other"` or `"binary"`.
        rows: Figures of each reported label.
        answers: Names of the answers the model chooses from.
        confusion: Samples by true answer and given answer, `(answers, answers)`; None in
            multi-label data, where a sample has no single answer.
        accuracy: Share of samples with the right answer; in multi-label data, with every label
            right.
        samples: Samples the figures are over.
        left_out: Samples that are in none of these figures, because the model has no answer for
            their label.
        multi_label: Whether a sample can have several labels.
        among: Accuracy among the reported labels: over their samples, choosing from them alone.
            NaN for a single one.
        with_other: Accuracy with everything that is not reported as one answer, "other"; NaN where
            nothing is.
        brier: Mean squared distance of the probabilities from the truth, summed over the answers
            (Brier 1950, from 0 to 2); like the next only where the outputs are probabilities.
        calibration_error: How far the probability of the answer given is from how often it is
            right, as `resampling.calibration_errors` defines it.
        unseen: What samples of labels are taken for that are not reported.
        point: Where outputs become decisions, in words.
        confidence: Coverage of the intervals, or None.
        intervals: By name of a figure above, where it lies with that confidence.
    """

    model: str
    head: str
    rows: tuple[LabelFigures, ...]
    answers: tuple[str, ...]
    confusion: NDArray[np.int64] | None
    accuracy: float
    samples: int
    left_out: int
    multi_label: bool
    among: float = math.nan
    with_other: float = math.nan
    brier: float = math.nan
    calibration_error: float = math.nan
    unseen: tuple[UnseenLabel, ...] = ()
    point: str = ""
    confidence: float | None = None
    intervals: Mapping[str, Interval] = field(default_factory=dict)

    def __getitem__(self, label: int | str) -> LabelFigures:
        for row in self.rows:
            if row.name == label or (row.label is not None and row.label == label):
                return row
        raise SelectionError(
            f"Label {label!r} is not reported. Expected one of {[row.name for row in self.rows]}."
        )

    @property
    def caption(self) -> str:
        """What was asked, over how many samples, and how often the answer was right."""
        right = f"accuracy {self._told('accuracy')} over {tables.count(self.samples)} samples"
        answers = self.answers
        if self.multi_label:
            asked = f"each of {len(answers)} labels decided by itself"
        elif self.head == "labels":
            asked = f"among {listed(answers)} only"
            right += f"; {tables.count(self.left_out)} samples of other labels are left out"
        elif self.head == "binary":
            asked = f"{answers[1]} or not"
        elif self.head == "other":
            asked = f"{listed(answers[:-1])} or {answers[-1]}"
        else:
            asked = f"one of {len(answers)} labels"
        if len(self.rows) < len(answers) and not math.isnan(self.among):
            right += (
                f"; {self._told('among')} among {listed([row.name for row in self.rows])}, "
                f"{self._told('with_other')} with all others as one"
            )
        decided = f", decided {self.point}" if self.point else ""
        return " ".join(f"{self.model}: {asked}{decided}; {right}.".split())

    @property
    def mean_balanced_accuracy(self) -> float:
        """Mean of the balanced accuracies of the reported labels, where they are defined."""
        return _mean([row.balanced_accuracy for row in self.rows])

    @property
    def mean_auc(self) -> float:
        """Mean of the areas under the ROC curves of the reported labels, where defined."""
        return _mean([row.auc for row in self.rows])

    def _told(self, name: str) -> str:
        told = tables.share(getattr(self, name))
        return f"{told} ({spread(self.intervals[name])})" if name in self.intervals else told

    def to_table(self) -> tables.Table:
        """Return the figures of each label as a table, with their intervals under them."""
        rows = [line for row in self.rows for line in self.lines(row)]
        columns = ("label", "samples", *(heading for heading, _, _ in FIGURES))
        return tables.Table(columns, tuple(rows), self.caption)

    def lines(self, row: LabelFigures) -> list[tuple[str, ...]]:
        """Return one label's figures as cells, and their intervals as further ones."""
        told = [tables.share(get(row)) for _, _, get in FIGURES]
        lines = [(row.name, tables.count(row.samples), *told)]
        if self.confidence is not None:
            spreads = [spread(row.intervals.get(name)) for _, name, _ in FIGURES]
            lines.append((f"  {self.confidence:.3g} interval", "", *spreads))
        return lines

    def to_unseen_table(self) -> tables.Table:
        """Return what samples of labels are taken for that are not reported, as a table."""
        rows = []
        for one in self.unseen:
            most = int(np.argmax(one.called))
            rows.append(
                (
                    one.name,
                    tables.count(one.samples),
                    tables.share(sum(one.called)),
                    tables.share(one.confident),
                    f"{one.answers[most]} ({tables.share(one.called[most])})",
                )
            )
        columns = ("not made for", "samples", "taken for a label", "confidently", "most often for")
        return tables.Table(columns, tuple(rows), "", prose=(0, 4))

    def to_markdown(self) -> str:
        """Return the tables and the caption as Markdown."""
        found = f"{self.to_table().to_markdown()}\n\n{tables.escape(self.caption)}\n"
        return found + (f"\n{self.to_unseen_table().to_markdown()}\n" if self.unseen else "")

    def to_json(self) -> Json:
        """Return the evaluation as plain data, None where a figure is undefined."""
        return {
            "model": self.model,
            "head": self.head,
            "labels": [row.to_json() for row in self.rows],
            "answers": list(self.answers),
            "confusion": None if self.confusion is None else self.confusion.tolist(),
            "accuracy": plain(self.accuracy),
            "samples": self.samples,
            "left_out": self.left_out,
            "multi_label": self.multi_label,
            "point": self.point,
            "among": plain(self.among),
            "with_other": plain(self.with_other),
            "brier": plain(self.brier),
            "calibration_error": plain(self.calibration_error),
            "unseen": [one.to_json() for one in self.unseen],
            "confidence": self.confidence,
            **_plain_intervals(self.intervals),
        }

    def __str__(self) -> str:
        both = [self.to_table(), self.to_unseen_table()] if self.unseen else [self.to_table()]
        return "\n\n".join(map(str, both))


def spread(interval: Interval | None) -> str:
    """Write an interval, or nothing where there is none."""
    if interval is None or math.isnan(interval[0]):
        return ""
    return f"{interval[0]:.3f}–{interval[1]:.3f}"


def _mean(values: list[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan


def _plain_intervals(intervals: Mapping[str, Interval]) -> Json:
    if not intervals:
        return {}
    found: Any = {name: [plain(v) for v in ends] for name, ends in intervals.items()}
    return {"intervals": found}


def plain(value: Any) -> Any:
    """Return a figure as plain data, None where it is undefined."""
    return None if isinstance(value, float) and math.isnan(value) else value
