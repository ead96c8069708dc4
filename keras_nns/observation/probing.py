"""Where units are watched, and the probing submodel that watches them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import keras
from keras import ops, tree

from keras_nns.engine import operations
from keras_nns.engine.derivatives import Tape
from keras_nns.engine.layers import losses_kept
from keras_nns.engine.tensors import is_floating, is_tensor
from keras_nns.errors import ModelError, SelectionError
from keras_nns.graph.keras_internals import (
    Call,
    Key,
    accepts_training,
    recurrent_states,
    standardise_inputs,
    walk,
)
from keras_nns.graph.rules.records import Reading
from keras_nns.graph.tracing import Graph, trace
from keras_nns.graph.watching import WatchPoint, watch_points

Place = tuple[Key, int | Reading]
"""A tensor: which output of which call, or what is read inside it."""

Layers = Sequence[str] | Callable[[Any], bool] | None


@dataclass(frozen=True)
class Tap:
    """One watched layer.

    Attributes:
        name: Path of the layer.
        points: Where it is watched, one for each call of the layer.
        units: How many units it has.
        spread: Whether its output has positions (pixels, steps) to average over.
    """

    name: str
    points: tuple[WatchPoint, ...]
    units: int
    spread: bool

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
    points = watch_points(graph)
    layer_of = {name: family.layer for name, family in graph.families.items()}
    if layers is None:
        chosen = [name for name in graph.hidden if name in points]
        if not chosen:
            raise ModelError(
                f"Model {graph.model.name!r} has no hidden units to watch: no Dense, convolution "
                "or other layer with units lies between its inputs and outputs."
            )
    elif isinstance(layers, keras.Layer):
        raise SelectionError(
            f"`layers` takes names or a function of a layer. Received: layer {layers.name!r}; pass "
            f"layers=[{layers.name!r}]."
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
        Tap(
            name,
            tuple(points[name]),
            len(graph.families[name].units),
            any(
                p.reading is not None
                or p.rows != 1
                or graph.calls[p.key].outputs[p.output].rank > 2
                for p in points[name]
            ),
        )
        for name in chosen
    )


@dataclass(frozen=True)
class Values:
    """A layer's unit values for a batch, each `(batch, units)` float32.

    Attributes:
        signed: The mean over all positions.
        absolute: The mean of the absolute value.
        active: The share of positions with an absolute value above a bar; None where not asked for.
    """

    signed: Any
    absolute: Any
    active: Any = None


def unit_values(
    tap: Tap, tensors: Sequence[Any], samples: Any, *, above: float | None = None
) -> Values:
    """Reduce a layer's outputs to one value per sample and unit: the mean over all positions.

    Steps that a Keras mask leaves out do not count. A layer that is called several times has the
    mean over its calls.

    Args:
        tap: The watched layer.
        tensors: What it gave, one tensor for each call.
        samples: How many samples there are.
        above: The bar for positions that are active; None leaves them uncounted.
    """
    signed, absolute, active = [], [], []
    for point, tensor in zip(tap.points, tensors, strict=True):
        x = ops.cast(tensor, "float32")
        weights = _step_weights(tensor, point.axis % len(x.shape))
        signed.append(_mean(point, x, weights, samples))
        if not point.nonnegative:
            absolute.append(_mean(point, ops.abs(x), weights, samples))
        else:
            absolute.append(signed[-1])
        if above is not None:
            over = ops.cast(ops.abs(x) > above, "float32")
            active.append(_mean(point, over, weights, samples))
    mean = _average(signed)
    return Values(
        mean,
        mean if tap.nonnegative else _average(absolute),
        _average(active) if active else None,
    )


def _mean(point: WatchPoint, x: Any, weights: Any, samples: Any) -> Any:
    """Take the mean over all that a sample has for a unit: positions, and rows."""
    rows = by_sample(point, _mean_over_positions(x, point.axis % len(x.shape), weights), samples)
    return rows if point.rows == 1 else ops.mean(rows, axis=1)


def by_sample(point: WatchPoint, x: Any, samples: Any) -> Any:
    """Return rows `(rows, units)` as `(samples, rows of one, units)`, where one has several."""
    return x if point.rows == 1 else ops.reshape(x, (samples, -1, x.shape[-1]))


def _average(values: list[Any]) -> Any:
    return values[0] if len(values) == 1 else operations.total(values) / float(len(values))


def _step_weights(tensor: Any, axis: int) -> Any:
    mask = getattr(tensor, "_keras_mask", None)
    if mask is None or len(tensor.shape) < 3 or axis == 1 or len(mask.shape) != 2:
        return None
    kept = ops.cast(mask, "float32")
    return kept / ops.maximum(ops.sum(kept, axis=1, keepdims=True), 1.0)


def _mean_over_positions(x: Any, axis: int, step_weights: Any) -> Any:
    others = [a for a in range(1, len(x.shape)) if a != axis]
    if not others:
        return x
    if step_weights is not None:
        shape = [-1 if a < 2 else 1 for a in range(len(x.shape))]
        dynamic = ops.shape(step_weights)
        shape = [dynamic[0], dynamic[1]] + [1] * (len(x.shape) - 2)
        x = ops.sum(x * ops.reshape(step_weights, shape), axis=1)
        others = [a - 1 for a in others if a != 1]
        return ops.mean(x, axis=others) if others else x
    return ops.mean(x, axis=others)


def run_taps(
    graph: Graph, taps: Sequence[Tap], inputs: Any, *, above: float | None = None
) -> list[Values]:
    """Run the user's layers on a batch, in inference mode, and return what the taps see."""
    seen, _ = run_watched(graph, taps, inputs)
    samples = ops.shape(tree.flatten(inputs)[0])[0]
    return [values_at(tap, seen, samples, above=above) for tap in taps]


def values_at(
    tap: Tap, seen: Mapping[Place, Any], samples: Any, *, above: float | None = None
) -> Values:
    """Return a layer's unit values from what was seen; the rest as in `unit_values`."""
    return unit_values(tap, [tensor_at(point, seen) for point in tap.points], samples, above=above)


def run_watched(
    graph: Graph, taps: Sequence[Tap], inputs: Any, *, tape: Tape | None = None
) -> tuple[dict[Place, Any], list[Any]]:
    """Run the user's layers on a batch, in inference mode.

    Args:
        graph: The traced model.
        taps: The watched layers.
        inputs: A batch, as the user passes it to the model.
        tape: A gradient tape to record all that follows from the inputs and from what layers give.

    Returns:
        What is watched, as the layers gave it; and the model's outputs.
    """
    wanted: dict[Key, list[WatchPoint]] = {}
    for tap in taps:
        for point in tap.points:
            wanted.setdefault(point.key, []).append(point)
    seen: dict[Place, Any] = {}

    def visit(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if accepts_training(call.operation):
            kwargs = {**kwargs, "training": False}
        points = wanted.get(call.key, [])
        with ExitStack() as stack:
            for point in points:
                if point.reading is not None:
                    stack.enter_context(listening(point.reading.held, _first_input(seen, point)))
            outputs = call.operation(*args, **kwargs)
        flat = tree.flatten(outputs)
        _record(tape, flat)
        for point in points:
            seen[point.key, point.output] = flat[point.output]
        return outputs

    given = standardise_inputs(graph.model, inputs)
    _record(tape, given)
    return seen, walk(graph.model, given, visit)


def _record(tape: Tape | None, tensors: Sequence[Any]) -> None:
    if tape is None:
        return
    for tensor in tensors:
        if is_tensor(tensor) and is_floating(tensor):
            tape.watch(tensor)


Hear = Callable[[Any, Any], None]


def _first_input(seen: dict[Place, Any], point: WatchPoint) -> Hear:
    def hear(given: Any, _: Any) -> None:
        seen[point.place] = tree.flatten(given)[0]

    return hear


@contextmanager
def listening(operation: Any, hear: Hear) -> Iterator[None]:
    """While in the context, hear what an operation is called on and what it answers.

    Args:
        operation: The user's layer. Its own `call` is back afterwards.
        hear: Called behind each call with `(args, kwargs)` and the outputs.
    """

    def unchanged(given: Any, outputs: Any) -> Any:
        hear(given, outputs)
        return outputs

    with altering(operation, unchanged):
        yield


@contextmanager
def altering(operation: Any, change: Callable[[Any, Any], Any]) -> Iterator[None]:
    """While in the context, put something else in the place of what an operation answers.

    Args:
        operation: The user's layer. Its own `call` is back afterwards.
        change: Called behind each call with `(args, kwargs)` and the outputs; returns what takes
            their place.
    """
    own, call = vars(operation).get("call"), operation.call

    def altered(*args: Any, **kwargs: Any) -> Any:
        return change((args, kwargs), call(*args, **kwargs))

    vars(operation)["call"] = altered
    try:
        yield
    finally:
        if own is None:
            del vars(operation)["call"]
        else:
            vars(operation)["call"] = own


def tensor_at(point: WatchPoint, seen: Mapping[Place, Any]) -> Any:
    """Return the tensor that is watched at a point, with its mask, from what was seen."""
    if point.reading is None:
        return seen[point.place]
    values = point.reading.values(seen[point.place])
    # Read inside the layer: the positions that count are those of what it returns.
    values._keras_mask = getattr(seen[point.key, point.output], "_keras_mask", None)
    return values


class Probe(keras.Model):
    """The probing submodel: a model's inputs to the values of its hidden units.

    It runs the user's own layers, so it follows their weights as they are trained. Use it with
    `predict`, or call it. Stateful recurrent layers start every batch from the states they have.
    Made by `probe`.
    """

    def __init__(self, graph: Graph, taps: Sequence[Tap], name: str | None = None) -> None:
        super().__init__(name=name or f"{graph.model.name}_probe")
        # In a plain object: Keras would take the parent for a layer of the probe, and clear the
        # losses in it at every call.
        self._watched = _Watched(graph, tuple(taps))
        self.built = True

    @property
    def parent(self) -> Any:
        """The model that is probed."""
        return self._watched.graph.model

    def call(self, inputs: Any) -> dict[str, Any]:
        """Return `(batch, units)` values by layer path, averaged over positions."""
        watched = self._watched
        states = recurrent_states(self.parent)
        before = [ops.copy(state) for state in states]
        with losses_kept(self.parent):
            found = run_taps(watched.graph, watched.taps, inputs)
        for state, value in zip(states, before, strict=True):
            state.assign(value)
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
