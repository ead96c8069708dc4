"""The honest figures of one model: recall, specificity and what belongs beside them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import (
    accuracy_score,
    confusion_matrix,
    precision_recall_fscore_support,
    roc_auc_score,
)

from keras_nns import tables
from keras_nns.errors import SelectionError
from keras_nns.layout import Json
from keras_nns.question import Question, Reply, listed


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
    """

    label: int | None
    name: str
    samples: int
    recall: float
    specificity: float
    precision: float
    balanced_accuracy: float
    auc: float

    def to_json(self) -> Json:
        """Return the figures as plain data, None where one is undefined."""
        return {k: _none_for_nan(v) for k, v in asdict(self).items()}


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
        right = f"accuracy {tables.share(self.accuracy)} over {tables.count(self.samples)} samples"
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
        return " ".join(f"{self.model}: {asked}; {right}.".split())

    def to_table(self) -> tables.Table:
        """Return the figures of each label as a table."""
        columns = ("label", "samples", "recall", "specificity", "precision", "balanced acc.", "AUC")
        rows = tuple(
            (
                row.name,
                tables.count(row.samples),
                tables.share(row.recall),
                tables.share(row.specificity),
                tables.share(row.precision),
                tables.share(row.balanced_accuracy),
                tables.share(row.auc),
            )
            for row in self.rows
        )
        return tables.Table(columns, rows, self.caption)

    def to_markdown(self) -> str:
        """Return the table and its caption as Markdown."""
        return f"{self.to_table().to_markdown()}\n\n{tables.escape(self.caption)}\n"

    def to_json(self) -> Json:
        """Return the evaluation as plain data, None where a figure is undefined."""
        return {
            "model": self.model,
            "head": self.head,
            "labels": [row.to_json() for row in self.rows],
            "answers": list(self.answers),
            "confusion": None if self.confusion is None else self.confusion.tolist(),
            "accuracy": _none_for_nan(self.accuracy),
            "samples": self.samples,
            "left_out": self.left_out,
            "multi_label": self.multi_label,
        }

    def __str__(self) -> str:
        return str(self.to_table())


def judge(
    model: str,
    question: Question,
    answered: Reply,
    labels: NDArray[Any],
    *,
    label_names: Sequence[str],
    wanted: Sequence[int | str] | None = None,
) -> Evaluation:
    """Hold a reply against the truth.

    Args:
        model: Name of the model.
        question: What was asked.
        answered: The model's reply.
        labels: What is true, as `settle_labels` gives it.
        label_names: Names of all the parent's labels.
        wanted: Labels to report; None for all that have an answer of their own.

    Raises:
        SelectionError: A wanted label has no answer of its own.
    """
    reported = _reported(question, label_names, wanted)
    truth = question.truth(labels)
    left_out = 0
    # One yes or no has a single answer even where a sample has several labels.
    several = labels.ndim == 2 and question.head != "binary"
    if not several:
        among = np.asarray(truth.any(axis=1), dtype=np.bool_)
        left_out = int((~among).sum())
        truth, answered = truth[among], answered[among]
    rows = []
    for i in reported:
        group = question.groups[i] or ()
        number = group[0] if len(group) == 1 else None
        one = (truth[:, i], answered.decided[:, i], answered.scores[:, i])
        rows.append(_figures(number, question.answers[i], *one))
    if several:
        accuracy, confusion = _accuracy(truth, answered.decided), None
    else:
        right, chosen = truth.argmax(axis=1), answered.decided.argmax(axis=1)
        accuracy = _accuracy(right, chosen)
        confusion = _confusion(right, chosen, len(question.answers))
    return Evaluation(
        model=model,
        head=question.head,
        rows=tuple(rows),
        answers=question.answers,
        confusion=confusion,
        accuracy=accuracy,
        samples=len(truth),
        left_out=left_out,
        multi_label=several,
    )


def _accuracy(truth: NDArray[Any], given: NDArray[Any]) -> float:
    return float(accuracy_score(truth, given)) if len(truth) else math.nan


def _confusion(truth: NDArray[Any], given: NDArray[Any], count: int) -> NDArray[np.int64]:
    if not len(truth):
        return np.zeros((count, count), dtype=np.int64)
    return np.asarray(confusion_matrix(truth, given, labels=range(count)), dtype=np.int64)


def _reported(
    question: Question, label_names: Sequence[str], wanted: Sequence[int | str] | None
) -> list[int]:
    """List the answers whose figures are wanted."""
    own = {label: i for i, group in enumerate(question.groups) for label in group or ()}
    if wanted is None:
        return sorted(set(own.values()))
    numbers = {name: i for i, name in enumerate(label_names)}
    found = []
    for label in wanted:
        number = numbers.get(label, -1) if isinstance(label, str) else int(label)
        if number not in own:
            raise SelectionError(
                f"Label {label!r} is none that the model answers by itself. Expected some of "
                f"{[label_names[i] for i in own]}, or their numbers {list(own)}."
            )
        found.append(own[number])
    return list(dict.fromkeys(found))


def _figures(
    label: int | None,
    name: str,
    truth: NDArray[np.bool_],
    given: NDArray[np.bool_],
    scores: NDArray[Any],
) -> LabelFigures:
    positives = int(truth.sum())
    recall = specificity = precision = auc = math.nan
    if len(truth):
        precisions, recalls, _, _ = precision_recall_fscore_support(
            truth, given, labels=[False, True], average=None, zero_division=np.nan
        )
        specificity, recall = map(float, recalls)
        precision = float(precisions[1])
    if 0 < positives < len(truth):
        auc = float(roc_auc_score(truth, scores))
    balanced = (recall + specificity) / 2
    return LabelFigures(label, name, positives, recall, specificity, precision, balanced, auc)


def _none_for_nan(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value
