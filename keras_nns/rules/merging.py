"""Layers that bring several tensors together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from keras import layers

from keras_nns.rules.base import FIXED, Site, Stream, Units, rule


def joined(site: Site, streams: Sequence[Stream]) -> dict[int, Units]:
    """Couple the units of tensors that meet element by element, with broadcasting.

    Args:
        site: The call.
        streams: The tensors.

    Returns:
        Units by axis of the result.
    """
    rank = max(stream.rank for stream in streams)
    result: dict[int, Units] = {}
    for axis in range(rank):
        # Shapes are aligned at the right; an axis of size 1 or missing is repeated.
        there = [
            (s.shape[axis - rank + s.rank], s.units.get(axis - rank + s.rank))
            for s in streams
            if axis - rank + s.rank >= 0
        ]
        there = [(size, units) for size, units in there if size != 1 or units is not None]
        if not any(units is not None for _, units in there):
            continue
        wide = [(size, units) for size, units in there if size != 1]
        for size, units in there:
            if size == 1 and units is not None and wide:
                site.protect(units, f"{site.title} repeats them along the axis of other units")
        first, *others = [units for _, units in wide or there]
        for units in others:
            if first is not None or units is not None:
                first = site.couple(first, units) if _both(first, units) else _one(site, first, units)
        if first is not None:
            result[axis] = first
    return result


def _both(one: Units | None, other: Units | None) -> bool:
    return one is not None and other is not None


def _one(site: Site, one: Units | None, other: Units | None) -> Units:
    units = site.couple(one, other)
    return np.full(len(units), FIXED, dtype=np.int64)


@rule(
    layers.Add,
    layers.Subtract,
    layers.Multiply,
    layers.Average,
    layers.Maximum,
    layers.Minimum,
)
def merge(site: Site) -> None:
    """Join tensors element by element: the same units must leave all of them."""
    streams = site.inputs
    if len({s.rank for s in streams}) > 1:
        # Keras puts the new axes of a lower rank behind the batch axis, as numpy does.
        rank = max(s.rank for s in streams)
        streams = [
            Stream(
                (s.shape[0], *[1] * (rank - s.rank), *s.shape[1:]),
                {axis + rank - s.rank: units for axis, units in s.units.items()},
            )
            for s in streams
        ]
    site.emit(joined(site, streams))
    site.passes(merges=True)


@rule(layers.Concatenate)
def concatenate(site: Site) -> None:
    """Put tensors behind one another on one axis; on the others their units must agree."""
    rank = site.input.rank
    axis = site.operation.axis % rank
    result: dict[int, Units] = {}
    for other in range(rank):
        there = [stream.units.get(other) for stream in site.inputs]
        if all(units is None for units in there):
            continue
        if other == axis:
            parts = []
            for stream, units in zip(site.inputs, there, strict=True):
                size = stream.shape[axis]
                if size is None:
                    site.protect_all(f"{site.title} joins sizes that are not known")
                    size = 0
                parts.append(np.full(size, FIXED, dtype=np.int64) if units is None else units)
            result[other] = np.concatenate(parts)
        else:
            first, *rest = there
            for units in rest:
                if first is not None or units is not None:
                    first = (
                        site.couple(first, units)
                        if _both(first, units)
                        else _one(site, first, units)
                    )
            if first is not None:
                result[other] = first
    if any(None in (stream.shape[axis],) for stream in site.inputs):
        result.pop(axis, None)
    site.emit(result)
