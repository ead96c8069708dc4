"""Layers that are linear in their input up to their activation: what a repair can refit."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import activations, layers, ops, tree
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from keras_nns.graph.keras_internals import Call, Key, functional, walk
from keras_nns.graph.rules import Keep
from keras_nns.graph.tracing import Graph, TracedCall

_CONVOLUTIONS = (layers.Conv1D, layers.Conv2D, layers.Conv3D)
_MEASURING = (layers.RMSNormalization, layers.UnitNormalization)
"""Pass units on one by one, each divided by a measure of all."""


def why_not(layer: Any) -> str | None:
    """Say why a layer cannot be refitted; None where it can, or where it has no kernel to refit.

    Exact types only: a subclass may compute something else.
    """
    if not is_kind(layer):
        matrices = any(len(weight.shape) > 1 for weight in getattr(layer, "weights", ()))
        if not matrices or type(layer) is layers.PReLU:
            return None
        return f"{type(layer).__name__} is none of those that are refitted"
    if layer.quantization_mode is not None:
        return "it is quantised; repair first, quantise afterwards"
    if getattr(layer, "lora_enabled", False):
        return "it has LoRA factors; merge them into its kernel first"
    if getattr(layer, "groups", 1) > 1:
        return "its convolution has groups"
    return None


def is_kind(layer: Any) -> bool:
    """Return whether a layer is a Dense or a plain convolution."""
    return type(layer) is layers.Dense or type(layer) in _CONVOLUTIONS


def is_linear(layer: Any) -> bool:
    """Return whether a layer can be refitted."""
    return is_kind(layer) and why_not(layer) is None


def apply(layer: Any, x: Any, kernel: Any) -> Any:
    """Compute `layer` on `x` with another kernel: without bias, without activation.

    Args:
        layer: A layer for which `is_linear` holds.
        x: Its input, as the layer takes it.
        kernel: In the layer's shape, but for its number of outputs.

    Returns:
        Outputs, float32, channels on the last axis.
    """
    x, kernel = ops.cast(x, "float32"), ops.cast(kernel, "float32")
    if isinstance(layer, layers.Dense):
        return ops.matmul(x, kernel)
    if layer.data_format == "channels_first":
        x = ops.moveaxis(x, 1, -1)
    padding = layer.padding
    if padding == "causal":
        span = layer.dilation_rate[0] * (layer.kernel_size[0] - 1)
        x, padding = ops.pad(x, [[0, 0], [span, 0], [0, 0]]), "valid"
    return ops.conv(
        x,
        kernel,
        strides=list(layer.strides),
        padding=padding,
        dilation_rate=list(layer.dilation_rate),
        data_format="channels_last",
    )


def features(layer: Any, x: NDArray[Any]) -> NDArray[Any]:
    """Return everything that one output of a layer is a weighted sum of.

    A convolution's are the patches under its window, zeros where it is padded.

    Args:
        layer: A layer for which `is_linear` holds.
        x: Its input, as the layer takes it.

    Returns:
        `(rows, features)`, one row for every sample and position; a kernel reshaped to
        `(features, outputs)` has its rows in the same order.
    """
    if isinstance(layer, layers.Dense):
        return x.reshape(-1, x.shape[-1])
    if layer.data_format == "channels_first":
        x = np.moveaxis(x, 1, -1)
    size, strides, dilation = layer.kernel_size, layer.strides, layer.dilation_rate
    spans = [(k - 1) * d + 1 for k, d in zip(size, dilation, strict=True)]
    if layer.padding != "valid":
        axes = zip(x.shape[1:-1], spans, strides, strict=True)
        pads = [_padding(layer.padding, *axis) for axis in axes]
        x = np.pad(x, [(0, 0), *pads, (0, 0)])
    inner = range(1, x.ndim - 1)
    windows = sliding_window_view(x, spans, axis=tuple(inner))
    # (samples, *positions, channels, *window), of which strides and dilation leave some.
    chosen = [slice(None), *(slice(None, None, s) for s in strides), slice(None)]
    windows = windows[(*chosen, *(slice(None, None, d) for d in dilation))]
    windows = np.moveaxis(windows, x.ndim - 1, -1)
    return windows.reshape(-1, feature_count(layer))


def _padding(padding: str, length: int, span: int, stride: int) -> tuple[int, int]:
    """Return how many zeros a convolution puts before and behind an axis."""
    if padding == "causal":
        return span - 1, 0
    total = max((-(-length // stride) - 1) * stride + span - length, 0)
    return total // 2, total - total // 2


def feature_count(layer: Any) -> int:
    """Return how many inputs one output of a layer is computed from."""
    return int(np.prod(layer.kernel.shape[:-1]))


def position_count(layer: Any, shape: Sequence[int | None]) -> int:
    """Return at how many positions a layer is computed for one sample.

    Args:
        layer: The layer.
        shape: Of what it returns, with the batch axis. An axis of unknown length counts as 1.
    """
    channels = 1 if getattr(layer, "data_format", "") == "channels_first" else len(shape) - 1
    return math.prod(size or 1 for axis, size in enumerate(shape) if axis not in (0, channels))


def outputs_kept(graph: Graph, keep: Keep, path: str) -> NDArray[np.int64]:
    """Return which outputs of one of the parent's layers the subnetwork has."""
    traced = next(t for t in graph.calls.values() if t.call.path == path)
    layer, stream = traced.call.operation, traced.outputs[0]
    channels_first = getattr(layer, "data_format", "") == "channels_first"
    units = stream.on(1 if channels_first else -1)
    if units is None:
        return np.arange(layer.kernel.shape[-1])
    return keep.where(units)


def layers_of(model: Any) -> dict[str, Any]:
    """Return the layers of a model by path, in an order in which they can be computed."""
    return {call.path: call.operation for call in calls_of(model)}


def calls_of(model: Any) -> Iterator[Call]:
    """Yield the calls of a model and of those nested in it, in such an order."""
    found: list[Call] = []

    def visit(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[None]:
        found.append(call)
        return [None] * len(call.outputs)

    walk(model, [None] * len(functional(model).inputs), visit)
    yield from found


@dataclass(frozen=True)
class _Loss:
    """What removals did to a tensor: units are missing, or those that stay have other values."""

    missing: bool
    other: bool


def affected(graph: Graph, keep: Keep) -> set[str]:
    """Return paths of the layers that would give something else than in the parent.

    They read units of which some are missing, or are called on values that differ, or lost units
    that act inside them alone (attention heads). A layer that passes units on one by one gives the
    same where units are only missing.
    """
    found: set[str] = set()

    def visit(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[_Loss]:
        traced = graph.calls[call.key]
        inputs = [a for a in tree.flatten((args, kwargs)) if isinstance(a, _Loss)]
        missing = any(item.missing for item in inputs)
        same = traced.passing.through and not isinstance(call.operation, _MEASURING)
        other = any(item.other for item in inputs) or (missing and not same)
        other |= _lost_within(graph, keep, traced)
        if other:
            found.add(call.path)
        lost = any(not keep.all(u) for s in traced.outputs for u in s.units.values())
        return [_Loss(lost, other)] * len(call.outputs)

    walk(graph.model, [_Loss(False, False)] * len(functional(graph.model).inputs), visit)
    return found


def _lost_within(graph: Graph, keep: Keep, traced: TracedCall) -> bool:
    """Return whether a layer holds units that it neither takes nor gives, and lost some."""
    blueprint = graph.blueprints.get(id(traced.call.operation))
    if blueprint is None:
        return False
    seen = [u for s in (*traced.inputs, *traced.outputs) for u in s.units.values()]
    outside = np.concatenate([np.empty(0, np.int64), *seen])
    bound = [u for one in blueprint.bindings.values() for u in one.axes.values()]
    return any(not keep.all(u) and not np.isin(u, outside).any() for u in bound)


@dataclass(frozen=True)
class _Origin:
    key: Key
    path: str


def channels(norm: Any, x: Any) -> Any:
    """Return `(rows, channels)` of what a batch norm is called on."""
    axis = norm.axis
    return ops.reshape(ops.moveaxis(ops.cast(x, "float32"), axis, -1), (-1, x.shape[axis]))


def batch_norm_behind(model: Any, path: str) -> str | None:
    """Return the path of the batch norm that alone reads what a layer gives, or None.

    A constant added to the layer's output can then be taken off the batch norm's moving mean.
    """
    by_path = layers_of(model)
    layer = by_path[path]
    if layer.activation is not None and layer.activation is not activations.linear:
        return None
    readers: dict[Key, set[str]] = {}
    sources: dict[str, set[str]] = {}
    own: set[Key] = set()
    ranks: set[int] = set()

    def visit(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[_Origin]:
        if call.path == path:
            own.add(call.key)
            ranks.update(map(len, call.shapes))
        for origin in tree.flatten((args, kwargs)):
            if isinstance(origin, _Origin):
                readers.setdefault(origin.key, set()).add(call.path)
                sources.setdefault(call.path, set()).add(origin.path)
        return [_Origin(call.key, call.path)] * len(call.outputs)

    results = walk(model, [None] * len(functional(model).inputs), visit)
    shown = {origin.key for origin in results if isinstance(origin, _Origin)}
    names = set().union(*(readers.get(key, set()) for key in own))
    if len(names) != 1 or own & shown:
        return None
    (name,) = names
    norm = by_path[name]
    if type(norm) is not layers.BatchNormalization or sources[name] != {path}:
        return None
    axis = 1 if getattr(layer, "data_format", "") == "channels_first" else -1
    return name if all(norm.axis % rank == axis % rank for rank in ranks) else None


def own_paths(graph: Graph, keep: Keep, model: Any) -> dict[str, str]:
    """Return the paths of what is left of layers by the parent's, where they differ.

    A block that is gone has none, whatever else has its name now.
    """
    gone = {
        one.path
        for one in graph.blueprints.values()
        if one.skip is not None and not keep.all(one.skip.unit)
    }
    if not gone:
        return {}
    left = [path for path in layers_of(graph.model) if path not in gone]
    own = list(layers_of(model))
    # Otherwise they have kept their names.
    same = len(own) == len(left) and set(own) != set(left)
    return dict.fromkeys(gone, "") | (dict(zip(left, own, strict=True)) if same else {})
