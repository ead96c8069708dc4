"""What a model's outputs answer, in the parent's labels, so that both answer one question."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from keras_nns.errors import DataError
from keras_nns.surgery.lineage import Composition, Origin
from keras_nns.surgery.operating_points import BalancedDecisions, OperatingPoint

Group = tuple[int, ...] | None
"""Parent's label numbers that one answer stands for; None for all that no other answer has."""

_ROUNDING = 0.001
_TINY = float(np.finfo(np.float32).smallest_subnormal)


@dataclass(frozen=True)
class Question:
    """The answers a model chooses from.

    Attributes:
        head: What the model answers: `"parent"`, `"labels"`, `"other"` or `"binary"`.
        answers: Name of each answer.
        groups: The parent's labels behind each answer.
    """

    head: str
    answers: tuple[str, ...]
    groups: tuple[Group, ...]

    @property
    def named(self) -> list[int]:
        """The parent's labels that have an answer of their own."""
        return [label for group in self.groups for label in group or ()]

    def truth(self, labels: NDArray[Any]) -> NDArray[np.bool_]:
        """Say which answers are right.

        Args:
            labels: Label numbers `(samples,)`, or multi-hot `(samples, labels)`.

        Returns:
            Booleans `(samples, answers)`. A row without a right answer is a sample that the
            question leaves out, or in multi-label data one without any of the labels.
        """
        columns = [
            self._others(labels) if group is None else _has(labels, group) for group in self.groups
        ]
        return np.stack(columns, axis=1)

    def _others(self, labels: NDArray[Any]) -> NDArray[np.bool_]:
        """Say which samples belong to the answer that stands for all other labels."""
        if labels.ndim == 1 or self.head == "binary":
            return np.logical_not(_has(labels, self.named))
        return _has(labels, np.setdiff1d(np.arange(labels.shape[1]), self.named).tolist())


@dataclass(frozen=True, eq=False)
class Reply:
    """What a model replied to a question.

    Attributes:
        scores: How sure the model is of each answer, `(samples, answers)`; only their order
            within an answer means something.
        decided: The answers it decided for, `(samples, answers)`.
        probabilities: Of each answer, `(samples, answers)`; None where the outputs are none.
        point: Where it decided, in words.
    """

    scores: NDArray[np.floating[Any]]
    decided: NDArray[np.bool_]
    probabilities: NDArray[np.floating[Any]] | None = None
    point: str = ""

    def probability(self, answer: int) -> NDArray[np.float64] | None:
        """Return the probability of one answer, `(samples,)`, where there is one."""
        if self.probabilities is None:
            return None
        return np.asarray(self.probabilities[:, answer], dtype=np.float64).clip(0, 1)

    def __getitem__(self, samples: NDArray[np.bool_]) -> Reply:
        probabilities = None if self.probabilities is None else self.probabilities[samples]
        return replace(
            self,
            scores=self.scores[samples],
            decided=self.decided[samples],
            probabilities=probabilities,
        )


def reply(
    question: Question,
    outputs: NDArray[Any],
    *,
    multi_label: bool,
    threshold: float | None,
    point: OperatingPoint | None = None,
    balanced: BalancedDecisions | None = None,
) -> Reply:
    """Read a model's outputs as its reply to its own question.

    One output is the probability of the second of two answers.

    Args:
        question: The question the model was made for.
        outputs: `(samples, outputs)`.
        multi_label: Whether each answer is decided by itself.
        threshold: Where an output that is decided by itself counts as yes; 0.5 unless given.
        point: Where the model decides in place of that, for data of the same kind of labels.
        balanced: That its own decisions were set for balanced accuracy; only said.

    Raises:
        DataError: The outputs are no probabilities and no threshold was given, or one output
            should answer several labels.
    """
    probabilities = outputs if are_probabilities(outputs) else None
    single = outputs.shape[1] == 1 and len(question.answers) == 2
    if single and multi_label and question.head != "binary":
        raise DataError(
            "Samples of the data have none or several labels, but the model's one output "
            "decides between two. Pass label numbers of one label for each sample."
        )
    if not single and not multi_label:
        scores, said = outputs, f"for the largest{_set_on(balanced)}"
        if point is not None and point.offsets is not None:
            scores = log_scores(outputs) + np.asarray(point.offsets)
            said = f"for the largest, all answers weighing alike{_set_on(point)}"
        return Reply(scores, _one_hot(scores.argmax(axis=1), scores.shape[1]), probabilities, said)
    if point is not None and point.thresholds is not None:
        edges, said = np.asarray(point.thresholds), _set_on(point)
    else:
        edges = np.asarray([_threshold(outputs, threshold)])
        said = _set_on(balanced if threshold is None else None)
    yes = outputs >= edges
    said = f"from {', '.join(f'{edge:.3g}' for edge in edges)} on{said}"
    if not single:
        return Reply(outputs, yes, probabilities, said)
    both = None if probabilities is None else np.concatenate([1 - outputs, outputs], axis=1)
    # Minus the output, not one less it: rounding would tie what is close to 0.
    scores = np.concatenate([-outputs, outputs], axis=1)
    return Reply(scores, np.concatenate([~yes, yes], axis=1), both, said)


def log_scores(outputs: NDArray[Any]) -> NDArray[np.float64]:
    """Return outputs as scores that offsets are added to: probabilities as their logarithms."""
    values = np.asarray(outputs, dtype=np.float64)
    return np.log(np.maximum(values, _TINY)) if are_probabilities(outputs) else values


def _set_on(point: OperatingPoint | BalancedDecisions | None) -> str:
    if point is None:
        return ""
    return f" (set for balanced accuracy on {point.samples:,} other samples)"


def are_probabilities(outputs: NDArray[Any]) -> bool:
    """Return whether all outputs lie between 0 and 1, up to rounding."""
    return bool(((outputs >= -_ROUNDING) & (outputs <= 1 + _ROUNDING)).all())


def ask(question: Question, outputs: NDArray[Any], kind: str) -> NDArray[Any]:
    """Turn a parent's outputs into those it would have with a subnetwork's head.

    This is arithmetic on the outputs alone, so parent and subnetwork answer one question and
    differ by the cut only.

    Args:
        question: The subnetwork's question.
        outputs: The parent's, `(samples, outputs)`.
        kind: What they mean: `"softmax"`, `"sigmoid"` or `"linear"`.

    Returns:
        `(samples, answers)`, or `(samples, 1)` for a yes/no question.
    """
    if question.head == "parent":
        return outputs
    if outputs.shape[1] == 1:
        outputs = np.concatenate([1 - outputs, outputs], axis=1)
    elif kind == "linear" and question.head != "labels":
        outputs = softmax(outputs, axis=1)
    chosen = outputs[:, question.named]
    if question.head == "labels":
        return chosen / chosen.sum(axis=1, keepdims=True) if kind == "softmax" else chosen
    if question.head == "binary":
        return np.asarray(chosen.sum(axis=1, keepdims=True))
    rest = np.delete(outputs, question.named, axis=1).sum(axis=1, keepdims=True)
    return np.concatenate([chosen, rest], axis=1)


def question_of(
    origin: Origin | None, label_names: Sequence[str], outputs: int, model: str
) -> Question:
    """Say what a model's outputs answer.

    Args:
        origin: Where a subnetwork comes from; None for a parent.
        label_names: Names of all the parent's labels.
        outputs: Number of outputs.
        model: The model's name, for the error.

    Raises:
        DataError: The outputs are not as many as the answers.
    """
    if isinstance(origin, Composition):
        question = _composed(origin, label_names)
    elif origin is None or origin.taught or origin.head == "parent":
        question = whole_question(label_names)
    elif origin.head == "binary":
        (name,) = origin.label_names
        question = Question("binary", (f"not {name}", name), (None, origin.plan.labels))
    else:
        groups = tuple(None if label is None else (label,) for label in origin.labels)
        question = Question(origin.head, tuple(origin.label_names), groups)
    expected = len(question.answers)
    if outputs != expected and not (outputs == 1 and expected == 2):
        raise DataError(
            f"Model {model!r} has {outputs} outputs and there are {expected} labels to answer "
            f"({listed(question.answers)}). Pass label_names with one name for each output; or, "
            "where these are labels that it does not answer, what it is to answer in their place."
        )
    return question


def _composed(origin: Composition, label_names: Sequence[str]) -> Question:
    """Find the labels that a composition answers among those of the data, by name."""
    if tuple(label_names) == origin.label_names:
        return whole_question(label_names)
    numbers = {name: i for i, name in enumerate(label_names)}
    missing = [name for name in origin.label_names if name not in numbers]
    if missing:
        raise DataError(
            f"The model answers labels that the data does not have: {listed(missing)}; it has "
            f"{listed(label_names)}. Pass label_names, one for each label number in the data."
        )
    groups = tuple((numbers[name],) for name in origin.label_names)
    return Question("labels", origin.label_names, groups)


def whole_question(names: Sequence[str]) -> Question:
    """Return the question a parent answers: which of all its labels."""
    return Question("parent", tuple(names), tuple((i,) for i in range(len(names))))


def listed(names: Sequence[str], most: int = 8) -> str:
    """List names in words, the first of many."""
    shown = ", ".join(names[:most])
    return f"{shown} and {len(names) - most} more" if len(names) > most else shown


def _one_hot(chosen: NDArray[np.int64], count: int) -> NDArray[np.bool_]:
    return np.asarray(chosen[:, None] == np.arange(count))


def _has(labels: NDArray[Any], wanted: Sequence[int]) -> NDArray[np.bool_]:
    """Say which samples have one of the wanted labels."""
    if labels.ndim == 1:
        return np.asarray(np.isin(labels, wanted), dtype=np.bool_)
    return np.asarray(labels[:, list(wanted)].any(axis=1), dtype=np.bool_)


def _threshold(outputs: NDArray[Any], threshold: float | None) -> float:
    if threshold is not None:
        return threshold
    low, high = float(outputs.min()), float(outputs.max())
    if not are_probabilities(outputs):
        raise DataError(
            f"The model's outputs run from {low:.4g} to {high:.4g}, so they are no probabilities "
            "and 0.5 is no threshold for them. Pass threshold=0.0 for logits of a sigmoid."
        )
    return 0.5
