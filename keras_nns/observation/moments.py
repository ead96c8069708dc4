"""Second moments of features and targets in one streaming pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

from keras_nns.engine import operations
from keras_nns.engine.accumulators import Accumulator
from keras_nns.engine.blas import one_thread

Float = NDArray[np.float64]

HALVES = (0, 1)
HELD_OUT = 2
PARTS = 3
"""Samples are dealt into two halves to fit on and a part that is held out."""

_AT_ONCE = 2**21
"""About how many numbers are multiplied at once: what fits near the processor."""

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
        parts: How many parts there are.
        multiplied: Name of the dtype in which rows are multiplied, some thousands at once, before
            they join the sums. In float32 it takes half the time, and products are off by about
            1e-6 of the variances: for what is looked at next to a ridge far above that.
    """

    def __init__(
        self, features: int, targets: int, *, parts: int = PARTS, multiplied: str = "float64"
    ) -> None:
        size = features + targets
        self._features = features
        self._multiplied = np.dtype(multiplied)
        self._count = np.zeros(parts)
        self._first = np.zeros((parts, size))
        self._second = np.zeros((parts, size, size))
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
        bounds = np.searchsorted(part, np.arange(len(self._count) + 1))
        most = max(1, _AT_ONCE // len(self._first[0]))
        with one_thread():
            for number in range(len(self._count)):
                for start in range(bounds[number], bounds[number + 1], most):
                    some = slice(start, min(start + most, bounds[number + 1]))
                    given = [features[some]] if targets is None else [features[some], targets[some]]
                    rows = np.concatenate(given, axis=1, dtype=self._multiplied)
                    self._add(number, rows, weight[some].astype(self._multiplied))

    def _add(self, part: int, rows: NDArray[Any], weight: NDArray[Any]) -> None:
        if self._pivot is None:
            # As it is subtracted from rows.
            mean = rows.mean(axis=0, dtype=np.float64)
            self._pivot = mean.astype(self._multiplied).astype(np.float64)
        rows -= self._pivot.astype(self._multiplied)
        self._count[part] += weight.sum(dtype=np.float64)
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
