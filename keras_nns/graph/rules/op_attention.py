"""Attention as an operation: `keras.ops.dot_product_attention`, without weights of its own."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras.src.ops import nn

from keras_nns.graph.rules.base import Site
from keras_nns.graph.rules.merging import agree
from keras_nns.graph.rules.operands import Operand, operand, slice_constant
from keras_nns.graph.rules.records import Keep, Stream, Units
from keras_nns.graph.rules.registry import rule


@rule(nn.DotProductAttention)
def dot_product_attention(site: Site) -> None:
    """Queries, keys and values `(batch, steps, heads, dimensions)` attend head by head.

    Keras takes the result to be as wide as the queries, so all three lose the same dimensions.
    Scores are divided by the root of how many there are, unless the call says by what: the cut call
    is told the parent's number.
    """
    streams = [
        one.stream
        for i, name in enumerate(("query", "key", "value"))
        if (one := _operand(site, i, name)) is not None
    ]
    for stream in streams:
        for axis in (0, 1):
            site.protect(stream.on(axis), f"{site.title} attends along their axis")
    heads = _heads(site, streams)
    for place, name in ((3, "bias"), (4, "mask")):
        scores = _operand(site, place, name)
        if scores is not None:
            _cut_scores(site, scores, heads)
    dimensions = agree(site, [stream.on(3) for stream in streams])
    site.reads(heads)
    site.reads(dimensions)
    site.emit({2: heads, 3: dimensions})
    given = site.args[5] if len(site.args) > 5 else site.kwargs.get("scale")
    if dimensions is None or given is not None:
        return
    scale = 1 / float(np.sqrt(len(dimensions)))

    def edit(
        keep: Keep, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (args, kwargs) if keep.all(dimensions) else (args[:5], {**kwargs, "scale": scale})

    site.rewrite(edit)


def _operand(site: Site, place: int, name: str) -> Operand | None:
    return operand(site, place) or operand(site, name)


def _heads(site: Site, streams: list[Stream]) -> Units | None:
    if len({stream.shape[2] for stream in streams}) == 1:
        return agree(site, [stream.on(2) for stream in streams])
    for stream in streams:
        site.protect(stream.on(2), f"{site.title} shares keys and values between query heads")
    return None


def _cut_scores(site: Site, scores: Operand, heads: Units | None) -> None:
    """Cut a constant bias or mask that has a part for each head; keep heads whole for others."""
    axis = scores.stream.rank - 3
    own = axis >= 0 and scores.stream.shape[axis] != 1
    if scores.constant and own and heads is not None:
        slice_constant(site, scores.place, {axis: heads})
    elif not scores.constant:
        for units in scores.stream.units.values():
            site.protect(units, f"{site.title} takes them for scores")
        if own:
            site.protect(heads, f"{site.title} is given scores for each of them")
