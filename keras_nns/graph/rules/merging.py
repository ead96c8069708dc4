"""Layers that bring several tensors together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from keras import layers

from keras_nns.graph.rules.base import Site
from keras_nns.graph.rules.records import FIXED, Stream, Units
from keras_nns.graph.rules.registry import rule


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
        units = agree(site, [units for _, units in wide or there])
        if units is not None:
            result[axis] = units
    return result


def agree(site: Site, there: Sequence[Units | None]) -> Units | None:
    """Couple what lies at the same place of several tensors' axes; None where all are fixed."""
    first: Units | None = None
    if all(units is None for units in there):
        return None
    width = next(len(units) for units in there if units is not None)
    for units in there:
        numbers = np.full(width, FIXED, dtype=np.int64) if units is None else units
        first = numbers if first is None else site.couple(first, numbers)
        if units is None:
            first = np.full(width, FIXED, dtype=np.int64)
    return first


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
    concatenated(site, site.inputs, site.operation.axis)


def concatenated(site: Site, streams: Sequence[Stream], axis: int) -> None:
    """Describe tensors put behind one another on an axis."""
    rank = streams[0].rank
    axis %= rank
    sizes = [stream.shape[axis] for stream in streams]
    result: dict[int, Units] = {}
    for other in range(rank):
        there = [stream.units.get(other) for stream in streams]
        if other != axis:
            units = agree(site, there)
            if units is not None:
                result[other] = units
        elif None in sizes:
            for numbers in there:
                site.protect(numbers, f"{site.title} joins sizes that are not known")
        elif any(numbers is not None for numbers in there):
            result[axis] = np.concatenate(
                [
                    np.full(size or 0, FIXED, dtype=np.int64) if units is None else units
                    for size, units in zip(sizes, there, strict=True)
                ]
            )
    site.emit(result)
