"""Trace a model into unit groups: what must stay or go together, and what cannot go."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from keras import tree
from numpy.typing import NDArray

from keras_nns.data.outputs import output_keys
from keras_nns.engine.tensors import as_array
from keras_nns.errors import ModelError, PlanError
from keras_nns.graph import grouping
from keras_nns.graph.keras_internals import Call, Key, functional, output_names, walk
from keras_nns.graph.output_kinds import kind_of
from keras_nns.graph.rules import FIXED, Keep, Site, Stream, Units, load_extras, rule_of
from keras_nns.graph.rules.records import Blueprint, CallEdit, Family, Ledger, Passing, Reading
from keras_nns.plans.kept_units import Plan
from keras_nns.plans.units import OF_OUTPUT, Fingerprint, Layout


@dataclass(frozen=True)
class TracedCall:
    """One call of one layer, with the units that go in and come out."""

    call: Call
    inputs: list[Stream]
    outputs: list[Stream]
    passing: Passing
    edits: list[CallEdit]
    readings: list[Reading]


@dataclass(frozen=True)
class Output:
    """One output of the model: its units, if any, and what their values mean.

    Attributes:
        name: Name of the layer behind it.
        units: Unit numbers on its last axis, or None.
        size: Length of its last axis.
        kind: `"softmax"`, `"sigmoid"` or `"linear"`.
    """

    name: str
    units: Units | None
    size: int | None
    kind: str


class Graph:
    """A traced model.

    Attributes:
        model: The user's model. Never changed.
        layout: Its unit groups.
        calls: Every call by key, in the order of the graph.
        entries: Units of each input of each nested model, by key of its call.
        blueprints: For each layer (by `id`), what must change when units leave.
        families: The units each layer makes.
        outputs: The model's outputs.
    """

    def __init__(
        self,
        model: Any,
        calls: dict[Key, TracedCall],
        entries: dict[Key, list[Stream]],
        ledger: Ledger,
        results: list[Stream],
    ) -> None:
        self.model = model
        self.calls = calls
        self.entries = entries
        self.blueprints: Mapping[int, Blueprint] = ledger.blueprints
        self.families: Mapping[str, Family] = ledger.families
        self._class_of = grouping.classes(ledger)
        self.unit_count = ledger.count
        self.layout = grouping.layout(ledger, self._class_of)
        self._couplings = ledger.couplings
        self._reads = ledger.read
        self._normalised = [units[units != FIXED] for units, _ in ledger.normalised]
        self._bound = [u for u, _ in ledger.read] + [u for u, _ in ledger.protections]
        self.outputs = [
            Output(name, stream.on(-1), stream.shape[-1], kind_of(model, index))
            for index, (name, stream) in enumerate(zip(output_names(model), results, strict=True))
        ]

    @property
    def class_of(self) -> NDArray[np.int64]:
        """For every unit, the number of the set of units it stays or goes together with."""
        return self._class_of

    @cached_property
    def protected(self) -> NDArray[np.bool_]:
        """For every unit, whether it cannot be removed."""
        found = np.zeros(self.unit_count, dtype=bool)
        for group in self.layout.groups:
            for member in group.members:
                here = [number in group.protected for number in member.units]
                found[self.families[member.layer].units] = here
        return found

    @cached_property
    def fingerprint(self) -> Fingerprint:
        """Digests of the model's structure and of its weights as they are now."""
        return Fingerprint(self.structure, weights_digest(self.model))

    @cached_property
    def structure(self) -> str:
        """Digest of layer paths, layer types, weight shapes and unit groups."""
        layers: dict[str, Any] = {}
        for traced in self.calls.values():
            operation = traced.call.operation
            weights = getattr(operation, "weights", None)
            # An operation that is not a layer gets a new automatic name in every copy of a model.
            name = "" if weights is None else traced.call.path
            shapes = [list(weight.shape) for weight in weights or ()]
            layers.setdefault(traced.call.path, [name, type(operation).__name__, shapes])
        groups = [
            [g.name, g.size, [[m.layer, m.units] for m in g.members], sorted(g.protected)]
            for g in self.layout.groups
        ]
        text = json.dumps([list(layers.values()), groups], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def keep(self, plan: Plan, *, outputs: Mapping[str, tuple[int, ...]] | None = None) -> Keep:
        """Turn a plan into the units of this graph that stay.

        Args:
            plan: Which units of which group stay. Groups it does not name stay whole.
            outputs: For an output by name, which of its positions stay.
        """
        kept = np.ones(len(self._class_of), dtype=bool)
        for group in self.layout.prunable:
            if group.name not in plan.kept:
                continue
            stays = np.zeros(group.size, dtype=bool)
            stays[list(plan.kept[group.name])] = True
            stays[list(group.protected)] = True
            for member in group.members:
                kept[self.families[member.layer].units] = stays[list(member.units)]
        for name, positions in (outputs or {}).items():
            units = self.output(name).units
            assert units is not None
            gone = np.setdiff1d(np.arange(len(units)), positions)
            kept[np.isin(self._class_of, self._class_of[units[gone]])] = False
        for path in self.skipped(Keep(kept)):
            # With a block all that acts inside it leaves.
            for family in self.families.values():
                if family.layer == path:
                    kept[family.units] = False
        return Keep(kept)

    def skipped(self, keep: Keep) -> set[str]:
        """Return the paths of residual blocks that leave as a whole."""
        skips = [(one.path, one.skip) for one in self.blueprints.values()]
        return {path for path, skip in skips if skip is not None and not keep.all(skip.unit)}

    def within(self, paths: set[str]) -> set[str]:
        """Return the names of the groups that lie in some layers and nowhere else."""
        lie = {
            group.name: {self.families[m.layer].layer for m in group.members}
            for group in self.layout.groups
        }
        return {name for name, layers in lie.items() if layers <= paths}

    def held(self, plan: Plan, keep: Keep) -> Plan:
        """Return a plan without those of its units that do not stay."""
        kept = {}
        for name, units in plan.kept.items():
            stays = set()
            for member in self.layout[name].members:
                there = keep.mask(self.families[member.layer].units)
                stays |= {n for n, stay in zip(member.units, there.tolist(), strict=True) if stay}
            kept[name] = tuple(stays.intersection(units))
        return replace(plan, kept=kept)

    def output(self, name: str | None = None) -> Output:
        """Return the output of a name, or the only one.

        Raises:
            PlanError: No output has this name, or there are several and none was named.
        """
        if name is None:
            if len(self.outputs) == 1:
                return self.outputs[0]
            raise PlanError(
                f"The model has {len(self.outputs)} outputs. Say which one answers the labels, as "
                f"output=…, one of {[o.name for o in self.outputs]}."
            )
        for output, key in zip(self.outputs, output_keys(functional(self.model)), strict=True):
            if name in (output.name, key):
                return output
        raise PlanError(
            f"No output is named {name!r}. Expected one of {[o.name for o in self.outputs]}."
        )

    def is_free_head(self, output: Output) -> bool:
        """Return whether an output's units can leave: nothing else in the model reads them."""
        if output.units is None or (output.units == FIXED).any():
            return False
        classes = self._class_of[output.units]
        if len(set(classes.tolist())) < len(classes):
            return False
        bound = [u[u != FIXED] for u in self._bound]
        return not any(np.isin(self._class_of[u], classes).any() for u in bound)

    def normalises(self, output: Output) -> bool:
        """Return whether a softmax runs over an output's units, be it behind or inside."""
        own = set() if output.units is None else set(self._class_of[output.units].tolist())
        return any(own & set(self._class_of[units].tolist()) for units in self._normalised)

    def unread(self, keep: Keep) -> list[str]:
        """Name the layers that read a part of a group, behind a split, of which nothing stays."""
        inside = [f.units for f in self.families.values() if f.layer in self.skipped(keep)]
        without = np.concatenate([*inside, np.zeros(0, dtype=np.int64)])
        return [
            title
            for units, title in self._reads
            if title
            and not (units == FIXED).any()
            and not keep.count(units)
            and not np.isin(units, without).all()
        ]

    def joints(self, name: str) -> list[str]:
        """Return what couples a family's units with others: "Add 'add' joins them"."""
        own = self.families[name].units
        found = [
            f"{title} joins them"
            for one, other, title in self._couplings
            if np.isin(one, own).any() != np.isin(other, own).any()
        ]
        return list(dict.fromkeys(found))

    @cached_property
    def hidden(self) -> tuple[str, ...]:
        """Names of the families of units that are not the model's answer."""
        shown = [o.units[o.units != FIXED] for o in self.outputs if o.units is not None]
        classes = self._class_of[np.concatenate(shown)] if shown else np.zeros(0, dtype=np.int64)
        return tuple(
            name
            for name, family in self.families.items()
            if not np.isin(self._class_of[family.units], classes).any()
        )


def trace(model: Any) -> Graph:
    """Follow units through a model's graph.

    Args:
        model: A built Sequential or functional `keras.Model`. It is read, never called or changed.

    Returns:
        The graph: unit groups, what protects them, and what must change where when units leave.

    Raises:
        ModelError: Not a model with a graph (a subclass with its own `call`, or not built).

    Example:
        >>> import keras
        >>> model = keras.Sequential(
        ...     [keras.Input((4,)), keras.layers.Dense(3, name="hidden"), keras.layers.Dense(2)]
        ... )
        >>> [group.name for group in trace(model).layout.prunable]
        ['hidden']
    """
    load_extras()
    ledger = Ledger()
    calls: dict[Key, TracedCall] = {}
    entries: dict[Key, list[Stream]] = {}

    first_entry: dict[int, tuple[Any, list[Stream]]] = {}

    def enter(call: Call, inputs: list[Any]) -> None:
        entries[call.key] = inputs
        _, first = first_entry.setdefault(id(call.operation), (call.operation, inputs))
        site = Site(ledger, call.operation, call.path, inputs, call.shapes)
        # A nested model has one shape of inputs, however often it is called.
        for one, other in zip(first, inputs, strict=True):
            for axis in one.units.keys() | other.units.keys():
                site.couple(one.units.get(axis), other.units.get(axis))

    def visit(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Stream]:
        inputs = [a for a in tree.flatten((args, kwargs)) if isinstance(a, Stream)]
        site = Site(
            ledger, call.operation, call.path, inputs, call.shapes, args=args, kwargs=kwargs
        )
        rule = rule_of(call.operation)
        if rule is None:
            site.protect_all(
                f"{site.title} has no rule; teach it with keras_nns.rules.register, write it out "
                "with keras_nns.unfold where it is made of layers, or leave these units in"
            )
        else:
            rule(site)
        outputs = site.outputs
        if outputs is None:
            if rule is not None and any(s.units for s in inputs):
                site.protect_all(f"{site.title} does not say where they go")
            outputs = [Stream(shape) for shape in call.shapes]
        calls[call.key] = TracedCall(
            call, inputs, outputs, site.passing, site.call_edits, site.readings
        )
        return outputs

    graph = functional(model)
    starts = [Stream(tuple(tensor.shape)) for tensor in graph.inputs]
    results = walk(model, starts, visit, enter=enter)
    for name, stream in zip(output_names(model), results, strict=True):
        for units in stream.units.values():
            ledger.outputs.append((units[units != FIXED], f"{OF_OUTPUT}{name!r}"))
    return Graph(model, calls, entries, ledger, results)


def hidden_layout(graph: Graph) -> Layout:
    """Return the graph's layout after making sure that something can be cut.

    Raises:
        ModelError: No unit of the model can be removed; the message says why.
    """
    if not graph.layout.prunable:
        raise ModelError(
            f"Model {graph.model.name!r} has no hidden units that can be removed: "
            f"{graph.layout.why_whole()}."
        )
    return graph.layout


def weights_digest(model: Any) -> str:
    """Digest the bytes of every weight of a model, in their order."""
    digest = hashlib.blake2b(digest_size=16)
    for variable in model.weights:
        value = np.ascontiguousarray(as_array(variable.value))
        digest.update(value.reshape(-1).view(np.uint8).data if value.size else b"")
    return digest.hexdigest()
