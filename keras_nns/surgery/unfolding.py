"""Unfold: write composite layers out as the layers they are made of."""

from __future__ import annotations

import textwrap
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import ops, tree

from keras_nns.engine.layers import mask_of
from keras_nns.errors import ModelError, SurgeryError
from keras_nns.graph.generated_inputs import sample_inputs
from keras_nns.graph.keras_internals import (
    calls,
    functional,
    holds_only_parts,
    is_graph,
    room_for,
    structure,
)
from keras_nns.graph.partial_layers import partial_form
from keras_nns.graph.rules import Keep, load_extras, rule_of, unfolds
from keras_nns.graph.tracing import trace
from keras_nns.surgery.proving import difference
from keras_nns.surgery.rebuilding import Rebuilder


def unfold(model: Any, *, inputs: Any = None, normalizations: bool = False) -> Any:
    """Write every composite layer that has no rule out as a nested model of its parts.

    A block that is itself a layer (`class Block(keras.layers.Layer)` holding convolutions, a
    transformer layer, a model that is a subclass with its own `call`) hides its parts from `trace`.
    Its `call` is run once on symbolic tensors, as the functional API does, and what it calls
    becomes a nested model of the block's name. The result computes the same with the same weights,
    and its blocks can be cut. It is checked on generated inputs before it is returned. A model in a
    TimeDistributed is run on all steps at once, as on so many samples.

    Not for blocks that hold weights of their own next to their parts, or whose `call` needs to
    know the batch size or a length that the model leaves open: those stay as they are, with a
    warning. Teach them with `nns.rules.register`.

    Args:
        model: A Keras model. It is not changed; the result holds copies of its weights.
        inputs: A batch as the model takes it. Needed for a subclass with its own `call`, which
            has no graph; only its structure, shapes and types are read.
        normalizations: Whether to put a `PartialLayerNormalization` in the place of every
            LayerNormalization over the features. It computes the same, and features may leave it
            exactly: it goes on dividing by the number there was. A transformer's residual stream
            can then be cut. Files of such models are read where this package is imported.

    Returns:
        A functional `keras.Model`.

    Raises:
        ModelError: The model cannot be copied from its `get_config`, is not built, or has a `call`
            of its own that needs `inputs`, or that cannot be written out.
        SurgeryError: What was written out does not compute what the model computes.

    Example:
        >>> class Block(keras.layers.Layer):
        ...     def build(self, shape):
        ...         self.up = keras.layers.Dense(32, "relu", name="up")
        ...         self.down = keras.layers.Dense(shape[-1], name="down")
        ...     def call(self, inputs):
        ...         return inputs + self.down(self.up(inputs))
        >>> flat = nns.unfold(keras.Sequential([keras.Input((8,)), Block(name="block")]))
        >>> [group.name for group in nns.inspect(flat).groups if group.prunable]
        ['block/up']
    """
    if not isinstance(model, keras.Model):
        raise ModelError(f"Expected a keras.Model. Received: {type(model).__name__}.")
    load_extras()
    if is_graph(model):
        copy = _graph_copied(model)
    else:
        if inputs is None or not model.built:
            raise ModelError(
                f"Model {model.name!r} is a subclass with its own `call` ({type(model).__name__}). "
                "Call it once on a batch, then pass that batch: unfold(model, inputs=batch)."
            )
        # Keras wants the inputs of a dictionary named by its keys.
        if isinstance(inputs, dict):
            symbols = {name: _symbol(array, name) for name, array in inputs.items()}
        else:
            symbols = tree.map_structure(_symbol, inputs)
        copy = _copied(model, symbols)
        try:
            answers = copy.call(symbols)
        except Exception as error:  # whatever a user's own `call` raises
            raise ModelError(
                f"The `call` of {type(model).__name__} cannot be written out as a graph: "
                f"{_brief(error)}"
            ) from error
        copy = keras.Model(symbols, answers, name=model.name)
    unfolder = _Unfolder(normalizations)
    new = unfolder.model(copy)
    _check(model, new)
    if unfolder.closed:
        warnings.warn(
            f"Left as they are: {'; '.join(unfolder.closed)}. What they hold cannot be cut "
            "unless you teach them with keras_nns.rules.register.",
            stacklevel=2,
        )
    return new


class _Unfolder:
    """Rebuild a graph from the layers of a copy that nobody else holds."""

    def __init__(self, normalizations: bool) -> None:
        self._normalizations = normalizations
        self.closed: list[str] = []
        self._done: dict[int, tuple[Any, Any]] = {}

    def model(self, model: Any) -> Any:
        """Write a graph out; one without composite layers stays what it is."""
        if id(model) in self._done:
            return self._done[id(model)][1]
        graph = functional(model)
        inputs = [_like(tensor) for tensor in graph.inputs]
        values = {id(old): new for old, new in zip(graph.inputs, inputs, strict=True)}
        changed = False
        for call, fill in calls(model):
            args, kwargs = fill(values)
            operation = self._operation(call.operation, args, kwargs)
            changed = changed or operation is not call.operation
            if is_graph(operation) and not is_graph(call.operation):
                args, kwargs = (_distinct((args, kwargs)),), {}
            for tensor, value in zip(
                call.outputs, tree.flatten(operation(*args, **kwargs)), strict=True
            ):
                values[id(tensor)] = value
        if not changed:
            new = model
        else:
            like, outputs_like = structure(model)
            new = keras.Model(
                tree.pack_sequence_as(like, inputs),
                tree.pack_sequence_as(outputs_like, [values[id(t)] for t in graph.outputs]),
                name=model.name,
            )
        self._done[id(model)] = (model, new)
        return new

    def _operation(self, operation: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if is_graph(operation):
            return self.model(operation)
        if id(operation) not in self._done:
            self._done[id(operation)] = (operation, self._opened(operation, args, kwargs))
        return self._done[id(operation)][1]

    def _opened(self, layer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Return a model of what a composite layer's `call` does, or the layer itself."""
        if self._normalizations:
            free = partial_form(layer, len(tree.flatten((args, kwargs))[0].shape))
            if free is not None:
                free.build(tree.flatten((args, kwargs))[0].shape)
                free.set_weights(layer.get_weights())
                free.trainable = layer.trainable
                return free
        if type(layer) is keras.layers.TimeDistributed and rule_of(layer.layer) is None:
            call: Callable[..., Any] = partial(_step_by_step, layer.layer)
        elif not holds_only_parts(layer) or (rule_of(layer) is not None and not unfolds(layer)):
            return layer
        else:
            call = layer.call
        given = _distinct((args, kwargs))
        symbols = {id(tensor): _like(tensor, name=None) for tensor in given}
        inner_args, inner_kwargs = tree.map_structure(
            lambda value: symbols.get(id(value), value), (args, kwargs)
        )
        try:
            answers = call(*inner_args, **inner_kwargs)
            inside = keras.Model(list(symbols.values()), answers, name=layer.name)
        except Exception as error:  # a layer's own `call` may raise anything
            self.closed.append(f"{type(layer).__name__} {layer.name!r} ({_brief(error)})")
            return layer
        inside.trainable = layer.trainable
        return self.model(inside)


def _step_by_step(inner: Any, inputs: Any, training: Any = None, mask: Any = None) -> Any:
    """Run what a TimeDistributed holds, with its steps put behind one another as samples."""
    if mask is not None or mask_of(inputs) is not None:
        raise ValueError("steps are masked one by one")
    answer = inner(ops.reshape(inputs, (-1, *inputs.shape[2:])))
    return ops.reshape(answer, (-1, inputs.shape[1], *answer.shape[1:]))


def _graph_copied(model: Any) -> Any:
    """Copy a graph layer by layer: the class of a whole model may not say all that it was told."""
    graph = trace(model)
    everything = Keep(np.ones(graph.unit_count, dtype=bool))
    try:
        with room_for(len(graph.calls)):
            return Rebuilder(graph, everything).run()
    except SurgeryError as error:
        raise ModelError(
            f"Model {model.name!r} cannot be copied from its `get_config`: {error}"
        ) from error


def _copied(model: Any, symbols: Any) -> Any:
    try:
        copy = type(model).from_config(model.get_config())
        copy(symbols)
        copy.set_weights(model.get_weights())
    except Exception as error:  # a user's own layers may raise anything
        raise ModelError(
            f"Model {model.name!r} cannot be copied from its `get_config`: {_brief(error)} Give "
            f"{type(model).__name__} a `get_config` that returns the arguments of its `__init__`, "
            "as for saving."
        ) from error
    return copy


def _distinct(arguments: Any) -> list[Any]:
    """Return the tensors among the arguments of a call, each once."""
    found = {id(v): v for v in tree.flatten(arguments) if isinstance(v, keras.KerasTensor)}
    return list(found.values())


def _like(tensor: Any, name: str | None = "same") -> Any:
    return keras.Input(
        batch_shape=tensor.shape,
        dtype=tensor.dtype,
        sparse=tensor.sparse,
        name=tensor._keras_history.operation.name if name == "same" else name,
    )


def _symbol(array: Any, name: str | None = None) -> Any:
    array = keras.ops.convert_to_tensor(array)
    return keras.Input(
        array.shape[1:], dtype=keras.backend.standardize_dtype(array.dtype), name=name
    )


def _brief(error: Exception) -> str:
    # Keras adds an example of code, of which the beginning alone would say nothing.
    said = str(error).split("Example:")[0]
    return f"{type(error).__name__}: {textwrap.shorten(said, 300, placeholder=' …')}"


def _check(model: Any, new: Any) -> None:
    """Compare the two on generated inputs.

    Raises:
        SurgeryError: They differ by more than rounding.
    """
    inputs = sample_inputs(trace(new), 4, seed=0)
    try:
        proof = difference(model, new, inputs)
    except ModelError:  # Of answers that are no numbers nothing can be said.
        return
    if not proof.exact:
        raise SurgeryError(
            f"Model {model.name!r} computes something else when it is written out as a graph: "
            "a layer's `call` depends on shapes or on masks in a way that a graph does not "
            "hold. Teach that layer with keras_nns.rules.register instead."
        )
