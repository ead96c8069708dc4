"""What a subnetwork will cost, from the units it keeps alone: nothing is built."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np
from keras import layers

from keras_nns.graph import costs
from keras_nns.graph.rules import Keep, Stream, Units
from keras_nns.graph.rules.records import Binding, Blueprint
from keras_nns.graph.tracing import Graph

Unit = str
FLOAT32_BYTES = 4

_Matrices = list[tuple[Binding | None, tuple[int, ...]]]


class Estimates:
    """Costs as functions of the units that stay.

    Parameters and multiply-adds are exact for layers whose weights are cut along their axes, up to
    what a head adds or leaves out; bytes leave out what a file holds beside weights. What is off is
    nearly the same for networks of nearly the same size, so one that was measured corrects it.

    Args:
        graph: The traced parent.
        inputs: A batch, for multiply-adds of a model that leaves dimensions open.
        heads: How many outputs another layer has that takes the place of one of the parent's, by
            the path of that one.
        branches: Numbers of the units without any of which a branch leaves, and the paths of the
            layers that leave with it.
    """

    def __init__(
        self,
        graph: Graph,
        *,
        inputs: Any = None,
        heads: Mapping[str, int] | None = None,
        branches: Iterable[tuple[Units, Collection[str]]] = (),
    ) -> None:
        self._graph = graph
        self._inputs = inputs
        replaced, branches = heads or {}, list(branches)
        calls = [traced.call for traced in graph.calls.values()]
        self._heads = {
            id(call.operation): replaced[call.path] for call in calls if call.path in replaced
        }
        self._weights: list[tuple[Any, Binding, tuple[int, ...]]] = []
        for blueprint in graph.blueprints.values():
            for index, binding in blueprint.bindings.items():
                shape = tuple(blueprint.operation.variables[index].shape)
                self._weights.append((blueprint.operation, binding, shape))
        # With a block that leaves as a whole go also the weights that no units lie along.
        self._skips = [
            (blueprint.skip.unit, _unbound(blueprint.operation, blueprint))
            for blueprint in graph.blueprints.values()
            if blueprint.skip is not None
        ]
        layers_of = {call.path: call.operation for call in calls}
        self._branches = [
            (units, {id(layers_of[path]) for path in paths if path in layers_of})
            for units, paths in branches
        ]
        self._own = {
            id(operation): _unbound(operation, graph.blueprints.get(id(operation)))
            for _, paths in branches
            for path in paths
            if (operation := layers_of.get(path)) is not None
        }
        bound = sum(math.prod(shape) for _, _, shape in self._weights)
        self._unbound = costs.parameters(graph.model) - bound
        self._macs: list[tuple[Any, int, _Matrices]] | None = None

    def of(self, unit: Unit, keep: Keep) -> float:
        """Return what keeping these units costs, in the unit of a budget."""
        if unit == "parameters":
            gone = self._gone(keep)
            return self._fixed(keep, gone) + sum(
                self._left(o, b, s, keep) for o, b, s in self._weights if id(o) not in gone
            )
        if unit == "bytes":
            return FLOAT32_BYTES * self._stored(keep)
        if unit == "activation_memory":
            return FLOAT32_BYTES * self._alive(keep)
        return self._multiply_adds(keep)

    def _gone(self, keep: Keep) -> set[int]:
        """Return the layers that left with branches, by id."""
        return set().union(*(own for units, own in self._branches if not keep.count(units)))

    def _fixed(self, keep: Keep, gone: set[int]) -> int:
        skipped = sum(own for unit, own in self._skips if not keep.all(unit))
        return self._unbound - skipped - sum(self._own[one] for one in gone)

    def _stored(self, keep: Keep) -> float:
        """Numbers in a file: of a batch norm's four, one is left after folding."""
        gone = self._gone(keep)
        total = float(self._fixed(keep, gone))
        for operation, binding, shape in self._weights:
            if id(operation) in gone:
                continue
            folded = type(operation) is layers.BatchNormalization
            total += self._left(operation, binding, shape, keep) / (4 if folded else 1)
        return total

    def _multiply_adds(self, keep: Keep) -> float:
        """Multiply-adds of a layer are in proportion to the elements of its matrices."""
        total, gone = 0.0, self._gone(keep)
        for operation, macs, matrices in self._products():
            if id(operation) in gone:
                continue
            whole = sum(math.prod(shape) for _, shape in matrices)
            left = sum(
                math.prod(shape) if binding is None else self._left(operation, binding, shape, keep)
                for binding, shape in matrices
            )
            total += macs * left / whole if whole else macs
        return total

    def _products(self) -> list[tuple[Any, int, _Matrices]]:
        if self._macs is None:
            found = []
            by_call = costs.macs_by_call(self._graph.model, inputs=self._inputs)
            for key, traced in self._graph.calls.items():
                operation = traced.call.operation
                blueprint = self._graph.blueprints.get(id(operation))
                if not by_call.get(key):
                    continue
                matrices = [
                    (None if blueprint is None else blueprint.bindings.get(i), tuple(v.shape))
                    for i, v in enumerate(getattr(operation, "variables", ()))
                    if len(v.shape) > 1
                ]
                found.append((operation, by_call[key], matrices))
            self._macs = found
        return self._macs

    def _alive(self, keep: Keep) -> float:
        """The largest sum of what one call reads and writes."""
        gone = self._gone(keep)
        return max(
            (
                sum(_size(stream, keep) for stream in (*traced.inputs, *traced.outputs))
                for traced in self._graph.calls.values()
                if id(traced.call.operation) not in gone
            ),
            default=0,
        )

    def _left(self, operation: Any, binding: Binding, shape: tuple[int, ...], keep: Keep) -> int:
        sizes = list(shape)
        for axis, units in binding.axes.items():
            sizes[axis] = keep.count(units)
        # Outputs are the last axis of a Dense's and a convolution's weights.
        sizes[-1] = self._heads.get(id(operation), sizes[-1])
        return math.prod(sizes)


def _unbound(operation: Any, blueprint: Blueprint | None) -> int:
    """Count the numbers of a layer's weights along which no units lie."""
    bindings = () if blueprint is None else blueprint.bindings
    bound = {id(operation.variables[index]) for index in bindings}
    weights = getattr(operation, "weights", ())
    return sum(math.prod(w.shape) for w in weights if id(w) not in bound)


def _size(stream: Stream, keep: Keep) -> int:
    sizes = [1 if size is None else size for size in stream.shape]
    for axis, units in stream.units.items():
        sizes[axis] = keep.count(units)
    return int(np.prod(sizes[1:]))
