"""The honest figures of one model: recall, specificity and what belongs beside them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from keras_nns import tables
from keras_nns.data.targets import Kind
from keras_nns.errors import SelectionError
from keras_nns.files.atomic import Json
from keras_nns.judgement.bootstrap import Interval
from keras_nns.judgement.question import listed
from keras_nns.judgement.rows import (
    AT_POSITIONS,
    FIGURES,
    OF_NUMBERS,
    Columns,
    ErrorFigures,
    LabelFigures,
    UnseenLabel,
    plain,
    plain_intervals,
)


@dataclass(frozen=True, eq=False, repr=False)
class Evaluation(tables.Tabular):
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
        point: Where outputs become decisions, or what numbers are held against, in words.
        confidence: Coverage of the intervals, or None.
        intervals: By name of a figure above, where it lies with that confidence.
        kind: What is answered: `"labels"` of samples, labels at `"positions"`, or `"values"`.
        positions: At how many positions of the samples, where it is at positions: figures and
            confusion count these.
        errors: How far values are off: over all, and for each output or channel where there are
            few. There are no rows then.

    Example:
        >>> figures = nns.evaluate(three, x_test, y_test)
        >>> figures.answers, figures.samples
        (('not 3', '3'), 597)
        >>> figures[3].auc
        0.9...
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
    kind: Kind = "labels"
    positions: int = 0
    errors: tuple[ErrorFigures, ...] = ()

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
        if self.kind == "values":
            told = self.shown(self.errors[0].mae)
            return (
                f"{self.model}: numbers, held against {self.point}; mean absolute error {told} "
                f"over {tables.count(self.samples)} samples."
            )
        over = f"{tables.count(self.samples)} samples"
        if self.kind == "positions":
            over = f"{tables.count(self.positions)} positions of {over}"
        right = f"accuracy {self._told('accuracy')} over {over}"
        answers = self.answers
        if self.multi_label:
            asked = f"each of {len(answers)} labels decided by itself"
        elif self.head == "labels":
            asked = f"among {listed(answers)} only"
            unit = "positions" if self.kind == "positions" else "samples"
            right += f"; {tables.count(self.left_out)} {unit} of other labels are left out"
        elif self.head == "binary":
            asked = f"{answers[1]} or not"
        elif self.head == "other":
            asked = f"{listed(answers[:-1])} or {answers[-1]}"
        else:
            asked = f"one of {len(answers)} labels"
        if self.kind == "positions":
            asked += " at every position"
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

    @property
    def mean_iou(self) -> float:
        """Mean intersection over union of the reported labels, where they are defined."""
        return _mean([row.iou for row in self.rows])

    @property
    def worths(self) -> dict[str, float]:
        """What the model is worth, higher for better, by name of the figure; the first counts most.

        `"balanced accuracy"` and `"AUC"` where it answers labels of samples, means over the labels;
        `"IoU"` and `"balanced accuracy"` at positions; `"R²"` for values.
        """
        balanced = {"balanced accuracy": self.mean_balanced_accuracy}
        if self.kind == "values":
            return {"R²": self.errors[0].r2}
        if self.kind == "positions":
            return {"IoU": self.mean_iou, **balanced}
        return {**balanced, "AUC": self.mean_auc}

    @property
    def measure(self) -> str:
        """Name of the figure that counts most: the first of `worths`."""
        return next(iter(self.worths))

    @property
    def worth(self) -> float:
        """The figure that counts most."""
        return self.worths[self.measure]

    @property
    def reported(self) -> tuple[LabelFigures | ErrorFigures, ...]:
        """The rows of its table: of labels, or of numbers."""
        return self.errors if self.kind == "values" else self.rows

    @property
    def columns(self) -> Columns:
        """The figures of its table: heading, name of the figure, and how to read it of a row."""
        if self.kind == "values":
            return OF_NUMBERS
        return AT_POSITIONS if self.kind == "positions" else FIGURES

    def shown(self, value: float) -> str:
        """Write a figure: a share, or an error in the targets' own unit."""
        if self.kind == "values" and not math.isnan(value):
            return f"{value:.4g}"
        return tables.share(value)

    def _told(self, name: str) -> str:
        told = tables.share(getattr(self, name))
        return f"{told} ({spread(self.intervals[name])})" if name in self.intervals else told

    def to_table(self) -> tables.Table:
        """Return the figures of each label as a table, with their intervals under them."""
        rows = [line for row in self.reported for line in self.lines(row)]
        return tables.Table(self.headings, tuple(rows), self.caption)

    @property
    def headings(self) -> tuple[str, ...]:
        """Headings of its table."""
        first = {"labels": ("label", "samples"), "positions": ("label", "positions")}
        start = first.get(self.kind, ("output", "samples"))
        return (*start, *(heading for heading, _, _ in self.columns))

    def lines(self, row: LabelFigures | ErrorFigures) -> list[tuple[str, ...]]:
        """Return one row's figures as cells, and their intervals as further ones."""
        told = [self.shown(get(row)) for _, _, get in self.columns]
        lines = [(row.name, tables.count(row.samples), *told)]
        if self.confidence is not None:
            spreads = [spread(row.intervals.get(name)) for _, name, _ in self.columns]
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
            "kind": self.kind,
            "positions": self.positions,
            "errors": [row.to_json() for row in self.errors],
            **plain_intervals(self.intervals),
        }

    def _shown(self) -> list[tables.Table]:
        return [self.to_table(), *([self.to_unseen_table()] if self.unseen else [])]


def spread(interval: Interval | None) -> str:
    """Write an interval, or nothing where there is none."""
    if interval is None or math.isnan(interval[0]):
        return ""
    return f"{interval[0]:.3f}–{interval[1]:.3f}"


def _mean(values: list[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return float(np.mean(known)) if known else math.nan
