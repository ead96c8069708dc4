"""Hold a model's reply against the truth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    brier_score_loss,
    confusion_matrix,
    precision_recall_fscore_support,
    roc_auc_score,
)

from keras_nns.errors import SelectionError
from keras_nns.judgement import bootstrap
from keras_nns.judgement.bootstrap import Interval
from keras_nns.judgement.figures import Evaluation
from keras_nns.judgement.question import Question, Reply
from keras_nns.judgement.rows import LabelFigures, UnseenLabel

CONFIDENT = 0.9
"""From which probability an answer counts as confident."""

_COUNTED = ("recall", "specificity", "precision")


def judge(
    model: str,
    question: Question,
    answered: Reply,
    labels: NDArray[Any],
    *,
    label_names: Sequence[str],
    wanted: Sequence[int | str] | None = None,
    confidence: float | None = None,
    seed: int = 0,
    weights: NDArray[np.float64] | None = None,
) -> Evaluation:
    """Hold a reply against the truth.

    Args:
        model: Name of the model.
        question: What was asked.
        answered: The model's reply.
        labels: What is true, as `settle_labels` gives it.
        label_names: Names of all the parent's labels.
        wanted: Labels to report; None for all that have an answer of their own.
        confidence: Coverage of the intervals, such as 0.95; None computes none.
        seed: Which resamples the intervals are from.
        weights: How much each sample counts, `(samples,)`; None for all alike. Numbers of samples,
            those of the confusion among them, are counted all the same.

    Raises:
        SelectionError: A wanted label has no answer of its own.
        DataError: `confidence` is no share.
    """
    bootstrap.check_confidence(confidence)
    reported = reported_answers(question, label_names, wanted)
    truth = question.truth(labels)
    each = np.ones(len(truth)) if weights is None else weights
    left_out = 0
    # One yes or no has a single answer even where a sample has several labels.
    several = labels.ndim == 2 and question.head != "binary"
    # Labels that are judged on their own; what the others were taken for is another matter.
    own = [i for i in reported if question.groups[i] is not None]
    unseen = (
        () if labels.ndim == 2 else _unseen(question, answered, labels, label_names, own, each=each)
    )
    if not several:
        among = np.asarray(truth.any(axis=1), dtype=np.bool_)
        left_out = int((~among).sum())
        truth, answered, each = truth[among], answered[among], each[among]
    strata = np.zeros(len(truth), np.int64) if several else truth.argmax(axis=1)
    drawn = None if confidence is None else (strata, confidence, seed)
    rows = []
    for i in reported:
        group = question.groups[i] or ()
        number = group[0] if len(group) == 1 else None
        about = (number, question.answers[i], truth[:, i])
        rows.append(_figures(about, answered, i, each, drawn))
    figures, spread = _overall(question, answered, truth, each, own, several=several, drawn=drawn)
    chosen = truth.argmax(axis=1), answered.decided.argmax(axis=1)
    return Evaluation(
        model=model,
        head=question.head,
        rows=tuple(rows),
        answers=question.answers,
        confusion=None if several else _confusion(*chosen, len(question.answers)),
        samples=len(truth),
        left_out=left_out,
        multi_label=several,
        unseen=unseen,
        point=answered.point,
        confidence=confidence,
        intervals=spread,
        **figures,
    )


_Drawn = tuple[NDArray[np.int64], float, int] | None


def _overall(
    question: Question,
    answered: Reply,
    truth: NDArray[np.bool_],
    each: NDArray[np.float64],
    own: list[int],
    *,
    several: bool,
    drawn: _Drawn,
) -> tuple[dict[str, Any], dict[str, Interval]]:
    """Compute the figures that are not of one label, and their intervals."""
    names = ("accuracy", "among", "with_other", "brier", "calibration_error")
    figures: dict[str, Any] = dict.fromkeys(names, math.nan)
    if not len(truth):
        return figures, {}
    decided = answered.decided
    hits = np.asarray((truth == decided).all(axis=1), dtype=np.bool_)
    parts = [("accuracy", bootstrap.share(hits))]
    counted = {"accuracy": _counted(hits, each)}
    figures["accuracy"] = float(accuracy_score(truth, decided, sample_weight=each))
    others = [i for i in range(truth.shape[1]) if i not in own]
    if not several and others:
        inside = np.asarray(truth[:, own].any(axis=1), dtype=np.bool_)
        if len(own) > 1:
            best = answered.scores[:, own].argmax(axis=1)
            among = np.asarray(truth[np.arange(len(truth)), np.array(own)[best]], dtype=np.bool_)
            figures["among"] = _share(among[inside], each[inside])
            parts.append(("among", bootstrap.share(among, inside)))
            counted["among"] = _counted(among[inside], each[inside])
        outside = truth[:, others].any(axis=1) & decided[:, others].any(axis=1)
        rightly = np.asarray((hits & inside) | outside, dtype=np.bool_)
        figures["with_other"] = _share(rightly, each)
        parts.append(("with_other", bootstrap.share(rightly)))
        counted["with_other"] = _counted(rightly, each)
    elif not several and len(own) > 1:
        figures["among"] = figures["accuracy"]
    if not several and answered.probabilities is not None:
        probabilities = answered.probabilities.astype(np.float64)
        squares = ((probabilities - truth) ** 2).sum(axis=1)
        figures["brier"] = float(np.average(squares, weights=each))
        surest = probabilities.max(axis=1).clip(0, 1)
        figures["calibration_error"] = float(
            bootstrap.calibration_errors(hits, surest, each[None])[0]
        )
        parts.append(("brier", bootstrap.mean(squares)))
        parts.append(
            (
                "calibration_error",
                lambda weights: bootstrap.calibration_errors(hits, surest, weights),
            )
        )
    if drawn is None:
        return figures, {}
    strata, confidence, seed = drawn
    spread = bootstrap.intervals(
        bootstrap.together(parts), strata, confidence=confidence, seed=seed, weights=each
    )
    for name, (right, count) in counted.items():
        spread[name] = bootstrap.widened(spread[name], right, count, confidence)
    if not others and "accuracy" in spread and len(own) > 1:
        spread["among"] = spread["accuracy"]
    return figures, spread


def _figures(
    about: tuple[int | None, str, NDArray[np.bool_]],
    answered: Reply,
    answer: int,
    each: NDArray[np.float64],
    drawn: _Drawn,
) -> LabelFigures:
    label, name, truth = about
    given, scores = answered.decided[:, answer], answered.scores[:, answer]
    probabilities = answered.probability(answer)
    positives = int(truth.sum())
    found = dict.fromkeys(
        ("recall", "specificity", "precision", "auc", "average_precision", "brier"), math.nan
    )
    found["calibration_error"] = math.nan
    if len(truth):
        precisions, recalls, _, _ = precision_recall_fscore_support(
            truth,
            given,
            labels=[False, True],
            average=None,
            zero_division=np.nan,
            sample_weight=each,
        )
        found["specificity"], found["recall"] = map(float, recalls)
        found["precision"] = float(precisions[1])
        if probabilities is not None:
            found["brier"] = float(
                brier_score_loss(truth, probabilities, pos_label=True, sample_weight=each)
            )
            found["calibration_error"] = float(
                bootstrap.calibration_errors(truth, probabilities, each[None])[0]
            )
    if 0 < positives < len(truth):
        found["auc"] = float(roc_auc_score(truth, scores, sample_weight=each))
        found["average_precision"] = float(
            average_precision_score(truth, scores, sample_weight=each)
        )
    spread: dict[str, Interval] = {}
    if drawn is not None and len(truth):
        strata, confidence, seed = drawn
        of = bootstrap.label_figures(truth, given, scores, probabilities)
        spread = bootstrap.intervals(of, strata, confidence=confidence, seed=seed, weights=each)
        parts = ((given, truth), (~given, ~truth), (truth, given))
        counts = [_counted(hits[among], each[among]) for hits, among in parts]
        for measure, (hits, count) in zip(_COUNTED, counts, strict=True):
            spread[measure] = bootstrap.widened(spread[measure], hits, count, confidence)
    return LabelFigures(
        label=label,
        name=name,
        samples=positives,
        balanced_accuracy=(found["recall"] + found["specificity"]) / 2,
        intervals=spread,
        **found,
    )


def _unseen(
    question: Question,
    answered: Reply,
    labels: NDArray[np.int64],
    label_names: Sequence[str],
    own: list[int],
    *,
    each: NDArray[np.float64],
) -> tuple[UnseenLabel, ...]:
    """Say how samples are answered whose label has no answer of its own."""
    known = {label for i in own for label in question.groups[i] or ()}
    if not own or len(own) == len(label_names):
        return ()
    found = []
    for label, name in enumerate(label_names):
        mask = labels == label
        if label in known or not mask.any():
            continue
        said = answered.decided[mask][:, own].astype(np.float64)
        confident = math.nan
        if answered.probabilities is not None:
            surest = answered.probabilities[mask][:, own].max(axis=1)
            confident = _share(surest >= CONFIDENT, each[mask])
        called = tuple(float(value) for value in np.average(said, axis=0, weights=each[mask]))
        answers = tuple(question.answers[i] for i in own)
        found.append(UnseenLabel(label, name, int(mask.sum()), answers, called, confident))
    return tuple(found)


def _share(hits: NDArray[np.bool_], each: NDArray[np.float64]) -> float:
    return float(np.average(hits, weights=each)) if len(hits) else math.nan


def _counted(hits: NDArray[np.bool_], each: NDArray[np.float64]) -> tuple[int, int]:
    """Return how many of how many samples are right.

    Of samples that weigh differently, as many equal ones as tell as much: the square of the sum of
    the weights by the sum of their squares (Kish 1965, "Survey sampling").
    """
    if not len(hits):
        return 0, 0
    count = round(each.sum() ** 2 / (each**2).sum())
    return round(_share(hits, each) * count), count


def _confusion(truth: NDArray[Any], given: NDArray[Any], count: int) -> NDArray[np.int64]:
    if not len(truth):
        return np.zeros((count, count), dtype=np.int64)
    return np.asarray(confusion_matrix(truth, given, labels=range(count)), dtype=np.int64)


def reported_answers(
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
