"""Operations of `keras.ops` that move elements: the unit numbers are carried through them."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras.src.ops import core
from keras.src.ops import numpy as knp

from keras_nns.graph.rules.base import Site
from keras_nns.graph.rules.merging import agree, concatenated
from keras_nns.graph.rules.normalization import axes_of
from keras_nns.graph.rules.operands import change_argument, fixed
from keras_nns.graph.rules.records import Keep, Stream, Units
from keras_nns.graph.rules.registry import rule
from keras_nns.graph.rules.shaping import reshape_units


@rule(knp.Transpose)
def transpose(site: Site) -> None:
    """Move axes to where `axes` says; without it, turn their order round."""
    rank = site.input.rank
    given = site.operation.axes
    _move(site, range(rank)[::-1] if given is None else axes_of(given, rank))


@rule(knp.Swapaxes)
def swapaxes(site: Site) -> None:
    """Exchange two axes."""
    order = list(range(site.input.rank))
    one, other = site.operation.axis1, site.operation.axis2
    order[one], order[other] = order[other], order[one]
    _move(site, order)


@rule(knp.Moveaxis)
def moveaxis(site: Site) -> None:
    """Move some axes; the others keep their order."""
    rank = site.input.rank
    source = axes_of(list(site.operation.source), rank)
    target = axes_of(list(site.operation.destination), rank)
    order = [axis for axis in range(rank) if axis not in source]
    for place, axis in sorted(zip(target, source, strict=True)):
        order.insert(place, axis)
    _move(site, order)


def _move(site: Site, order: Any) -> None:
    order = list(order)
    site.emit({order.index(axis): units for axis, units in site.input.units.items()})
    site.passes()


@rule(knp.ExpandDims)
def expand_dims(site: Site) -> None:
    """Insert axes of size one."""
    rank = len(site.shapes[0])
    new = axes_of(site.operation.axis, rank)
    stay = [axis for axis in range(rank) if axis not in new]
    site.emit({stay[axis]: units for axis, units in site.input.units.items()})
    site.passes()


@rule(knp.Squeeze)
def squeeze(site: Site) -> None:
    """Drop axes of size one; a unit that lies there alone must stay."""
    axis = site.operation.axis
    shape = site.input.shape
    gone = (
        [a for a, size in enumerate(shape) if size == 1]
        if axis is None
        else axes_of(axis, site.input.rank)
    )
    stay = [a for a in range(site.input.rank) if a not in gone]
    for a in gone:
        site.protect(site.input.on(a), f"{site.title} drops their axis")
    if axis is None and site.input.units:
        # Without names, an axis of units that shrank to one would be dropped as well.
        site.configure("axis", lambda keep: tuple(gone))
    site.emit({stay.index(a): u for a, u in site.input.units.items() if a in stay})
    site.passes()


@rule(knp.Reshape)
def reshape(site: Site) -> None:
    """Follow the units; sizes on their axis become what is kept."""
    units = reshape_units(site, site.input, site.shapes[0])
    site.emit(units)
    value = site.operation.newshape

    def target(keep: Keep) -> tuple[Any, ...]:
        sizes = [value] if isinstance(value, int) else list(value)
        for axis, numbers in units.items():
            if sizes[axis] not in (-1, None):
                sizes[axis] = keep.count(numbers)
        return tuple(sizes)

    if units:
        site.configure("newshape", target)


@rule(knp.Flip)
def flip(site: Site) -> None:
    """Turn the order round on some axes."""
    axis = site.operation.axis
    axes = range(site.input.rank) if axis is None else axes_of(axis, site.input.rank)
    site.emit({a: u[::-1] if a in axes else u for a, u in site.input.units.items()})


@rule(knp.Roll)
def roll(site: Site) -> None:
    """Move elements round an axis; one of units would move by another count afterwards."""
    axis = site.operation.axis
    axes = range(site.input.rank) if axis is None else axes_of(axis, site.input.rank)
    for a in axes:
        site.protect(site.input.on(a), f"{site.title} moves them round")
    site.emit(site.input.units)


@rule(knp.Repeat)
def repeat(site: Site) -> None:
    """Repeat every element in place; copies of a unit stay or go with it."""
    axis, times = site.operation.axis, site.operation.repeats
    units = dict(site.input.units)
    if axis is None or np.ndim(times):
        site.protect_all(f"{site.title} repeats elements by different counts or flattens them")
        site.emit({})
        return
    place = axis % site.input.rank
    if place in units:
        units[place] = np.repeat(units[place], int(times))
    site.emit(units)


@rule(knp.BroadcastTo)
def broadcast_to(site: Site) -> None:
    """Repeat axes of size one; sizes on the axes of units become what is kept."""
    shift = len(site.shapes[0]) - site.input.rank
    units: dict[int, Units] = {}
    for axis, numbers in site.input.units.items():
        if site.shapes[0][axis + shift] == len(numbers):
            units[axis + shift] = numbers
        else:
            site.protect(numbers, f"{site.title} repeats them along their axis")
    site.emit(units)
    given = site.operation.shape

    def shape(keep: Keep) -> tuple[Any, ...]:
        return tuple(
            keep.count(units[axis]) if axis in units else size for axis, size in enumerate(given)
        )

    if units:
        site.configure("shape", shape)


@rule(knp.Concatenate)
def concatenate(site: Site) -> None:
    """Put tensors behind one another on one axis."""
    concatenated(site, _tensors(site), site.operation.axis)


@rule(knp.Stack)
def stack(site: Site) -> None:
    """Put tensors beside one another on a new axis; their units must agree."""
    streams = _tensors(site)
    new = site.operation.axis % len(site.shapes[0])
    result: dict[int, Units] = {}
    for axis in range(streams[0].rank):
        units = agree(site, [stream.units.get(axis) for stream in streams])
        if units is not None:
            result[axis + (axis >= new)] = units
    site.emit(result)


def _tensors(site: Site) -> list[Stream]:
    """Return the tensors of a list argument; a constant among them is fixed."""
    given = site.args[0] if site.args else site.kwargs["xs" if "xs" in site.kwargs else "x"]
    return [one if isinstance(one, Stream) else Stream(tuple(np.shape(one))) for one in given]


@rule(core.Unstack)
def unstack(site: Site) -> None:
    """Take an axis apart; units along it must all stay."""
    gone = site.operation.axis % site.input.rank
    site.protect(site.input.on(gone), f"{site.title} takes their axis apart")
    units = {a - (a > gone): u for a, u in site.input.units.items() if a != gone}
    site.emit(*[units for _ in site.shapes])


@rule(knp.Split)
def split(site: Site) -> None:
    """Cut an axis in parts; each part keeps its own units, so their sizes may come to differ."""
    axis = site.operation.axis % site.input.rank
    units = site.input.on(axis)
    others = {a: u for a, u in site.input.units.items() if a != axis}
    if units is None:
        site.emit(*[others for _ in site.shapes])
        return
    given = site.operation.indices_or_sections
    if isinstance(given, int):
        step = len(units) // given
        edges = [step * i for i in range(1, given)]
    else:
        edges = [int(edge) for edge in given]
    parts = np.split(units, edges)
    site.emit(*[{**others, axis: part} for part in parts])

    def positions(keep: Keep) -> Any:
        if keep.all(units):
            return given
        return tuple(int(keep.count(units[:edge])) for edge in edges)

    site.configure("indices_or_sections", positions)


@rule(knp.Take)
def take(site: Site) -> None:
    """Pick positions of an axis; picked units are renumbered for what is kept."""
    operation = site.operation
    indices = site.args[1] if len(site.args) > 1 else site.kwargs["indices"]
    axis = operation.axis
    if isinstance(indices, Stream) or axis is None:
        site.protect_all(f"{site.title} picks positions that are not known beforehand")
        site.emit(*[{} for _ in site.shapes])
        return
    place = axis % site.input.rank
    chosen = np.asarray(indices)
    units = site.input.on(place)
    result = {
        a + (a > place) * (chosen.ndim - 1): u for a, u in site.input.units.items() if a != place
    }
    if units is not None:
        if chosen.ndim != 1:
            site.protect(units, f"{site.title} picks single units")
            site.emit(result)
            return
        result[place] = units[chosen]

        def renumber(keep: Keep, value: Any) -> Any:
            if keep.all(units):
                return value
            number = np.cumsum(keep.mask(units)) - 1
            return number[chosen[keep.mask(units[chosen])]]

        change_argument(site, 1 if len(site.args) > 1 else "indices", renumber)
    site.emit(result)


@rule(knp.Pad)
def pad(site: Site) -> None:
    """Add positions at the edges; on an axis of units they are fixed ones."""
    width = list(site.operation.pad_width)
    if len(width) == 1:
        width = width * site.input.rank
    result: dict[int, Units] = {}
    for axis, units in site.input.units.items():
        before, after = (int(n) for n in width[axis])
        if (before or after) and site.operation.mode != "constant":
            site.protect(units, f"{site.title} repeats units at the edges of their axis")
        result[axis] = np.concatenate([fixed(before), units, fixed(after)])
    site.emit(result)
    site.passes()


@rule(knp.GetItem)
def get_item(site: Site) -> None:
    """Index and slice; a step of `k` on an axis of units keeps blocks of `k` together."""
    key = site.args[1] if len(site.args) > 1 else site.kwargs["key"]
    place = 1 if len(site.args) > 1 else "key"
    steps = _spelled_out(key, site.input.rank)
    result: dict[int, Units] = {}
    edits: dict[int, Any] = {}
    source = target = 0
    for position, step in enumerate(steps):
        if step is None:
            target += 1
            continue
        units = site.input.on(source)
        if isinstance(step, slice):
            if units is not None and step != slice(None):
                edits[position] = _slice(site, units, step)
                result[target] = units[step]
            elif units is not None:
                result[target] = units
            target += 1
        elif units is not None:
            site.protect(units[[step]], f"{site.title} picks it out by its number")
            before = units[: step % len(units)]
            edits[position] = lambda keep, u=before: keep.count(u)
        source += 1
    site.emit(result)
    if edits:

        def change(keep: Keep, value: Any) -> Any:
            return tuple(edits[i](keep) if i in edits else step for i, step in enumerate(steps))

        change_argument(site, place, change)


def _spelled_out(key: Any, rank: int) -> list[Any]:
    """Write an index with one entry for every axis, and None for every new one."""
    parts = list(key) if isinstance(key, list | tuple) else [key]
    used = sum(part is not None and part is not Ellipsis for part in parts)
    rest = [slice(None)] * (rank - used)
    if not any(part is Ellipsis for part in parts):
        return parts + rest
    at = next(i for i, part in enumerate(parts) if part is Ellipsis)
    return parts[:at] + rest + parts[at + 1 :]


def _slice(site: Site, units: Units, step: slice) -> Any:
    """Say what a slice along an axis of units becomes."""
    start, stop, stride = step.indices(len(units))
    if stride < 0:
        site.protect(units, f"{site.title} takes them backwards")
        return lambda keep: step
    # Blocks of one stride, of which one position is taken: they stay or go as a whole, so that the
    # same stride takes the same position of every block that is left.
    offset = start % stride
    first = start - offset
    for block in range(first, stop, stride):
        for other in range(block + 1, min(block + stride, len(units))):
            site.couple(units[[block]], units[[other]])
    blocks = -(-(stop - first) // stride)
    end = min(first + blocks * stride, len(units))

    def change(keep: Keep) -> slice:
        if keep.all(units):
            return step
        return slice(keep.count(units[:first]) + offset, keep.count(units[:end]), stride)

    return change
