"""Logistic regression whose penalty is chosen by cross-validation, for heads."""

from __future__ import annotations

import warnings
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold
from sklearn.preprocessing import StandardScaler

from keras_nns.engine.blas import one_thread
from keras_nns.errors import DataError, SurgeryError
from keras_nns.judgement.points import best_threshold
from keras_nns.observation.moments import rounding_noise

Rounding = Literal["int8"]
"""What weights, and what they are multiplied by, are to survive being rounded to."""

Weights = NDArray[np.float64] | None
"""How much each sample counts, `(samples,)`; None for all alike."""

_STRENGTHS = (0.01, 0.1, 1.0, 10.0)
"""Inverse penalties tried, in scikit-learn's units, on standardised features."""

_LARGE = 10_000_000
"""Numbers in a matrix from which on threads are worth their waiting for each other."""

FOLDS = 5
_LEAST = 2 * FOLDS
_ITERATIONS = 1000


def checked_rounding(rounding: Any) -> Rounding | None:
    """Return a rounding that is known.

    Raises:
        SurgeryError: It is none.
    """
    if rounding not in ("int8", None):
        raise SurgeryError(f"`rounding` is 'int8' or None. Received: rounding={rounding!r}.")
    return None if rounding is None else "int8"


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
    x: NDArray[np.float64],
    truth: NDArray[Any],
    balance: bool,
    weights: Weights = None,
    *,
    rounded: bool = False,
) -> Regression:
    """Fit a logistic regression, its penalty chosen by cross-validation.

    Args:
        x: Features, `(samples, features)`.
        truth: The answer of each sample, `(samples,)`, booleans or numbers from 0.
        balance: Weigh the answers alike.
        weights: How much each sample counts; None for all alike.
        rounded: Whether features and kernel will be rounded to int8: what that costs counts too.
    """
    classes = truth.astype(np.int64)
    each = np.ones(len(x)) if weights is None else weights
    fitted = _balanced(classes, each) if balance else each
    count = int(classes.max()) + 1
    probabilities = np.empty((len(_STRENGTHS), len(x), count))
    logits = np.empty((len(_STRENGTHS), len(x), count if count > 2 else 1))
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=0)
    with nullcontext() if x.size > _LARGE else one_thread():
        for train, test in folds.split(x, classes):
            path = _Path(x[train], classes[train], balance, each[train], rounded=rounded)
            for place, strength in enumerate(_STRENGTHS):
                model, z = path.fit(strength), path.standardised(x[test])
                probabilities[place, test] = model.predict_proba(z)
                logits[place, test] = model.decision_function(z).reshape(len(z), -1)
        losses = [log_loss(classes, given, sample_weight=fitted) for given in probabilities]
        best = int(np.argmin(losses))
        path = _Path(x, classes, balance, each, rounded=rounded)
        model = path.fit(_STRENGTHS[best])
    kernel = model.coef_.T / path.scale[:, None]
    bias = model.intercept_ - path.mean @ kernel
    return Regression(kernel, bias, _STRENGTHS[best], logits[best])


class _Path:
    """Regressions of the same samples by several penalties, each from where the last one ended.

    Noise of variance v on the features adds v / 2 · |w|² · Σ p (1 - p) to the log loss (Bishop
    1995), which is scikit-learn's own penalty of features with a larger scale. The probabilities p
    are those of the fit before: at first, of one that knew nothing but how often each is right.

    Attributes:
        mean: Of each feature.
        scale: What each is divided by, for the last fit.
    """

    def __init__(
        self,
        x: NDArray[np.float64],
        classes: NDArray[np.int64],
        balance: bool,
        weights: NDArray[np.float64],
        *,
        rounded: bool,
    ) -> None:
        scaler = StandardScaler().fit(x, sample_weight=weights)
        self.mean, self.scale = scaler.mean_, scaler.scale_
        self._std, self._x, self._classes = scaler.scale_, x, classes
        self._weights = _balanced(classes, weights) if balance else weights
        squares = np.average(x**2, axis=0, weights=weights)
        self._noise = rounding_noise(squares) if rounded else 0.0
        self._doubt: float | None = None
        self._model = LogisticRegression(max_iter=_ITERATIONS, warm_start=True)

    def standardised(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return features as the last fit took them."""
        return np.asarray((x - self.mean) / self.scale)

    def fit(self, strength: float) -> LogisticRegression:
        """Return the regression of an inverse penalty, until the next one is fitted."""
        if not self._noise:
            return self._fit(strength)
        if self._doubt is None:
            shares = np.bincount(self._classes, weights=self._weights) / self._weights.sum()
            self._doubt = float(self._weights.sum() * (shares * (1 - shares)).mean())
            self._look(self._fit(strength))
        found = self._fit(strength)
        self._look(found)
        return found

    def _look(self, model: LogisticRegression) -> None:
        """Take Σ p (1 - p) from what a regression says."""
        given = model.predict_proba(self.standardised(self._x))
        self._doubt = float(self._weights @ (given * (1 - given)).mean(axis=1))

    def _fit(self, strength: float) -> LogisticRegression:
        scale = np.sqrt(self._std**2 + strength * self._noise * (self._doubt or 0.0))
        if hasattr(self._model, "coef_"):
            # From where the last one ended.
            self._model.coef_ = self._model.coef_ * (scale / self.scale)
        self.scale = scale
        self._model.set_params(C=strength)
        with warnings.catch_warnings():
            # The optimum is approached from any start; a hundredth of the way more changes nothing.
            warnings.simplefilter("ignore", ConvergenceWarning)
            x = self.standardised(self._x)
            self._model.fit(x, self._classes, sample_weight=self._weights)
        return self._model


def _balanced(classes: NDArray[np.int64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return weights by which all answers together weigh alike."""
    totals = np.bincount(classes, weights=weights)
    return np.asarray(weights * (weights.sum() / len(totals) / totals)[classes])


WITHOUT_HEAD = (
    "Pass more, or leave the head as the cut made it: repair=[nns.steps.least_squares()], in a "
    "shell --no-repair."
)
"""What to do where samples are too few for the last step of the usual repair."""


def check_samples(
    step: str, truth: NDArray[np.bool_], names: tuple[str, ...], *, way: str = "Pass more."
) -> None:
    """Raise where an answer has too few samples to fit on.

    Args:
        step: What fits.
        truth: Which samples are of which answer, `(samples, answers)`.
        names: The answers.
        way: What to do.

    Raises:
        DataError: The message says how many it takes.
    """
    for column, name in zip(truth.T, names, strict=True):
        yes, no = int(column.sum()), int((~column).sum())
        if min(yes, no) < _LEAST:
            whose = repr(name) if yes < _LEAST else f"any other than {name!r}"
            raise DataError(
                f"{step} needs at least {_LEAST} samples of every answer to fit on, and the data "
                f"has {min(yes, no)} of {whose} beside what is held out. {way}"
            )
