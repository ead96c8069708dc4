"""Fold layers that scale and shift every channel into a linear layer beside them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import activations, layers, tree

from keras_nns.graph.keras_internals import Call, calls, functional, is_graph
from keras_nns.graph.tracing import Graph, trace
from keras_nns.surgery.cleaning.decisions import Change, Decision
from keras_nns.surgery.cleaning.intervals import Array
from keras_nns.surgery.cleaning.layer_bounds import (
    CONVOLUTIONS,
    DEPTHWISE,
    SEPARABLE,
    TRANSPOSED,
    is_padded,
    scale_and_shift,
)
from keras_nns.surgery.cleaning.rewriting import Rewriter, unchanged

_BEFORE = (layers.Dense, *CONVOLUTIONS, *DEPTHWISE, *SEPARABLE, *TRANSPOSED)
_BEHIND = (layers.Dense, *CONVOLUTIONS, *DEPTHWISE)
_MOST = 8
"""Folds one behind another, such as two batch norms behind one convolution."""

Chosen = Callable[[Any], bool]
"""Whether a layer is to be folded."""


@dataclass(frozen=True, eq=False)
class _Fold:
    """One layer to fold: what it does, into which other layer, and on which side it lies."""

    layer: Any
    path: str
    tensor: int
    source: int
    into: Any
    into_path: str
    before: bool


def fold(model: Any, chosen: Chosen) -> tuple[Any, list[Change]]:
    """Fold batch norms and rescaling layers into the linear layers beside them.

    A layer behind a linear one that nothing else reads goes into that one's kernel and bias; else
    it goes into the linear layer that alone reads it, where every output of that sees the whole
    shift (no zeros beyond the border).

    Args:
        model: A model; it is not changed.
        chosen: Which of its layers to fold.

    Returns:
        A new model, or the given one where there is nothing to fold; and what was done or why not.
    """
    changes: list[Change] = []
    for _ in range(_MOST):
        graph = trace(model)
        folds, left = _find(graph, chosen)
        if not folds:
            return model, [*changes, *left]
        model = _Folder(graph, folds).run()
        for one in folds:
            place = "before" if one.before else "behind"
            changes.append(Change(one.path, f"folded into {one.into_path!r} {place} it"))
    return model, changes


class _Folder(Rewriter):
    """Builds a model with some layers folded into others."""

    def __init__(self, graph: Graph, folds: list[_Fold]) -> None:
        decision: Decision = unchanged(graph)
        super().__init__(graph, decision)
        self._folds = {id(one.into): one for one in folds}
        self._sources = {one.tensor: one.source for one in folds}
        self._gone = {id(one.layer) for one in folds}

    def _results(self, call: Call, fill: Any, values: dict[int, Any]) -> list[Any]:
        source = self._sources.get(id(call.outputs[0]))
        return super()._results(call, fill, values) if source is None else [values[source]]

    def _passed_over(self, call: Call) -> bool:
        return id(call.operation) in self._gone

    def _gains_bias(self, old: Any) -> bool:
        return id(old) in self._folds and not old.use_bias

    def _copy_weights(self, old: Any, new: Any) -> None:
        super()._copy_weights(old, new)
        one = self._folds.get(id(old))
        if one is None:
            return
        scale, shift = _numbers(one.layer)
        bias = np.zeros(new.bias.shape) if old.bias is None else np.asarray(old.bias, np.float64)
        kernel = _kernel(new)
        value = np.asarray(kernel, dtype=np.float64)
        if one.before:
            value = value * _laid(scale, new, value.shape)
            bias = bias * scale + shift
        else:
            # Where a kernel holds the channels it reads: behind them come its own outputs.
            window = tuple(range(value.ndim - 2))
            summed = value.sum(axis=window)
            shift = np.broadcast_to(shift, summed.shape[0])
            if type(new) in DEPTHWISE:
                bias = bias + (summed * shift[:, None]).reshape(-1)
            else:
                bias = bias + shift @ summed
            value = value * np.broadcast_to(scale, summed.shape[0])[:, None]
        kernel.assign(value.astype(kernel.dtype))
        new.bias.assign(bias)


def _numbers(layer: Any) -> tuple[Array, Array]:
    if isinstance(layer, layers.BatchNormalization):
        return scale_and_shift(layer)
    return np.asarray(layer.scale, np.float64), np.asarray(layer.offset, np.float64)


def _kernel(layer: Any) -> Any:
    return layer.pointwise_kernel if type(layer) in SEPARABLE else layer.kernel


def _laid(scale: Array, layer: Any, shape: tuple[int, ...]) -> Array:
    """Put one factor for each output where a kernel holds its outputs."""
    if scale.ndim == 0:
        return scale
    if type(layer) in DEPTHWISE:
        return scale.reshape(shape[-2:])
    return scale[:, None] if type(layer) in TRANSPOSED else scale


def _find(graph: Graph, chosen: Chosen) -> tuple[list[_Fold], list[Change]]:
    """Find what can be folded at once, each linear layer into play once, and what cannot."""
    used: set[int] = set()
    folds: list[_Fold] = []
    left: list[Change] = []
    counts: dict[int, int] = {}
    models = list(_models(graph.model, "", set()))
    for own, path in models:
        for call, _ in calls(own, path=path):
            counts[id(call.operation)] = counts.get(id(call.operation), 0) + 1
    for own, path in models:
        neighbours = _Neighbours(own, path, counts)
        for call in neighbours.calls:
            if is_graph(call.operation) or not chosen(call.operation):
                continue
            found = neighbours.fold_of(call)
            if isinstance(found, str):
                left.append(Change(call.path, f"not folded: {found}"))
            elif used.isdisjoint((id(found.into), id(found.layer))):
                used |= {id(found.into), id(found.layer)}
                folds.append(found)
    return folds, left


def _models(model: Any, path: str, done: set[int]) -> Iterator[tuple[Any, str]]:
    if id(model) in done:
        return
    done.add(id(model))
    yield model, path
    for call, _ in calls(model, path=path):
        if is_graph(call.operation):
            yield from _models(call.operation, call.path, done)


class _Neighbours:
    """Who makes and who reads each tensor of one model's own graph."""

    def __init__(self, model: Any, path: str, counts: dict[int, int]) -> None:
        graph = functional(model)
        self._counts = counts
        self._shown = {id(tensor) for tensor in graph.outputs}
        self._makers: dict[int, Call] = {}
        self._readers: dict[int, list[Call]] = {}
        self._given: dict[int, list[int]] = {}
        self.calls: list[Call] = []
        tensors = {id(t): t for t in graph.inputs}
        for call, fill in calls(model, path=path):
            tensors.update({id(t): t for t in call.outputs})
            own = [id(t) for t in tree.flatten(fill(tensors)) if id(t) in tensors]
            self._given[id(call.outputs[0])] = own
            for tensor in own:
                self._readers.setdefault(tensor, []).append(call)
            self._makers.update({id(t): call for t in call.outputs})
            self.calls.append(call)

    def fold_of(self, call: Call) -> _Fold | str:
        """Say how a layer can be folded, or why it cannot."""
        layer, tensor = call.operation, id(call.outputs[0])
        given = self._given[tensor]
        if self._counts[id(layer)] > 1 or len(given) != 1:
            return "it is called more than once, or on more than its input"
        if tensor in self._shown:
            return "it is what the model answers"
        axis = _axis(call)
        (source,) = given
        maker = self._makers.get(source)
        reasons = []
        if maker is None or type(maker.operation) not in _BEFORE:
            reasons.append("no linear layer stands before it")
        elif len(self._readers[source]) > 1 or source in self._shown:
            reasons.append(f"{maker.path!r} is read elsewhere too")
        else:
            why = self._why_not(maker, axis)
            function = maker.operation.activation
            if why is None and function is not None and function is not activations.linear:
                why = f"{maker.path!r} applies its activation first"
            if why is None:
                return _Fold(layer, call.path, tensor, source, maker.operation, maker.path, True)
            reasons.append(why)
        readers = self._readers.get(tensor, [])
        if len(readers) != 1 or type(readers[0].operation) not in _BEHIND:
            reasons.append("not one linear layer alone reads it")
            return "; ".join(reasons)
        (reader,) = readers
        why = self._why_not(reader, axis)
        if why is None and type(reader.operation) in CONVOLUTIONS and reader.operation.groups > 1:
            why = f"{reader.path!r} has groups"
        padded = hasattr(reader.operation, "padding") and is_padded(reader.operation)
        if why is None and padded and np.any(_numbers(layer)[1] != 0):
            why = f"{reader.path!r} pads with zeros, which the shift would not reach"
        if why is None:
            return _Fold(layer, call.path, tensor, source, reader.operation, reader.path, False)
        return "; ".join([*reasons, why])

    def _why_not(self, call: Call, axis: int) -> str | None:
        layer = call.operation
        if self._counts[id(layer)] > 1:
            return f"{call.path!r} is called more than once"
        if getattr(layer, "quantization_mode", None) or getattr(layer, "lora_enabled", False):
            return f"{call.path!r} is quantised or has LoRA factors"
        channels_first = getattr(layer, "data_format", "") == "channels_first"
        if axis != (1 if channels_first else len(call.shapes[0]) - 1):
            return f"it works along another axis than {call.path!r}"
        return None


def _axis(call: Call) -> int:
    rank = len(call.shapes[0])
    return int(getattr(call.operation, "axis", -1)) % rank
