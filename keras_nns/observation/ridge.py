"""The ridge regression that fits a kernel to moments, its penalty chosen on the other half."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from keras_nns.engine.blas import one_thread
from keras_nns.observation.moments import HALVES, Moments, MomentSums

Float = NDArray[np.float64]

_RIDGES = np.concatenate([10.0 ** np.arange(-9.0, 3.0), [np.inf]])
"""Penalties tried, in units of a standardised feature's variance; the last moves the bias alone."""

_AMPLE = 1e-3
"""A penalty beside which eigenvalues that are only rounding make no difference."""

_POWERS, _MARGIN = 20, 1.2
"""How often a matrix is applied to find its largest eigenvalue, and what that may fall short by."""


@dataclass(frozen=True, eq=False)
class Fit:
    """A refitted kernel and bias.

    Attributes:
        kernel: `(features, targets)`.
        bias: `(targets,)`.
        ridge: The penalty, in units of a standardised feature's variance; infinite where only the
            bias changed.
        rank: Rank of the features' covariance.
        features: How many features.
    """

    kernel: Float
    bias: Float
    ridge: float
    rank: int
    features: int

    @property
    def singular(self) -> bool:
        """Whether the features are linearly dependent."""
        return self.rank < self.features


class _Solver:
    """Ridge regression of what a kernel leaves unexplained, for any penalty.

    The penalty draws the kernel to the one it had, not to zero: with features standardised,
    it minimises `|T - X (W + D) - b|² / n + ridge · |diag(std) D|²` over `D` and `b` (Hoerl and
    Kennard 1970). So a layer that needs no repair keeps its weights, and directions in which the
    features do not vary are left alone. Noise on what is added, `(X + noise) D`, counts as another
    ridge, and as a part of the features' spread.
    """

    def __init__(self, moments: Moments, kernel: Float, *, rounded: bool) -> None:
        n = moments.features
        self._moments = moments
        self._kernel = kernel
        self.noise = moments.rounding if rounded else 0.0
        cov = moments.covariance
        gram, cross = cov[:n, :n], cov[:n, n:]
        # What varies by less than rounding does not vary.
        variance = np.diag(gram).clip(0)
        scale = np.abs(moments.mean[0]) + np.sqrt(variance.max(initial=0.0))
        self._varies = np.sqrt(variance) > 1e-7 * scale
        self._inverse = _inverted(np.sqrt(variance + self.noise) * self._varies)
        noisy = gram + self.noise * np.eye(n)
        self._matrix = noisy * np.outer(self._inverse, self._inverse)
        self._right = (cross - gram @ kernel) * self._inverse[:, None]

    @cached_property
    def _eigen(self) -> tuple[Float, Float]:
        """Eigenvalues that are more than rounding, rising, and their vectors."""
        values, vectors = np.linalg.eigh(self._matrix)
        solid = _solid(values)
        return values[solid], vectors[:, solid]

    @property
    def rank(self) -> int:
        """Rank of the features' own covariance, without noise."""
        n = self._moments.features
        gram = self._moments.covariance[:n, :n]
        inverse = _inverted(np.sqrt(np.diag(gram).clip(0)) * self._varies)
        own = gram * np.outer(inverse, inverse) if self.noise else self._matrix
        if _is_solid(own):
            return n
        return int(_solid(np.asarray(np.linalg.eigvalsh(own), np.float64)).sum())

    def fit(self, ridge: float) -> tuple[Float, Float]:
        if np.isinf(ridge):
            change = np.zeros_like(self._kernel)
        elif ridge >= _AMPLE or _is_solid(self._matrix):
            damped = self._matrix + ridge * np.eye(len(self._matrix))
            change = self._inverse[:, None] * cho_solve(cho_factor(damped), self._right)
        else:
            values, vectors = self._eigen
            damped = vectors.T @ self._right / (values + ridge)[:, None]
            change = self._inverse[:, None] * (vectors @ damped)
        kernel = self._kernel + change
        return kernel, self._bias_of(kernel)

    def _bias_of(self, kernel: Float) -> Float:
        mean_x, mean_t = self._moments.mean
        return np.asarray(mean_t - mean_x @ kernel)

    def errors(self, other: Moments, ridges: Float) -> Float:
        """Return what the fit of each penalty is off on other rows, squared and summed.

        `(ridges,)`, with what noise on the change costs. The change of a penalty is `A (g ∘ R)`,
        where only the factors `g` depend on it, one for each eigenvector: so the error is a
        quadratic form in `g`, whose matrix is computed once for all penalties.
        """
        n = other.features
        away = other.mean[0] - self._moments.mean[0]
        shift = self._moments.mean[1] - other.mean[1]
        cov = other.covariance
        gram = cov[:n, :n] + np.outer(away, away)
        left = cov[:n, n:] - np.outer(away, shift) - gram @ self._kernel
        first = float(other.error(self._kernel, self._bias_of(self._kernel)).sum())
        values, vectors = self._eigen
        basis = self._inverse[:, None] * vectors
        rest = vectors.T @ self._right
        gram[np.diag_indices(n)] += self.noise
        square = (basis.T @ gram @ basis) * (rest @ rest.T)
        slope = (rest * (basis.T @ left)).sum(axis=1)
        factors = 1 / (values + ridges[:, None])
        change = (factors * (factors @ square)).sum(axis=1) - 2 * factors @ slope
        return np.asarray((first + change) * other.count)


def _inverted(values: Float) -> Float:
    """Return the inverse of each value; 0 of 0."""
    return np.divide(1.0, values, out=np.zeros_like(values), where=values > 0)


def _is_solid(matrix: Float) -> bool:
    """Return whether all eigenvalues of a positive semidefinite matrix are more than rounding.

    As `_solid` says it, without computing them: all are above a number where a Cholesky factor is
    found once that is taken off. False may also mean that it is close.
    """
    n = len(matrix)
    if not n:
        return True
    vector = np.ones(n) / np.sqrt(n)
    for _ in range(_POWERS):
        vector = matrix @ vector
        vector /= max(float(np.linalg.norm(vector)), np.finfo(np.float64).tiny)
    largest = _MARGIN * float(vector @ matrix @ vector)
    try:
        np.linalg.cholesky(matrix - n * np.finfo(np.float32).eps * largest * np.eye(n))
    except np.linalg.LinAlgError:
        return False
    return True


def _solid(values: Float) -> NDArray[np.bool_]:
    """Say which eigenvalues, rising, are more than the rounding of features in float32."""
    largest = values[-1] if len(values) else 0.0
    return np.asarray(values > largest * len(values) * np.finfo(np.float32).eps)


def fit_ridge(
    sums: MomentSums,
    kernel: Float,
    ridge: float | None,
    *,
    biased: bool = True,
    rounded: bool = False,
) -> Fit:
    """Refit a kernel and bias to the moments of both halves.

    Args:
        sums: What was summed.
        kernel: The kernel now, `(features, targets)`.
        ridge: The penalty; None chooses it by fitting either half and trying on the other.
        biased: Whether there is a bias to fit; without one it stays 0.
        rounded: Whether inputs and kernel will be rounded to int8: what that costs counts too.

    Returns:
        The fit on both halves together. The held-out part has no say in it.
    """

    def of(*parts: int) -> Moments:
        return sums.of(*parts) if biased else sums.of(*parts).about_zero()

    with one_thread(len(kernel)):
        if ridge is None:
            errors = np.zeros(len(_RIDGES))
            for fitted, tried in (HALVES, HALVES[::-1]):
                solver = _Solver(of(fitted), kernel, rounded=rounded)
                errors += solver.errors(of(tried), _RIDGES)
            # Of equals the strongest: it changes least.
            ridge = float(_RIDGES[np.flatnonzero(errors <= errors.min() * (1 + 1e-9))[-1]])
        solver = _Solver(of(*HALVES), kernel, rounded=rounded)
        return Fit(*solver.fit(ridge), ridge, solver.rank, len(kernel))
