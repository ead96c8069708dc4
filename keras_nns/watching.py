"""Where units are watched, the probing submodel, and the sums that are kept inside a compiled step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import tree
from numpy.typing import NDArray

from keras_nns.activity import STATISTICS, Activity, LayerActivity
from keras_nns.errors import DataError, ModelError, SelectionError
from keras_nns.graph import Graph, WatchPoint, trace
from keras_nns.keras_graph import Call, Key, accepts_training, standardise_inputs, walk
from keras_nns.layout import Fingerprint

Layers = Sequence[str] | Callable[[Any], bool] | None


@dataclass(frozen=True)
class Tap:
    """One watched layer: its points (one for each call of the layer) and how many units it has."""

    name: str
    points: tuple[WatchPoint, ...]
    units: int

    @property
    def nonnegative(self) -> bool:
        """Whether the units can never be below zero."""
        return all(point.nonnegative for point in self.points)


def taps_of(graph: Graph, layers: Layers = None) -> tuple[Tap, ...]:
    """Choose which layers to watch.

    Args:
        graph: The traced model.
        layers: Names of layers, a function from a layer to a boolean, or None for every hidden
            layer with units.

    Returns:
        One tap per layer (per kind of unit, where a layer has several), in the order of the graph.

    Raises:
        ModelError: The model has no hidden units.
        SelectionError: A name that is no layer with units, or no layer chosen.
    """
    points = graph.watch_points
    layer_of = {name: family.layer for name, family in graph.families.items()}
    if layers is None:
        chosen = [name for name in graph.hidden if name in points]
        if not chosen:
            raise ModelError(
                f"Model {graph.model.name!r} has no hidden units to watch: no Dense, convolution "
                "or other layer with units lies between its inputs and outputs."
            )
    elif callable(layers):
        operations = {t.call.path: t.call.operation for t in graph.calls.values()}
        chosen = [name for name in points if layers(operations[layer_of[name]])]
        if not chosen:
            raise SelectionError(
                f"`layers` chose no layer. Layers with units: {sorted(set(layer_of.values()))}."
            )
    else:
        names = [layers] if isinstance(layers, str) else list(layers)
        known = {name for name in points} | {layer_of[name] for name in points}
        unknown = [name for name in names if name not in known]
        if unknown or not names:
            raise SelectionError(
                f"No layers with units are named {unknown}. Expected some of {sorted(known)}."
            )
        chosen = [name for name in points if name in names or layer_of[name] in names]
    return tuple(
        Tap(name, tuple(points[name]), len(graph.families[name].units)) for name in chosen
    )


@dataclass(frozen=True)
class Values:
    """A layer's unit values for a batch: signed, and absolute, each `(batch, units)` float32."""

    signed: Any
    absolute: Any


def unit_values(tap: Tap, tensors: Sequence[Any]) -> Values:
    """Reduce a layer's outputs to one value per sample and unit: the mean over all positions.

    Steps that a Keras mask leaves out do not count. A layer that is called several times has the
    mean over its calls.
    """
    signed, absolute = [], []
    for point, tensor in zip(tap.points, tensors, strict=True):
        x = tf.cast(tensor, tf.float32)
        weights = _step_weights(tensor, point.axis)
        signed.append(_mean_over_positions(x, point.axis, weights))
        if not point.nonnegative:
            absolute.append(_mean_over_positions(tf.abs(x), point.axis, weights))
        else:
            absolute.append(signed[-1])
    mean = _average(signed)
    return Values(mean, mean if tap.nonnegative else _average(absolute))


def _average(values: list[Any]) -> Any:
    return values[0] if len(values) == 1 else tf.add_n(values) / float(len(values))


def _step_weights(tensor: Any, axis: int) -> Any:
    mask = getattr(tensor, "_keras_mask", None)
    if mask is None or len(tensor.shape) < 3 or axis == 1 or len(mask.shape) != 2:
        return None
    kept = tf.cast(mask, tf.float32)
    return kept / tf.maximum(tf.reduce_sum(kept, axis=1, keepdims=True), 1.0)


def _mean_over_positions(x: Any, axis: int, step_weights: Any) -> Any:
    others = [a for a in range(1, len(x.shape)) if a != axis]
    if not others:
        return x
    if step_weights is not None:
        shape = [-1 if a < 2 else 1 for a in range(len(x.shape))]
        dynamic = tf.shape(step_weights)
        shape = [dynamic[0], dynamic[1]] + [1] * (len(x.shape) - 2)
        x = tf.reduce_sum(x * tf.reshape(step_weights, shape), axis=1)
        others = [a - 1 for a in others if a != 1]
        return tf.reduce_mean(x, axis=others) if others else x
    return tf.reduce_mean(x, axis=others)


def run_taps(graph: Graph, taps: Sequence[Tap], inputs: Any) -> list[Values]:
    """Run the user's layers on a batch, in inference mode, and return what the taps see."""
    wanted: dict[Key, set[int]] = {}
    for tap in taps:
        for point in tap.points:
            wanted.setdefault(point.key, set()).add(point.output)
    seen: dict[tuple[Key, int], Any] = {}

    def visit(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if accepts_training(call.operation):
            kwargs = {**kwargs, "training": False}
        outputs = call.operation(*args, **kwargs)
        if call.key in wanted:
            flat = tree.flatten(outputs)
            for output in wanted[call.key]:
                seen[call.key, output] = flat[output]
        return outputs

    walk(graph.model, standardise_inputs(graph.model, inputs), visit)
    return [
        unit_values(tap, [seen[point.key, point.output] for point in tap.points]) for tap in taps
    ]


class Probe(keras.Model):
    """The probing submodel: a model's inputs to the values of its hidden units.

    It runs the user's own layers, so it follows their weights as they are trained. Use it with
    `predict`, or call it. Made by `probe`.
    """

    def __init__(self, graph: Graph, taps: Sequence[Tap], name: str | None = None) -> None:
        super().__init__(name=name or f"{graph.model.name}_probe", trainable=graph.model.trainable)
        self.parent = graph.model
        # A tuple of a frozen dataclass: Keras would copy a list or a dictionary.
        self._watched = _Watched(graph, tuple(taps))
        self.built = True

    def call(self, inputs: Any) -> dict[str, Any]:
        """Return `(batch, units)` values by layer path, averaged over positions."""
        watched = self._watched
        found = run_taps(watched.graph, watched.taps, inputs)
        return {tap.name: v.signed for tap, v in zip(watched.taps, found, strict=True)}

    def compute_output_shape(self, input_shape: Any) -> dict[str, tuple[None, int]]:
        """Return the shapes of what `call` returns."""
        return {tap.name: (None, tap.units) for tap in self._watched.taps}

    def get_config(self) -> dict[str, Any]:
        """Refuse: save the parent model and probe it again.

        Raises:
            ModelError: Always.
        """
        raise ModelError("A probe is not saved. Save its parent model, and call probe on it again.")


@dataclass(frozen=True)
class _Watched:
    graph: Graph
    taps: tuple[Tap, ...]


def probe(model: Any, *, layers: Layers = None) -> Probe:
    """Build the probing submodel of a model: its inputs to the values of its hidden units.

    Args:
        model: A built Sequential or functional `keras.Model`. It is not changed.
        layers: Names of layers, or a function from a layer to a boolean. None takes every hidden
            layer with units, after its nonlinearity.

    Returns:
        A `keras.Model` that answers a dictionary of `(batch, units)` arrays by layer path.

    Raises:
        ModelError: The model has no graph to read, or no hidden units.
        SelectionError: `layers` names no layer with units.

    Example:
        >>> nns.probe(model).predict(x)["dense"].shape  # doctest: +SKIP
        (1797, 64)
    """
    graph = trace(model)
    return Probe(graph, taps_of(graph, layers))


class Sums:
    """Sums for every (label, unit), held in variables and updated inside a compiled step.

    Batches are summed in float32 and added up in float64 and int64, so that 10⁸ samples count
    right. Squares are taken of differences from the first batch's mean, so that the variance of a
    unit with a large mean does not drown in rounding.

    Args:
        taps: The watched layers.
        labels: How many labels.
        statistics: Which of `"fired"`, `"mean"`, `"variance"`, `"maximum"`.
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
        units = sum(tap.units for tap in taps)
        signed_units = sum(tap.units for tap in taps if not tap.nonnegative)
        shape, one = (labels, units), (units,)
        new: dict[str, tuple[tuple[int, ...], Any]] = {"samples": ((labels,), tf.int64)}
        if {"mean", "variance"} & set(self.statistics):
            new["total"] = (shape, tf.float64)
        if "mean" in self.statistics and signed_units:
            new["magnitude"] = ((labels, signed_units), tf.float64)
        if "fired" in self.statistics:
            new["fired"] = (shape, tf.int64)
        if "variance" in self.statistics:
            new |= {"pivot": (one, tf.float32), "started": ((), tf.bool)}
            new |= {"shifted": (shape, tf.float64), "squares": (shape, tf.float64)}
        if "maximum" in self.statistics:
            new["maximum"] = (shape, tf.float32)
        self.variables = {
            name: tf.Variable(
                tf.fill(size, -np.inf) if name == "maximum" else tf.zeros(size, dtype),
                trainable=False,
                dtype=dtype,
                name=f"activity_{name}",
            )
            for name, (size, dtype) in new.items()
        }

    def update(self, values: Sequence[Values], labels: Any) -> None:
        """Add one batch.

        Args:
            values: What the taps saw, in their order.
            labels: Label numbers `(batch,)`, or booleans `(batch, labels)`.
        """
        held = self.variables
        exclusive = len(labels.shape) == 1
        table = tf.one_hot(labels, self.labels) if exclusive else tf.cast(labels, tf.float32)
        held["samples"].assign_add(tf.cast(tf.reduce_sum(table, axis=0), tf.int64))
        absolute = _join([v.absolute for v in values])
        all_positive = all(tap.nonnegative for tap in self.taps)
        signed = absolute if all_positive else _join([v.signed for v in values])
        if "total" in held:
            held["total"].assign_add(_sum_by_label(table, signed))
        if "magnitude" in held:
            pairs = zip(self.taps, values, strict=True)
            part = _join([v.absolute for tap, v in pairs if not tap.nonnegative])
            held["magnitude"].assign_add(_sum_by_label(table, part))
        if "fired" in held:
            fired = tf.cast(absolute > self.threshold, tf.float32)
            # Whole numbers below 2**24 are exact in float32, and a batch is smaller.
            held["fired"].assign_add(tf.cast(tf.round(_sum_by_label(table, fired)), tf.int64))
        if "squares" in held:
            first = tf.logical_not(held["started"])
            pivot = tf.where(first, tf.reduce_mean(signed, axis=0), held["pivot"])
            held["pivot"].assign(pivot)
            held["started"].assign(True)
            shifted = signed - pivot
            held["shifted"].assign_add(_sum_by_label(table, shifted))
            held["squares"].assign_add(_sum_by_label(table, tf.square(shifted)))
        if "maximum" in held:
            highest = (
                tf.math.unsorted_segment_max(absolute, labels, self.labels)
                if exclusive
                else _max_by_label(table, absolute)
            )
            held["maximum"].assign(tf.maximum(held["maximum"], highest))

    def reset(self) -> None:
        """Forget everything."""
        for name, variable in self.variables.items():
            start = np.full(variable.shape, -np.inf if name == "maximum" else 0)
            variable.assign(start.astype(variable.dtype.as_numpy_dtype))

    def state(self) -> dict[str, NDArray[Any]]:
        """Return everything as arrays, for a checkpoint."""
        return {name: variable.numpy() for name, variable in self.variables.items()}

    def restore(self, state: Mapping[str, NDArray[Any]]) -> None:
        """Take back what `state` gave."""
        for name, variable in self.variables.items():
            variable.assign(state[name])

    def check_finite(self) -> None:
        """Raise where activations were NaN or infinite.

        Raises:
            DataError: Names the first layer and unit, and the labels.
        """
        name = next((n for n in ("total", "shifted", "magnitude") if n in self.variables), None)
        if name is None or name == "magnitude":
            return
        bad = ~np.isfinite(self.variables[name].numpy())
        if not bad.any():
            return
        start = 0
        for tap in self.taps:
            part = bad[:, start : start + tap.units]
            start += tap.units
            if part.any():
                labels = np.flatnonzero(part.any(axis=1)).tolist()
                unit = int(np.flatnonzero(part.any(axis=0))[0])
                raise DataError(
                    f"Layer {tap.name!r} gives NaN or infinite activations (first in unit {unit}, "
                    f"on samples of label {labels[:10]}). Look for NaN in the inputs, inputs that "
                    "are not scaled as in training, or weights that diverged."
                )

    def activity(
        self, graph: Graph, label_names: Sequence[str], fingerprint: Fingerprint
    ) -> Activity:
        """Return what has been seen so far."""
        state = self.state()
        samples = state["samples"]
        deviation = None
        if "squares" in state:
            counts = np.maximum(samples, 1)[:, None]
            deviation = np.maximum(state["squares"] - state["shifted"] ** 2 / counts, 0.0)
        layers: dict[str, LayerActivity] = {}
        start = signed_start = 0
        for tap in self.taps:
            place = slice(start, start + tap.units)
            start += tap.units
            found: dict[str, Any] = {}
            if "total" in state:
                found["total"] = found["magnitude"] = state["total"][:, place]
            if not tap.nonnegative and "magnitude" in state:
                end = signed_start + tap.units
                found["magnitude"] = state["magnitude"][:, signed_start:end]
                signed_start = end
            if "mean" not in self.statistics:
                found.pop("magnitude", None)
            if "fired" in state:
                found["fired"] = state["fired"][:, place]
            if deviation is not None:
                found["deviation"] = deviation[:, place]
            if "maximum" in state:
                found["maximum"] = state["maximum"][:, place].astype(np.float64)
            layers[tap.name] = LayerActivity(**found)
        return Activity(
            fingerprint=fingerprint,
            layout=graph.layout,
            label_names=tuple(label_names),
            samples=samples,
            layers=layers,
            statistics=self.statistics,
            threshold=self.threshold,
        )


def _join(parts: list[Any]) -> Any:
    return parts[0] if len(parts) == 1 else tf.concat(parts, axis=1)


def _sum_by_label(table: Any, values: Any) -> Any:
    """Sum values `(batch, units)` by label: `(labels, units)` float64."""
    if tf.config.list_physical_devices("GPU"):
        # A GPU multiplies float32 matrices with ten bits of mantissa unless told otherwise.
        table, values = tf.cast(table, tf.float64), tf.cast(values, tf.float64)
    return tf.cast(tf.matmul(table, values, transpose_a=True), tf.float64)


def _max_by_label(table: Any, values: Any) -> Any:
    def of_label(column: Any) -> Any:
        return tf.reduce_max(tf.where(column[:, None] > 0, values, -np.inf), axis=0)

    return tf.map_fn(of_label, tf.transpose(table))
