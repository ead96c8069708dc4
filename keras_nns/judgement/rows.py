"""Figures of one label, or of one output that is a number: the rows of an evaluation."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from keras_nns.files.atomic import Json
from keras_nns.judgement.bootstrap import Interval


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
        iou: Of positions that have the label or are answered with it, the share that are both (the
            intersection over the union); only where there are positions.
        intervals: By name of the figure, where it lies with the confidence that was asked for.

    Where a model answers at every position, samples are positions.
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
    iou: float = math.nan
    intervals: Mapping[str, Interval] = field(default_factory=dict, compare=False)

    def to_json(self) -> Json:
        """Return the figures as plain data, None where one is undefined."""
        return _plain_figures(self)


@dataclass(frozen=True)
class ErrorFigures:
    """How far numbers are from what they should be. A figure that is undefined is NaN.

    Attributes:
        name: "all", or which output or channel.
        samples: Samples that were looked at.
        mae: Mean absolute error.
        rmse: Root of the mean squared error.
        r2: Coefficient of determination, R²: 1 less the squared error in shares of how much the
            targets vary around the mean of their output or channel.
        intervals: By name of the figure, where it lies with the confidence that was asked for.
    """

    name: str
    samples: int
    mae: float
    rmse: float
    r2: float
    intervals: Mapping[str, Interval] = field(default_factory=dict, compare=False)

    def to_json(self) -> Json:
        """Return the figures as plain data, None where one is undefined."""
        return _plain_figures(self)


def _plain_figures(row: LabelFigures | ErrorFigures) -> Json:
    found = {k: plain(v) for k, v in asdict(row).items() if k != "intervals"}
    return found | plain_intervals(row.intervals)


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

AT_POSITIONS: tuple[tuple[str, str, Callable[[LabelFigures], float]], ...] = (
    *FIGURES[:4],
    ("IoU", "iou", lambda row: row.iou),
)

OF_NUMBERS: tuple[tuple[str, str, Callable[[ErrorFigures], float]], ...] = (
    ("mean abs. error", "mae", lambda row: row.mae),
    ("RMSE", "rmse", lambda row: row.rmse),
    ("R²", "r2", lambda row: row.r2),
)

Columns = tuple[tuple[str, str, Callable[[Any], float]], ...]


def plain_intervals(intervals: Mapping[str, Interval]) -> Json:
    """Return intervals as plain data; nothing where there are none."""
    if not intervals:
        return {}
    found: Any = {name: [plain(v) for v in ends] for name, ends in intervals.items()}
    return {"intervals": found}


def plain(value: Any) -> Any:
    """Return a figure as plain data, None where it is undefined."""
    return None if isinstance(value, float) and math.isnan(value) else value
