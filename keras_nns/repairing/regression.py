"""Logistic regression whose penalty is chosen by cross-validation, for heads."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import StandardScaler

from keras_nns.judgement.points import best_threshold

Weights = NDArray[np.float64] | None
"""How much each sample counts, `(samples,)`; None for all alike."""

_STRENGTHS = (0.01, 0.1, 1.0, 10.0)
"""Inverse penalties tried, in scikit-learn's units, on standardised features."""

FOLDS = 5
_ITERATIONS = 1000


@dataclass(frozen=True, eq=False)
class Regression:
    """A fitted regression, for features as they come.

    Attributes:
        kernel: `(features, answers)`.
        bias: `(answers,)`.
        strength: The chosen inverse penalty.
        logits: Of each sample by a fit that has not seen it: `(samples, answers)`, or
            `(samples, 1)` for yes or no.
    """

    kernel: NDArray[np.float64]
    bias: NDArray[np.float64]
    strength: float
    logits: NDArray[np.float64]

    def at_best_point(
        self, truth: NDArray[np.bool_], own: list[int], weights: Weights = None
    ) -> Regression:
        """Move the bias so that a probability of 0.5 is the point of best balanced accuracy.

        Args:
            truth: Which samples are of the answers to tell from the rest.
            own: Those answers. A constant added to their logits multiplies the odds.
            weights: How much each sample counts; None for all alike.
        """
        bias = self.bias.copy()
        bias[own] -= best_threshold(truth, log_odds(self.logits, own), weights)
        return replace(self, bias=bias)


def log_odds(logits: NDArray[np.float64], own: list[int]) -> NDArray[np.float64]:
    """Return the logarithm of the odds of some answers against the rest, `(samples,)`.

    Args:
        logits: `(samples, answers)`, or `(samples, 1)` for yes or no.
        own: Those answers.
    """
    if logits.shape[1] == 1:
        return logits[:, 0]
    rest = np.setdiff1d(np.arange(logits.shape[1]), own)
    odds = logsumexp(logits[:, own], axis=1) - logsumexp(logits[:, rest], axis=1)
    return np.asarray(odds, dtype=np.float64)


def logistic(
    x: NDArray[np.float64], truth: NDArray[Any], balance: bool, weights: Weights = None
) -> Regression:
    """Fit a logistic regression, its penalty chosen by cross-validation.

    Args:
        x: Features, `(samples, features)`.
        truth: The answer of each sample, `(samples,)`, booleans or numbers from 0.
        balance: Weigh the answers alike.
        weights: How much each sample counts; None for all alike.
    """
    classes = truth.astype(np.int64)
    each = np.ones(len(x)) if weights is None else weights
    fitted = _balanced(classes, each) if balance else each
    count = int(classes.max()) + 1
    losses, found = [], []
    folds = list(StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(x, classes))
    for strength in _STRENGTHS:
        probabilities = np.empty((len(x), count))
        logits = np.empty((len(x), count if count > 2 else 1))
        for train, test in folds:
            scaler, model = _fit(x[train], classes[train], strength, balance, each[train])
            z = scaler.transform(x[test])
            probabilities[test] = model.predict_proba(z)
            logits[test] = model.decision_function(z).reshape(len(z), -1)
        losses.append(log_loss(classes, probabilities, sample_weight=fitted))
        found.append(logits)
    best = int(np.argmin(losses))
    scaler, model = _fit(x, classes, _STRENGTHS[best], balance, each)
    kernel = model.coef_.T / scaler.scale_[:, None]
    bias = model.intercept_ - scaler.mean_ @ kernel
    return Regression(kernel, bias, _STRENGTHS[best], found[best])


def _fit(
    x: NDArray[np.float64],
    classes: NDArray[np.int64],
    strength: float,
    balance: bool,
    weights: NDArray[np.float64],
) -> tuple[StandardScaler, LogisticRegression]:
    scaler = StandardScaler().fit(x, sample_weight=weights)
    if balance:
        weights = _balanced(classes, weights)
    model = LogisticRegression(C=strength, max_iter=_ITERATIONS)
    with warnings.catch_warnings():
        # The optimum is approached from any start; a hundredth of the way more changes nothing.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(scaler.transform(x), classes, sample_weight=weights)
    return scaler, model


def _balanced(classes: NDArray[np.int64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return weights by which all answers together weigh alike."""
    totals = np.bincount(classes, weights=weights)
    return np.asarray(weights * (weights.sum() / len(totals) / totals)[classes])
