"""Layers that move elements without changing them.

The unit numbers themselves are carried through the operation, and read where they come out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import layers

from keras_nns.graph.rules.base import Site
from keras_nns.graph.rules.convolution import channel_axis, fix_space
from keras_nns.graph.rules.records import FIXED, Keep, Shape, Stream, Units
from keras_nns.graph.rules.registry import rule


def _spread(shape: Shape, axis: int, units: Units) -> Units:
    """Write the units of one axis into every element of a tensor of this shape."""
    view = [1] * len(shape)
    view[axis] = len(units)
    return np.broadcast_to(units.reshape(view), [d if d is not None else 1 for d in shape])


def reshape_units(site: Site, source: Stream, target: Shape) -> dict[int, Units]:
    """Follow units through a reshape that leaves the batch axis alone.

    Where an axis of units is split in two, the last part becomes the axis of units and the
    positions that share a place on it stay or go together (the groups of a channel shuffle).

    Args:
        site: The call, for messages and couplings.
        source: The tensor before.
        target: Shape after it, with the batch axis.

    Returns:
        Units by axis of the reshaped tensor.
    """
    if not source.units:
        return {}
    # Axes at the end that are the same before and after, whatever lies in front of them.
    tail = 0
    while (
        tail < min(len(source.shape), len(target)) - 1
        and source.shape[-1 - tail] is not None
        and source.shape[-1 - tail] == target[-1 - tail]
    ):
        tail += 1
    end = len(source.shape) - tail
    untouched = {
        axis - len(source.shape) + len(target): units
        for axis, units in source.units.items()
        if axis >= end
    }
    moved = {axis: units for axis, units in source.units.items() if axis < end}
    if not moved:
        return untouched
    # Axes at the front likewise: they may be of unknown size.
    before, after = source.shape[:end], target[: len(target) - tail]
    same = 0
    while same < min(len(before), len(after)) and before[same] == after[same]:
        if same and _size(before[same + 1 :]) is None:
            break
        if _size(before[same + 1 :]) != _size(after[same + 1 :]):
            break
        # Units on a last axis of size one must have an axis to come out on.
        if not after[same + 1 :] and any(axis > same for axis in moved):
            break
        same += 1
    untouched |= {axis: units for axis, units in moved.items() if axis < same}
    moved = {axis: units for axis, units in moved.items() if axis >= same}
    if not moved:
        return untouched
    before, after = before[same:], after[same:]
    if _size(before) is None or _size(before) != _size(after):
        for units in moved.values():
            site.protect(units, f"{site.title} moves them through a size that is not known")
        return untouched
    axis, *others = sorted(moved, reverse=True)
    for other in others:
        site.protect(moved[other], f"{site.title} mixes their axis with another axis of units")
    numbers = _spread(before, axis - same, moved[axis]).reshape([int(d or 0) for d in after])
    return {**untouched, **_gather(site, numbers, same)}


def _gather(site: Site, numbers: Units, offset: int) -> dict[int, Units]:
    """Find the axis along which unit numbers vary; couple what shares a place on it."""
    rows_of = [np.moveaxis(numbers, axis, 0).reshape(n, -1) for axis, n in enumerate(numbers.shape)]
    for axis, rows in enumerate(rows_of):
        if (rows == rows[:, :1]).all():
            return {offset + axis: rows[:, 0].copy()}
    varying = [axis for axis, rows in enumerate(rows_of) if (rows != rows_of[axis][:1]).any()]
    axis = varying[-1]
    rows = rows_of[axis]
    first = rows[:, 0].copy()
    for column in rows.T[1:]:
        if (column != first).any():
            site.couple(first, column)
    return {offset + axis: np.where((rows == FIXED).any(axis=1), FIXED, first)}


def reshaped(site: Site, key: str, value: Any) -> None:
    """Describe a reshape whose target, without the batch axis, is a configuration entry."""
    units = reshape_units(site, site.input, site.shapes[0])
    site.emit(units)

    def target(keep: Keep) -> tuple[int, ...]:
        sizes = list(value)
        for axis, numbers in units.items():
            sizes[axis - 1] = keep.count(numbers)
        return tuple(sizes)

    site.configure(key, target)


@rule(layers.Flatten)
def flatten(site: Site) -> None:
    """Every element of a channel becomes a feature of its own: H × W × C of them."""
    source = site.input
    if site.operation.data_format == "channels_first" and source.rank > 2:
        # Keras moves the channels to the end before it flattens.
        order = [0, *range(2, source.rank), 1]
        source = Stream(
            tuple(source.shape[axis] for axis in order),
            {order.index(axis): units for axis, units in source.units.items()},
        )
    site.emit(reshape_units(site, source, site.shapes[0]))


@rule(layers.Reshape)
def reshape(site: Site) -> None:
    """Follow the units; sizes on their axis become what is kept."""
    reshaped(site, "target_shape", site.operation.target_shape)


@rule(layers.Permute)
def permute(site: Site) -> None:
    """Move axes."""
    order = [0, *site.operation.dims]
    site.emit({order.index(axis): units for axis, units in site.input.units.items()})


@rule(layers.RepeatVector)
def repeat(site: Site) -> None:
    """Repeat a vector of units along a new time axis."""
    site.emit({2: site.input.on(1)})


@rule(layers.Cropping1D, layers.UpSampling1D)
def along_time(site: Site) -> None:
    """Crop or repeat steps; features stay."""
    site.protect(site.input.on(1), f"{site.title} changes the length of their axis")
    site.emit({2: site.input.on(2)})
    site.passes()


@rule(
    layers.ZeroPadding1D,
    layers.ZeroPadding2D,
    layers.ZeroPadding3D,
    layers.UpSampling2D,
    layers.UpSampling3D,
    layers.Cropping2D,
    layers.Cropping3D,
)
def along_space(site: Site) -> None:
    """Pad, crop or repeat steps or pixels; channels stay."""
    site.emit({channel_axis(site): fix_space(site, "changes the size")})
    site.passes()


def _size(shape: Sequence[int | None]) -> int | None:
    """Return the number of elements, or None where a dimension is not known."""
    return None if any(d is None for d in shape) else math.prod(d for d in shape if d is not None)
