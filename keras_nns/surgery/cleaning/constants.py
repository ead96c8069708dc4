"""What of a model is constant and can leave without changing what it computes.

Decides; `rewriting.py` builds. Units whose value never changes leave where every layer that reads
them can take their constant into its bias. Calls all of whose outputs are constant leave where
what reads them can do with the constant: a sum, a difference, a product, a concatenation.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import layers, tree
from keras.src.ops import numpy as knp

from keras_nns.errors import PlanError
from keras_nns.graph.keras_internals import Call, Key, calls, functional, is_graph
from keras_nns.graph.rules import FIXED, Keep, Stream, Units
from keras_nns.graph.tracing import Graph
from keras_nns.surgery.cleaning.bounds import Seen, bounds_of
from keras_nns.surgery.cleaning.decisions import Change, Decision, Join, Mask
from keras_nns.surgery.cleaning.intervals import Array, Bounds
from keras_nns.surgery.cleaning.layer_bounds import CONVOLUTIONS, UNMIXING, is_padded

SUMS = (layers.Add, layers.Average, knp.Add)
_DIFFERENCES = (layers.Subtract, knp.Subtract)
_PRODUCTS = (layers.Multiply, knp.Multiply)
_RECURRENT = (layers.SimpleRNN, layers.LSTM, layers.GRU)


def decide(graph: Graph, kept: Mask, *, units: bool = True, fixed: Mask | None = None) -> Decision:
    """Find what is constant when some units are forced to zero, and what of it can leave.

    Args:
        graph: The traced model.
        kept: For every unit, whether it stays. The others are forced to zero, as `mask` does.
        units: Whether constant units may leave, beside calls that became constant.
        fixed: Units that may not leave for another reason.

    Raises:
        PlanError: Nothing of the signal gets through to an output, or a layer of which no unit is
            kept is needed by one that cannot do without.
    """
    seen = bounds_of(graph, Keep(kept))
    finder = _Finder(graph, kept, seen)
    finder.refuse_constant_answers()
    leaves = finder.removable(fixed) if units else np.zeros(len(kept), dtype=bool)
    while True:
        decision = Decision(kept & ~leaves)
        finder.plan_calls(decision)
        back = finder.missed(decision, leaves)
        if not back.any():
            break
        leaves &= ~finder.whole(back)
    decision.shifts = finder.shifts(leaves)
    decision.changes = [*finder.unit_changes(leaves), *decision.changes]
    return decision


@dataclass(frozen=True, eq=False)
class _Reader:
    """A call of a layer that brings units together, and which of its inputs is looked at."""

    layer: Any
    index: int
    stream: Stream

    def kernel(self, axis: int) -> Any:
        """Return the kernel by which the layer reads units along an axis of the input.

        None where it has none, or no bias to take a constant.
        """
        layer, kind = self.layer, type(self.layer)
        if kind not in (layers.Dense, *CONVOLUTIONS, *_RECURRENT) or self.index:
            return None
        channels_first = getattr(layer, "data_format", "") == "channels_first"
        adapted = getattr(layer, "lora_enabled", False) or getattr(layer, "quantization_mode", None)
        if axis != (1 if channels_first else self.stream.rank - 1) or adapted:
            return None
        if getattr(layer, "groups", 1) > 1:
            return None
        if kind in _RECURRENT and layer.cell.bias is None:
            return None
        return np.asarray(_kernel(layer))


@dataclass(frozen=True, eq=False)
class _Reading:
    """A layer with a bias that reads constants: at which places of its input, and which."""

    layer: Any
    units: Units
    values: Array


class _Finder:
    """Finds what is constant in one graph under one choice of units."""

    def __init__(self, graph: Graph, kept: Mask, seen: dict[Key, Seen]) -> None:
        self._graph = graph
        self._kept = kept
        self._seen = seen
        self._bounds = self._by_tensor()
        self._readings: dict[int, list[_Reading]] = {}
        # Calls that `plan_calls` found to be needed.
        self._needed: list[Call] = []

    def whole(self, units: Mask) -> Mask:
        """Return the units that stay or go together with some."""
        return np.isin(self._graph.class_of, self._graph.class_of[units])

    # Units ------------------------------------------------------------------------------------

    def removable(self, fixed: Mask | None) -> Mask:
        """Find units that reach nothing but as constants, where their constant is not missed.

        Layers that give every unit by itself lose it with their input, whatever they would give
        for it. What brings units together must see a constant, and be able to do without.
        """
        shown, stays = np.zeros_like(self._kept), self._graph.protected.copy()
        for traced in self._graph.calls.values():
            for stream in traced.outputs:
                for units in stream.units.values():
                    shown[units[units != FIXED]] = True
        stays |= ~shown
        for blueprint in self._graph.blueprints.values():
            for binding in blueprint.bindings.values():
                # Units that act inside their layer, as the state of a recurrent cell does.
                for axis in binding.silence:
                    stays[binding.axes[axis][binding.axes[axis] != FIXED]] = True
        if fixed is not None:
            stays |= fixed
        for _, bounds, axis, units in self._mixed():
            low, high = _along(bounds, axis, len(units))
            varies = (low != high) | ~np.isfinite(low)
            stays[units[(units != FIXED) & varies]] = True
        constant = self._kept & ~self.whole(stays)
        for reader, bounds, axis, units in self._mixed():
            stays[self._missed(reader, bounds, axis, units, constant)] = True
        for readings in self._readings.values():
            first = readings[0]
            for other in readings[1:]:
                differ = first.values != other.values
                for one in (first.units, other.units):
                    stays[one[differ & (one != FIXED)]] = True
        return self._kept & ~self.whole(stays)

    def _mixed(self) -> Iterator[tuple[_Reader, Bounds, int, Units]]:
        """Yield every axis of units that is read by something which brings units together."""
        for key, traced in self._graph.calls.items():
            if type(traced.call.operation) in UNMIXING:
                continue
            seen = self._seen[key].inputs
            for index, (stream, bounds) in enumerate(zip(traced.inputs, seen, strict=True)):
                for axis, units in stream.units.items():
                    yield _Reader(traced.call.operation, index, stream), bounds, axis, units

    def _missed(
        self, reader: _Reader, bounds: Bounds, axis: int, units: Units, constant: Mask
    ) -> Units:
        """Return units whose constant a reader would miss; note those its bias can take."""
        values = np.where(_among(constant, units), _along(bounds, axis, len(units))[0], 0.0)
        kernel = reader.kernel(axis)
        if kernel is None:
            return np.asarray(units[values != 0])
        layer, read = reader.layer, np.zeros(len(units), dtype=bool)
        if getattr(layer, "padding", "valid") != "valid" and is_padded(layer):
            # A border sees the constant less often than the inside: only what is not read.
            read = (kernel != 0).reshape(-1, *kernel.shape[-2:]).any(axis=(0, 2))
        taken = np.where(read, 0.0, values)
        self._readings.setdefault(id(layer), []).append(_Reading(layer, units, taken))
        return np.asarray(units[read & (values != 0)])

    def shifts(self, leaves: Mask) -> dict[int, Array]:
        """Return what biases gain when units leave."""
        found = {}
        for key, readings in self._readings.items():
            one = readings[0]
            values = np.where(_among(leaves, one.units), one.values, 0.0)
            if values.any():
                kernel = _kernel(one.layer)
                shift = np.asarray(kernel, np.float64).reshape(-1, *kernel.shape[-2:]).sum(axis=0)
                found[key] = values @ shift
        return found

    def unit_changes(self, leaves: Mask) -> Iterator[Change]:
        """Say which layers lose constant units."""
        for name, family in self._graph.families.items():
            count = int(leaves[family.units].sum())
            if count:
                yield Change(name, f"{count} of {len(family.units)} units are constant", count)

    # Calls ------------------------------------------------------------------------------------

    def _by_tensor(self) -> dict[int, Bounds]:
        """Bounds by id of the user's symbolic tensor, over all calls of a nested model."""
        found: dict[int, Bounds] = {}
        for key, traced in self._graph.calls.items():
            for tensor, bounds in zip(traced.call.outputs, self._seen[key].outputs, strict=True):
                known = found.get(id(tensor))
                same = known is not None and known.low.shape == bounds.low.shape
                found[id(tensor)] = known.hull(bounds) if known and same else bounds
        _lift(self._graph.model, found)
        return found

    def plan_calls(self, decision: Decision) -> None:
        """Find the calls that are not needed, and what those that merge become."""
        self._needed = []
        self._plan_model(self._graph.model, (), "", decision, set())

    def refuse_constant_answers(self) -> None:
        """Refuse a plan that lets nothing of the signal get through.

        Raises:
            PlanError: An output would be constant.
        """
        if self._kept.all():
            return
        for tensor, output in zip(
            functional(self._graph.model).outputs, self._graph.outputs, strict=True
        ):
            if self._constant(id(tensor)):
                raise PlanError(
                    "The plan lets nothing of the signal get through: output "
                    f"{output.name!r} would be the same for every input. Keep at least one "
                    "unit of each layer on the way to it (select keeps one unless min_units=0)."
                )

    def _constant(self, tensor: int) -> bool:
        return tensor in self._bounds and self._bounds[tensor].constant

    def _plan_model(
        self, model: Any, key: Key, path: str, decision: Decision, done: set[int]
    ) -> None:
        if id(model) in done:
            return
        done.add(id(model))
        graph = functional(model)
        references = {id(t): _Reference(t) for t in graph.inputs}
        found = []
        for call, fill in calls(model, key=key, path=path):
            references.update({id(t): _Reference(t) for t in call.outputs})
            found.append((call, fill(references)))
        shown = {id(tensor) for tensor in graph.outputs}
        demanded = set(shown)
        nested = []
        for call, arguments in reversed(found):
            own = [id(t) for t in call.outputs]
            if demanded.isdisjoint(own):
                decision.skipped.add(own[0])
                decision.changes.append(Change(call.path, "removed: what it gives is constant"))
                continue
            self._needed.append(call)
            given = [a.tensor for a in tree.flatten(arguments) if isinstance(a, _Reference)]
            if is_graph(call.operation):
                nested.append(call)
            join = self._join(call, given, decision, own[0] in shown)
            if join is None:
                demanded.update(id(t) for t in given)
                continue
            demanded.update(join.inputs)
            decision.joins[own[0]] = join
            left = "passed through" if len(join.inputs) == 1 and join.trivial else "of fewer inputs"
            constant = "" if join.trivial else ", a constant in their place"
            decision.changes.append(Change(call.path, left + constant))
        for call in nested:
            self._plan_model(call.operation, call.key, call.path, decision, done)

    def _join(self, call: Call, given: list[Any], decision: Decision, show: bool) -> Join | None:
        kind = type(call.operation)
        one, none = np.ones(()), np.zeros(())
        streams = self._graph.calls[call.key].inputs if call.key in self._graph.calls else []
        keep = decision.keep
        if kind in (layers.Concatenate, knp.Concatenate):
            rank = len(call.shapes[0])
            axis = call.operation.axis % rank
            there = [stream.units.get(axis) for stream in streams]
            stays = [t for t, u in zip(given, there, strict=True) if u is None or keep.count(u)]
            if len(stays) in (0, len(given)):
                return None
            return Join([id(t) for t in stays], one, none, show)
        if kind not in (*SUMS, *_DIFFERENCES, *_PRODUCTS) or len(given) < 2:
            return None
        constant = [t for t in given if self._constant(id(t))]
        varying = [t for t in given if not self._constant(id(t))]
        shape = tuple(call.outputs[0].shape)
        if not constant or not varying or any(tuple(t.shape) != shape for t in varying):
            return None
        values = [self._bounds[id(t)].low for t in constant]
        if any(value.ndim != len(shape) - 1 for value in values):
            return None
        scale, offset = one, none
        if kind in _PRODUCTS:
            for value in values:
                scale = scale * value
        elif kind in _DIFFERENCES:
            minuend = given[0] is constant[0]
            scale, offset = (-one, values[0]) if minuend else (one, -values[0])
        else:
            offset = sum(values, none)
            if kind is layers.Average:
                scale, offset = one * len(varying) / len(given), offset / len(given)
        stream = self._graph.calls[call.key].outputs[0]
        narrow = [_vector(part, stream, keep) for part in (scale, offset)]
        if narrow[0] is None or narrow[1] is None:
            return None
        return Join([id(t) for t in varying], narrow[0], narrow[1], show)

    def missed(self, decision: Decision, leaves: Mask) -> Mask:
        """Return units that must come back, because a call that is needed has none left.

        Raises:
            PlanError: It is the plan that keeps none.
        """
        back = np.zeros_like(leaves)
        keep = decision.keep
        for call in self._needed:
            for units in self._touched(call, decision):
                if keep.count(units) or not len(units):
                    continue
                free = units[_among(leaves, units)]
                if not len(free):
                    raise PlanError(
                        f"The plan keeps nothing of what layer {call.path!r} "
                        f"({type(call.operation).__name__}) makes or reads, and the answers need "
                        "that layer all the same: what follows it cannot do with its constant. "
                        "Keep at least one unit of it (select keeps one unless min_units=0)."
                    )
                back[free[0]] = True
        return back

    def _touched(self, call: Call, decision: Decision) -> Iterator[Units]:
        if is_graph(call.operation):
            for stream in self._graph.entries[call.key]:
                yield from stream.units.values()
            return
        for stream in self._graph.calls[call.key].outputs:
            yield from stream.units.values()
        if id(call.outputs[0]) in decision.joins:
            return
        for stream in self._graph.calls[call.key].inputs:
            yield from stream.units.values()
        blueprint = self._graph.blueprints.get(id(call.operation))
        if blueprint and blueprint.skip and not decision.keep.all(blueprint.skip.unit):
            return
        for binding in (blueprint.bindings if blueprint else {}).values():
            yield from binding.axes.values()


@dataclass(frozen=True, eq=False)
class _Reference:
    """Stands for a symbolic tensor in a call's arguments."""

    tensor: Any


def _lift(model: Any, bounds: dict[int, Bounds]) -> None:
    """Give what calls of nested models return the bounds of what is returned inside."""
    for call, _ in calls(model):
        if not is_graph(call.operation):
            continue
        _lift(call.operation, bounds)
        for inner, outer in zip(functional(call.operation).outputs, call.outputs, strict=True):
            if id(inner) in bounds:
                bounds[id(outer)] = bounds[id(inner)]


def _along(bounds: Bounds, axis: int, size: int) -> tuple[Array, Array]:
    """Return bounds of each position of an axis, the batch axis counted, `(size,)` each."""
    if axis == 0:
        return np.full(size, -np.inf), np.full(size, np.inf)
    others = tuple(a for a in range(bounds.low.ndim) if a != axis - 1)
    low, high = bounds.low.min(axis=others), bounds.high.max(axis=others)
    return np.broadcast_to(low, size), np.broadcast_to(high, size)


def _among(mask: Mask, units: Units) -> Mask:
    """Return which positions hold a unit of a set."""
    return np.asarray((units != FIXED) & mask[units])


def _kernel(layer: Any) -> Any:
    return layer.cell.kernel if type(layer) in _RECURRENT else layer.kernel


def _vector(value: Array, stream: Stream, keep: Keep) -> Array | None:
    """Return a constant as Rescaling takes it, for the units that stay: a number, or a vector."""
    if not value.size or (value == value.flat[0]).all():
        return np.asarray(value.flat[0] if value.size else 0.0)
    if value.shape[-1] != value.size or keras.config.image_data_format() == "channels_first":
        return None
    units = stream.on(-1)
    vector = value.reshape(-1)
    vector = vector if units is None else vector[keep.where(units)]
    if vector.size and (vector == vector[0]).all():
        return np.asarray(vector[0])
    return vector
