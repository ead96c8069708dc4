"""Where units are watched, and the probing submodel that watches them."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
from keras import ops, tree

from keras_nns.engine.derivatives import Watch
from keras_nns.engine.layers import losses_kept
from keras_nns.engine.logits import logits_left
from keras_nns.errors import ModelError, SelectionError
from keras_nns.graph.keras_internals import (
    Call,
    Key,
    accepts_training,
    first_argument,
    recurrent_states,
    standardise_inputs,
    walk,
)
from keras_nns.graph.rules.records import Reading
from keras_nns.graph.tracing import Graph, trace
from keras_nns.graph.watching import WatchPoint, watch_points
from keras_nns.observation.unit_values import (
    NOTHING_ELSE,
    Further,
    Place,
    Tap,
    Values,
    counted_positions,
    values_at,
)

Layers = Sequence[str] | Callable[[Any], bool] | None


def taps_of(graph: Graph, layers: Layers = None, *, blocks: bool = True) -> tuple[Tap, ...]:
    """Choose which layers to watch.

    Args:
        graph: The traced model.
        layers: Names of layers, a function from a layer to a boolean, or None for every hidden
            layer with units.
        blocks: Whether units that stand for whole residual blocks are watched too.

    Returns:
        One tap per layer (per kind of unit, where a layer has several), in the order of the graph.

    Raises:
        ModelError: The model has no hidden units.
        SelectionError: A name that is no layer with units, or no layer chosen.
    """
    points = {
        name: found
        for name, found in watch_points(graph).items()
        if blocks or not any(p.reading is not None and p.reading.whole for p in found)
    }
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


def run_taps(
    graph: Graph, taps: Sequence[Tap], inputs: Any, *, further: Further = NOTHING_ELSE
) -> list[Values]:
    """Run the user's layers on a batch, in inference mode, and return what the taps see."""
    seen, _ = run_watched(graph, taps, inputs)
    samples = ops.shape(tree.flatten(inputs)[0])[0]
    return [values_at(tap, seen, samples, further=further) for tap in taps]


def run_watched(
    graph: Graph, taps: Sequence[Tap], inputs: Any, *, watch: Watch | None = None
) -> tuple[dict[Place, Any], list[Any]]:
    """Run the user's layers on a batch, in inference mode.

    Args:
        graph: The traced model.
        taps: The watched layers.
        inputs: A batch, as the user passes it to the model.
        watch: Is handed the tensor at the place `asked_at` each point, once, by its place; what it
            returns takes the tensor's place.

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
        asked = {} if watch is None else {asked_at(point): point for point in points}
        with ExitStack() as stack:
            for point in points:
                if point.reading is not None:
                    stack.enter_context(listening(point.reading.held, _first_input(seen, point)))
            for place, point in asked.items():
                if watch is not None and point.reading is not None:
                    stack.enter_context(_handing(seen, place, point.reading, watch))
            stack.enter_context(logits_left(call.operation))
            outputs = call.operation(*args, **kwargs)
        flat = tree.flatten(outputs)
        for place, point in asked.items():
            if watch is not None and point.reading is None:
                flat[point.output] = watch(place, flat[point.output])
        for point in points:
            seen[point.key, point.output] = flat[point.output]
            hear_padding(seen, point.reading, call, (args, kwargs))
        return flat

    given = standardise_inputs(graph.model, inputs)
    return seen, walk(graph.model, given, visit)


def asked_at(point: WatchPoint) -> Place:
    """Return the place of the tensor whose gradient tells how a loss depends on units there."""
    through = None if point.reading is None else point.reading.through
    return point.place if through is None else (point.key, through)


def _handing(
    seen: dict[Place, Any], place: Place, reading: Reading, watch: Watch
) -> AbstractContextManager[None]:
    """While in the context, hand what is read, or answered, inside a layer to `watch`."""
    if reading.through is None:
        return altering_first(reading.held, partial(watch, place))

    def change(_: Any, outputs: Any) -> Any:
        first, *others = tree.flatten(outputs)
        seen[place] = watch(place, first)
        return tree.pack_sequence_as(outputs, [seen[place], *others])

    return altering(reading.through.held, change)


def hear_padding(seen: dict[Place, Any], reading: Reading | None, call: Call, given: Any) -> None:
    """Keep what a call was told of the positions that count, where a reading goes by it."""
    if reading is not None and reading.padding is not None:
        seen[call.key, reading.padding] = counted_positions(call.operation, given, reading.padding)


Hear = Callable[[Any, Any], None]


def _first_input(seen: dict[Place, Any], point: WatchPoint) -> Hear:
    def hear(given: Any, _: Any) -> None:
        held = None if point.reading is None else point.reading.held
        seen[point.place] = first_argument(held, *given)

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
    call = operation.call

    def altered(*args: Any, **kwargs: Any) -> Any:
        return change((args, kwargs), call(*args, **kwargs))

    with _calling(operation, altered):
        yield


@contextmanager
def altering_first(operation: Any, change: Callable[[Any], Any]) -> Iterator[None]:
    """While in the context, put something else in the place of an operation's first argument.

    Args:
        operation: The user's layer. Its own `call` is back afterwards.
        change: Called before each call with the argument; returns what takes its place.
    """
    call = operation.call

    def altered(*args: Any, **kwargs: Any) -> Any:
        if args:
            return call(change(args[0]), *args[1:], **kwargs)
        name = list(inspect.signature(type(operation).call).parameters)[1]
        return call(**{**kwargs, name: change(kwargs[name])})

    with _calling(operation, altered):
        yield


@contextmanager
def _calling(operation: Any, altered: Callable[..., Any]) -> Iterator[None]:
    own = vars(operation).get("call")
    vars(operation)["call"] = altered
    try:
        yield
    finally:
        if own is None:
            del vars(operation)["call"]
        else:
            vars(operation)["call"] = own


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
        >>> nns.probe(model).predict(x, verbose=0)["dense"].shape
        (1200, 32)
    """
    graph = trace(model)
    return Probe(graph, taps_of(graph, layers))
