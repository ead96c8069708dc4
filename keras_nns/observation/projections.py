"""Linear maps inside layers that are more than one: what each sums over, and its weights."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from keras import layers, ops, tree
from numpy.typing import NDArray

from keras_nns.engine.layers import mask_of, with_mask
from keras_nns.graph.junctions import Junction
from keras_nns.graph.keras_internals import Call
from keras_nns.graph.programs import Program, Slot, infer
from keras_nns.graph.rules import Keep
from keras_nns.graph.tracing import Graph
from keras_nns.observation.probing import listening

Float = NDArray[np.float64]

_CELLS = (layers.SimpleRNNCell, layers.LSTMCell, layers.GRUCell)
_RECURRENT = (layers.SimpleRNN, layers.LSTM, layers.GRU, layers.RNN)
_ATTENTION = (layers.MultiHeadAttention, layers.GroupQueryAttention)
_WHOSE = {"gate": "query", "output": "query"}


@dataclass(frozen=True, eq=False)
class Projection:
    """One linear map of a layer: `features @ matrix + bias`.

    Attributes:
        name: What it is called within its layer; empty where it is all of it.
        kernel: Its weight.
        bias: Its bias, or None.
        reads: Axes of the kernel that are summed over.
        gives: The other axes of the kernel.
        axes: Axes of the input that are summed over, in the order of `reads`.
        inner: The layer within the layer that is called on the input; None where it is the
            layer's own input.
        operand: Which of an attention layer's inputs has the mask that holds for the rows.
        row: Which row of the bias is added to the product; None where it has one row.
    """

    name: str
    kernel: Any
    bias: Any
    reads: tuple[int, ...]
    gives: tuple[int, ...]
    axes: tuple[int, ...] = (-1,)
    inner: Any = None
    operand: str | None = None
    row: int | None = None

    @property
    def features(self) -> int:
        """How many inputs one output is computed from."""
        return math.prod(self.kernel.shape[axis] for axis in self.reads)

    @property
    def size(self) -> int:
        """How many outputs there are."""
        return math.prod(self.kernel.shape[axis] for axis in self.gives)

    def rows(self, x: Any) -> Any:
        """Return `(rows, features)` float32, one row for every sample and position."""
        rank = len(x.shape)
        summed = [axis % rank for axis in self.axes]
        order = [axis for axis in range(rank) if axis not in summed] + summed
        return ops.reshape(ops.transpose(ops.cast(x, "float32"), order), (-1, self.features))

    def matrix(self) -> Float:
        """Return the kernel as `(features, outputs)`."""
        values = np.asarray(self.kernel, dtype=np.float64)
        return values.transpose(*self.reads, *self.gives).reshape(self.features, self.size)

    def offset(self) -> Float:
        """Return the bias as `(outputs,)`, zeros where there is none."""
        if self.bias is None:
            return np.zeros(self.size)
        values = np.asarray(self.bias, dtype=np.float64)
        return (values if self.row is None else values[self.row]).reshape(-1)

    def assign(self, matrix: Float, offset: Float) -> None:
        """Set kernel and bias."""
        order = (*self.reads, *self.gives)
        turned = matrix.reshape([self.kernel.shape[axis] for axis in order])
        self.kernel.assign(turned.transpose(np.argsort(order)))
        if self.bias is None:
            return
        values = np.asarray(self.bias).copy()
        place = slice(None) if self.row is None else self.row
        values[place] = offset.reshape(values[place].shape)
        self.bias.assign(values)


def projections_of(layer: Any, rank: int | None = None) -> list[Projection]:
    """List the linear maps of a layer that is no Dense or convolution, in order of computation.

    Args:
        layer: Any layer. Exact types only: a subclass may compute something else.
        rank: Rank of its input, where it is an EinsumDense.

    Returns:
        None of them where it has none that can be refitted.
    """
    return list(_found(layer, rank))


def why_none(layer: Any) -> str | None:
    """Say why a layer that has linear maps cannot be refitted; None where there is no reason."""
    parts = list(layer._flatten_layers()) if isinstance(layer, layers.Layer) else []
    if any(getattr(part, "quantization_mode", None) is not None for part in parts):
        return "it is quantised; repair first, quantise afterwards"
    if any(getattr(part, "lora_enabled", False) for part in parts):
        return "it has LoRA factors; merge them into its kernel first"
    return None


def outputs_kept(
    graph: Graph, keep: Keep, layer: Any, theirs: Projection
) -> tuple[NDArray[np.int64], float]:
    """Return which outputs of a parent's projection the subnetwork has, and what scales them."""
    blueprint = graph.blueprints.get(id(layer))
    place = next(i for i, known in enumerate(layer.variables) if known is theirs.kernel)
    binding = blueprint.bindings.get(place) if blueprint is not None else None
    sizes = [int(theirs.kernel.shape[axis]) for axis in theirs.gives]
    if binding is None:
        return np.arange(math.prod(sizes)), 1.0
    kept = []
    rank = len(theirs.kernel.shape)
    bound = {axis % rank: units for axis, units in binding.axes.items()}
    for axis, size in zip(theirs.gives, sizes, strict=True):
        units = bound.get(axis)
        kept.append(np.arange(size) if units is None else keep.where(units))
    flat = np.ravel_multi_index(np.ix_(*kept), sizes).reshape(-1)
    return flat, 1.0 if binding.scale is None else float(binding.scale(keep))


def _found(layer: Any, rank: int | None) -> Iterator[Projection]:
    kind = type(layer)
    if kind is layers.Bidirectional:
        for way, one in (("forward", layer.forward_layer), ("backward", layer.backward_layer)):
            for part in _found(one, rank):
                yield replace(part, name=f"{way} {part.name}")
    elif kind in _RECURRENT and type(layer.cell) in _CELLS:
        cell = layer.cell
        rows = getattr(cell, "reset_after", False) and cell.bias is not None
        yield Projection(
            "input kernel", cell.kernel, cell.bias, (0,), (1,), row=0 if rows else None
        )
    elif kind is layers.TimeDistributed and type(layer.layer) is layers.Dense:
        yield Projection("", layer.layer._kernel, layer.layer.bias, (0,), (1,))
    elif kind is layers.EinsumDense:
        yield from _einsum("", layer, rank)
    elif kind in _ATTENTION:
        for name in ("query", "key", "value", "gate", "output"):
            dense = getattr(layer, f"_{name}_dense", None)
            if type(dense) is not layers.EinsumDense:
                continue
            for part in _einsum(name, dense, None):
                yield replace(part, inner=dense, operand=_WHOSE.get(name, name))


def map_of(name: str, dense: Any) -> Projection | None:
    """Return the linear map that a Dense or EinsumDense within a layer is; None where it is none.

    Args:
        name: What it is called within its layer.
        dense: The layer inside.
    """
    if type(dense) is layers.Dense:
        return Projection(name, dense._kernel, dense.bias, (0,), (1,))
    found = _einsum(name, dense, None) if type(dense) is layers.EinsumDense else iter(())
    return next(found, None)


def _einsum(name: str, dense: Any, rank: int | None) -> Iterator[Projection]:
    """Read an equation whose kernel has axes that are summed over and axes that come out."""
    given, answer = dense.equation.replace(" ", "").split("->")
    x, weight = given.split(",")
    if "..." in x:
        if rank is None or x.endswith("...") or "..." in weight:
            return
        dots = "".join(map(str, range(rank - len(x) + 3)))
        x, answer = x.replace("...", dots), answer.replace("...", dots)
    summed = [letter for letter in weight if letter not in answer]
    out = [letter for letter in answer if letter in weight]
    lost = [letter for letter in x if letter not in answer and letter not in summed]
    if lost or any(letter not in x for letter in summed) or any(letter in x for letter in out):
        return
    reads = tuple(weight.index(letter) for letter in summed)
    gives = tuple(weight.index(letter) for letter in out)
    if dense.bias is not None and tuple(dense.bias.shape) != tuple(
        dense._kernel.shape[axis] for axis in gives
    ):
        return
    axes = tuple(x.index(letter) for letter in summed)
    yield Projection(name, dense._kernel, dense.bias, reads, gives, axes)


def inputs_at(
    program: Program,
    path: str,
    values: Mapping[Slot, Any],
    projection: Projection | None = None,
    junction: Junction | None = None,
) -> list[Any]:
    """Run a model's layers in inference mode; return what each call of one is called on.

    Args:
        program: The calls of a Sequential or functional model.
        path: The layer.
        values: What is known before its first call.
        projection: A linear map within the layer, where its input is wanted and not the layer's.
        junction: Where its output is added to something, if that is wanted too.

    Returns:
        The first argument of each call, with its Keras mask; with a junction, a pair of it and what
        the output is added to. What comes behind is not run.
    """
    places = program.places(path)
    found: list[Any] = []

    def run(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if junction is not None and call.key == junction.key:
            found[0] = (found[0], junction.beside(tree.flatten((args, kwargs))))
            raise AllFoundError
        with ExitStack() as stack:
            if call.path == path and projection is not None and projection.inner is not None:
                operands = dict(zip(("query", "value", "key"), args, strict=False)) | kwargs
                whose = operands.get(projection.operand or "query")
                whose = operands["value"] if whose is None else whose
                # The layer takes masks off its operands before it projects them.
                mask = mask_of(whose)

                def hear(given: Any, _: Any) -> None:
                    found.append(with_mask(ops.copy(tree.flatten(given)[0]), mask))

                stack.enter_context(listening(projection.inner, hear))
            elif call.path == path:
                found.append(tree.flatten((args, kwargs))[0])
                if len(found) == len(places) and junction is None:
                    raise AllFoundError
            outputs = infer(call, args, kwargs)
        if call.path == path and len(found) == len(places) and junction is None:
            raise AllFoundError
        return outputs

    with suppress(AllFoundError):
        program.run(values, places[0], len(program.instructions), run)
    return found


class AllFoundError(Exception):
    """Ends a walk early: what was looked for is found."""
