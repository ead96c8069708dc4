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
from keras_nns.observation.moments import eight_bit_noise

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

    def at_best_point(self, truth: NDArray[np.bool_], own: list[int]) -> Regression:
        """Move the bias so that a probability of 0.5 is the point of best balanced accuracy.

        Args:
            truth: Which samples are of the answers to tell from the rest.
            own: Those answers. A constant added to their logits multiplies the odds.
        """
        logits = self.logits
        scores = logits[:, 0]
        if logits.shape[1] > 1:
            rest = np.setdiff1d(np.arange(logits.shape[1]), own)
            scores = logsumexp(logits[:, own], axis=1) - logsumexp(logits[:, rest], axis=1)
        bias = self.bias.copy()
        bias[own] -= best_threshold(truth, scores)
        return replace(self, bias=bias)


def logistic(x: NDArray[np.float64], truth: NDArray[Any], balance: bool) -> Regression:
    """Fit a logistic regression, its penalty chosen by cross-validation.

    Args:
        x: Features, `(samples, features)`.
        truth: The answer of each sample, `(samples,)`, booleans or numbers from 0.
        balance: Weigh the answers alike.
    """
    classes = truth.astype(np.int64)
    weight = "balanced" if balance else None
    losses, found = [], []
    folds = list(StratifiedKFold(FOLDS, shuffle=True, random_state=0).split(x, classes))
    share = np.bincount(classes) / len(classes)
    importance = 1 / share[classes] if balance else None
    for strength in _STRENGTHS:
        probabilities = np.empty((len(x), len(share)))
        logits = np.empty((len(x), len(share) if len(share) > 2 else 1))
        for train, test in folds:
            scaler, model = _fit(x[train], classes[train], strength, weight)
            z = scaler.transform(x[test])
            probabilities[test] = model.predict_proba(z)
            logits[test] = model.decision_function(z).reshape(len(z), -1)
        losses.append(log_loss(classes, probabilities, sample_weight=importance))
        found.append(logits)
    best = int(np.argmin(losses))
    scaler, model = _fit(x, classes, _STRENGTHS[best], weight)
    kernel = model.coef_.T / scaler.scale_[:, None]
    bias = model.intercept_ - scaler.mean_ @ kernel
    return Regression(kernel, bias, _STRENGTHS[best], found[best])


def _fit(
    x: NDArray[np.float64], classes: NDArray[np.int64], strength: float, weight: str | None
) -> tuple[StandardScaler, LogisticRegression]:
    scaler = StandardScaler().fit(x)
    # A penalty on the weights as they will be stored, `n/8 · noise · |w|²`: what rounding the
    # features and weights to 8 bits adds to the expected loss (Bishop 1995, *Training with Noise
    # is Equivalent to Tikhonov Regularization*; p(1 - p) <= 1/4). Without it a feature that hardly
    # varies gets a weight in thousands, on which int8 ends.
    noise = eight_bit_noise(scaler.mean_, scaler.var_)
    scaler.scale_ = np.sqrt(scaler.var_ + strength * len(x) / 4 * noise)
    model = LogisticRegression(C=strength, class_weight=weight, max_iter=_ITERATIONS)
    with warnings.catch_warnings():
        # The optimum is approached from any start; a hundredth of the way more changes nothing.
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(scaler.transform(x), classes)
    return scaler, model
