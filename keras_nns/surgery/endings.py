"""How a model ends: its last Dense, what stands before and behind it, and the labels it has."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import keras
import numpy as np
from keras import layers

from keras_nns.data.labels import answers_once
from keras_nns.errors import DataError, SurgeryError
from keras_nns.graph.keras_internals import calls, functional
from keras_nns.graph.tracing import Graph, trace
from keras_nns.plans.kept_units import Plan
from keras_nns.surgery.lineage import Lineage, answering_place, origin_of


def backwards(tensor: Any, *, pointwise: bool = False) -> Iterator[tuple[Any, Any]]:
    """Walk from an output to the last Dense: layers with what they are called on.

    Args:
        tensor: The output.
        pointwise: Whether a convolution that is a Dense on its only position counts as one, and
            what takes that position away behind it is passed.
    """
    passed = (layers.Softmax, layers.Activation, layers.Dropout, layers.Identity)
    while True:
        layer, node_index, _ = tensor._keras_history
        node = layer._inbound_nodes[node_index]
        if not isinstance(layer, (*passed, layers.Dense)) and not (
            pointwise and (_is_pointwise(layer) or _is_squeeze(node))
        ):
            return
        (tensor,) = node.input_tensors
        yield layer, tensor


def _is_squeeze(node: Any) -> bool:
    """Return whether a call takes away, or adds, positions of which there is one."""
    if not isinstance(node.operation, layers.Flatten | layers.Reshape):
        return False
    (before,), (behind,) = node.input_tensors, node.output_tensors
    return answers_once(before.shape) and answers_once(behind.shape)


def _is_pointwise(layer: Any) -> bool:
    """Return whether a convolution looks at one position of its input, all channels of it."""
    return (
        type(layer) in (layers.Conv1D, layers.Conv2D, layers.Conv3D)
        and set(layer.kernel_size) == {1}
        and layer.groups == 1
        and layer.data_format == "channels_last"
    )


def is_own(layer: Any, head: str) -> bool:
    """Return whether a layer answers, and is not the Dense that `cut` adds to sum probabilities."""
    if type(layer) is not layers.Dense and not _is_pointwise(layer):
        return False
    added = head in ("binary", "other") and layer.name.startswith(f"{head}_head")
    return not (added and np.isin(np.asarray(layer.kernel), (-1, 0, 1)).all())


def head_of(model: keras.Model, record: Lineage) -> tuple[Any, Any, list[Any]]:
    """Find the last Dense of a model: it, what it is called on, and the layers behind it.

    Raises:
        SurgeryError: The model does not end in one.
    """
    index = answering_place(model, record)
    behind: list[Any] = []
    for layer, before in backwards(functional(model).outputs[index]):
        if is_own(layer, "parent" if record.taught else record.head):
            return layer, before, behind[::-1]
        behind.append(layer)
    paths = [call.path for call, _ in calls(model)]
    raise SurgeryError(
        f"Model {model.name!r} does not end in a Dense layer, so where its head begins does not "
        f"show. Name the last layer of its features as up_to=…, one of {paths}."
    )


def hidden_inputs(tensor: Any, *, joined: bool = False) -> Iterator[Any]:
    """Walk from what a head reads: what each hidden Dense before it is called on, the last first.

    Args:
        tensor: What the head is called on.
        joined: Whether to go on before a Concatenate, by the first it joins.
    """
    passed: Any = (layers.Activation, layers.ReLU, layers.Dropout, layers.BatchNormalization)
    passed += (layers.Dense, layers.Concatenate) if joined else (layers.Dense,)
    while True:
        layer, node_index, _ = tensor._keras_history
        if not isinstance(layer, passed):
            return
        tensor = layer._inbound_nodes[node_index].input_tensors[0]
        if type(layer) is layers.Dense:
            yield tensor


def whole_lineage(model: keras.Model) -> Lineage:
    """Return where a model comes from: for one that was not cut, all of itself.

    So what is taught something new remembers of what, and keeps the names of its labels.
    """
    record = origin_of(model)
    if isinstance(record, Lineage):
        return record
    graph = trace(model)
    plan = whole_plan(graph)
    if record is None:
        return Lineage(plan, "parent", (), (), graph.outputs[0].name)
    plan, names = replace(plan, seen=record.seen), record.label_names
    return Lineage(plan, "parent", (None,) * len(names), names, record.output, taught=True)


def whole_plan(graph: Graph) -> Plan:
    """Return the plan that keeps every unit of a model."""
    sizes = {group.name: group.size for group in graph.layout.prunable}
    whole = {name: tuple(range(size)) for name, size in sizes.items()}
    return Plan(graph.fingerprint, sizes, whole)


def remembered_names(model: keras.Model) -> tuple[str, ...]:
    """Return the names of the labels that a model answers, where it remembers them."""
    record = origin_of(model)
    if record is None or record.label_names:
        return () if record is None else record.label_names
    return record.known_names


def names_of(record: Lineage, width: int, given: Sequence[Any] | None) -> tuple[str, ...]:
    """Name the labels that a model has, from the most to the least certain source."""
    if given is not None and len(given) != width:
        raise DataError(
            f"label_names has {len(given)} names and the model {width} outputs. Name every one."
        )
    for names in (given, record.label_names, record.plan.label_names):
        if names is not None and len(names) == width:
            return tuple(str(name) for name in names)
    return tuple(str(i) for i in range(width))
