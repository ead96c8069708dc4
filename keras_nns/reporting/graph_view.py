"""A model's graph with what was cut marked in it, as Google's Model Explorer opens it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import keras

from keras_nns.errors import FileError, PlanError, SurgeryError
from keras_nns.files import atomic
from keras_nns.files.atomic import Json
from keras_nns.graph.rules import Keep
from keras_nns.graph.tracing import Graph, trace
from keras_nns.plans.kept_units import Plan
from keras_nns.reporting.graph_nodes import Drawing, numbers, parameters_left, units_of
from keras_nns.surgery.heads import answer_of
from keras_nns.surgery.lineage import lineage
from keras_nns.surgery.matching import traced_for
from keras_nns.tables import Table, Tabular, count


@dataclass(frozen=True)
class LayerView:
    """One layer with weights, and what of it stays.

    Attributes:
        path: Path of the layer in the model.
        type: Its type.
        units: Units on the last axis that carries some, of what it returns.
        kept: How many of them stay in each of the networks.
        parameters: Numbers in its weights.
        left: How many of these stay in each of the networks.

    Example:
        >>> nns.graph_view(model, three).layers[0]
        LayerView(path='dense', type='Dense', units=32, kept=(16,), parameters=2080, left=(1040,))
    """

    path: str
    type: str
    units: int
    kept: tuple[int, ...]
    parameters: int
    left: tuple[int, ...]


@dataclass(frozen=True, repr=False, eq=False)
class GraphView(Tabular):
    """A model and networks cut from it as graphs. Print it for a table of layers.

    Attributes:
        model: Name of the model.
        names: What the networks are called.
        layers: The layers with weights, in the order of the graph.
        graphs: The model's graph, removed units marked, and that of each network, in the JSON
            format of Model Explorer.

    Example:
        >>> view = nns.graph_view(model, three)
        >>> [graph["id"] for graph in view.graphs]
        ['digits', '3']
    """

    model: str
    names: tuple[str, ...]
    layers: tuple[LayerView, ...]
    graphs: list[Json]

    def to_table(self) -> Table:
        """Return the layers as a table."""
        columns = ["layer", "type", "units", "parameters"]
        for name in self.names:
            columns += [f"units in {name}", f"parameters in {name}"]
        rows = []
        for layer in self.layers:
            row = [layer.path, layer.type, str(layer.units), count(layer.parameters)]
            for kept, left in zip(layer.kept, layer.left, strict=True):
                row += [str(kept), count(left)]
            rows.append(tuple(row))
        words = f"{self.model} beside {', '.join(self.names)}: each layer with weights."
        return Table(tuple(columns), tuple(rows), words, prose=(0, 1))

    def to_json(self) -> Json:
        """Return the layers as plain data."""
        return {
            "model": self.model,
            "networks": list(self.names),
            "layers": [
                {
                    "path": layer.path,
                    "type": layer.type,
                    "units": layer.units,
                    "kept": dict(zip(self.names, layer.kept, strict=True)),
                    "parameters": layer.parameters,
                    "parameters_kept": dict(zip(self.names, layer.left, strict=True)),
                }
                for layer in self.layers
            ],
        }

    def save(self, path: str | PathLike[str], *, overwrite: bool = False) -> Path:
        """Write the graphs as one file that Model Explorer opens: `model-explorer FILE`.

        Args:
            path: The file, which ends in `.json`.
            overwrite: Whether it may replace one that is there.

        Returns:
            The path.

        Raises:
            FileError: It has another suffix, exists, or cannot be written.

        Example:
            >>> path = nns.graph_view(model, three).save("three.graph.json")
        """
        if Path(path).suffix != ".json":
            raise FileError(f"Model Explorer knows graphs by .json. Received: {str(path)!r}.")
        text = atomic.json_text({"label": self.model, "graphs": self.graphs})
        atomic.write_bytes(path, text.encode(), overwrite=overwrite)
        return Path(path)


def graph_view(
    model: keras.Model,
    *cuts: keras.Model | Plan,
    names: Sequence[str] | None = None,
) -> GraphView:
    """Show a model's graph with the units marked that networks cut from it have lost.

    `view.save("cut.json")` writes a file that [Model
    Explorer](https://github.com/google-ai-edge/model-explorer) opens, `pip install
    ai-edge-model-explorer` and `model-explorer cut.json`: the model, each layer named with the
    units it had and has and coloured by how many are gone, which ones in its attributes; and every
    network as a graph of its own. Layers have the same identity in all of them, so that two side by
    side can be gone through together.

    Args:
        model: The parent. It is not changed.
        cuts: Networks that were cut from it, or plans that were not cut yet.
        names: What to call them. None: by the labels that they are for.

    Returns:
        The graphs; print it for a table of the layers with weights.

    Raises:
        SurgeryError: A network was not cut by keras_nns, or there is nothing to show.
        PlanError: It is of another parent.

    Example:
        >>> view = nns.graph_view(model, three)
        >>> print(view)
         layer     type    units   parameters   units in 3   parameters in 3
         ...
         dense     Dense      32        2,080           16             1,040
         dense_1   Dense      16          528            8               136
         digit     Dense      10          170           10                90
        digits beside 3: each layer with weights.
        >>> path = view.save("digits.json")
    """
    if not cuts:
        raise SurgeryError("Pass at least one network that was cut from the model, or a plan.")
    plans = [_plan_of(one) for one in cuts]
    called = _names(plans, names)
    graph = traced_for(model, plans[0], retrained=True, allow_empty=True)
    keeps = []
    for one, plan in zip(cuts, plans, strict=True):
        traced_for(model, plan, retrained=True, allow_empty=True)
        record = None if isinstance(one, Plan) else lineage(one)
        answer = record and answer_of(graph, plan, record.head, record.output)
        keeps.append(graph.keep(plan, outputs=answer.narrowed if answer else None))
    return GraphView(
        model=model.name,
        names=called,
        layers=tuple(_layers(graph, keeps)),
        graphs=[
            Drawing(graph, dict(zip(called, keeps, strict=True))).to_json(model.name),
            *(
                Drawing(trace(one), told=_origins(graph, keep)).to_json(name)
                for one, name, keep in zip(cuts, called, keeps, strict=True)
                if not isinstance(one, Plan)
            ),
        ],
    )


def _plan_of(one: Any) -> Plan:
    if isinstance(one, Plan):
        return one
    record = lineage(one)
    if record is None:
        name = getattr(one, "name", type(one).__name__)
        raise SurgeryError(
            f"{name!r} does not remember what it was cut from. Expected a plan, or a model from "
            "nns.cut or nns.extract, or from nns.load_model where it was saved."
        )
    return record.plan


def _names(plans: Sequence[Plan], names: Sequence[str] | None) -> tuple[str, ...]:
    if names is not None:
        if len(names) != len(plans) or len(set(names)) < len(plans):
            raise PlanError(f"Expected {len(plans)} different names. Received: {list(names)}.")
        return tuple(str(name) for name in names)
    called: list[str] = []
    for plan in plans:
        name = ", ".join(plan.names) or "cut"
        again = sum(other == name or other.startswith(f"{name} (") for other in called)
        called.append(f"{name} ({again + 1})" if again else name)
    return tuple(called)


def _origins(graph: Graph, keep: Keep) -> dict[str, tuple[str, str]]:
    """Say of each layer which of its parent's units it has."""
    told = {}
    for traced in graph.calls.values():
        units = units_of(traced)
        if len(units):
            told[traced.call.path] = (f"units of {graph.model.name}", numbers(keep.where(units)))
    return told


# Layers -----------------------------------------------------------------------------------------


def _layers(graph: Graph, keeps: Sequence[Keep]) -> Iterable[LayerView]:
    seen: set[int] = set()
    for traced in graph.calls.values():
        operation = traced.call.operation
        if id(operation) in seen or not getattr(operation, "variables", ()):
            continue
        seen.add(id(operation))
        units = units_of(traced)
        yield LayerView(
            path=traced.call.path,
            type=type(operation).__name__,
            units=len(units),
            kept=tuple(keep.count(units) for keep in keeps),
            parameters=sum(math.prod(one.shape) for one in operation.variables),
            left=tuple(parameters_left(graph, operation, keep) for keep in keeps),
        )
