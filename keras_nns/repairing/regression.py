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
    probabilities = np.empty((len(_STRENGTHS), len(x), count))
    logits = np.empty((len(_STRENGTHS), len(x), count if count > 2 else 1))
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    for train, test in folds.split(x, classes):
        path = _Path(x[train], classes[train], balance, each[train])
        z = path.scaler.transform(x[test])
        for place, strength in enumerate(_STRENGTHS):
            model = path.fit(strength)
            probabilities[place, test] = model.predict_proba(z)
            logits[place, test] = model.decision_function(z).reshape(len(z), -1)
    losses = [log_loss(classes, given, sample_weight=fitted) for given in probabilities]
    best = int(np.argmin(losses))
    path = _Path(x, classes, balance, each)
    model = path.fit(_STRENGTHS[best])
    kernel = model.coef_.T / path.scaler.scale_[:, None]
    bias = model.intercept_ - path.scaler.mean_ @ kernel
    return Regression(kernel, bias, _STRENGTHS[best], logits[best])


class _Path:
    """Regressions of the same samples by several penalties, each from where the last one ended."""

    def __init__(
        self,
        x: NDArray[np.float64],
        classes: NDArray[np.int64],
        balance: bool,
        weights: NDArray[np.float64],
    ) -> None:
        self.scaler = StandardScaler().fit(x, sample_weight=weights)
        self._x, self._classes = self.scaler.transform(x), classes
        self._weights = _balanced(classes, weights) if balance else weights
        self._model = LogisticRegression(max_iter=_ITERATIONS, warm_start=True)

    def fit(self, strength: float) -> LogisticRegression:
        """Return the regression of an inverse penalty, until the next one is fitted."""
        self._model.set_params(C=strength)
        with warnings.catch_warnings():
            # The optimum is approached from any start; a hundredth of the way more changes nothing.
            warnings.simplefilter("ignore", ConvergenceWarning)
            self._model.fit(self._x, self._classes, sample_weight=self._weights)
        return self._model


def _balanced(classes: NDArray[np.int64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return weights by which all answers together weigh alike."""
    totals = np.bincount(classes, weights=weights)
    return np.asarray(weights * (weights.sum() / len(totals) / totals)[classes])
