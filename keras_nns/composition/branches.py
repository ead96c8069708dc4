"""Put several models side by side on the same inputs, in one graph, equal parts once."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import activations, layers, ops, tree

from keras_nns.errors import ModelError
from keras_nns.graph.keras_internals import (
    Call,
    Key,
    functional,
    is_graph,
    room_for,
    structure,
    walk,
)
from keras_nns.graph.rules import Keep
from keras_nns.graph.rules.elementwise import standard
from keras_nns.graph.tracing import Graph, trace
from keras_nns.surgery.rebuilding import Rebuilder

_SMALLEST = 1e-7
"""Probabilities closer to 0 or 1 than this are taken for it where no logit is at hand."""


@dataclass(frozen=True)
class Asked:
    """What is wanted of one model.

    Attributes:
        name: What it is called; its layers are named after it.
        model: The model.
        head: `"parent"`, `"labels"`, `"other"` or `"binary"`.
        output: Place of the answering output among its outputs.
        groups: For each score wanted, the positions of the output that count for it.
        summed: The same among what is summed up by the layer that heads `"other"` and `"binary"`
            put at the end.
        logits: Wanted are not odds but the logits at the first position of each group, and behind
            them the logarithm of the sum of their exponentials.
        renamed: Whether layers of its own are named after it; else they keep their names.
    """

    name: str
    model: keras.Model
    head: str
    output: int
    groups: tuple[tuple[int, ...], ...]
    summed: tuple[tuple[int, ...], ...] = ()
    logits: bool = False
    renamed: bool = True


def side_by_side(asked: Sequence[Asked]) -> tuple[list[Any], Any]:
    """Build the models anew on the same inputs.

    A layer is shared where several models call one of the same configuration and weights on the
    same values: from the inputs on, subnetworks of one parent have everything in common before the
    first layer that was cut.

    Args:
        asked: The models, and what is wanted of each.

    Returns:
        The symbolic inputs, and the scores `(samples, scores)` joined: the logarithm of the odds of
        each group of answers, as the model has it, or logits.

    Raises:
        ModelError: The models take different inputs, or one has no graph to read.
        SurgeryError: A layer cannot be built anew.
    """
    branches = [_Branch(one) for one in asked]
    inputs, orders = _inputs(asked)
    counts: dict[str, int] = {}
    for branch, order in zip(branches, orders, strict=True):
        for digest in set(branch.digests(order).values()):
            counts[digest] = counts.get(digest, 0) + 1
    pool = _Pool(counts)
    scores = []
    with room_for(sum(len(branch.graph.calls) for branch in branches)):
        for branch, order in zip(branches, orders, strict=True):
            scores += branch.scores([inputs[i] for i in order], pool)
        if len(scores) == 1:
            return inputs, scores[0]
        name = pool.name("scores", "", shared=True)
        return inputs, layers.Concatenate(name=name)(scores)


def _inputs(asked: Sequence[Asked]) -> tuple[list[Any], list[list[int]]]:
    """Make the inputs, and say which of them each input of each model is."""
    first = functional(asked[0].model).inputs
    made = [
        keras.Input(
            batch_shape=tuple(tensor.shape),
            dtype=str(tensor.dtype),
            sparse=tensor.sparse,
            name=tensor._keras_history.operation.name,
            optional=getattr(tensor._keras_history.operation, "optional", False),
        )
        for tensor in first
    ]
    names = [tensor._keras_history.operation.name for tensor in first]
    orders = []
    for one in asked:
        theirs = functional(one.model).inputs
        called = [tensor._keras_history.operation.name for tensor in theirs]
        by_name = sorted(called) == sorted(names)
        order = [names.index(name) for name in called] if by_name else list(range(len(theirs)))
        kinds = [(tuple(first[i].shape[1:]), str(first[i].dtype)) for i in order[: len(first)]]
        found = [(tuple(tensor.shape[1:]), str(tensor.dtype)) for tensor in theirs]
        if len(order) != len(first) or kinds != found:
            raise ModelError(
                f"Models side by side take the same inputs. {asked[0].name!r} takes {kinds} and "
                f"{one.name!r} takes {found}."
            )
        orders.append(order)
    return made, orders


class _Pool:
    """Layers and what they gave, by what they are and what they were called on."""

    def __init__(self, counts: Mapping[str, int]) -> None:
        self.counts = counts
        self.made: dict[str, tuple[Any, list[Any]]] = {}
        self._names: set[str] = set()

    def name(self, own: str, branch: str, *, shared: bool) -> str:
        """Return a name that no layer has yet."""
        name = own if shared else f"{branch}_{own}"
        number = 2
        while name in self._names:
            name = f"{own if shared else f'{branch}_{own}'}_{number}"
            number += 1
        self._names.add(name)
        return name


class _Branch(Rebuilder):
    """One model on its way into the common graph."""

    def __init__(self, asked: Asked) -> None:
        graph: Graph = trace(asked.model)
        super().__init__(graph, Keep(np.ones(graph.unit_count, dtype=bool)))
        self.graph = graph
        self.asked = asked
        self._short = re.sub(r"\W+", "_", asked.name).strip("_") or "branch"
        self._end = _end_of(asked, graph)
        self._digests: dict[Key, str] = {}
        self._name = ""
        self._placed: dict[int, Any] = {}

    def digests(self, order: Sequence[int]) -> dict[Key, str]:
        """Digest every call: the layer, its weights, and what it is called on."""

        def visit(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            operation = call.operation
            digest = hashlib.blake2b(digest_size=16)
            config = {k: v for k, v in _config(operation).items() if k != "name"}
            linear = operation is self._end.linearised
            parts = (type(operation).__qualname__, config, linear, tree.flatten((args, kwargs)))
            digest.update(repr(parts).encode())
            for variable in getattr(operation, "variables", ()):
                digest.update(np.asarray(variable.numpy()).tobytes())
            text = digest.hexdigest()
            self._digests[call.key] = text
            return [f"{text}:{i}" for i in range(len(call.outputs))]

        walk(self.asked.model, [f"input:{i}" for i in order], visit)
        return self._digests

    def scores(self, inputs: list[Any], pool: _Pool) -> list[Any]:
        """Build the branch; return a score `(samples, 1)` for each group."""
        values: dict[int, Any] = {}

        def visit(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            digest = self._digests[call.key]
            if digest not in pool.made:
                layer = self._placed.get(id(call.operation))
                if layer is None:
                    self._name = self._named(call.operation, pool, pool.counts[digest] > 1)
                    layer = self._renew(call.operation, call.path)
                results = tree.flatten(layer(*args, **kwargs))
                if id(call.operation) not in self._placed:
                    self._copy_weights(call.operation, layer)
                    if getattr(call.operation, "trainable", None) is False:
                        layer.trainable = False
                pool.made[digest] = (layer, results)
            layer, results = pool.made[digest]
            self._placed[id(call.operation)] = layer
            for tensor, value in zip(call.outputs, results, strict=True):
                values[id(tensor)] = value
            return results

        outputs = walk(self.asked.model, inputs, visit)
        end = self._end
        if self.asked.logits:
            known = end.tensor is not None
            value = values[id(end.tensor)] if known else _log(outputs[self.asked.output])
            return _logits_and_sum(value, [group[0] for group in end.groups])
        if end.tensor is None:
            return [_odds_of_probability(outputs[self.asked.output], g) for g in end.groups]
        value = values[id(end.tensor)]
        if end.kind == "sigmoid":
            return [_column(value, group) for group in end.groups]
        return [_odds_of_logits(value, group) for group in end.groups]

    def _named(self, operation: Any, pool: _Pool, shared: bool) -> str:
        layer = isinstance(operation, layers.Layer)
        kept = layer and (shared or not self.asked.renamed)
        # Operations that are no layers are numbered anew in each process: by its own name one read
        # from a file would be taken for one made here.
        branch = "common" if shared and not layer else self._short
        return pool.name(operation.name, branch, shared=kept)

    def _renew(self, operation: Any, path: str) -> Any:
        new = super()._renew(operation, path)
        config = new.get_config()
        config["name"] = self._name
        if operation is self._end.linearised:
            config["activation"] = "linear"
        if isinstance(operation, layers.Lambda):
            return layers.Lambda(
                operation.function,
                output_shape=operation._output_shape,
                mask=operation.mask,
                arguments=operation.arguments,
                name=self._name,
                dtype=operation.dtype_policy,
            )
        config.pop("build_config", None)
        return type(new).from_config(config)


def _config(operation: Any) -> dict[str, Any]:
    try:
        return dict(operation.get_config())
    except NotImplementedError:
        return {"id": id(operation)}


@dataclass(frozen=True)
class _End:
    """Where a model's logits are.

    Attributes:
        tensor: The user's symbolic tensor that is, or becomes, logits; None where there is none.
        kind: `"softmax"` or `"sigmoid"`: what turns them into probabilities.
        linearised: The layer whose activation has to go, if any.
        groups: For each score, positions of the tensor, or of the output where there is none.
    """

    tensor: Any
    kind: str
    linearised: Any
    groups: tuple[tuple[int, ...], ...]


def _end_of(asked: Asked, graph: Graph) -> _End:
    tensor = functional(asked.model).outputs[asked.output]
    layer = tensor._keras_history.operation
    groups, nothing = asked.groups, _End(None, "", None, asked.groups)
    if _sums(layer, asked.head):
        tensor, groups = _input_of(tensor), asked.summed
        if tensor is None or tensor.shape[-1] == 1:
            return nothing
        layer = tensor._keras_history.operation
    if is_graph(layer):
        return nothing
    kind = _activation(layer)
    if isinstance(layer, layers.Dense) and kind:
        calls = sum(traced.call.operation is layer for traced in graph.calls.values())
        # With one call only: another may need its activation.
        return _End(tensor, kind, layer, groups) if calls == 1 else nothing
    if isinstance(layer, layers.Softmax | layers.Activation) and kind:
        before = _input_of(tensor)
        return nothing if before is None else _End(before, kind, None, groups)
    if isinstance(layer, layers.Dense) and layer.activation is activations.linear:
        return _End(tensor, "sigmoid" if tensor.shape[-1] == 1 else "softmax", None, groups)
    return nothing


def _sums(layer: Any, head: str) -> bool:
    """Return whether this is the layer by which `cut` sums probabilities."""
    if type(layer) is not layers.Dense or layer.activation is not activations.linear:
        return False
    added = head in ("binary", "other") and layer.name.startswith(f"{head}_head")
    return added and bool(np.isin(np.asarray(layer.kernel), (-1, 0, 1)).all())


def _activation(layer: Any) -> str:
    function = standard(getattr(layer, "activation", None))
    if isinstance(layer, layers.Softmax) or function is activations.softmax:
        return "softmax"
    return "sigmoid" if function is activations.sigmoid else ""


def _input_of(tensor: Any) -> Any:
    layer, node, _ = tensor._keras_history
    found = layer._inbound_nodes[node].input_tensors
    return found[0] if len(found) == 1 else None


def _column(value: Any, group: tuple[int, ...]) -> Any:
    if value.shape[-1] == 1:
        return value
    return ops.logsumexp(ops.take(value, list(group), axis=-1), axis=-1, keepdims=True)


def _odds_of_logits(value: Any, group: tuple[int, ...]) -> Any:
    """Return log p − log(1 − p) for the probability of a group under a softmax."""
    rest = [i for i in range(int(value.shape[-1])) if i not in group]
    return _column(value, group) - _column(value, tuple(rest))


def _logits_and_sum(value: Any, columns: list[int]) -> list[Any]:
    if columns != list(range(int(value.shape[-1]))):
        value = ops.take(value, columns, axis=-1)
    return [value, ops.logsumexp(value, axis=-1, keepdims=True)]


def _log(probabilities: Any) -> Any:
    return ops.log(ops.maximum(probabilities, _SMALLEST))


def _odds_of_probability(value: Any, group: tuple[int, ...]) -> Any:
    chosen = ops.sum(ops.take(value, list(group), axis=-1), axis=-1, keepdims=True)
    chosen = ops.clip(chosen, _SMALLEST, 1 - _SMALLEST)
    return ops.log(chosen) - ops.log(1 - chosen)


def rebuilt_inputs(model: keras.Model, inputs: list[Any]) -> Any:
    """Return inputs in the structure in which a model takes its own."""
    return tree.pack_sequence_as(structure(model)[0], inputs)
