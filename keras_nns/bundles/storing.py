"""Store subnetworks in a bundle, and build models from one."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from copy import deepcopy
from os import PathLike
from typing import Any, TypeAlias

import keras
import numpy as np
from numpy.typing import NDArray

from keras_nns.bundles import kept_rows
from keras_nns.bundles.archive import Bundle, Which, content_of, unit_mask
from keras_nns.bundles.kept_rows import VALUES, Values
from keras_nns.bundles.parent_weights import Mask, Weight
from keras_nns.errors import FileError, ModelError, PlanError, SelectionError, SurgeryError
from keras_nns.files.atomic import Json, refuse_existing
from keras_nns.graph.tracing import Graph, trace
from keras_nns.plans.kept_units import Plan, union
from keras_nns.plans.units import Layout
from keras_nns.surgery.cutting import cut
from keras_nns.surgery.lineage import Head, lineage

Subnet: TypeAlias = "Plan | keras.Model"
Subnets: TypeAlias = "Subnet | Iterable[Subnet] | Mapping[str, Subnet]"


def store(
    parent: keras.Model,
    subnets: Subnets,
    path: str | PathLike[str],
    *,
    values: Values = "exact",
    overwrite: bool = False,
) -> Bundle:
    """Write subnetworks of one parent into one file: kept rows and where they belong.

    A row that several subnetworks keep is stored once. The file holds the parent's architecture,
    so models can be built from it alone. It is a safetensors file: no pickle, and any reader of
    that format sees the tensors.

    Vectorised weights are section 3.5 of the paper.

    Args:
        parent: The model that the plans are of.
        subnets: Plans, or models that `cut` gave: one, several, or by name. Without names they are
            named after their labels.
        path: Where to; must end in `.safetensors`.
        values: `"exact"` keeps every bit; `"float16"` and `"int8"` (one scale per row) make kernels
            smaller and answers approximate.
        overwrite: Whether an existing file may be replaced.

    Returns:
        The bundle, opened.

    Raises:
        PlanError: A plan is of another model, or empties a layer.
        SelectionError: No subnetwork was given, two have one name, or one was trained or repaired
            since it was cut, so that its weights are not the parent's; or `values` is unknown.
        SurgeryError: The parent's architecture cannot be written down, or its numbers do not fit
            `values`.
        FileError: The file exists and `overwrite` is false, or cannot be written.

    Example:
        >>> plans = nns.select(activity, labels="each")
        >>> print(nns.store(model, plans, "digits.safetensors"))
        Bundle of 10 subnetworks (0, 1, 2, 3, 4, 5, 6, 7, 8, 9)
    """
    if values not in VALUES:
        raise SelectionError(f"Expected `values` to be one of {VALUES}. Received: {values!r}.")
    if not os.fspath(path).endswith(".safetensors"):
        raise FileError(f"A bundle's name must end in `.safetensors`. Received: {path!r}.")
    refuse_existing(path, overwrite=overwrite)
    graph = trace(parent)
    plans = {name: _plan(parent, name, one) for name, one in _by_name(subnets).items()}
    for name, plan in plans.items():
        _check(graph, name, plan)
    layout = Layout(graph.layout.prunable)
    starts = {
        member.layer: int(graph.families[member.layer].units[0])
        for group in layout.groups
        for member in group.members
    }
    masks = [unit_mask(plan, layout, starts, graph.unit_count) for plan in plans.values()]
    # A kernel between two groups needs, for a union of labels, also the rows of one label that
    # lead to columns of another: so what is stored is the union's.
    together = unit_mask(union(plans.values()), layout, starts, graph.unit_count)
    weights, arrays = _weights(graph, masks)
    content = content_of(plans, layout, starts, _architecture(parent, graph))
    kept_rows.write(path, content, weights, arrays, together, values=values, overwrite=overwrite)
    return Bundle.open(path)


def restore(
    bundle: Bundle | str | PathLike[str],
    which: Which,
    *,
    head: Head = "parent",
    output: str | None = None,
    full: bool = False,
) -> Any:
    """Build a stored subnetwork as a Keras model; the parent is not needed.

    Args:
        bundle: The bundle, or its path.
        which: A name, a plan of units that the bundle holds, or several of these, which are
            united: the paper's integration. Their order does not matter.
        head: What the model answers, as in `cut`.
        output: Name of the output that answers the labels, for a parent with several.
        full: Whether to build the parent's full size with zeros (the paper's Fig. 8) instead of
            the small model. It answers all the parent's labels.

    Returns:
        A `keras.Model`, not compiled.

    Raises:
        FileError: The file is damaged, or its layers cannot be built: one of your own must be
            imported first, and a Lambda layer made of code is never loaded.
        SelectionError: No subnetwork has such a name, or a head was asked of the full size.
        PlanError: The bundle does not hold the plan.
        SurgeryError: The head does not fit the model.

    Example:
        >>> bundle = nns.store(model, nns.select(activity, labels="each"), "digits.safetensors")
        >>> both = nns.restore("digits.safetensors", ["3", "8"], head="labels")
        >>> both.output_shape
        (None, 2)
    """
    if full and head != "parent":
        raise SelectionError(
            f"The full size answers what the parent does. Received: head={head!r}. Build the "
            "small model with it."
        )
    if not isinstance(bundle, Bundle):
        bundle = Bundle.open(bundle)
    plan = bundle.plan(which)
    weights = bundle.weights(plan, full=True)
    model = _revived(bundle.architecture, bundle.path)
    layers = dict(_layers(trace(model)))
    for name, path, index in bundle.layers:
        variables = layers[path].variables if path in layers else []
        if index >= len(variables) or tuple(variables[index].shape) != weights[name].shape:
            raise FileError(
                f"{bundle.path!r}: its layer {path!r} has no place for the weight {name!r}. A "
                "layer of your own may have changed since the bundle was stored."
            )
        variables[index].assign(weights[name])
    for layer in layers.values():
        if hasattr(layer, "finalize_state"):
            layer.finalize_state()
    if full:
        return model
    return cut(model, plan, head=head, output=output, retrained=True)


def _by_name(subnets: Subnets) -> dict[str, Any]:
    if isinstance(subnets, Mapping):
        named = [(str(name), one) for name, one in subnets.items()]
    else:
        several = [subnets] if isinstance(subnets, Plan | keras.Model) else list(subnets)
        named = [(_name(one), one) for one in several]
    names = [name for name, _ in named]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise SelectionError(
            f"Several subnetworks would be named {twice}. Name them: pass a dictionary."
        )
    if not named:
        raise SelectionError("There is no subnetwork to store. Pass at least one plan.")
    return dict(named)


def _name(subnet: Any) -> str:
    origin = None if isinstance(subnet, Plan) else lineage(subnet)
    plan = subnet if isinstance(subnet, Plan) else origin.plan if origin else None
    return " + ".join(plan.names) if plan is not None else getattr(subnet, "name", str(subnet))


def _plan(parent: keras.Model, name: str, subnet: Any) -> Plan:
    if isinstance(subnet, Plan):
        return subnet
    origin = lineage(subnet)
    if origin is None:
        raise SelectionError(
            f"Subnetwork {name!r} must be a Plan, or a model that `cut` gave. Received: "
            f"{type(subnet).__name__}."
        )
    output = origin.output if origin.head != "parent" else None
    anew = cut(parent, origin.plan, head=origin.head, output=output)
    pairs = zip(anew.weights, subnet.weights, strict=False)
    same = len(anew.weights) == len(subnet.weights) and all(
        np.array_equal(np.asarray(a.numpy()), np.asarray(b.numpy())) for a, b in pairs
    )
    if not same:
        raise SelectionError(
            f"Subnetwork {name!r} was trained or repaired since it was cut, so it has weights of "
            "its own and shares none with the parent. Save it with save_model."
        )
    return origin.plan


def _check(graph: Graph, name: str, plan: Plan) -> None:
    sizes = {group.name: group.size for group in graph.layout.prunable}
    if plan.fingerprint != graph.fingerprint or dict(plan.sizes) != sizes:
        raise PlanError(
            f"The plan of {name!r} is of another model than {graph.model.name!r}, or of this one "
            "before it was trained further. Observe this model and select again."
        )
    empty = [group for group in plan.empty if not graph.layout[group].protected]
    if empty:
        raise PlanError(
            f"The plan of {name!r} empties {', '.join(map(repr, empty))}, so no model can be built "
            "from it. Keep at least one unit."
        )


def _layers(graph: Graph) -> list[tuple[str, Any]]:
    """List every layer with weights once, by the path of its first call."""
    found: dict[int, tuple[str, Any]] = {}
    for traced in graph.calls.values():
        operation = traced.call.operation
        if getattr(operation, "variables", ()):
            found.setdefault(id(operation), (traced.call.path, operation))
    return list(found.values())


def _weights(graph: Graph, masks: list[Mask]) -> tuple[list[Weight], list[NDArray[Any]]]:
    weights, arrays, taken = [], [], set()
    for path, layer in _layers(graph):
        blueprint = graph.blueprints.get(id(layer))
        for index, variable in enumerate(layer.variables):
            name = f"{path}/{variable.name}"
            name = f"{name}_{index}" if name in taken else name
            taken.add(name)
            binding = blueprint.bindings.get(index) if blueprint else None
            axes = {a: u.astype(np.int32) for a, u in (binding.axes if binding else {}).items()}
            array = np.asarray(variable.numpy())
            weight = Weight(name, path, index, array.shape, array.dtype.name, axes, None)
            row = _row_axis(weight, masks)
            weights.append(Weight(name, path, index, array.shape, array.dtype.name, axes, row))
            arrays.append(array)
    return weights, arrays


def _row_axis(weight: Weight, masks: list[Mask]) -> int | None:
    """Choose the axis along which a single subnetwork keeps least; vectors are read whole."""
    if len(weight.shape) < 2:
        return None
    every = [weight.positions(np.append(mask, True)) for mask in masks]
    kept = {
        axis: sum(len(where[axis]) for where in every) / weight.shape[axis]
        for axis in weight.axes
        if weight.shape[axis]
    }
    return min(kept, key=lambda axis: kept[axis], default=None)


def _architecture(parent: keras.Model, graph: Graph) -> Json:
    """Write the parent's layers down, and make sure that they can be read back."""
    for path, layer in _layers_with_assets(graph):
        raise SurgeryError(
            f"Layer {path!r} ({type(layer).__name__}) has learnt a vocabulary, which is no weight "
            "and which a bundle does not hold. Cut the model and save it with save_model."
        )
    written = keras.saving.serialize_keras_object(parent)
    # How it was built follows from its inputs; how it was compiled is no part of what it answers.
    for key in ("build_config", "compile_config"):
        written.pop(key, None)
    try:
        architecture: Json = json.loads(json.dumps(written))
        same = trace(_revived(architecture, parent.name)).structure == graph.structure
    except (FileError, TypeError, ValueError) as error:
        raise SurgeryError(
            f"The layers of {parent.name!r} cannot be written down and read back, so no bundle "
            f"could be built from: {error}"
        ) from error
    if not same:
        raise SurgeryError(
            f"The layers of {parent.name!r} come back otherwise when they are written down and "
            "read back. A layer of your own may have an incomplete `get_config`."
        )
    return architecture


def _layers_with_assets(graph: Graph) -> list[tuple[str, Any]]:
    return [
        (traced.call.path, traced.call.operation)
        for traced in graph.calls.values()
        if hasattr(traced.call.operation, "save_assets")
    ]


def _revived(architecture: Json, source: str) -> keras.Model:
    try:
        # Keras empties the dictionary that it is given.
        model = keras.saving.deserialize_keras_object(deepcopy(architecture), safe_mode=True)
    except Exception as error:  # Keras raises what a layer's own code raises.
        text = " ".join(str(error).split())[:400]
        raise FileError(f"{source!r}: the parent's layers cannot be built: {text}") from error
    if not isinstance(model, keras.Model):
        raise ModelError(f"{source!r} describes a {type(model).__name__}, which is no model.")
    return model
