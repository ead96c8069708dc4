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
    features do not vary are left alone.
    """

    def __init__(self, moments: Moments, kernel: Float) -> None:
        n = moments.features
        self._moments = moments
        self._kernel = kernel
        cov = moments.covariance
        gram, cross = cov[:n, :n], cov[:n, n:]
        # What varies by less than rounding does not vary.
        variance = np.diag(gram).clip(0)
        scale = np.abs(moments.mean[0]) + np.sqrt(variance.max(initial=0.0))
        self._std = np.sqrt(variance) * (np.sqrt(variance) > 1e-7 * scale)
        inverse = np.divide(1.0, self._std, out=np.zeros(n), where=self._std > 0)
        self._inverse = inverse
        self._values, self._vectors = np.linalg.eigh(gram * np.outer(inverse, inverse))
        rest = (cross - gram @ kernel) * inverse[:, None]
        self._rest = self._vectors.T @ rest
        # Features are computed in float32: smaller eigenvalues are its rounding.
        largest = self._values[-1] if n else 0.0
        self._solid = self._values > largest * n * np.finfo(np.float32).eps
        self.rank = int(self._solid.sum())

    def fit(self, ridge: float) -> Fit:
        if np.isinf(ridge):
            change = np.zeros_like(self._kernel)
        else:
            damped = np.zeros_like(self._values)
            damped[self._solid] = 1 / (self._values[self._solid] + ridge)
            change = self._inverse[:, None] * (self._vectors @ (damped[:, None] * self._rest))
        kernel = self._kernel + change
        mean_x, mean_t = self._moments.mean
        bias = mean_t - mean_x @ kernel
        return Fit(kernel, bias, ridge, self.rank, len(kernel))


def fit_ridge(sums: MomentSums, kernel: Float, ridge: float | None, *, biased: bool = True) -> Fit:
    """Refit a kernel and bias to the moments of both halves.

    Args:
        sums: What was summed.
        kernel: The kernel now, `(features, targets)`.
        ridge: The penalty; None chooses it by fitting either half and trying on the other.
        biased: Whether there is a bias to fit; without one it stays 0.

    Returns:
        The fit on both halves together. The held-out part has no say in it.
    """

    def of(*parts: int) -> Moments:
        return sums.of(*parts) if biased else sums.of(*parts).about_zero()

    if ridge is None:
        errors = np.zeros(len(_RIDGES))
        for fitted, tried in (HALVES, HALVES[::-1]):
            solver, other = _Solver(of(fitted), kernel), of(tried)
            for i, candidate in enumerate(_RIDGES):
                fit = solver.fit(float(candidate))
                errors[i] += float(other.error(fit.kernel, fit.bias).sum()) * other.count
        # Of equals the strongest: it changes least.
        ridge = float(_RIDGES[np.flatnonzero(errors <= errors.min() * (1 + 1e-9))[-1]])
    return _Solver(of(*HALVES), kernel).fit(ridge)
