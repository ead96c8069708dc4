"""What an operation of `keras.ops` is called on: tensors, and constants to cut with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from keras_nns.graph.rules.base import Site
from keras_nns.graph.rules.merging import joined
from keras_nns.graph.rules.records import FIXED, Keep, Stream, Units

Place = int | str
"""Position of a positional argument, or name of one given by keyword."""


@dataclass(frozen=True)
class Operand:
    """One argument that has a shape.

    Attributes:
        place: Where it stands in the call.
        stream: What is known of it; a constant carries no units.
        constant: Whether it is a constant of the model instead of a computed tensor.
    """

    place: Place
    stream: Stream
    constant: bool


def operand(site: Site, place: Place) -> Operand | None:
    """Return an argument as an operand, or None for one that is missing or a plain number."""
    if isinstance(place, int):
        value = site.args[place] if place < len(site.args) else None
    else:
        value = site.kwargs.get(place)
    if isinstance(value, Stream):
        return Operand(place, value, False)
    shape = getattr(value, "shape", None)
    if shape is None and isinstance(value, list | tuple):
        shape = np.shape(value)
    return Operand(place, Stream(tuple(shape)), True) if shape else None


def operands(site: Site, names: Sequence[str]) -> list[Operand]:
    """Return the operands of a call, whose parameters have these names, in their order."""
    found = [operand(site, i) or operand(site, name) for i, name in enumerate(names)]
    return [one for one in found if one is not None]


def change_argument(site: Site, place: Place, change: Callable[[Keep, Any], Any]) -> None:
    """Say how one argument of the call changes when units leave."""

    def edit(
        keep: Keep, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if isinstance(place, int):
            new = list(args)
            new[place] = change(keep, args[place])
            return tuple(new), kwargs
        return args, {**kwargs, place: change(keep, kwargs[place])}

    site.rewrite(edit)


def slice_constant(site: Site, place: Place, axes: Mapping[int, Units]) -> None:
    """Say that a constant argument loses the positions of these units on these axes."""
    if not axes:
        return

    def change(keep: Keep, value: Any) -> Any:
        if all(keep.all(units) for units in axes.values()):
            return value
        array = np.asarray(value)
        for axis, units in axes.items():
            array = np.take(array, keep.where(units), axis=axis)
        return array

    change_argument(site, place, change)


def aligned(site: Site, given: Sequence[Operand]) -> dict[int, Units]:
    """Join operands that meet element by element; slice the constants among them.

    Returns:
        Units by axis of the result.
    """
    tensors = [one for one in given if not one.constant]
    rank = max(one.stream.rank for one in given)
    shift = rank - max(one.stream.rank for one in tensors)
    units = {
        axis + shift: numbers
        for axis, numbers in joined(site, [one.stream for one in tensors]).items()
    }
    for one in given:
        if one.constant:
            own: dict[int, Units] = {}
            for axis, numbers in list(units.items()):
                place = axis - rank + one.stream.rank
                size = one.stream.shape[place] if place >= 0 else 1
                if size == len(numbers) and size != 1:
                    own[place] = numbers
                elif size != 1:
                    site.protect(numbers, f"{site.title} repeats them along a constant")
                    del units[axis]
            slice_constant(site, one.place, own)
    return units


def fixed(count: int) -> Units:
    """Return the unit numbers of an axis that cannot be cut."""
    return np.full(count, FIXED, dtype=np.int64)
