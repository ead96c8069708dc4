"""Where each layer's units are watched: behind the first nonlinearity, or inside the layer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from keras import tree
from numpy.typing import NDArray

from keras_nns.graph.keras_internals import Call, Key, functional, walk
from keras_nns.graph.rows import rows_of
from keras_nns.graph.rules import FIXED, Units
from keras_nns.graph.rules.records import Reading
from keras_nns.graph.tracing import Graph, TracedCall


@dataclass(frozen=True)
class WatchPoint:
    """Where a layer's units are watched: one axis of one output of one call.

    Units that act inside the layer have a `reading` instead, and the output says which of their
    positions count, by its mask. `rows` is how many rows of the tensor one sample has, as
    `rows_of` counts them.
    """

    key: Key
    output: int
    axis: int
    nonnegative: bool
    reading: Reading | None = None
    rows: int = 1

    @property
    def place(self) -> tuple[Key, int | Reading]:
        """What tells the tensor that is watched from others."""
        return self.key, self.output if self.reading is None else self.reading


@dataclass(frozen=True)
class _Source:
    key: Key
    output: int


def watch_points(graph: Graph) -> dict[str, list[WatchPoint]]:
    """Find where each layer that makes units is watched, one point for each of its calls.

    Units that act inside the layer are watched where its rule says. Others from the layer itself,
    through whatever passes its units one to one and that nothing else reads, to the first
    nonlinearity.

    Args:
        graph: The traced model.

    Returns:
        The points by name of the family of units.
    """
    consumers = _consumers(graph)
    rows = rows_of(graph.model)
    found: dict[str, list[WatchPoint]] = {}
    for name, family in graph.families.items():
        for key, traced in graph.calls.items():
            if traced.call.path != family.layer:
                continue
            point = _watch(graph, key, family.units, consumers)
            count = None if point is None else rows[point.key, point.output]
            if point is None or count is None:
                continue
            point = replace(point, rows=count)
            if point not in found.setdefault(name, []):
                found[name].append(point)
    return {name: points for name, points in found.items() if points}


def _consumers(graph: Graph) -> dict[tuple[Key, int], list[Key]]:
    """For each output of each call, the calls that read it; a model output reads as `()`."""
    readers: dict[tuple[Key, int], list[Key]] = {}

    def visit(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        for source in tree.flatten((args, kwargs)):
            if isinstance(source, _Source):
                readers.setdefault((source.key, source.output), []).append(call.key)
        return [_Source(call.key, i) for i in range(len(call.outputs))]

    inputs = functional(graph.model).inputs
    for source in walk(graph.model, [None] * len(inputs), visit):
        if isinstance(source, _Source):
            readers.setdefault((source.key, source.output), []).append(())
    return readers


def _watch(
    graph: Graph, key: Key, units: Units, consumers: dict[tuple[Key, int], list[Key]]
) -> WatchPoint | None:
    own: WatchPoint | None = None
    classes = graph.class_of[units]
    for reading in graph.calls[key].readings:
        if np.array_equal(graph.class_of[reading.units], classes):
            never_below = reading.values is not None
            return WatchPoint(key, 0, -1, nonnegative=never_below, reading=reading)
    merged = False
    nonnegative = graph.calls[key].passing.nonnegative
    while True:
        traced = graph.calls[key]
        place = _place(graph, traced, classes)
        if place is None:
            return own
        output, axis = place
        passing = traced.passing
        merged = merged or passing.merges
        nonnegative = passing.nonnegative
        here = WatchPoint(key, output, axis, nonnegative)
        if passing.nonlinear:
            return here
        if not merged:
            own = here
        readers = consumers.get((key, output), [])
        if len(readers) != 1 or readers[0] == () or not graph.calls[readers[0]].passing.through:
            return own
        key = readers[0]


def _place(graph: Graph, traced: TracedCall, classes: NDArray[np.int64]) -> tuple[int, int] | None:
    for output, stream in enumerate(traced.outputs):
        for axis, units in stream.units.items():
            alike = len(units) == len(classes) and (units != FIXED).all()
            if alike and (graph.class_of[units] == classes).all():
                return output, axis
    return None
