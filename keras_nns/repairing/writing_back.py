"""Write subnetworks, also fine-tuned ones, back into their parent's shape."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

import keras
import numpy as np
from numpy.typing import NDArray

from keras_nns.errors import ProofError, SelectionError, SurgeryError
from keras_nns.graph import linear
from keras_nns.graph.generated_inputs import telling_inputs
from keras_nns.graph.rules import Keep
from keras_nns.graph.rules.records import Binding
from keras_nns.graph.tracing import Graph, trace
from keras_nns.plans.kept_units import Plan
from keras_nns.repairing.patient import record_of
from keras_nns.surgery.compiling import carry_compile_settings
from keras_nns.surgery.heads import answer_of
from keras_nns.surgery.precision import Side
from keras_nns.surgery.proving import proof_of
from keras_nns.surgery.rebuilding import Rebuilder

Rest = Literal["zero", "parent"]
RESTS: tuple[str, ...] = get_args(Rest)
Shared = Literal["error", "mean", "first"]
SHARED: tuple[str, ...] = get_args(Shared)

_ROUNDING = 1e-6
"""Weights that `cut` rescales come back to within this, relative to their largest."""


def write_back(
    subnets: keras.Model | Iterable[keras.Model],
    parent: keras.Model,
    *,
    rest: Rest = "zero",
    shared: Shared = "error",
    prove: bool = False,
    retrained: bool = False,
) -> Any:
    """Put the weights of subnetworks where they belong in a model of their parent's shape.

    The paper's Fig. 8. A subnetwork may have been trained, repaired or pruned since it was cut: its
    weights are taken as they are now. Every entry of every weight that a subnetwork holds goes to
    its place; what a head added (`"other"`, `"binary"`) has no place in the parent and is left out.

    Where nothing but weights brings units together, the model with `rest="zero"` answers what the
    one subnetwork answers. Operations without weights (a mean over units) also see what the layers
    make of zeros, such as the 0.5 of a sigmoid; `prove=True` finds that.

    Args:
        subnets: A model that `cut` gave, or several of one parent.
        parent: The model they were cut from. It is not changed.
        rest: What becomes of entries that no subnetwork holds: `"zero"`, or `"parent"` for the
            parent's own weights.
        shared: What an entry becomes that several subnetworks hold with different values:
            `"error"` refuses, `"mean"` takes their mean, `"first"` that of the first one given.
        prove: Compare the answers with the subnetwork's on generated inputs, and raise where they
            differ. For one subnetwork with `head="parent"` and `rest="zero"`.
        retrained: Accept a parent that was trained further since the subnetworks were selected.

    Returns:
        A new `keras.Model` with the parent's layers, names, trainable flags and compile settings.

    Raises:
        PlanError: A subnetwork does not say where it was cut from, or from another parent.
        SelectionError: No subnetwork was given, `rest` or `shared` is unknown, or subnetworks
            disagree and `shared` is `"error"`.
        SurgeryError: A subnetwork has other layers or sizes than its plan says.
        ProofError: `prove` is true and the two do not answer the same.

    Example:
        >>> fixed = nns.repair(three, model, x, steps=nns.steps.least_squares()).model
        >>> full = nns.write_back(fixed, model)
        >>> full.count_params() == model.count_params()
        True
    """
    for name, value, known in (("rest", rest, RESTS), ("shared", shared, SHARED)):
        if value not in known:
            raise SelectionError(f"Expected `{name}` to be one of {known}. Received: {value!r}.")
    models = several(subnets)
    graph = trace(parent)
    held = [_Held.of(model, graph, retrained) for model in models]
    rebuilder = Rebuilder(graph, Keep(np.ones(graph.unit_count, dtype=bool)))
    new = rebuilder.run()
    paths = {id(t.call.operation): t.call.path for t in graph.calls.values()}
    for old, layer in rebuilder.layers:
        for variable, target, parts in _places(graph, paths[id(old)], old, layer, held):
            # Of a weight without axes Keras gives a number.
            whole = np.asarray(target.numpy())
            target.assign(_settled(variable, whole, parts, rest, shared))
    carry_compile_settings(parent, new)
    if prove:
        _prove(new, models, held, graph, rest)
    return new


@dataclass(frozen=True, eq=False)
class _Held:
    """A subnetwork: which of the parent's units it holds, and its layers by path."""

    name: str
    plan: Plan
    head: str
    keep: Keep
    layers: dict[str, Any]

    @classmethod
    def of(cls, model: Any, graph: Graph, retrained: bool) -> _Held:
        record = record_of(model, graph.model, retrained=retrained)
        answer = answer_of(graph, record.plan, record.head, record.output)
        keep = graph.keep(record.plan, outputs=answer.narrowed)
        return cls(model.name, record.plan, record.head, keep, linear.layers_of(model))


@dataclass(frozen=True, eq=False)
class _Part:
    """What one subnetwork holds of one weight: where, and which values."""

    name: str
    place: Any
    value: NDArray[Any]
    rescaled: bool


def several(subnets: Any) -> list[Any]:
    """Return subnetworks as a list, also where one stands alone."""
    models = [subnets] if isinstance(subnets, keras.Model) else list(subnets)
    if not models:
        raise SelectionError("There is no subnetwork. Pass at least one.")
    for model in models:
        if not isinstance(model, keras.Model):
            hint = " cut() makes a model of a plan." if isinstance(model, Plan) else ""
            raise SelectionError(
                f"Expected a model that `cut` gave. Received: {type(model).__name__}.{hint}"
            )
    return models


def _places(
    graph: Graph, path: str, old: Any, new: Any, held: list[_Held]
) -> Iterator[tuple[str, Any, list[_Part]]]:
    """Yield every weight of a layer with what the subnetworks hold of it."""
    blueprint = graph.blueprints.get(id(old))
    targets = list(getattr(new, "variables", ()))
    floats = [i for i, v in enumerate(targets) if "float" in str(v.dtype)]
    parts: dict[int, list[_Part]] = {index: [] for index in floats}
    for one in held:
        variables = _variables(path, old, targets, one) if floats else []
        for index in floats:
            binding = blueprint.bindings.get(index) if blueprint else None
            title = f"{path}/{targets[index].name}"
            parts[index].append(_part(title, targets[index], variables[index], binding, one))
    for index in floats:
        yield f"{path}/{targets[index].name}", targets[index], parts[index]


def _variables(path: str, old: Any, targets: list[Any], one: _Held) -> list[Any]:
    layer = one.layers.get(path)
    advice = (
        "Write a subnetwork back before layers are folded, removed, replaced or added to: after "
        "that it has no longer the parent's."
    )
    if layer is None:
        raise SurgeryError(f"Subnetwork {one.name!r} has no layer {path!r}. {advice}")
    variables = list(layer.variables)
    if type(layer) is not type(old) or len(variables) != len(targets):
        raise SurgeryError(
            f"Layer {path!r} of subnetwork {one.name!r} is a {type(layer).__name__} with "
            f"{len(variables)} variables, the parent's a {type(old).__name__} with "
            f"{len(targets)}. {advice}"
        )
    return variables


def _part(title: str, target: Any, variable: Any, binding: Binding | None, one: _Held) -> _Part:
    where = [np.arange(size) for size in target.shape]
    for axis, units in (binding.axes if binding else {}).items():
        where[axis] = one.keep.where(units)
    shape = tuple(map(len, where))
    if tuple(variable.shape) != shape:
        raise SurgeryError(
            f"Weight {title!r} of subnetwork {one.name!r} is of shape {tuple(variable.shape)}; by "
            f"its plan it holds {shape} of the parent's {tuple(target.shape)}."
        )
    value = np.asarray(variable.numpy())
    scale = binding.scale if binding else None
    if scale is not None:
        value = (value / scale(one.keep)).astype(value.dtype)
    return _Part(one.name, np.ix_(*where), value, scale is not None)


def _settled(
    title: str, value: NDArray[Any], parts: list[_Part], rest: str, shared: str
) -> NDArray[Any]:
    """Return a whole weight from its parts."""
    result = value.copy() if rest == "parent" else np.zeros_like(value)
    if shared == "mean":
        total, count = np.zeros(value.shape), np.zeros(value.shape)
        for part in parts:
            total[part.place] += part.value
            count[part.place] += 1
        taken = count > 0
        result[taken] = (total[taken] / count[taken]).astype(value.dtype)
        return result
    taken = np.zeros(value.shape, dtype=bool)
    for part in parts:
        free = ~taken[part.place]
        known = result[part.place]
        allowed = _ROUNDING * np.abs(part.value).max(initial=0) if part.rescaled else 0.0
        other = ~free & ~(np.abs(known - part.value) <= allowed)
        if shared == "error" and other.any():
            most = np.max(np.abs(known - part.value), where=other, initial=0.0)
            raise SelectionError(
                f"Subnetwork {part.name!r} holds {int(other.sum())} entries of {title!r} with "
                f"other values than those before it (by up to {most:.2g}): they were trained "
                "apart. Say how to settle it: shared='mean' or shared='first'."
            )
        result[part.place] = np.where(free, part.value, known)
        taken[part.place] = True
    return result


def _prove(new: Any, models: list[Any], held: list[_Held], graph: Graph, rest: str) -> None:
    if len(models) > 1 or held[0].head != "parent" or rest != "zero":
        raise SelectionError(
            "A write-back can be proven for one subnetwork with head='parent' and rest='zero'. "
            f"Received: {len(models)} subnetworks, the first with head={held[0].head!r}, and "
            f"rest={rest!r}."
        )
    inputs = telling_inputs(graph, models[0], 8, seed=0)
    # Norms over fewer units were written back with gains that were computed, and rounded.
    proof = proof_of(Side(new, inputs), Side(models[0], inputs), rounded=True)
    if not proof.exact:
        raise ProofError(
            f"Written back, {models[0].name!r} answers otherwise, by up to {proof.relative:.2g} of "
            "the output's scale: an operation without weights reads units that are zero in one and "
            "gone in the other. Use mask(), which forces them to zero."
        )
