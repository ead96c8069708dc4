"""Which bounds each type of layer gives for the bounds it is given, in inference mode."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import activations, layers, tree
from keras.src.ops import nn
from keras.src.ops import numpy as knp

from keras_nns.graph.keras_internals import Call
from keras_nns.graph.rules import Keep
from keras_nns.graph.rules.elementwise import IDENTITIES
from keras_nns.graph.rules.records import Shape
from keras_nns.graph.tracing import Graph
from keras_nns.surgery.cleaning.intervals import (
    Array,
    Bounds,
    activated,
    add,
    affine,
    apply,
    biased,
    by_channel,
    exactly,
    linear_bounds,
    maximum,
    minimum,
    multiply,
    signed,
    subtract,
    wide,
    windows,
)

_LARGEST = 2**20
"""Arrays of more elements than this are replaced by their least and greatest value."""


@dataclass(frozen=True, eq=False)
class Site:
    """One call, as the rule of its type sees it."""

    call: Call
    args: tuple[Any, ...]
    kwargs: Mapping[str, Any]
    graph: Graph
    keep: Keep

    @property
    def layer(self) -> Any:
        """The layer or operation."""
        return self.call.operation

    @property
    def x(self) -> Bounds:
        """The first tensor."""
        return self.tensors[0]

    @property
    def tensors(self) -> list[Bounds]:
        """What it is called on, in order."""
        given = tree.flatten((self.args, self.kwargs))
        return [a for a in given if isinstance(a, Bounds)]

    @property
    def shape(self) -> Shape:
        """Shape of the first tensor it returns."""
        return self.call.shapes[0]


Bounding = Callable[[Site], "Bounds | None"]
RULES: dict[type, Bounding] = {}
ATTENTION = layers.MultiHeadAttention

CONVOLUTIONS = (layers.Conv1D, layers.Conv2D, layers.Conv3D)
DEPTHWISE = (layers.DepthwiseConv1D, layers.DepthwiseConv2D)
SEPARABLE = (layers.SeparableConv1D, layers.SeparableConv2D)
TRANSPOSED = (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
_POOLING = tuple(
    getattr(layers, f"{kind}Pooling{rank}D") for kind in ("Max", "Average") for rank in (1, 2, 3)
)
_GLOBAL = tuple(
    getattr(layers, f"Global{kind}Pooling{rank}D")
    for kind in ("Max", "Average")
    for rank in (1, 2, 3)
)
_PADDING = (layers.ZeroPadding1D, layers.ZeroPadding2D, layers.ZeroPadding3D)
_SPATIAL = tuple(
    getattr(layers, f"{kind}{rank}D") for kind in ("Cropping", "UpSampling") for rank in (1, 2, 3)
)
_ACTIVATIONS = (layers.ReLU, layers.LeakyReLU, layers.ELU)
_JOINS: dict[type, Callable[[Bounds, Bounds], Bounds]] = {}


def is_padded(layer: Any) -> bool:
    """Return whether a convolution may see zeros beyond the border of its input."""
    return layer.padding != "valid" and any(size > 1 for size in layer.kernel_size)


def _rule(*types: type) -> Callable[[Bounding], Bounding]:
    def register(function: Bounding) -> Bounding:
        RULES.update(dict.fromkeys(types, function))
        return function

    return register


@_rule(layers.Dense)
def _dense(site: Site) -> Bounds | None:
    positive, negative = signed(site.layer.kernel)
    shape = (*site.x.low.shape[:-1], len(positive))
    low, high = (np.broadcast_to(a, shape) for a in (site.x.low, site.x.high))
    bounds = biased(linear_bounds(low, high, positive, negative), site.layer.bias, -1)
    return activated(bounds, site.layer.activation)


def _channels(site: Site) -> tuple[Bounds, int]:
    """Return bounds of each channel, channels last, and where the channels are in the output."""
    layer, x = site.layer, site.x
    axis = 0 if layer.data_format == "channels_first" else x.low.ndim - 1
    x = x.collapsed(*(a for a in range(x.low.ndim) if a != axis))
    return Bounds(np.moveaxis(x.low, axis, -1), np.moveaxis(x.high, axis, -1)), axis


@_rule(*CONVOLUTIONS)
def _convolution(site: Site) -> Bounds | None:
    layer = site.layer
    x, axis = _channels(site)
    positive, negative = windows(layer.kernel)
    groups, rows = layer.groups, len(positive)
    x = wide(x.with_zero() if is_padded(layer) else x, rows * groups)
    columns = positive.shape[1] // groups
    parts = [
        linear_bounds(
            x.low[..., g * rows : (g + 1) * rows],
            x.high[..., g * rows : (g + 1) * rows],
            positive[:, g * columns : (g + 1) * columns],
            negative[:, g * columns : (g + 1) * columns],
        )
        for g in range(groups)
    ]
    low = np.concatenate([part.low for part in parts], axis=-1)
    high = np.concatenate([part.high for part in parts], axis=-1)
    return activated(biased(Bounds(low, high), layer.bias, axis), layer.activation)


@_rule(*DEPTHWISE)
def _depthwise(site: Site) -> Bounds | None:
    layer = site.layer
    x, axis = _channels(site)
    bounds = by_channel(x.with_zero() if is_padded(layer) else x, layer.kernel)
    return activated(biased(bounds, layer.bias, axis), layer.activation)


@_rule(*SEPARABLE)
def _separable(site: Site) -> Bounds | None:
    layer = site.layer
    x, axis = _channels(site)
    inner = by_channel(x.with_zero() if is_padded(layer) else x, layer.depthwise_kernel)
    bounds = linear_bounds(inner.low, inner.high, *windows(layer.pointwise_kernel))
    return activated(biased(bounds, layer.bias, axis), layer.activation)


@_rule(*TRANSPOSED)
def _transposed(site: Site) -> Bounds | None:
    layer = site.layer
    x, axis = _channels(site)
    # How many entries of the kernel reach an output differs from place to place: each may not.
    positive, negative = (part.T for part in windows(layer.kernel))
    x = wide(x.with_zero(), len(positive))
    bounds = linear_bounds(x.low, x.high, positive, negative)
    return activated(biased(bounds, layer.bias, axis), layer.activation)


def scale_and_shift(layer: Any) -> tuple[Array, Array]:
    """Return what a batch norm multiplies each channel by and adds to it, in inference."""
    mean = np.asarray(layer.moving_mean, dtype=np.float64)
    variance = np.asarray(layer.moving_variance, dtype=np.float64)
    scale = 1.0 / np.sqrt(variance + layer.epsilon)
    if layer.gamma is not None:
        scale = scale * np.asarray(layer.gamma, dtype=np.float64)
    shift = -mean * scale
    if layer.beta is not None:
        shift = shift + np.asarray(layer.beta, dtype=np.float64)
    return scale, shift


@_rule(layers.BatchNormalization)
def _batch_norm(site: Site) -> Bounds | None:
    x = site.x
    shape = [1] * x.low.ndim
    shape[site.layer.axis % (x.low.ndim + 1) - 1] = -1
    scale, shift = (part.reshape(shape) for part in scale_and_shift(site.layer))
    return affine(x, scale, shift)


@_rule(layers.Rescaling)
def _rescaling(site: Site) -> Bounds | None:
    scale, offset = (np.asarray(v, np.float64) for v in (site.layer.scale, site.layer.offset))
    if scale.ndim > 1 or offset.ndim > 1:
        return None
    return affine(site.x, scale, offset)


@_rule(layers.Embedding)
def _embedding(site: Site) -> Bounds | None:
    table = np.asarray(site.layer.embeddings, dtype=np.float64)
    shape = (1,) * (len(site.shape) - 2) + (-1,)
    return Bounds(table.min(axis=0).reshape(shape), table.max(axis=0).reshape(shape))


@_rule(ATTENTION)
def _attention(site: Site) -> Bounds | None:
    """Attention of which no head, or no dimension of the values, is left gives its bias."""
    families = (site.graph.families.get(f"{site.call.path}:{kind}") for kind in ("heads", "value"))
    if all(family is None or site.keep.count(family.units) for family in families):
        return None
    bias = site.layer.output_dense.bias
    if bias is None:
        return exactly(np.zeros((1,) * (len(site.shape) - 1)))
    value = np.asarray(bias, dtype=np.float64)
    return exactly(value.reshape((1,) * (len(site.shape) - 1 - value.ndim) + value.shape))


@_rule(*IDENTITIES)
def _same(site: Site) -> Bounds | None:
    return site.x


@_rule(*_ACTIVATIONS)
def _activation_layer(site: Site) -> Bounds | None:
    if getattr(site.layer, "negative_slope", 0) < 0 or getattr(site.layer, "alpha", 0) < 0:
        return None
    return apply(site.layer.call, site.x)


@_rule(layers.Activation)
def _activation(site: Site) -> Bounds | None:
    return activated(site.x, site.layer.activation)


@_rule(layers.PReLU)
def _prelu(site: Site) -> Bounds | None:
    return site.x if (site.x.low >= 0).all() else None


@_rule(nn.Relu, nn.Relu6, nn.Sigmoid, knp.Tanh)
def _operation(site: Site) -> Bounds | None:
    return activated(site.x, getattr(activations, type(site.layer).__name__.lower()))


def _space(site: Site) -> list[int]:
    channels = 0 if site.layer.data_format == "channels_first" else site.x.low.ndim - 1
    return [axis for axis in range(site.x.low.ndim) if axis != channels]


@_rule(*_POOLING, *_SPATIAL)
def _pool(site: Site) -> Bounds | None:
    if not hasattr(site.layer, "data_format"):  # along time, features last
        return site.x.collapsed(0)
    return site.x.collapsed(*_space(site))


@_rule(*_GLOBAL)
def _global_pool(site: Site) -> Bounds | None:
    axes = _space(site)
    x = site.x.collapsed(*axes)
    if site.layer.keepdims:
        return x
    return Bounds(x.low.squeeze(tuple(axes)), x.high.squeeze(tuple(axes)))


@_rule(*_PADDING)
def _zero_padding(site: Site) -> Bounds | None:
    pooled = _pool(site)
    return None if pooled is None else pooled.with_zero()


@_rule(layers.Flatten, layers.Reshape)
def _reshape(site: Site) -> Bounds | None:
    before = site.graph.calls[site.call.key].inputs[0]
    shape, target = before.shape[1:], site.shape[1:]
    sizes = [size for size in shape if size is not None]
    rank = (1,) * len(target)
    if len(sizes) < len(shape) or None in target or np.prod(sizes) > _LARGEST:
        return Bounds(site.x.low.min().reshape(rank), site.x.high.max().reshape(rank))
    ends = []
    for array in (site.x.low, site.x.high):
        full = np.broadcast_to(array, sizes)
        if isinstance(site.layer, layers.Flatten) and site.layer.data_format == "channels_first":
            full = np.moveaxis(full, 0, -1) if full.ndim else full
        ends.append(full.reshape([int(size or 0) for size in target]))
    return Bounds(*ends)


@_rule(layers.Permute)
def _permute(site: Site) -> Bounds | None:
    order = [axis - 1 for axis in site.layer.dims]
    return Bounds(site.x.low.transpose(order), site.x.high.transpose(order))


@_rule(layers.RepeatVector)
def _repeat(site: Site) -> Bounds | None:
    return Bounds(site.x.low[None], site.x.high[None])


_JOINS |= {
    layers.Add: add,
    layers.Subtract: subtract,
    layers.Multiply: multiply,
    layers.Average: add,
    layers.Maximum: maximum,
    layers.Minimum: minimum,
    knp.Add: add,
    knp.Subtract: subtract,
    knp.Multiply: multiply,
    knp.Maximum: maximum,
    knp.Minimum: minimum,
}


@_rule(*_JOINS)
def _join(site: Site) -> Bounds | None:
    parts = [_number(part) for part in tree.flatten((site.args, dict(site.kwargs)))]
    if any(part is None or part.low.ndim not in (0, len(site.shape) - 1) for part in parts):
        return None
    result, *others = [part for part in parts if part is not None]
    for other in others:
        result = _JOINS[type(site.layer)](result, other)
    if type(site.layer) is layers.Average:
        result = Bounds(result.low / len(parts), result.high / len(parts))
    return result


def _number(part: Any) -> Bounds | None:
    """Return the bounds of an argument: a tensor, or a number."""
    if isinstance(part, Bounds):
        return part
    return exactly(part) if isinstance(part, int | float) and not isinstance(part, bool) else None


@_rule(layers.Concatenate)
def _concatenate(site: Site) -> Bounds | None:
    rank = len(site.shape)
    axis = site.layer.axis % rank - 1
    streams = site.graph.calls[site.call.key].inputs
    if axis < 0 or any(stream.shape[axis + 1] is None for stream in streams):
        return None
    others = np.maximum.reduce([np.array(part.low.shape) for part in site.tensors])
    ends = []
    for arrays in ([p.low for p in site.tensors], [p.high for p in site.tensors]):
        wide = []
        for array, stream in zip(arrays, streams, strict=True):
            shape = list(others)
            shape[axis] = stream.shape[axis + 1]
            wide.append(np.broadcast_to(array, shape))
        ends.append(np.concatenate(wide, axis=axis))
    return Bounds(*ends)


UNMIXING = frozenset(
    {
        layers.BatchNormalization,
        layers.Rescaling,
        layers.Activation,
        layers.PReLU,
        layers.Permute,
        layers.RepeatVector,
        layers.Flatten,
        layers.Reshape,
        layers.Concatenate,
        nn.Relu,
        nn.Relu6,
        nn.Sigmoid,
        knp.Tanh,
        *IDENTITIES,
        *_ACTIVATIONS,
        *_POOLING,
        *_GLOBAL,
        *_PADDING,
        *_SPATIAL,
        *DEPTHWISE,
        *_JOINS,
    }
)
"""Types that give every unit by itself: removing one changes nothing for the others.

Not among them, though units pass one by one: what divides each by a measure of all.
"""
