"""Second moments of features and targets in one streaming pass, and the ridge that fits them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

from keras_nns.engine import operations
from keras_nns.engine.accumulators import Accumulator

Float = NDArray[np.float64]

HALVES = (0, 1)
HELD_OUT = 2
PARTS = 3
"""Samples are dealt into two halves to fit on and a part that is held out."""

_AT_ONCE = 2**21
"""About how many numbers are multiplied at once: what fits near the processor."""

_RIDGES = np.concatenate([10.0 ** np.arange(-9.0, 3.0), [np.inf]])
"""Penalties tried, in units of a standardised feature's variance; the last moves the bias alone."""


_LEVELS, _WEIGHT_LEVELS, _PEAK = 255, 127, 8.0
"""Steps that int8 has for the range of inputs and for the largest weight, and about how many times
the root mean square that range is."""


def rounding_noise(squares: Float) -> float:
    """Return the noise on inputs that costs what rounding inputs and weights to int8 costs.

    Rounding by steps of s is noise of variance s² / 12. On inputs with one step for all it adds
    s² / 12 · |w|² to the mean squared error of an output of weights w. On weights, with a step of
    max |w| / 127 for each output, it adds Σ E[x²] · step² / 12; of n weights max |w|² is about
    2 ln n · |w|² / n. Both are as noise on the inputs, and that is a ridge (Bishop 1995, "Training
    with noise is equivalent to Tikhonov regularization").

    Args:
        squares: Mean square of each input, `(inputs,)`.

    Returns:
        Its variance, the same for all of them.
    """
    count = len(squares)
    inputs = (_PEAK / _LEVELS) ** 2
    weights = 2 * np.log(max(count, 2)) / _WEIGHT_LEVELS**2
    return float(squares.mean() * (inputs + weights) / 12) if count else 0.0


class MomentSums:
    """Moments of `(rows, features)` and `(rows, targets)`, summed in float64, part by part.

    Their size is `(features + targets)²` whatever the number of rows. Everything is taken relative
    to a pivot, the first batch's mean, so that a large mean does not drown the spread.

    Args:
        features: How many features.
        targets: How many targets.
    """

    def __init__(self, features: int, targets: int) -> None:
        size = features + targets
        self._features = features
        self._count = np.zeros(PARTS)
        self._first = np.zeros((PARTS, size))
        self._second = np.zeros((PARTS, size, size))
        self._pivot: Float | None = None

    def update(
        self,
        features: NDArray[Any],
        targets: NDArray[Any] | None,
        part: NDArray[Any],
        weight: NDArray[Any],
    ) -> None:
        """Add rows.

        Args:
            features: `(rows, features)`.
            targets: `(rows, targets)`; None where there are none.
            part: Which part each row is of, `(rows,)` integers, rising.
            weight: How much each row counts, `(rows,)`, 0 or more.
        """
        bounds = np.searchsorted(part, np.arange(PARTS + 1))
        most = max(1, _AT_ONCE // len(self._first[0]))
        for number in range(PARTS):
            for start in range(bounds[number], bounds[number + 1], most):
                some = slice(start, min(start + most, bounds[number + 1]))
                given = [features[some]] if targets is None else [features[some], targets[some]]
                self._add(number, np.concatenate(given, axis=1, dtype=np.float64), weight[some])

    def _add(self, part: int, rows: Float, weight: NDArray[Any]) -> None:
        if self._pivot is None:
            self._pivot = rows.mean(axis=0)
        rows -= self._pivot
        self._count[part] += weight.sum()
        self._first[part] += weight @ rows
        if not (weight == 1).all():
            rows *= np.sqrt(weight)[:, None]
        self._second[part] += operations.gram(rows)

    def of(self, *parts: int) -> Moments:
        """Return the moments of some parts together."""
        chosen = list(parts)
        pivot = np.zeros(len(self._first[0])) if self._pivot is None else self._pivot
        return Moments(
            count=float(self._count[chosen].sum()),
            first=self._first[chosen].sum(axis=0),
            second=self._second[chosen].sum(axis=0),
            pivot=pivot,
            features=self._features,
        )


class Pivot:
    """The mean of the first batch's rows, which all rows are taken relative to.

    Args:
        columns: How many columns rows have.
    """

    def __init__(self, columns: int) -> None:
        self._mean = Accumulator((columns,))
        self._started = Accumulator((), "bool")

    def off(self, rows: Any) -> Any:
        """Return rows, `(rows, columns)` float64, less the pivot. Runs inside a compiled step."""
        mean = ops.mean(rows, axis=0)
        self._mean.assign(ops.where(self._started.value, self._mean.value, mean))
        self._started.assign(True)
        return rows - self._mean.value

    def numpy(self) -> Float:
        """Return the pivot, `(columns,)`."""
        return self._mean.numpy()


class ColumnSums:
    """Sums of columns and of their squares in float64, part by part, about the first batch's mean.

    Args:
        columns: How many.
    """

    def __init__(self, columns: int) -> None:
        self._count = Accumulator((PARTS, 1))
        self._first = Accumulator((PARTS, columns))
        self._second = Accumulator((PARTS, columns))
        self._pivot = Pivot(columns)

    def update(self, rows: Any, part: Any, weight: Any) -> None:
        """Add `(rows, columns)`. Runs inside a compiled step; as in `MomentSums`."""
        rows = self._pivot.off(ops.cast(rows, "float64"))
        table = ops.one_hot(part, PARTS, axis=0, dtype="float64") * ops.cast(weight, "float64")
        self._count.add(ops.sum(table, axis=1, keepdims=True))
        self._first.add(ops.matmul(table, rows))
        self._second.add(ops.matmul(table, ops.square(rows)))

    def mean(self, *parts: int) -> Float:
        """Return the mean of each column over some parts."""
        first, _, count = self._of(parts)
        return np.asarray(self._pivot.numpy() + first / count)

    def variance(self, *parts: int) -> Float:
        """Return the variance of each column over some parts."""
        first, second, count = self._of(parts)
        return np.asarray(second / count - (first / count) ** 2).clip(0)

    def _of(self, parts: tuple[int, ...]) -> tuple[Any, Any, float]:
        chosen = list(parts)
        count = float(self._count.numpy()[chosen].sum())
        return (
            self._first.numpy()[chosen].sum(axis=0),
            self._second.numpy()[chosen].sum(axis=0),
            count,
        )


@dataclass(frozen=True, eq=False)
class Moments:
    """Weighted moments of features and targets, about a pivot.

    Attributes:
        count: Sum of the weights.
        first: Sums, `(features + targets,)`.
        second: Sums of products, `(features + targets, features + targets)`.
        pivot: What was subtracted from every row.
        features: How many of them are features.
    """

    count: float
    first: Float
    second: Float
    pivot: Float
    features: int

    @property
    def mean(self) -> tuple[Float, Float]:
        """Means of the features and of the targets."""
        mean = self.pivot + self.first / self.count
        return mean[: self.features], mean[self.features :]

    @property
    def covariance(self) -> Float:
        """Covariances, `(features + targets, features + targets)`."""
        mean = self.first / self.count
        return np.asarray(self.second / self.count - np.outer(mean, mean))

    @property
    def rounding(self) -> float:
        """Noise of the features that costs what rounding them to int8 does."""
        squares = np.diag(self.covariance)[: self.features] + self.mean[0] ** 2
        return rounding_noise(squares)

    def about_zero(self) -> Moments:
        """Return the same moments about zero, for a fit that has no bias: all means are 0."""
        mean = self.first / self.count
        off = np.outer(self.pivot, mean)
        second = self.second / self.count + off + off.T + np.outer(self.pivot, self.pivot)
        zeros = np.zeros_like(self.first)
        return Moments(self.count, zeros, second * self.count, zeros, self.features)

    def error(self, kernel: Float, bias: Float) -> Float:
        """Return the mean squared error of `features @ kernel + bias`, one for each target."""
        n = self.features
        mean_x, mean_t = self.mean
        cov = self.covariance
        off = mean_x @ kernel + bias - mean_t
        squared = (
            np.diag(cov[n:, n:])
            - 2 * (kernel * cov[:n, n:]).sum(axis=0)
            + (kernel * (cov[:n, :n] @ kernel)).sum(axis=0)
            + off**2
        )
        return np.asarray(np.maximum(squared, 0.0))

    @property
    def spread(self) -> Float:
        """Variance of each target."""
        return np.maximum(np.diag(self.covariance)[self.features :], 0.0)


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
        self._values, self._vectors = np.linalg.eigh(noisy * np.outer(self._inverse, self._inverse))
        rest = (cross - gram @ kernel) * self._inverse[:, None]
        self._rest = self._vectors.T @ rest
        self._solid = _solid(self._values)

    @property
    def rank(self) -> int:
        """Rank of the features' own covariance, without noise."""
        if not self.noise:
            return int(self._solid.sum())
        n = self._moments.features
        gram = self._moments.covariance[:n, :n]
        inverse = _inverted(np.sqrt(np.diag(gram).clip(0)) * self._varies)
        values = np.linalg.eigvalsh(gram * np.outer(inverse, inverse))
        return int(_solid(np.asarray(values, np.float64)).sum())

    def fit(self, ridge: float) -> tuple[Float, Float]:
        if np.isinf(ridge):
            change = np.zeros_like(self._kernel)
        else:
            damped = np.zeros_like(self._values)
            damped[self._solid] = 1 / (self._values[self._solid] + ridge)
            change = self._inverse[:, None] * (self._vectors @ (damped[:, None] * self._rest))
        kernel = self._kernel + change
        return kernel, self._bias_of(kernel)

    def _bias_of(self, kernel: Float) -> Float:
        mean_x, mean_t = self._moments.mean
        return np.asarray(mean_t - mean_x @ kernel)

    def errors(self, other: Moments, ridges: Float) -> Float:
        """Return what the fit of each penalty is off on other rows, squared and summed: `(ridges,)`.

        What noise on the change costs is in it. The change of a penalty is `A (g ∘ R)`, where only
        the factors `g` depend on it, one for each eigenvector: so the error is a quadratic form in
        `g`, whose matrix is computed once for all penalties.
        """
        n = other.features
        away = other.mean[0] - self._moments.mean[0]
        shift = self._moments.mean[1] - other.mean[1]
        cov = other.covariance
        gram = cov[:n, :n] + np.outer(away, away)
        left = cov[:n, n:] - np.outer(away, shift) - gram @ self._kernel
        first = float(other.error(self._kernel, self._bias_of(self._kernel)).sum())
        basis = self._inverse[:, None] * self._vectors[:, self._solid]
        rest = self._rest[self._solid]
        gram[np.diag_indices(n)] += self.noise
        square = (basis.T @ gram @ basis) * (rest @ rest.T)
        slope = (rest * (basis.T @ left)).sum(axis=1)
        factors = 1 / (self._values[self._solid] + ridges[:, None])
        change = (factors * (factors @ square)).sum(axis=1) - 2 * factors @ slope
        return np.asarray((first + change) * other.count)


def _inverted(values: Float) -> Float:
    """Return the inverse of each value; 0 of 0."""
    return np.divide(1.0, values, out=np.zeros_like(values), where=values > 0)


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

    if ridge is None:
        errors = np.zeros(len(_RIDGES))
        for fitted, tried in (HALVES, HALVES[::-1]):
            solver = _Solver(of(fitted), kernel, rounded=rounded)
            errors += solver.errors(of(tried), _RIDGES)
        # Of equals the strongest: it changes least.
        ridge = float(_RIDGES[np.flatnonzero(errors <= errors.min() * (1 + 1e-9))[-1]])
    solver = _Solver(of(*HALVES), kernel, rounded=rounded)
    return Fit(*solver.fit(ridge), ridge, solver.rank, len(kernel))
