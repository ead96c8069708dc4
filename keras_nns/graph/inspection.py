"""Inspect: the unit groups of a model, what a unit costs, what is not seen or cut, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_nns.files.atomic import Json
from keras_nns.graph.estimates import Estimates
from keras_nns.graph.rules import Keep
from keras_nns.graph.tracing import Graph, trace
from keras_nns.graph.unwatched import unwatched
from keras_nns.plans.units import Group
from keras_nns.tables import Table, Tabular, count

_COLUMNS = (
    "group",
    "layers",
    "can be cut",
    "parameters each",
    "multiply-adds each",
    "watched",
    "protected because",
)


@dataclass(frozen=True)
class GroupCost:
    """One unit group and what a unit of it costs.

    Attributes:
        name: Name of the group.
        layers: Paths of the layers that make its units.
        units: How many units it has.
        prunable: How many of them can be removed.
        parameters: Parameters that leave with one unit, from all the layers it touches.
        multiply_adds: Multiply-adds per sample that leave with one unit; None where they depend on
            sizes the model leaves open.
        reasons: Why units cannot be removed.
        unwatched: Why `observe` does not see the units, though some could be removed; empty where
            it does.

    Example:
        >>> group = nns.inspect(model).groups[0]
        >>> group.name, group.units, group.parameters, group.multiply_adds
        ('dense', 32, 81, 80)
    """

    name: str
    layers: tuple[str, ...]
    units: int
    prunable: int
    parameters: int
    multiply_adds: int | None
    reasons: tuple[str, ...]
    unwatched: str = ""


@dataclass(frozen=True)
class Steps:
    """Groups that stand just behind a step of a device, by the device's own answers.

    Attributes:
        target: The device.
        cycles: What the whole model takes there.
        better: By group, the widest width on the other side of the step, and what the whole model
            takes with that.
    """

    target: str
    cycles: int
    better: Mapping[str, tuple[int, int]]


@dataclass(frozen=True, repr=False)
class Inspection(Tabular):
    """The unit groups of a model. Print it for a table.

    Attributes:
        model: Name of the model.
        groups: Its unit groups, in the order of the graph.
        parameters: Parameters of the whole model.
        multiply_adds: Multiply-adds per sample of the whole model, or None.
        steps: Groups just behind a step of the NPU that was named; None where none was.
        origin: Where the model was cut from, in a sentence; empty for one that was not cut.

    Example:
        >>> told = nns.inspect(model)
        >>> told.parameters, told.multiply_adds
        (2778, 2720)
        >>> [group.name for group in told.groups if group.prunable]
        ['dense', 'dense_1']
    """

    model: str
    groups: tuple[GroupCost, ...]
    parameters: int
    multiply_adds: int | None
    steps: Steps | None = None
    origin: str = ""

    def to_table(self) -> Table:
        """Return the groups as a table."""
        columns: tuple[str, ...] = _COLUMNS
        rows: tuple[tuple[str, ...], ...] = tuple(
            (
                group.name,
                str(len(group.layers)),
                f"{group.prunable} of {group.units}",
                count(group.parameters),
                count(group.multiply_adds),
                f"no: {group.unwatched}" if group.unwatched else "yes" if group.prunable else "",
                "; ".join(group.reasons),
            )
            for group in self.groups
        )
        prunable = sum(group.prunable for group in self.groups)
        macs = "" if self.multiply_adds is None else f", {self.multiply_adds:,} multiply-adds"
        told = f"{self.model}: {prunable} units can be cut; {self.parameters:,} parameters{macs}."
        if self.origin:
            told += f" {self.origin}"
        if self.steps is not None:
            columns = (*columns, "just behind a step")
            rows = tuple(
                (*row, self._behind(group)) for row, group in zip(rows, self.groups, strict=True)
            )
            told += f" On an {self.steps.target}: {self.steps.cycles:,} cycles, by its compiler."
        return Table(columns, rows, told, prose=(0, 5, 6, 7))

    def _behind(self, group: GroupCost) -> str:
        if self.steps is None or group.name not in self.steps.better:
            return ""
        units, cycles = self.steps.better[group.name]
        return f"{group.units - units} fewer save {1 - cycles / self.steps.cycles:.0%}"

    def to_json(self) -> Json:
        """Return the inspection as plain data."""
        return {
            "model": self.model,
            "parameters": self.parameters,
            "multiply_adds": self.multiply_adds,
            "origin": self.origin,
            **({"target": self.steps.target, "cycles": self.steps.cycles} if self.steps else {}),
            "groups": [
                {
                    "name": g.name,
                    "layers": list(g.layers),
                    "units": g.units,
                    "prunable": g.prunable,
                    "parameters_per_unit": g.parameters,
                    "multiply_adds_per_unit": g.multiply_adds,
                    "watched": not g.unwatched,
                    "unwatched_because": g.unwatched,
                    "reasons": list(g.reasons),
                    **self._behind_json(g.name),
                }
                for g in self.groups
            ],
        }

    def _behind_json(self, group: str) -> Json:
        if self.steps is None:
            return {}
        units, cycles = self.steps.better.get(group, (None, None))
        return {"behind_a_step": None if units is None else {"units": units, "cycles": cycles}}


def inspected(model: Any, inputs: Any = None) -> Inspection:
    """List the unit groups of a model, asking no device.

    Args:
        model: As in `nns.inspect`.
        inputs: As in `nns.inspect`.

    Raises:
        ModelError: The model has no graph to read.
    """
    graph = trace(model)
    open_sizes = inputs is None and any(
        None in tensor.shape[1:] for tensor in getattr(model, "inputs", ())
    )
    estimates = Estimates(graph, inputs=inputs)
    everything = Keep(np.ones(graph.unit_count, dtype=bool))
    parameters = estimates.of("parameters", everything)
    macs = None if open_sizes else estimates.of("macs", everything)
    unseen = unwatched(graph, ())
    groups = []
    for group in graph.layout.groups:
        keep = _without_one(graph, group)
        groups.append(
            GroupCost(
                name=group.name,
                layers=tuple(dict.fromkeys(graph.families[m.layer].layer for m in group.members)),
                units=group.size,
                prunable=group.size - len(group.protected),
                parameters=round(parameters - estimates.of("parameters", keep)),
                multiply_adds=None if macs is None else round(macs - estimates.of("macs", keep)),
                reasons=group.reasons,
                unwatched=unseen.get(group.name, ""),
            )
        )
    return Inspection(
        model=model.name,
        groups=tuple(groups),
        parameters=round(parameters),
        multiply_adds=None if macs is None else round(macs),
    )


def _without_one(graph: Graph, group: Group) -> Keep:
    """Keep everything but one unit of a group, one that can go where there is such."""
    free = [unit for unit in range(group.size) if unit not in group.protected]
    unit = free[0] if free else 0
    kept = np.ones(graph.unit_count, dtype=bool)
    for member in group.members:
        gone = np.array(member.units) == unit
        kept[graph.families[member.layer].units[gone]] = False
    return Keep(kept)
