"""What layers read and how much their outputs matter to a decision: moments of both."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import activations, ops, tree
from numpy.typing import NDArray

from keras_nns.data.batches import Batch, Batches, unweighted
from keras_nns.engine.derivatives import Tape
from keras_nns.errors import DataError, SelectionError
from keras_nns.graph import linear
from keras_nns.graph.keras_internals import (
    Call,
    accepts_training,
    standardise_inputs,
    walk,
)
from keras_nns.graph.tracing import Graph, Output, TracedCall
from keras_nns.observation.label_losses import Objective
from keras_nns.observation.moments import MomentSums
from keras_nns.observation.passes import run_compiled

Float = NDArray[np.float64]

_MOST = 2**27
"""Numbers of moments held at once, 1 GiB in float64; with more, layers take turns."""
_VALUES = 2**23
"""About how many features are held at once while moments are summed."""
_OWN, _REST = 0, 1


@dataclass(frozen=True)
class Question:
    """What is asked of a model: a decision between labels.

    Attributes:
        graph: The traced model.
        answering: The output that answers the labels.
        margin: How far the decision is from turning.
        labels: Numbers of the labels that are decided between.
        alone: Whether samples of other labels are left out.
    """

    graph: Graph
    answering: Output
    margin: Objective
    labels: tuple[int, ...]
    alone: bool


@dataclass(frozen=True, eq=False)
class Reading:
    """What one layer reads.

    Attributes:
        covariance: Of its features, both halves weighing alike, `(features, features)`.
        kernel: `(features, outputs)`.
        importance: Products of the margin's gradients at its outputs, summed over positions, mean
            over samples, `(outputs, outputs)`.
        sets: Which set of units each feature comes from, `(features,)`.
    """

    covariance: Float
    kernel: Float
    importance: Float
    sets: NDArray[np.int64]


def linear_calls(graph: Graph) -> dict[str, TracedCall]:
    """Return the layers that can be refitted and read units, by path; the first call of each."""
    found: dict[str, TracedCall] = {}
    for traced in graph.calls.values():
        if linear.is_linear(traced.call.operation) and traced.inputs:
            found.setdefault(traced.call.path, traced)
    return {path: traced for path, traced in found.items() if units_read(graph, traced).size}


def units_read(graph: Graph, traced: TracedCall) -> NDArray[np.int64]:
    """Return what a layer's input holds on the axis it sums over: numbers of sets of units."""
    first = getattr(traced.call.operation, "data_format", "") == "channels_first"
    units = traced.inputs[0].on(1 if first else -1)
    return np.empty(0, np.int64) if units is None else graph.class_of[units]


def readings(
    question: Question, layers: dict[str, TracedCall], batches: Batches
) -> dict[str, Reading]:
    """Sum the moments of every layer's features and of the margin's gradients at its outputs."""
    found: dict[str, Reading] = {}
    for portion in _portions(layers):
        sums = {
            path: MomentSums(linear.feature_count(layer), int(layer.kernel.shape[-1]))
            for path, layer in portion.items()
        }
        samples = _stream(question, portion, layers, sums, batches)
        for path, layer in portion.items():
            found[path] = _reading(question.graph, layers[path], layer, sums[path], samples)
    return found


def _portions(layers: dict[str, TracedCall]) -> Iterator[dict[str, Any]]:
    portion: dict[str, Any] = {}
    held = 0
    for path, traced in layers.items():
        layer = traced.call.operation
        size = (linear.feature_count(layer) + int(layer.kernel.shape[-1])) ** 2
        if size > _MOST:
            raise SelectionError(
                f"reconstruction would hold {size:,} numbers for layer {path!r}, above {_MOST:,}. "
                "Use forward_selection or contrast for this model."
            )
        if portion and held + size > _MOST:
            yield portion
            portion, held = {}, 0
        portion[path] = layer
        held += size
    if portion:
        yield portion


def _stream(
    question: Question,
    portion: dict[str, Any],
    layers: dict[str, TracedCall],
    sums: dict[str, MomentSums],
    batches: Batches,
) -> NDArray[np.int64]:
    """Go over the data once; return how many samples of either part there were."""
    widest = max(
        linear.feature_count(layer)
        * linear.position_count(layer, layers[path].call.shapes[0])
        for path, layer in portion.items()
    )  # fmt: skip
    samples = np.zeros(2, dtype=np.int64)

    def add(inputs: Any, part: Any) -> None:
        _add(question, portion, sums, inputs, part)

    def dealt() -> Iterator[tuple[Any, Any]]:
        nonlocal samples
        for batch in unweighted(batches, "reconstruction"):
            inputs, part = _dealt(question, batch)
            samples += np.bincount(part, minlength=2)
            if len(part):
                yield inputs, part

    run_compiled(add, dealt(), models=[question.graph.model], at_once=max(1, _VALUES // widest))
    if not samples[_OWN]:
        raise DataError("The data has no sample of the labels that the subnetwork is to answer.")
    return samples


def _dealt(question: Question, batch: Batch) -> tuple[Any, NDArray[np.int32]]:
    """Return a batch's inputs and whether each sample is of the labels; those alone if asked."""
    labels = list(question.labels)
    multi = batch.labels.ndim == 2
    own = batch.labels[:, labels].any(axis=1) if multi else np.isin(batch.labels, labels)
    if not question.alone:
        return batch.inputs, np.where(own, _OWN, _REST).astype(np.int32)
    return tree.map_structure(lambda t: t[own], batch.inputs), np.zeros(own.sum(), np.int32)


def _add(
    question: Question,
    portion: dict[str, Any],
    sums: dict[str, MomentSums],
    inputs: Any,
    part: Any,
) -> None:
    """Add a batch to the moments. Runs inside a compiled step."""
    graph = question.graph
    seen: list[tuple[str, Any, Any]] = []
    with Tape() as tape:

        def visit(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            layer = call.operation
            if call.path in portion:
                x = tree.flatten((args, kwargs))[0]
                before = _before_activation(layer, x)
                tape.watch(before)
                seen.append((call.path, x, before))
                return _activated(layer, x, before)
            if accepts_training(layer):
                kwargs = {**kwargs, "training": False}
            return layer(*args, **kwargs)

        outputs = walk(graph.model, standardise_inputs(graph.model, inputs), visit)
        answer = outputs[graph.outputs.index(question.answering)]
        value = ops.sum(question.margin(answer, part))
    gradients = tape.gradients(value, [before for _, _, before in seen])
    for (path, x, before), found in zip(seen, gradients, strict=True):
        layer = portion[path]
        slopes = ops.zeros_like(before) if found is None else found
        rows = linear.features(layer, x)
        slopes = ops.reshape(slopes, (-1, layer.kernel.shape[-1]))
        positions = ops.shape(rows)[0] // ops.shape(part)[0]
        sums[path].update(rows, slopes, ops.repeat(part, positions), _steps_that_count(x, rows))


def _steps_that_count(x: Any, rows: Any) -> Any:
    mask = getattr(x, "_keras_mask", None) if len(x.shape) == 3 else None
    if mask is None:
        return ops.ones(ops.shape(rows)[:1], "float64")
    return ops.reshape(ops.cast(mask, "float64"), (-1,))


def _before_activation(layer: Any, x: Any) -> Any:
    """Compute a layer up to its activation, float32, channels last."""
    given = linear.apply(layer, x, layer.kernel)
    return given if layer.bias is None else given + ops.cast(layer.bias, "float32")


def _activated(layer: Any, x: Any, before: Any) -> Any:
    """Return what the layer gives."""
    activation = layer.activation or activations.linear
    if getattr(layer, "data_format", "") == "channels_first":
        before = ops.moveaxis(before, -1, 1)
    given = activation(ops.cast(before, layer.compute_dtype))
    mask = getattr(x, "_keras_mask", None)
    if mask is not None and layer.supports_masking:
        given._keras_mask = mask
    return given


def _reading(
    graph: Graph, traced: TracedCall, layer: Any, sums: MomentSums, samples: NDArray[np.int64]
) -> Reading:
    """Bring the moments of both parts together, each with half the weight."""
    size = linear.feature_count(layer)
    parts = [part for part in (_OWN, _REST) if samples[part]]
    moments = [sums.of(part) for part in parts]
    share = 1 / len(parts)
    means = np.stack([m.mean[0] for m in moments])
    mean = means.mean(axis=0)
    covariance = sum(
        share * (m.covariance[:size, :size] + np.outer(one - mean, one - mean))
        for m, one in zip(moments, means, strict=True)
    )
    importance = sum(
        share * m.about_zero().second[size:, size:] / samples[part]
        for m, part in zip(moments, parts, strict=True)
    )
    kernel = np.asarray(layer.kernel, dtype=np.float64).reshape(size, -1)
    read = units_read(graph, traced)
    sets = np.tile(read, size // len(read))
    return Reading(np.asarray(covariance), kernel, np.asarray(importance), sets)
