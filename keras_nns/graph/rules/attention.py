"""Attention: whole heads, and the dimensions of keys and values, are units.

A head is watched by how much it adds to the layer's output: the norm of its part of the output
projection's product (Kobayashi et al. 2020, *Attention is Not Only a Weight*). Dimensions of keys
and values are not watched: one dimension means something else in every head, and they leave
together.

Heads and dimensions are gone before the layer's output, so `mask` zeroes them where they act: heads
and value dimensions in the rows of the output projection, key dimensions in the projection of the
queries (a zero there adds nothing to any product of a query with a key).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from keras import layers, ops

from keras_nns.graph.rules.base import Site
from keras_nns.graph.rules.records import Keep, Stream, Units
from keras_nns.graph.rules.registry import rule


@rule(layers.MultiHeadAttention)
def multi_head(site: Site) -> None:
    """Projections `(features, heads, dimensions)`, output projection `(heads, dimensions, units)`.

    Scores are divided by the root of the number of key dimensions, so the queries' projection is
    multiplied by the root of what stays of it.
    """
    layer = site.operation
    query, value, key = _operands(site)
    heads = site.make(layer.num_heads, "heads")
    keys = site.make(layer.key_dim, "key")
    values = site.make(layer.value_dim, "value")
    shape = layer._output_shape
    width = site.shapes[0][-1]
    assert width is not None
    units = site.make(width) if shape is None or len(shape) == 1 else None
    scores = len(site.shapes[-1]) - 2 * len(layer._attention_axes) - 1
    site.emit({-1: units}, *[{scores: heads} for _ in site.shapes[1:]])
    if _is_adapted(site):
        return
    _project(site, layer.query_dense, query, heads, keys, quiet=(2,))
    _project(site, layer.key_dense, key, heads, keys)
    _project(site, layer.value_dense, value, heads, values)
    if layer._use_gate:
        _project(site, layer._gate_dense, query, heads, values)
    _leave(site, layer.output_dense, heads, values, units)
    _divide_by_root(site, layer.query_dense, keys)
    _watch_heads(site, layer.output_dense, heads)
    site.configure("num_heads", heads)
    site.configure("key_dim", keys)
    site.configure("value_dim", values)
    source = query.on(-1)

    def output_shape(keep: Keep) -> tuple[int, ...] | None:
        if units is None:
            return tuple(shape)
        wide = width if source is None else keep.count(source)
        # None stands for "as wide as the query".
        if shape is None and keep.count(units) == wide:
            return None
        return (keep.count(units),)

    site.configure("output_shape", output_shape)


@rule(layers.GroupQueryAttention)
def grouped_query(site: Site) -> None:
    """Several query heads share a key and value head: all of them leave together.

    Where there is one key and value head for all (multi-query attention) it stays, and each query
    head leaves by itself. Keys and values have one number of dimensions, and the output is as wide
    as the query.
    """
    layer = site.operation
    query, value, key = _operands(site)
    single = layer.num_key_value_heads == 1
    heads = site.make(layer.num_query_heads if single else layer.num_key_value_heads, "heads")
    queries = heads if single else np.repeat(heads, layer.num_repeats)
    shared = None if single else heads
    dimensions = site.make(layer.head_dim, "dimensions")
    width = site.shapes[0][-1]
    assert width is not None
    units = site.make(width)
    site.emit({-1: units}, *[{1: queries} for _ in site.shapes[1:]])
    if _is_adapted(site):
        return
    source = query.on(-1)
    if source is None:
        site.protect(units, f"{site.title} answers as many numbers as its query has")
    else:
        site.couple(source, units)
    _project(site, layer._query_dense, query, queries, dimensions, quiet=(2,))
    _project(site, layer._key_dense, key, shared, dimensions)
    _project(site, layer._value_dense, value, shared, dimensions)
    if layer.use_gate:
        _project(site, layer._gate_dense, query, queries, dimensions)
    _leave(site, layer._output_dense, queries, dimensions, units)
    _divide_by_root(site, layer._query_dense, dimensions)
    _watch_heads(site, layer._output_dense, heads)
    site.configure("num_query_heads", queries)
    site.configure("num_key_value_heads", shared)
    site.configure("head_dim", dimensions)


def _operands(site: Site) -> tuple[Stream, Stream, Stream]:
    """Return query, value and key as the call was given them."""
    given = dict(zip(("query", "value", "key"), site.args, strict=False)) | site.kwargs
    query, value = given["query"], given["value"]
    key = given.get("key")
    streams = (query, value, value if key is None else key)
    for stream in dict.fromkeys(map(id, streams)):
        for axis, units in next(s for s in streams if id(s) == stream).units.items():
            if axis != query.rank - 1:
                site.protect(units, f"{site.title} attends along their axis")
    return streams


def _project(
    site: Site,
    dense: Any,
    stream: Stream,
    heads: Units | None,
    dimensions: Units,
    *,
    quiet: tuple[int, ...] = (),
) -> None:
    features = stream.on(-1)
    site.bind(dense._kernel, {0: features, 1: heads, 2: dimensions}, silence=quiet)
    site.bind(dense.bias, {0: heads, 1: dimensions}, silence=[axis - 1 for axis in quiet])
    site.reads(features)


def _leave(site: Site, dense: Any, heads: Units, values: Units, units: Units | None) -> None:
    axes = {0: heads, 1: values} if units is None else {0: heads, 1: values, 2: units}
    site.bind(dense._kernel, axes, silence=(0, 1))
    if units is not None:
        site.bind(dense.bias, {0: units})
    site.reads(heads)
    site.reads(values)


def _watch_heads(site: Site, dense: Any, heads: Units) -> None:
    # A quantised projection runs by another way than its `call`, and its units are protected.
    if dense.quantization_mode is None:
        site.watch(heads, dense, shares(dense, len(heads)))


def shares(dense: Any, heads: int) -> Callable[[Any], Any]:
    """Make the function from what is projected to the norm of what each head adds to the output.

    Of a head's values `v` `(dimensions,)` and rows `W` `(dimensions, units)` it is `|v W|`, found
    as `sqrt(v (W Wᵀ) vᵀ)`: that takes no tensor as large as heads × units for every position.
    Query heads that share a key and value head count as one.
    """

    def norms(inputs: Any) -> Any:
        values = ops.cast(inputs, "float32")
        kernel = ops.cast(dense.kernel, "float32")
        # Heads and their dimensions lie on two axes, or on one.
        inner = 1 if len(kernel.shape) == 2 else 2
        rows = ops.reshape(kernel, (heads, math.prod(kernel.shape[:inner]) // heads, -1))
        between = [ops.shape(values)[axis] for axis in range(len(values.shape) - inner)]
        values = ops.reshape(values, (*between, heads, rows.shape[1]))
        gram = ops.matmul(rows, ops.transpose(rows, (0, 2, 1)))
        squares = ops.sum(ops.einsum("...hd,hde->...he", values, gram) * values, axis=-1)
        # Rounding may take what is close to 0 below it.
        return ops.sqrt(ops.maximum(squares, 0.0))

    return norms


def _divide_by_root(site: Site, dense: Any, keys: Units) -> None:
    """Put right that the cut layer divides scores by the root of fewer dimensions."""

    def factor(keep: Keep) -> float:
        return float(np.sqrt(keep.count(keys) / len(keys)))

    site.reads(keys)
    site.rescale(dense._kernel, factor)
    site.rescale(dense.bias, factor)


def _is_adapted(site: Site) -> bool:
    """Protect a layer whose projections were given LoRA or quantised weights behind its back."""
    projections = [
        layer for layer in site.operation._flatten_layers() if hasattr(layer, "equation")
    ]
    adapted = any(p.lora_enabled or p.quantization_mode is not None for p in projections)
    if adapted:
        reason = (
            f"{site.title} has LoRA or quantised projections; merge the factors, quantise what was "
            "cut"
        )
        site.protect_all(reason)
        for kind in ("heads", "key", "value", "dimensions", ""):
            site.protect_made(kind, reason)
    return adapted


@rule(layers.Attention, layers.AdditiveAttention)
def dot_product(site: Site) -> None:
    """Features of query and key meet in a sum, those of the value come out.

    A removed feature is zero in query and key alike and adds nothing to a score: `0 * 0` in the
    product, `tanh(0 + 0)` in the sum of the additive kind.
    """
    layer = site.operation
    streams: list[Stream] = list(site.args[0] if site.args else site.kwargs["inputs"])
    query, value = streams[0], streams[1]
    key = streams[2] if len(streams) > 2 else value
    for stream in streams:
        for axis, units in stream.units.items():
            if axis != stream.rank - 1:
                site.protect(units, f"{site.title} attends along their axis")
    asked, answered = query.on(-1), key.on(-1)
    if asked is not None or answered is not None:
        site.couple(asked, answered)
    if type(layer) is layers.AdditiveAttention:
        site.bind(layer.scale, {0: asked})
    site.reads(asked)
    site.reads(answered)
    site.emit({-1: value.on(-1)}, *[{} for _ in site.shapes[1:]])
