"""Sums for every (label, unit), held in variables and updated inside a compiled step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from keras_nns.errors import DataError, SelectionError
from keras_nns.graph.tracing import Graph
from keras_nns.observation.activity import STATISTICS, Activity, LayerActivity
from keras_nns.observation.probing import Tap, Values
from keras_nns.plans.units import Fingerprint

_FAR = 64.0
"""A squared mean this many times the variance costs two of float32's seven digits."""


class Sums:
    """What has been seen so far of every (label, unit).

    Batches are summed in float32 and added up in float64 and int64, so that 10⁸ samples count
    right. Where the first batch shows a unit whose mean is large beside its spread, squares are
    taken of differences from that mean, so that the variance does not drown in rounding.

    Args:
        taps: The watched layers.
        labels: How many labels.
        statistics: Which of `"fired"`, `"mean"`, `"variance"`, `"maximum"`, `"active"`.
        threshold: A unit fired where its absolute value is above this.

    Raises:
        SelectionError: An unknown statistic, or none.
    """

    def __init__(
        self, taps: Sequence[Tap], labels: int, statistics: Sequence[str], threshold: float
    ) -> None:
        statistics = (statistics,) if isinstance(statistics, str) else tuple(statistics)
        unknown = [s for s in statistics if s not in STATISTICS]
        if unknown or not statistics:
            raise SelectionError(
                f"Expected `statistics` to be some of {STATISTICS}. Received: {statistics!r}."
            )
        if not np.isfinite(threshold):
            raise SelectionError(f"`threshold` must be a number. Received: {threshold!r}.")
        self.taps = tuple(taps)
        self.labels = labels
        self.statistics = tuple(s for s in STATISTICS if s in statistics)
        self.threshold = float(threshold)
        self._samples = _zeros((labels,), tf.int64, "samples")
        self._batches = _zeros((), tf.int64, "batches")
        self._chunks = [
            _Chunk([self.taps[i] for i in places], places, labels, self.statistics, self.threshold)
            for places in _chunked(self.taps)
        ]

    @property
    def above(self) -> float | None:
        """The bar for positions that are active; None where nobody asks for them."""
        return self.threshold if "active" in self.statistics else None

    @property
    def _variables(self) -> dict[str, Any]:
        named = {"samples": self._samples, "batches": self._batches}
        for index, chunk in enumerate(self._chunks):
            named |= {f"{index}.{name}": v for name, v in chunk.variables.items()}
        return named

    def update(self, values: Sequence[Values], labels: Any) -> None:
        """Add one batch.

        Args:
            values: What the taps saw, in their order.
            labels: Label numbers `(batch,)`, or booleans `(batch, labels)`.
        """
        exclusive = len(labels.shape) == 1
        table = (
            tf.one_hot(labels, self.labels, axis=0)
            if exclusive
            else tf.transpose(tf.cast(labels, tf.float32))
        )
        self._samples.assign_add(tf.cast(tf.reduce_sum(table, axis=1), tf.int64))
        self._batches.assign_add(1)
        for chunk in self._chunks:
            chunk.update([values[i] for i in chunk.places], table, labels if exclusive else None)

    def reset(self) -> None:
        """Forget everything."""
        for name, variable in self._variables.items():
            start = np.full(variable.shape, -np.inf if name.endswith("maximum") else 0)
            variable.assign(start.astype(variable.dtype.as_numpy_dtype))

    def state(self) -> dict[str, NDArray[Any]]:
        """Return everything as arrays, for a checkpoint."""
        return {name: variable.numpy() for name, variable in self._variables.items()}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Take back what `state` gave."""
        for name, variable in self._variables.items():
            variable.assign(state[name])

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
        self.variables: dict[str, Any] = {}
        if {"mean", "variance"} & set(statistics):
            self.variables["total"] = _zeros(shape, tf.float64, "total")
        if "mean" in statistics and not self._nonnegative:
            self.variables["magnitude"] = _zeros(shape, tf.float64, "magnitude")
        if "fired" in statistics:
            self.variables["fired"] = _zeros(shape, tf.int64, "fired")
        if "active" in statistics:
            self.variables["active"] = _zeros(shape, tf.float64, "active")
        if "variance" in statistics:
            self.variables["pivot"] = _zeros((units,), tf.float32, "pivot")
            self.variables["started"] = _zeros((), tf.bool, "started")
            self.variables["squares"] = _zeros(shape, tf.float64, "squares")
        if "total" not in self.variables:
            self.variables["odd"] = _zeros((1, units), tf.bool, "odd")
        if "maximum" in statistics:
            self.variables["maximum"] = tf.Variable(
                tf.fill(shape, -np.inf), trainable=False, name="activity_maximum"
            )

    def update(self, values: Sequence[Values], table: Any, labels: Any) -> None:
        """Add one batch.

        Args:
            values: What this chunk's taps saw.
            table: Which sample has which label, float32 `(labels, batch)`.
            labels: Label numbers `(batch,)`, or None where a sample can have several.
        """
        held = self.variables
        absolute = _join([v.absolute for v in values])
        signed = absolute if self._nonnegative else _join([v.signed for v in values])
        if "odd" in held:
            finite = tf.reduce_all(tf.math.is_finite(absolute), axis=0, keepdims=True)
            held["odd"].assign(held["odd"] | ~finite)
        if "total" in held:
            held["total"].assign_add(sum_by_label(table, signed))
        if "magnitude" in held:
            held["magnitude"].assign_add(sum_by_label(table, absolute))
        if "fired" in held:
            # The sign of what is not negative is 0 or 1, in one pass over it.
            above = absolute if self._threshold == 0 else tf.nn.relu(absolute - self._threshold)
            # Whole numbers below 2**24 are exact in float32, and a batch is smaller.
            counts = sum_by_label(table, tf.sign(above))
            held["fired"].assign_add(tf.cast(tf.round(counts), tf.int64))
        if "active" in held:
            held["active"].assign_add(sum_by_label(table, _join([v.active for v in values])))
        if "squares" in held:
            held["squares"].assign_add(sum_by_label(table, self._squared(signed)))
        if "maximum" in held:
            highest = (
                _max_by_label(table, absolute)
                if labels is None
                else tf.math.unsorted_segment_max(absolute, labels, self._labels)
            )
            held["maximum"].assign(tf.maximum(held["maximum"], highest))

    def _squared(self, signed: Any) -> Any:
        """Square differences from the pivot, or the values themselves where that is as good."""
        held = self.variables

        def first_pivot() -> Any:
            mean = tf.reduce_mean(signed, axis=0)
            spread = tf.reduce_mean(tf.math.squared_difference(signed, mean), axis=0)
            return tf.where(tf.square(mean) > _FAR * spread, mean, 0.0)

        pivot = tf.cond(held["started"], lambda: tf.identity(held["pivot"]), first_pivot)
        held["pivot"].assign(pivot)
        held["started"].assign(True)
        return tf.cond(
            tf.reduce_any(pivot != 0.0),
            lambda: tf.math.squared_difference(signed, pivot),
            lambda: tf.square(signed),
        )

    def check_finite(self) -> None:
        # The sums of all labels are products with every sample, so that one NaN spoils them all.
        if "odd" in self.variables:
            bad = self.variables["odd"].numpy()
        else:
            bad = ~np.isfinite(self.variables["total"].numpy())
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
        state = {name: variable.numpy() for name, variable in self.variables.items()}
        deviation = None
        if "squares" in state:
            # Sum of (v - mean)² from the sum of (v - pivot)².
            counts = samples[:, None].astype(np.float64)
            mean = state["total"] / np.maximum(counts, 1)
            shift = counts * (mean - state["pivot"]) ** 2
            deviation = np.maximum(state["squares"] - shift, 0.0)
        highest = None
        if "maximum" in state:
            # TensorFlow gives the lowest float for a label without samples.
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


def _zeros(shape: tuple[int, ...], dtype: Any, name: str) -> Any:
    return tf.Variable(tf.zeros(shape, dtype), trainable=False, name=f"activity_{name}")


def _join(parts: list[Any]) -> Any:
    return parts[0] if len(parts) == 1 else tf.concat(parts, axis=1)


def sum_by_label(table: Any, values: Any) -> Any:
    """Sum values `(batch, units)` by label: `(labels, units)` float64."""
    if tf.config.list_physical_devices("GPU"):
        # A GPU multiplies float32 matrices with ten bits of mantissa unless told otherwise.
        table, values = tf.cast(table, tf.float64), tf.cast(values, tf.float64)
    return tf.cast(tf.matmul(table, values), tf.float64)


def _max_by_label(table: Any, values: Any) -> Any:
    def of_label(row: Any) -> Any:
        return tf.reduce_max(tf.where(row[:, None] > 0, values, -np.inf), axis=0)

    return tf.map_fn(of_label, table)
