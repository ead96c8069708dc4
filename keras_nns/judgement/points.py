"""Set the point where a model's outputs become decisions, on samples that are not judged."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import logsumexp
from sklearn.metrics import roc_curve

from keras_nns.errors import DataError
from keras_nns.judgement.question import log_scores
from keras_nns.surgery.operating_points import OperatingPoint


def best_threshold(
    truth: NDArray[np.bool_], scores: NDArray[Any], weights: NDArray[np.float64] | None = None
) -> float:
    """Return from where a score counts as yes, for the best balanced accuracy.

    It is the point of the ROC curve farthest above the diagonal (Youden 1950, "Index for rating
    diagnostic tests"), half way to the next lower score.

    Args:
        truth: Which samples are positive, `(samples,)`.
        scores: Higher for what is surer to be positive, `(samples,)`.
        weights: How much each sample counts; None for all alike.
    """
    scores = np.asarray(scores, dtype=np.float64)
    false, true, thresholds = roc_curve(truth, scores, sample_weight=weights)
    best = float(thresholds[1:][np.argmax((true - false)[1:])])
    below = scores[scores < best]
    return (best + float(below.max())) / 2 if len(below) else best


def balanced_offsets(
    truth: NDArray[np.bool_], scores: NDArray[Any], weights: NDArray[np.float64] | None = None
) -> tuple[float, ...]:
    """Return what to add to each answer's score so that the answers weigh alike.

    It is the intercept of a multinomial logistic regression on the scores, each answer having the
    same total weight: what the balanced fit of a head does, with nothing but the intercept free.
    The problem is convex.

    Args:
        truth: Which answer is right, `(samples, answers)`, one for each sample.
        scores: Logarithms of probabilities, or logits, `(samples, answers)`.
        weights: How much each sample counts; None for all alike.
    """
    each = np.ones(len(truth)) if weights is None else np.asarray(weights, dtype=np.float64)
    totals = each @ truth
    balanced = each * (truth @ (1 / np.where(totals > 0, totals, 1.0)))
    share = balanced / balanced.sum()
    target = share @ truth

    def loss(offsets: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        moved = scores + offsets
        total = logsumexp(moved, axis=1, keepdims=True)
        fitted = share @ np.exp(moved - total)
        return float(share @ total[:, 0] - target @ offsets), fitted - target

    found = minimize(loss, np.zeros(truth.shape[1]), jac=True, method="BFGS").x
    return tuple(float(value) for value in found - found.mean())


def operating_point(
    truth: NDArray[np.bool_],
    outputs: NDArray[Any],
    *,
    several: bool,
    weights: NDArray[np.float64] | None = None,
) -> OperatingPoint:
    """Set the operating point of a model's outputs for balanced accuracy.

    Args:
        truth: Which answers are right, `(samples, answers)`.
        outputs: `(samples, answers)`, or `(samples, 1)` for the second of two answers.
        several: Whether each answer is decided by itself.
        weights: How much each sample counts; None for all alike.

    Raises:
        DataError: An answer has no samples, or has all.
    """
    if not several:
        asked = np.asarray(truth.any(axis=1))
        truth, outputs = truth[asked], outputs[asked]
        weights = None if weights is None else weights[asked]
    single = outputs.shape[1] == 1
    wanted = truth[:, 1:] if single and truth.shape[1] == 2 else truth
    if wanted.all(axis=0).any() or not wanted.any(axis=0).all():
        raise DataError(
            "An operating point is set on samples of every answer, and an answer has none, or all "
            f"of them: {truth.sum(axis=0).tolist()} of {len(truth)}. Pass more samples."
        )
    if single or several:
        columns = zip(wanted.T, outputs.T, strict=True)
        thresholds = tuple(best_threshold(own, scores, weights) for own, scores in columns)
        return OperatingPoint(len(truth), thresholds=thresholds)
    offsets = balanced_offsets(truth, log_scores(outputs), weights)
    return OperatingPoint(len(truth), offsets=offsets)
