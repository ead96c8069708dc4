"""The graph behind a model, by fields of Keras which are not public (as in `engine.layers`).

Everything here is checked by `tests/keras_nns/graph/test_keras_internals.py` against the pinned
Keras minor.
"""

from __future__ import annotations

import inspect
import itertools
import sys
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import tree
from keras.src.models.functional import Functional

from keras_nns.engine.derivatives import unrecorded
from keras_nns.engine.layers import losses_kept
from keras_nns.errors import ModelError

Key = tuple[int, ...]
"""Identity of one call: positions of the calls of nested models it lies in, then its own."""


@dataclass(frozen=True)
class Call:
    """One call of one layer or operation in a model's graph.

    Attributes:
        key: Its identity.
        path: Path of the layer: names of the nested models it lies in, then its own.
        operation: The user's layer or operation.
        outputs: The symbolic tensors the call gave when the user built the model.
    """

    key: Key
    path: str
    operation: Any
    outputs: Sequence[Any]

    @property
    def shapes(self) -> list[tuple[int | None, ...]]:
        """Shapes of what the call returns, the batch axis included."""
        return [tuple(tensor.shape) for tensor in self.outputs]


Visit = Callable[[Call, tuple[Any, ...], dict[str, Any]], Any]
Enter = Callable[[Call, list[Any]], None]


def is_graph(operation: Any) -> bool:
    """Return whether an operation is itself a Sequential or functional model."""
    if isinstance(operation, keras.Sequential):
        return type(operation).call is keras.Sequential.call
    return isinstance(operation, Functional) and type(operation).call is Functional.call


def functional(model: Any) -> Any:
    """Return the functional graph of a Sequential or functional model.

    Raises:
        ModelError: Not a Keras model, not built, or computed by the user's own `call`.
    """
    if not isinstance(model, keras.Model):
        raise ModelError(f"Expected a keras.Model. Received: {type(model).__name__}.")
    name = f"Model {model.name!r}"
    if not is_graph(model):
        raise ModelError(
            f"{name} is a subclass with its own `call` ({type(model).__name__}): it has no graph "
            "to read. Write it out with keras_nns.unfold(model, inputs=batch), or rebuild it with "
            "the functional API, as keras.Model(inputs, outputs)."
        )
    graph = model._functional if isinstance(model, keras.Sequential) else model
    if graph is None:
        raise ModelError(
            f"{name} has not been built, so its shapes are not known. Start it with "
            "keras.Input(…), or call model.build(input_shape) first."
        )
    return graph


def structure(model: Any) -> tuple[Any, Any]:
    """Return the (possibly nested) structures of a model's symbolic inputs and outputs."""
    graph = functional(model)
    return graph._inputs_struct, graph._outputs_struct


def model_of(inputs: Any, outputs: Any, *, name: str | None = None) -> keras.Model:
    """Return a functional model whose operations have names of their own.

    Keras calls operations by what they do, without a look at the model: `take` behind a model that
    has a layer of that name, or that was loaded and has such an operation, is refused. Of two of
    one name the operation that is nearer to the outputs gets another; layers keep theirs.

    Args:
        inputs: Symbolic inputs, in any structure.
        outputs: Symbolic outputs, in any structure.
        name: The model's name.
    """
    operations = _behind(tree.flatten(outputs))
    count = Counter(one.name for one in operations)
    taken = set(count)
    for one in operations:
        if count[one.name] > 1 and not isinstance(one, keras.layers.Layer):
            count[one.name] -= 1
            numbered = (f"{one.name}_{number}" for number in itertools.count(1))
            one.name = next(free for free in numbered if free not in taken)
            taken.add(one.name)
    return keras.Model(inputs, outputs, **({} if name is None else {"name": name}))


def _behind(outputs: Sequence[Any]) -> list[Any]:
    """List the operations that tensors come from, each once, the nearest first."""
    found, waiting = dict[int, Any](), deque(outputs)
    seen = set[int]()
    while waiting:
        operation, node, _ = waiting.popleft()._keras_history
        made = operation._inbound_nodes[node]
        if id(made) not in seen:
            seen.add(id(made))
            found.setdefault(id(operation), operation)
            waiting.extend(made.input_tensors)
    return list(found.values())


def holds_only_parts(layer: Any) -> bool:
    """Return whether an operation is a layer made of other layers, all of its weights in them."""
    if not isinstance(layer, keras.layers.Layer):
        return False
    parts = list(layer._flatten_layers(include_self=False))
    held = {id(variable) for part in parts for variable in part.variables}
    return bool(parts) and all(id(variable) in held for variable in layer.variables)


def output_names(model: Any) -> list[str]:
    """Return the name of the layer behind each output."""
    return [tensor._keras_history.operation.name for tensor in functional(model).outputs]


def _nodes(graph: Any) -> Iterator[Any]:
    for depth in sorted(graph._nodes_by_depth, reverse=True):
        yield from graph._nodes_by_depth[depth]


def calls(model: Any, *, key: Key = (), path: str = "") -> Iterator[tuple[Call, Any]]:
    """Yield the calls of a model's own graph in an order in which they can be computed.

    Calls of nested models are one call each. With each comes a function that fills in the call's
    arguments from a dictionary of values by `id` of the symbolic tensor.
    """
    for index, node in enumerate(_nodes(functional(model))):
        if node.operation is None or node.is_input:
            continue
        name = f"{path}/{node.operation.name}" if path else node.operation.name
        yield Call((*key, index), name, node.operation, node.outputs), node.arguments.fill_in


def walk(
    model: Any,
    inputs: Sequence[Any],
    visit: Visit,
    *,
    enter: Enter | None = None,
    key: Key = (),
    path: str = "",
) -> list[Any]:
    """Re-run a model's graph on other values, entering nested models.

    Args:
        model: A Sequential or functional model.
        inputs: One value for each of the model's inputs, in their order.
        visit: Called for every layer and operation with its arguments; returns its outputs in the
            structure the layer returns, or flat.
        enter: Called for every nested model with the values of its inputs, before they are used.
        key: Prefix of the keys of calls.
        path: Prefix of the paths of calls.

    Returns:
        Values of the model's outputs, in their order.
    """
    graph = functional(model)
    values = {id(tensor): value for tensor, value in zip(graph.inputs, inputs, strict=True)}
    for call, fill in calls(model, key=key, path=path):
        args, kwargs = fill(values)
        if is_graph(call.operation):
            inner = inputs_of(call.operation, args, kwargs)
            if enter is not None:
                enter(call, inner)
            results = walk(call.operation, inner, visit, enter=enter, key=call.key, path=call.path)
        else:
            results = tree.flatten(visit(call, args, kwargs))
        for tensor, value in zip(call.outputs, results, strict=True):
            values[id(tensor)] = value
    return [values[id(tensor)] for tensor in graph.outputs]


def inputs_of(model: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any]:
    """Return the inputs that a call of a nested model was given, in the model's order."""
    given = args[0] if args else kwargs["inputs"]
    expected, _ = structure(model)
    if isinstance(given, dict) and not isinstance(expected, dict):
        return [given[tensor.name] for tensor in functional(model).inputs]
    return list(tree.flatten(given))


def standardise_inputs(model: Any, inputs: Any) -> list[Any]:
    """Convert what a user passes to a model into its flat list of input tensors.

    Does what the model does itself: order of dictionary entries, dtype, a missing last axis.
    """
    return list(functional(model)._standardize_inputs(inputs))


def first_argument(operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return what a call gives as its first argument, by place or by name."""
    if args:
        return args[0]
    return kwargs[list(inspect.signature(type(operation).call).parameters)[1]]


def accepts_training(operation: Any) -> bool:
    """Return whether an operation distinguishes training from inference."""
    return "training" in getattr(operation, "_call_context_args", {})


@contextmanager
def undisturbed(model: Any) -> Iterator[None]:
    """Leave a model as it was after running its layers.

    Stateful recurrent layers get the states they had back, and losses that calls leave behind are
    forgotten. What is computed in the context is recorded for no gradients.
    """
    values = [(variable, variable.numpy()) for variable in recurrent_states(model)]
    with losses_kept(model), unrecorded():
        try:
            yield
        finally:
            for variable, value in values:
                variable.assign(value)


@contextmanager
def at_rest(model: Any) -> Iterator[None]:
    """Let a model begin with zero states, and leave it as it was: to compare it with another."""
    with undisturbed(model):
        for variable in recurrent_states(model):
            variable.assign(np.zeros(variable.shape))
        yield


def is_recurrent(operation: Any) -> bool:
    """Whether it, or a layer within it, computes one step of a sequence after the other."""
    own = operation._flatten_layers() if isinstance(operation, keras.Layer) else []
    return any(isinstance(layer, keras.layers.RNN) for layer in own)


def recurrent_states(model: Any) -> list[Any]:
    """Return the variables in which a model's stateful recurrent layers keep their states."""
    return [
        state
        for layer in model._flatten_layers()
        if getattr(layer, "stateful", False)
        for state in tree.flatten(getattr(layer, "states", None))
        if state is not None
    ]


@contextmanager
def room_for(calls: int) -> Iterator[None]:
    """Let Keras map a graph of so many calls, each with a mask behind it.

    It follows a graph by recursion, one frame or two for each call on the longest path, and the
    deepest of `keras.applications` have more calls than Python allows frames.
    """
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(max(limit, 1000 + 8 * calls))
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)
