"""What layers read and how much their outputs matter to a decision: moments of both."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import numpy as np
from keras import activations, ops, tree
from numpy.typing import NDArray

from keras_nns.data.batches import Batch, Batches, unweighted
from keras_nns.engine.derivatives import Watch, differentiated
from keras_nns.engine.layers import mask_of, with_mask
from keras_nns.engine.logits import activated, logits_left
from keras_nns.engine.steps import Stepper
from keras_nns.engine.tensors import as_array
from keras_nns.errors import DataError, SelectionError
from keras_nns.graph import linear
from keras_nns.graph.keras_internals import (
    Call,
    accepts_training,
    standardise_inputs,
    undisturbed,
    walk,
)
from keras_nns.graph.tracing import Graph, Output, TracedCall
from keras_nns.observation.label_losses import Objective
from keras_nns.observation.moments import MomentSums
from keras_nns.progress import reached

Float = NDArray[np.float64]

_MOST = 2**27
"""Numbers of moments held at once, 1 GiB in float64; with more, layers take turns."""
_VALUES = 2**22
"""About how many features are held at once while moments are summed."""
_HELD = 2**23
"""About how many numbers that layers read and give are held at once, 32 MiB in float32."""
_WIDE = 64
"""Features or outputs from which on products take most of the time, and are made in float32."""
_OWN, _REST = _PARTS = 0, 1


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
    portions = list(_portions(layers))
    for place, portion in enumerate(portions):
        sums = {path: _Sums(layer) for path, layer in portion.items()}
        samples = _stream(question, portion, sums, batches, (place, len(portions)))
        for path, layer in portion.items():
            found[path] = _reading(question.graph, layers[path], layer, sums[path], samples)
    return found


class _Sums:
    """Moments of what one layer reads, and of the margin's gradients at its outputs.

    Args:
        layer: The layer.
    """

    def __init__(self, layer: Any) -> None:
        self._layer = layer
        self.features = _sums(linear.feature_count(layer))
        self.slopes = _sums(int(layer.kernel.shape[-1]))

    def add(
        self,
        x: NDArray[Any],
        slopes: NDArray[Any],
        part: NDArray[np.int32],
        counts: NDArray[Any] | None,
    ) -> None:
        """Add a batch.

        Args:
            x: What the layer is called on.
            slopes: Gradients at its outputs, channels last.
            part: Which part each sample is of, rising.
            counts: Which steps of the samples count; None for all.
        """
        size = linear.feature_count(self._layer)
        positions = math.prod(slopes.shape[1:-1])
        most = max(1, _VALUES // (size * positions))
        for start in range(0, len(part), most):
            some = slice(start, start + most)
            rows = linear.features(self._layer, x[some])
            parts = part[some].repeat(positions)
            weight = np.ones(len(rows)) if counts is None else counts[some].reshape(-1)
            self.features.update(rows, None, parts, weight)
            self.slopes.update(slopes[some].reshape(len(rows), -1), None, parts, weight)


def _sums(width: int) -> MomentSums:
    kind = "float32" if width >= _WIDE else "float64"
    return MomentSums(width, 0, parts=len(_PARTS), multiplied=kind)


def _portions(layers: dict[str, TracedCall]) -> Iterator[dict[str, Any]]:
    portion: dict[str, Any] = {}
    held = 0
    for path, traced in layers.items():
        layer = traced.call.operation
        size = linear.feature_count(layer) ** 2 + int(layer.kernel.shape[-1]) ** 2
        if size > _MOST:
            raise SelectionError(
                f"reconstruction would hold {size:,} numbers for layer {path!r}, above {_MOST:,}. "
                "Use forward_selection or contrast for this model."
            )
        if portion and held + len(_PARTS) * size > _MOST:
            yield portion
            portion, held = {}, 0
        portion[path] = layer
        held += len(_PARTS) * size
    if portion:
        yield portion


def _stream(
    question: Question,
    portion: dict[str, Any],
    sums: dict[str, _Sums],
    batches: Batches,
    turn: tuple[int, int],
) -> NDArray[np.int64]:
    """Go over the data once; return how many samples of either part there were.

    Args:
        question: What is asked.
        portion: The layers that are looked at.
        sums: What is summed of each.
        batches: The data.
        turn: Which pass it is, and of how many.
    """
    samples = np.zeros(len(_PARTS), dtype=np.int64)
    paths: list[str] = []
    most = _at_once(question.graph, portion)

    def look(inputs: Any, part: Any) -> list[list[Any]]:
        return _slopes(question, portion, inputs, part, paths)

    step = Stepper(look)
    with undisturbed(question.graph.model):
        for number, batch in enumerate(unweighted(batches, "reconstruction")):
            if batches.batches:
                reached(turn[0] + number / batches.batches, turn[1])
            inputs, part = _dealt(question, batch)
            samples += np.bincount(part, minlength=len(_PARTS))
            for start in range(0, len(part), most):
                some = slice(start, start + most)
                found = step(tree.map_structure(itemgetter(some), inputs), part[some])
                for path, seen in zip(paths, found, strict=True):
                    x, slopes, *counts = map(as_array, seen)
                    # A layer may be called on several rows for each sample.
                    each = part[some].repeat(len(x) // len(part[some]))
                    sums[path].add(x, slopes, each, counts[0] if counts else None)
    if not samples[_OWN]:
        raise DataError("The data has no sample of the labels that the subnetwork is to answer.")
    return samples


def _at_once(graph: Graph, portion: dict[str, Any]) -> int:
    """Return how many samples are looked at together, so that what is held stays small."""
    shapes = [
        stream.shape[1:]
        for traced in graph.calls.values()
        if traced.call.path in portion
        for stream in (traced.inputs[0], traced.outputs[0])
    ]
    each = sum(math.prod(size or 1 for size in shape) for shape in shapes)
    return max(1, _HELD // max(each, 1))


def _dealt(question: Question, batch: Batch) -> tuple[Any, NDArray[np.int32]]:
    """Return a batch's inputs and whether each sample is of the labels; those alone if asked."""
    labels = list(question.labels)
    multi = batch.labels.ndim == 2
    own = np.asarray(
        batch.labels[:, labels].any(axis=1) if multi else np.isin(batch.labels, labels)
    )
    chosen = np.flatnonzero(own) if question.alone else np.argsort(~own, kind="stable")
    part = np.where(own[chosen], _OWN, _REST).astype(np.int32)
    return tree.map_structure(lambda t: np.asarray(t)[chosen], batch.inputs), part


def _slopes(
    question: Question, portion: dict[str, Any], inputs: Any, part: Any, paths: list[str]
) -> list[list[Any]]:
    """Return what layers are called on, and the margin's gradients at their outputs, call by call.

    Runs inside a compiled step. Where steps are masked, which of them count comes third.

    Args:
        question: What is asked.
        portion: The layers, by path.
        inputs: A batch.
        part: Which part each sample is of.
        paths: Is filled with the paths of the calls.
    """
    graph = question.graph
    found: list[list[Any]] = []

    def margin(watch: Watch) -> tuple[Any, list[Any]]:
        found.clear()
        paths.clear()

        def visit(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
            layer = call.operation
            if call.path in portion:
                x = tree.flatten((args, kwargs))[0]
                before = watch(len(paths), _before_activation(layer, x))
                paths.append(call.path)
                found.append([ops.cast(x, "float32")])
                mask = mask_of(x) if len(x.shape) == 3 else None
                if mask is not None:
                    found[-1].append(ops.cast(mask, "float64"))
                return _activated(layer, x, before)
            if accepts_training(layer):
                kwargs = {**kwargs, "training": False}
            with logits_left(layer):
                return layer(*args, **kwargs)

        outputs = walk(graph.model, standardise_inputs(graph.model, inputs), visit)
        answer = outputs[graph.outputs.index(question.answering)]
        return ops.sum(question.margin(answer, part)), tree.flatten(found)

    slopes, others = differentiated(margin)
    seen = tree.pack_sequence_as(found, others)
    return [[x, slopes[number], *counts] for number, (x, *counts) in enumerate(seen)]


def _before_activation(layer: Any, x: Any) -> Any:
    """Compute a layer up to its activation, float32, channels last."""
    given = linear.apply(layer, x, layer.kernel)
    return given if layer.bias is None else given + ops.cast(layer.bias, "float32")


def _activated(layer: Any, x: Any, before: Any) -> Any:
    """Return what the layer gives."""
    activation = layer.activation or activations.linear
    if getattr(layer, "data_format", "") == "channels_first":
        before = ops.moveaxis(before, -1, 1)
    given = activated(activation, ops.cast(before, layer.compute_dtype))
    return with_mask(given, mask_of(x) if layer.supports_masking else None)


def _reading(
    graph: Graph, traced: TracedCall, layer: Any, sums: _Sums, samples: NDArray[np.int64]
) -> Reading:
    """Bring the moments of both parts together, each with half the weight."""
    size = linear.feature_count(layer)
    parts = [part for part in (_OWN, _REST) if samples[part]]
    read = [sums.features.of(part) for part in parts]
    share = 1 / len(parts)
    means = np.stack([m.mean[0] for m in read])
    mean = means.mean(axis=0)
    covariance = sum(
        share * (m.covariance + np.outer(one - mean, one - mean))
        for m, one in zip(read, means, strict=True)
    )
    importance = sum(
        share * sums.slopes.of(part).about_zero().second / samples[part] for part in parts
    )
    kernel = np.asarray(layer.kernel, dtype=np.float64).reshape(size, -1)
    units = units_read(graph, traced)
    sets = np.tile(units, size // len(units))
    return Reading(np.asarray(covariance), kernel, np.asarray(importance), sets)
