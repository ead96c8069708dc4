"""Sums for every (label, unit), held in variables and updated inside a compiled step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

from keras_nns.engine import operations
from keras_nns.engine.accumulators import Accumulator
from keras_nns.engine.devices import has_gpu
from keras_nns.errors import DataError, SelectionError
from keras_nns.graph.tracing import Graph
from keras_nns.graph.unwatched import unwatched
from keras_nns.observation.activity import STATISTICS, Activity
from keras_nns.observation.layer_sums import LayerActivity
from keras_nns.observation.unit_values import Further, Tap, Values
from keras_nns.plans.units import Fingerprint

_FAR = 64.0
"""A squared mean this many times the variance costs two of float32's seven digits."""


def known_statistics(statistics: str | Sequence[str]) -> tuple[str, ...]:
    """Return statistics in their order.

    Raises:
        SelectionError: An unknown one, or none.
    """
    given = (statistics,) if isinstance(statistics, str) else tuple(statistics)
    if not given or any(one not in STATISTICS for one in given):
        raise SelectionError(
            f"Expected `statistics` to be some of {STATISTICS}. Received: {given!r}."
        )
    return tuple(one for one in STATISTICS if one in given)


class Sums:
    """What has been seen so far of every (label, unit).

    Batches are summed in float32 and added up in float64 and int64, so that 10⁸ samples count
    right. Where the first batch shows a unit whose mean is large beside its spread, squares are
    taken of differences from that mean, so that the variance does not drown in rounding.

    Args:
        taps: The watched layers.
        labels: How many labels.
        statistics: Which of `"fired"`, `"mean"`, `"variance"`, `"maximum"`, `"active"`,
            `"mean_square"`.
        threshold: A unit fired where its absolute value is above this.

    Raises:
        SelectionError: An unknown statistic, or none.
    """

    def __init__(
        self, taps: Sequence[Tap], labels: int, statistics: Sequence[str], threshold: float
    ) -> None:
        statistics = known_statistics(statistics)
        if not np.isfinite(threshold):
            raise SelectionError(f"`threshold` must be a number. Received: {threshold!r}.")
        self.taps = tuple(taps)
        self.labels = labels
        self.statistics = statistics
        self.threshold = float(threshold)
        self._samples = Accumulator((labels,), "int64")
        self._batches = Accumulator((), "int64")
        self._chunks = [
            _Chunk([self.taps[i] for i in places], places, labels, self.statistics, self.threshold)
            for places in _chunked(self.taps)
        ]

    @property
    def further(self) -> Further:
        """What the statistics ask of each position beside its value."""
        above = self.threshold if "active" in self.statistics else None
        return Further(above, squares="mean_square" in self.statistics)

    @property
    def _accumulators(self) -> dict[str, Accumulator]:
        named = {"samples": self._samples, "batches": self._batches}
        for index, chunk in enumerate(self._chunks):
            named |= {f"{index}.{name}": held for name, held in chunk.held.items()}
        return named

    def update(self, values: Sequence[Values], labels: Any) -> None:
        """Add one batch.

        Args:
            values: What the taps saw, in their order.
            labels: Label numbers `(batch,)`, or booleans `(batch, labels)`.
        """
        exclusive = len(labels.shape) == 1
        table = label_table(labels, self.labels)
        self._samples.add(samples_by_label(table))
        self._batches.add(1)
        for chunk in self._chunks:
            chunk.update([values[i] for i in chunk.places], table, labels if exclusive else None)

    def reset(self) -> None:
        """Forget everything."""
        for held in self._accumulators.values():
            held.reset()

    def state(self) -> dict[str, NDArray[Any]]:
        """Return everything as arrays, for a checkpoint."""
        return {name: held.numpy() for name, held in self._accumulators.items()}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Take back what `state` gave."""
        for name, held in self._accumulators.items():
            held.assign(state[name])

    def check_finite(self) -> None:
        """Raise where activations were NaN or infinite.

        Raises:
            DataError: Names the layer and the first unit.
        """
        for chunk in self._chunks:
            chunk.check_finite()

    def activity(
        self, graph: Graph, label_names: Sequence[str], fingerprint: Fingerprint
    ) -> Activity:
        """Return what has been seen so far."""
        samples = self._samples.numpy()
        found: dict[str, LayerActivity] = {}
        for chunk in self._chunks:
            found |= chunk.layers(samples)
        return Activity(
            fingerprint=fingerprint,
            layout=graph.layout,
            label_names=tuple(label_names),
            samples=samples,
            layers={tap.name: found[tap.name] for tap in self.taps},
            statistics=self.statistics,
            threshold=self.threshold,
            unwatched=unwatched(graph, {tap.name for tap in self.taps}),
        )


class _Chunk:
    """Layers whose values are summed in one go."""

    def __init__(
        self,
        taps: Sequence[Tap],
        places: Sequence[int],
        labels: int,
        statistics: Sequence[str],
        threshold: float,
    ) -> None:
        self.places = list(places)
        self._taps = list(taps)
        self._statistics = statistics
        self._threshold = threshold
        self._labels = labels
        self._nonnegative = all(tap.nonnegative for tap in taps)
        units = sum(tap.units for tap in taps)
        shape = (labels, units)
        self.held: dict[str, Accumulator] = {}
        if {"mean", "variance"} & set(statistics):
            self.held["total"] = Accumulator(shape)
        if "mean" in statistics and not self._nonnegative:
            self.held["magnitude"] = Accumulator(shape)
        if "fired" in statistics:
            self.held["fired"] = Accumulator(shape, "int64")
        if "active" in statistics:
            self.held["active"] = Accumulator(shape)
        if "mean_square" in statistics:
            self.held["square"] = Accumulator(shape)
        if "variance" in statistics:
            self.held["pivot"] = Accumulator((units,), "float32")
            self.held["started"] = Accumulator((), "bool")
            self.held["squares"] = Accumulator(shape)
        if "total" not in self.held:
            self.held["odd"] = Accumulator((1, units), "bool")
        if "maximum" in statistics:
            self.held["maximum"] = Accumulator(shape, "float32", start=-np.inf)

    def update(self, values: Sequence[Values], table: Any, labels: Any) -> None:
        """Add one batch.

        Args:
            values: What this chunk's taps saw.
            table: Which sample has which label, float32 `(labels, batch)`.
            labels: Label numbers `(batch,)`, or None where a sample can have several.
        """
        held = self.held
        absolute = _join([v.absolute for v in values])
        signed = absolute if self._nonnegative else _join([v.signed for v in values])
        if "odd" in held:
            odd = ops.any(ops.logical_not(ops.isfinite(absolute)), axis=0, keepdims=True)
            held["odd"].assign(ops.logical_or(held["odd"].value, odd))
        if "total" in held:
            held["total"].add(sum_by_label(table, signed))
        if "magnitude" in held:
            held["magnitude"].add(sum_by_label(table, absolute))
        if "fired" in held:
            # The sign of what is not negative is 0 or 1, in one pass over it.
            above = absolute if self._threshold == 0 else ops.relu(absolute - self._threshold)
            # Whole numbers below 2**24 are exact in float32, and a batch is smaller.
            counts = sum_by_label(table, ops.sign(above))
            held["fired"].add(ops.cast(ops.round(counts), "int64"))
        if "active" in held:
            held["active"].add(sum_by_label(table, _join([v.active for v in values])))
        if "square" in held:
            held["square"].add(sum_by_label(table, _join([v.square for v in values])))
        if "squares" in held:
            held["squares"].add(sum_by_label(table, self._squared(signed)))
        if "maximum" in held:
            highest = (
                _max_by_label(table, absolute)
                if labels is None
                else ops.segment_max(absolute, labels, num_segments=self._labels)
            )
            held["maximum"].assign(ops.maximum(held["maximum"].value, highest))

    def _squared(self, signed: Any) -> Any:
        """Square differences from the pivot, or the values themselves where that is as good."""
        held = self.held

        def first_pivot() -> Any:
            mean = ops.mean(signed, axis=0)
            spread = ops.mean(operations.squared_difference(signed, mean), axis=0)
            return ops.where(ops.square(mean) > _FAR * spread, mean, 0.0)

        pivot = ops.cond(held["started"].value, lambda: held["pivot"].value, first_pivot)
        held["pivot"].assign(pivot)
        held["started"].assign(True)
        return ops.cond(
            ops.any(pivot != 0.0),
            lambda: operations.squared_difference(signed, pivot),
            lambda: ops.square(signed),
        )

    def check_finite(self) -> None:
        # The sums of all labels are products with every sample, so that one NaN spoils them all.
        if "odd" in self.held:
            bad = self.held["odd"].numpy()
        else:
            bad = ~np.isfinite(self.held["total"].numpy())
        start = 0
        for tap in self._taps:
            part = bad[:, start : start + tap.units]
            start += tap.units
            if part.any():
                unit = int(np.flatnonzero(part.any(axis=0))[0])
                raise DataError(
                    f"Layer {tap.name!r} gives NaN or infinite activations, first in unit {unit}. "
                    "Look for NaN in the inputs, inputs that are not scaled as in training, or "
                    "weights that diverged."
                )

    def layers(self, samples: NDArray[np.int64]) -> dict[str, LayerActivity]:
        state = {name: held.numpy() for name, held in self.held.items()}
        deviation = None
        if "squares" in state:
            # Sum of (v - mean)² from the sum of (v - pivot)².
            counts = samples[:, None].astype(np.float64)
            mean = state["total"] / np.maximum(counts, 1)
            shift = counts * (mean - state["pivot"]) ** 2
            deviation = np.maximum(state["squares"] - shift, 0.0)
        highest = None
        if "maximum" in state:
            # Without samples it may be the lowest float.
            unseen = samples[:, None] == 0
            highest = np.where(unseen, -np.inf, state["maximum"].astype(np.float64))
        found = {}
        start = 0
        for tap in self._taps:
            place = slice(start, start + tap.units)
            start += tap.units
            total = state["total"][:, place] if "total" in state else None
            magnitude = None
            if "mean" in self._statistics:
                magnitude = total if tap.nonnegative else state["magnitude"][:, place]
            found[tap.name] = LayerActivity(
                total=total,
                magnitude=magnitude,
                fired=state["fired"][:, place] if "fired" in state else None,
                active=state["active"][:, place] if "active" in state else None,
                square=state["square"][:, place] if "square" in state else None,
                deviation=None if deviation is None else deviation[:, place],
                maximum=None if highest is None else highest[:, place],
            )
        return found


def _chunked(taps: Sequence[Tap]) -> list[list[int]]:
    """Group layers: values of pooled layers are small and join cheaply; a Dense layer's do not."""
    chunks = []
    for nonnegative in (True, False):
        pooled = [i for i, t in enumerate(taps) if t.spread and t.nonnegative == nonnegative]
        if pooled:
            chunks.append(pooled)
    return chunks + [[i] for i, t in enumerate(taps) if not t.spread]


def _join(parts: list[Any]) -> Any:
    return parts[0] if len(parts) == 1 else ops.concatenate(parts, axis=1)


def label_table(labels: Any, count: int) -> Any:
    """Return which sample has which label, float32 `(labels, batch)` of 0 and 1.

    Args:
        labels: Label numbers `(batch,)`, or booleans `(batch, labels)`.
        count: How many labels there are.
    """
    if len(labels.shape) == 1:
        return ops.one_hot(labels, count, axis=0)
    return ops.transpose(ops.cast(labels, "float32"))


def samples_by_label(table: Any) -> Any:
    """Count the samples of each label, `(labels,)` int64, from a `label_table`."""
    return ops.cast(ops.sum(table, axis=1), "int64")


def sum_by_label(table: Any, values: Any) -> Any:
    """Sum values `(batch, units)` by label: `(labels, units)` float64."""
    if has_gpu():
        # A GPU multiplies float32 matrices with ten bits of mantissa unless told otherwise.
        table, values = ops.cast(table, "float64"), ops.cast(values, "float64")
    return ops.cast(ops.matmul(table, values), "float64")


def _max_by_label(table: Any, values: Any) -> Any:
    def of_label(row: Any) -> Any:
        return ops.max(ops.where(row[:, None] > 0, values, -np.inf), axis=0)

    return ops.map(of_label, table)
