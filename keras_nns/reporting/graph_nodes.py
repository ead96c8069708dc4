"""The nodes of a model's graph in the JSON format of Model Explorer, what was cut marked."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import tree
from numpy.typing import NDArray

from keras_nns.files.atomic import Json
from keras_nns.graph.keras_internals import Call, functional, walk
from keras_nns.graph.rules import FIXED, Keep
from keras_nns.graph.tracing import Graph, TracedCall
from keras_nns.tables import count

_WHOLE, _CUT, _GONE = "#ffffff", ("#ffe0b2", "#ffb74d", "#f57c00"), "#9e9e9e"
"""Colours of a layer: nothing removed; up to a third, two thirds, more; all of it."""

_MEANS = (
    "no unit removed",
    "up to a third removed",
    "up to two thirds removed",
    "more removed",
    "all removed",
)
_LEGEND = "colours"

_MOST_NUMBERS = 400
"""Characters of unit numbers that are written out for one layer."""


def parameters_left(graph: Graph, operation: Any, keep: Keep) -> int:
    """Count the numbers that stay in the weights of a layer."""
    return sum(math.prod(shape) for shape in shapes_left(graph, operation, keep))


def shapes_left(graph: Graph, operation: Any, keep: Keep) -> list[tuple[int, ...]]:
    """Return the shapes of the weights of a layer once units have left."""
    blueprint = graph.blueprints.get(id(operation))
    if blueprint is None:
        return [tuple(one.shape) for one in operation.variables]
    if blueprint.skip is not None and not keep.all(blueprint.skip.unit):
        return [(0,) for _ in operation.variables]
    return [tuple(size or 0 for size in shape) for shape in blueprint.shapes(keep)]


def units_of(traced: TracedCall) -> NDArray[np.int64]:
    """Return the units that lie on the last axis with any, of what a call returns."""
    for stream in traced.outputs:
        if stream.units:
            return stream.units[max(stream.units)]
    return np.zeros(0, dtype=np.int64)


@dataclass(frozen=True)
class _Source:
    """Where a tensor comes from: a node, and which of its outputs."""

    node: str
    place: int


class Drawing:
    """A model's graph in the format of Model Explorer, removed units marked."""

    def __init__(
        self,
        graph: Graph,
        keeps: Mapping[str, Keep] | None = None,
        *,
        told: Mapping[str, tuple[str, str]] | None = None,
    ) -> None:
        """Draw a graph.

        Args:
            graph: The traced model.
            keeps: What stays of it, by the name of a network that was cut from it.
            told: One thing more to tell of layers, by their paths.
        """
        self.graph, self.keeps, self.told = graph, keeps or {}, told or {}
        self.nodes: dict[str, Json] = {}
        self.protected = _reasons(graph)
        starts = []
        for tensor in functional(graph.model).inputs:
            name, shape = tensor._keras_history.operation.name, tuple(tensor.shape)
            starts.append(_Source(self._add(name, "Input", (), [shape])["id"], 0))
        walk(graph.model, starts, self._visit)
        if self.keeps:
            self._explain()

    def to_json(self, name: str) -> Json:
        """Return the whole graph, which bears that name."""
        calls = self.graph.calls.values()
        operations = {id(one.call.operation): one.call.operation for one in calls}.values()
        model = self.graph.model
        told = {"model": model.name, "parameters": count(model.count_params())}
        for cut, keep in self.keeps.items():
            stays = sum(parameters_left(self.graph, one, keep) for one in operations)
            told[f"{cut}: parameters"] = count(stays)
        return {
            "id": name,
            "nodes": list(self.nodes.values()),
            "groupNodeAttributes": {"": told},
        }

    def _visit(self, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[_Source]:
        given = [one for one in tree.flatten((args, kwargs)) if isinstance(one, _Source)]
        node = self._add(call.path, type(call.operation).__name__, given, call.shapes)
        node["attrs"] += [
            {"key": key, "value": value} for key, value in self._told(self.graph.calls[call.key])
        ]
        self._mark(node, self.graph.calls[call.key])
        return [_Source(node["id"], index) for index in range(len(call.shapes))]

    def _add(self, path: str, kind: str, sources: Iterable[_Source], shapes: Iterable[Any]) -> Json:
        identity, number = path, 1
        while identity in self.nodes:
            number += 1
            identity = f"{path} ({number})"
        *outer, label = path.split("/")
        edges = enumerate(sources)
        self.nodes[identity] = {
            "id": identity,
            "label": label,
            "namespace": "/".join(outer),
            "attrs": [{"key": "type", "value": kind}],
            "incomingEdges": [
                {
                    "sourceNodeId": source.node,
                    "sourceNodeOutputId": str(source.place),
                    "targetNodeInputId": str(index),
                }
                for index, source in edges
            ],
            "outputsMetadata": [
                {"id": str(index), "attrs": [{"key": "shape", "value": _shape(shape)}]}
                for index, shape in enumerate(shapes)
            ],
        }
        return self.nodes[identity]

    def _told(self, traced: TracedCall) -> Iterator[tuple[str, str]]:
        """Give what is told of a layer when it is chosen."""
        units, operation, path = units_of(traced), traced.call.operation, traced.call.path
        if len(units):
            yield "units", str(len(units))
        for name, keep in self.keeps.items():
            if len(units):
                yield f"units in {name}", str(keep.count(units))
                yield f"removed in {name}", numbers(np.flatnonzero(~keep.mask(units)))
            for family in self.graph.families.values():
                # What acts inside the layer and is not seen in what it returns.
                if family.layer == path and not np.isin(family.units, units).all():
                    kind = family.name.rpartition(":")[2] or "units inside"
                    kept = keep.count(family.units)
                    yield f"{kind} in {name}", f"{kept} of {len(family.units)}"
        for index, weight in enumerate(getattr(operation, "variables", ())):
            yield weight.name, _shape(tuple(weight.shape))
            for name, keep in self.keeps.items():
                yield (
                    f"{weight.name} in {name}",
                    _shape(shapes_left(self.graph, operation, keep)[index]),
                )
        if path in self.told:
            yield self.told[path]
        if path in self.protected:
            yield "protected because", self.protected[path]

    def _explain(self) -> None:
        """Say what the colours mean; also makes the parent the largest graph, shown first."""
        for words, colour in zip(_MEANS, (_WHOLE, *_CUT, _GONE), strict=True):
            node = self._add(f"{_LEGEND}/{words}", "what a colour means", (), ())
            node["style"] = {"backgroundColor": colour}

    def _mark(self, node: Json, traced: TracedCall) -> None:
        """Say on a node how many of its units stay, in its name and by a colour."""
        own = [f.units for f in self.graph.families.values() if f.layer == traced.call.path]
        units = np.unique(np.concatenate([units_of(traced), *own]))
        units = units[units != FIXED]
        if not len(units) or not self.keeps:
            return
        kept = [keep.count(units) for keep in self.keeps.values()]
        if min(kept) < len(units):
            node["label"] += f" {len(units)} → {', '.join(map(str, kept))}"
        node["style"] = {"backgroundColor": _colour(1 - max(kept) / len(units))}


def _colour(gone: float) -> str:
    """Return the colour of a layer by the share of its units that no network has."""
    if gone in (0, 1):
        return _GONE if gone else _WHOLE
    return _CUT[min(int(3 * gone), 2)]


def _reasons(graph: Graph) -> dict[str, str]:
    """Return why units of a layer cannot be removed, by its path."""
    return {
        graph.families[member.layer].layer: "; ".join(group.reasons)
        for group in graph.layout.groups
        if group.reasons
        for member in group.members
    }


def _shape(shape: Iterable[int | None]) -> str:
    return " × ".join("?" if size is None else str(size) for size in shape) or "scalar"


def numbers(units: Iterable[int]) -> str:
    """Write numbers in order as ranges: 0–3, 7."""
    runs: list[list[int]] = []
    for unit in units:
        if runs and unit == runs[-1][1] + 1:
            runs[-1][1] = int(unit)
        else:
            runs.append([int(unit), int(unit)])
    text = ", ".join(str(a) if a == b else f"{a}–{b}" for a, b in runs) or "none"
    if len(text) <= _MOST_NUMBERS:
        return text
    return text[:_MOST_NUMBERS].rpartition(", ")[0] + ", …"
