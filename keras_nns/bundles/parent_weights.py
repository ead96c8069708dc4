"""The parent's weights as a bundle describes them: which units lie along their axes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from keras_nns.files.atomic import Json

FIXED = -1
"""The unit number of a position that no plan removes."""

PLAIN = ("bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64",
          "float16", "float32", "float64")  # fmt: skip
"""Types that numpy and safetensors both have; others are stored as unsigned integers."""

Mask = NDArray[np.bool_]
"""For every unit number, whether it stays, `(units,)`."""

Positions = dict[int, NDArray[np.int64]]
"""By axis, the positions that stay."""


@dataclass(frozen=True, eq=False)
class Weight:
    """One weight of the parent, and which units lie along its axes.

    Attributes:
        name: Name of its tensor.
        layer: Path of the layer.
        index: Its place among the layer's variables.
        shape: Its shape in the parent.
        dtype: Its type in the parent.
        axes: Unit numbers along each axis that carries units; `FIXED` where a position stays.
        row: The axis whose positions are stored as rows; None for a weight that is stored whole.
    """

    name: str
    layer: str
    index: int
    shape: tuple[int, ...]
    dtype: str
    axes: Mapping[int, NDArray[np.int32]]
    row: int | None

    def positions(self, kept: Mask) -> Positions:
        """Return which positions of each axis stay.

        Args:
            kept: For every unit, whether it stays, and True behind them, which `FIXED` reads.
        """
        return {axis: kept[units].nonzero()[0] for axis, units in self.axes.items()}

    def take(self, value: NDArray[Any], mask: Mask) -> NDArray[Any]:
        """Return the part of the weight that stays."""
        for axis, where in self.positions(np.append(mask, True)).items():
            value = np.take(value, where, axis=axis)
        return value

    def place(self, part: NDArray[Any], mask: Mask) -> NDArray[Any]:
        """Return the weight in the parent's shape: the part where it belongs, zeros elsewhere."""
        where = self.positions(np.append(mask, True))
        whole = np.zeros(self.shape, dtype=part.dtype)
        whole[np.ix_(*(where.get(a, np.arange(n)) for a, n in enumerate(self.shape)))] = part
        return whole


def union_of(header: Json) -> Mask:
    """Read of which units rows are stored.

    Raises:
        ValueError: It does not say so for as many units as it names.
    """
    packed = np.frombuffer(bytes.fromhex(header["union"]), np.uint8)
    units = header["units"]
    if type(units) is not int or -(-units // 8) != len(packed):
        raise ValueError(f"{len(packed)} bytes say which of {units!r} units are stored")
    return np.unpackbits(packed, count=units).astype(bool)


def weight_of(entry: Any, axes: NDArray[np.int32], units: int) -> Weight:
    """Read what a bundle says of one weight.

    Args:
        entry: The weight as plain data.
        axes: The unit numbers of all weights, one behind the other.
        units: How many units the parent has.

    Raises:
        ValueError: It makes no sense.
    """
    name, layer, index, shape, dtype, places, row = entry
    numbers = (index, *shape, *(n for place in places.values() for n in place))
    if not all(type(text) is str for text in (name, layer, dtype)) or not all(
        type(number) is int and number >= 0 for number in numbers
    ):
        raise ValueError(f"weight {name!r} is described by {entry!r}")
    dtype_named(dtype)
    along = {int(a): axes[start : start + count] for a, (start, count) in places.items()}
    fits = all(
        0 <= axis < len(shape)
        and len(numbers) == shape[axis]
        and (numbers >= FIXED).all()
        and (numbers < units).all()
        for axis, numbers in along.items()
    )
    if not fits or not (row is None or (type(row) is int and row in along)):
        raise ValueError(f"weight {name!r} of shape {shape} has other units along its axes")
    return Weight(name, layer, index, tuple(shape), dtype, along, row)


def dtype_named(name: str) -> np.dtype[Any]:
    """Return a type of numpy or `ml_dtypes` by its name.

    Raises:
        ValueError: There is none of that name.
    """
    # bfloat16 and the float8 types come with ml_dtypes, which Keras depends on.
    found = np.dtype(name) if name in PLAIN else np.dtype(getattr(ml_dtypes, name, object))
    if found.kind == "O":
        raise ValueError(f"there is no dtype {name!r}")
    return found
