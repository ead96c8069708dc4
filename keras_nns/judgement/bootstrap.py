"""How far figures could be off: the same figures over resampled samples (the bootstrap)."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from keras_nns.errors import DataError

Float = NDArray[np.float64]
Weights = NDArray[np.int64] | NDArray[np.float64]
"""How often each sample was drawn, times how much it counts, `(resamples, samples)`."""

Interval = tuple[float, float]
Figures = Callable[[Weights], Mapping[str, Float]]
"""Figures of each resample, `(resamples,)`, by name."""

RESAMPLES = 1000
BINS = 15
_VALUES = 2**20


def intervals(
    figures: Figures,
    strata: NDArray[np.int64],
    *,
    confidence: float,
    seed: int,
    weights: Float | None = None,
) -> dict[str, Interval]:
    """Compute percentile intervals of figures over 1000 stratified resamples.

    Samples are drawn with replacement from those of their own stratum, so that every resample has
    as many of each as the data (Efron and Tibshirani 1993, "An introduction to the bootstrap",
    chapters 13 and 8). What is random is so which samples of a label there were, not how many.

    Args:
        figures: What to compute.
        strata: The stratum of each sample, `(samples,)`.
        confidence: Coverage, between 0 and 1.
        seed: Which resamples are drawn; the global random state is neither read nor changed.
        weights: How much each sample counts, `(samples,)`; None for all alike.

    Returns:
        The interval of each figure; NaN where it is undefined in every resample.

    Raises:
        DataError: `confidence` is no share.
    """
    check_confidence(confidence)
    parts: dict[str, list[Float]] = {}
    for drawn in _drawn(strata, np.random.default_rng(seed)):
        counted = drawn if weights is None else drawn * weights
        for name, values in figures(counted).items():
            parts.setdefault(name, []).append(values)
    outside = (1 - confidence) / 2
    found = {}
    for name, values_ in parts.items():
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "All-NaN", RuntimeWarning)
            low, high = np.nanquantile(np.concatenate(values_), [outside, 1 - outside])
        found[name] = (float(low), float(high))
    return found


def check_confidence(confidence: float | None) -> None:
    """Raise where a confidence is no share.

    Raises:
        DataError: It is not between 0 and 1.
    """
    if confidence is not None and not 0 < confidence < 1:
        raise DataError(
            "`confidence` is the share of intervals that should hold the true figure, such as "
            f"0.95. Received: confidence={confidence!r}."
        )


def widened(interval: Interval, hits: int, count: int, confidence: float) -> Interval:
    """Return an interval of a share that is not a point.

    Where all samples are right, all resamples are right too, and the bootstrap tells nothing of
    how many were looked at. There the exact interval stands (Clopper and Pearson 1934).
    """
    if interval[0] != interval[1] or not count:
        return interval
    exact = binomtest(hits, count).proportion_ci(confidence, method="exact")
    return float(exact.low), float(exact.high)


def _drawn(strata: NDArray[np.int64], random: np.random.Generator) -> Iterator[Weights]:
    count = len(strata)
    groups = [np.flatnonzero(strata == stratum) for stratum in np.unique(strata)]
    size = max(1, min(RESAMPLES, _VALUES // max(count, 1)))
    for start in range(0, RESAMPLES, size):
        rows = min(size, RESAMPLES - start)
        weights = np.zeros((rows, count), dtype=np.int64)
        offsets = np.arange(rows)[:, None]
        for group in groups:
            drawn = random.integers(0, len(group), size=(rows, len(group)))
            flat = (offsets * len(group) + drawn).ravel()
            counted = np.bincount(flat, minlength=rows * len(group))
            weights[:, group] = counted.reshape(rows, len(group))
        yield weights


def label_figures(
    truth: NDArray[np.bool_],
    given: NDArray[np.bool_],
    scores: NDArray[np.floating],
    probabilities: Float | None,
) -> Figures:
    """Return a function that computes the figures of one label for many resamples at once.

    Args:
        truth: Which samples have the label.
        given: Which are answered with it.
        scores: How sure the model is of it.
        probabilities: Its probability, where there is one.
    """
    columns = np.stack([truth & given, truth, ~truth & ~given, ~truth, given], axis=1)
    order = np.argsort(scores, kind="stable")
    # Samples with equal scores are one step of the curves.
    starts = np.flatnonzero(np.r_[True, np.diff(scores[order]) > 0])
    ranked = truth[order]

    def figures(weights: Weights) -> dict[str, Float]:
        sums = weights.astype(np.float64) @ columns.astype(np.float64)
        right, positive, away, negative, said = sums.T
        with np.errstate(divide="ignore", invalid="ignore"):
            recall, specificity = right / positive, away / negative
            drawn = weights[:, order]
            ups = np.add.reduceat(drawn * ranked, starts, axis=1).astype(np.float64)
            downs = np.add.reduceat(drawn * ~ranked, starts, axis=1).astype(np.float64)
            below = np.cumsum(downs, axis=1) - downs
            area = (ups * (below + downs / 2)).sum(axis=1) / (positive * negative)
            above = positive[:, None] - np.cumsum(ups, axis=1) + ups
            above_all = above + negative[:, None] - below
            steps = np.where(ups > 0, ups * above / above_all, 0.0)
            found = {
                "recall": recall,
                "specificity": specificity,
                "precision": right / said,
                "balanced_accuracy": (recall + specificity) / 2,
                "auc": area,
                "average_precision": steps.sum(axis=1) / positive,
            }
        if probabilities is not None:
            found["brier"] = _mean(weights, (probabilities - truth) ** 2)
            found["calibration_error"] = calibration_errors(truth, probabilities, weights)
        return found

    return figures


def share(hits: NDArray[np.bool_], among: NDArray[np.bool_] | None = None) -> Callable[..., Float]:
    """Return a function that computes a share of samples for many resamples at once."""
    chosen = np.ones(len(hits), dtype=bool) if among is None else among

    def of(weights: Weights) -> Float:
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.asarray(
                (weights @ (hits & chosen).astype(np.float64)) / (weights @ chosen.astype(float))
            )

    return of


def mean(values: Float) -> Callable[[Weights], Float]:
    """Return a function that computes a mean over samples for many resamples at once."""
    return lambda weights: _mean(weights, values)


def calibration_errors(
    truth: NDArray[np.bool_], probabilities: Float, weights: Weights | None = None
) -> Float:
    """Compute the expected calibration error of one probability.

    The samples are put into 15 bins of equal width by their probability, and the distance of each
    bin's mean probability from its share of true ones is averaged, weighted by how many samples it
    holds: eq. 3 of Guo et al. 2017, "On calibration of modern neural networks", after Naeini et
    al. 2015.

    Args:
        truth: What is true, `(samples,)`.
        probabilities: Its probability, `(samples,)`.
        weights: Resamples; None for the samples themselves.

    Returns:
        `(resamples,)`, of which there is one for None.
    """
    if weights is None:
        weights = np.ones((1, len(truth)), dtype=np.int64)
    bins = np.clip(np.ceil(probabilities * BINS).astype(np.int64) - 1, 0, BINS - 1)
    gaps = np.zeros((len(truth), BINS))
    gaps[np.arange(len(truth)), bins] = probabilities - truth
    summed = np.abs(weights.astype(np.float64) @ gaps).sum(axis=1)
    count = weights.sum(axis=1)
    return _divided(summed, count)


def _mean(weights: Weights, values: Float) -> Float:
    return _divided(weights @ values, weights.sum(axis=1))


def _divided(sums: Float, counts: Weights) -> Float:
    found = np.full(len(sums), math.nan)
    np.divide(sums, counts, out=found, where=counts > 0)
    return found


def together(parts: Sequence[tuple[str, Callable[[Weights], Float]]]) -> Figures:
    """Return several figures as one function."""
    return lambda weights: {name: of(weights) for name, of in parts}
