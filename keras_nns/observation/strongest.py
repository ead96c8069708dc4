"""Which units carry a label: those that fire on it more than on others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from keras_nns import tables
from keras_nns.errors import SelectionError

By = Literal["firing", "mean"]


@dataclass(frozen=True)
class Strong:
    """A unit and how it answers to a label.

    Attributes:
        layer: Path of its layer.
        unit: Its number.
        own: How it answers to the label's samples.
        others: How it answers to the other labels', each label counting alike.
    """

    layer: str
    unit: int
    own: float
    others: float


@dataclass(frozen=True, repr=False)
class Strongest(tables.Tabular):
    """Units that carry a label, the strongest first. Printing it gives a table.

    Attributes:
        label: Name of the label.
        by: What was compared: `"firing"` or `"mean"`.
        units: The units.
    """

    label: str
    by: By
    units: tuple[Strong, ...]

    def to_table(self) -> tables.Table:
        """Return the units as a table."""
        what = "Share of samples they fire on" if self.by == "firing" else "Mean absolute value"
        rows = tuple(
            (one.layer, str(one.unit), *(tables.share(v) for v in (one.own, one.others)))
            for one in self.units
        )
        columns = ("layer", "unit", self.label, "others")
        caption = f"Units that carry {self.label}. {what}; others on average over labels."
        return tables.Table(columns, rows, caption)


def strongest(
    values: Mapping[str, NDArray[np.float64]],
    label: int,
    name: str,
    seen: NDArray[np.bool_],
    *,
    k: int,
    by: By,
) -> Strongest:
    """Find the units that carry a label; see `Activity.top`.

    Args:
        values: How each unit answers to each label, by layer, `(labels, units)`.
        label: Number of the label.
        name: Its name.
        seen: Which labels have samples, `(labels,)`.
        k: How many units.
        by: What the values are.

    Raises:
        SelectionError: There are no samples of it, or of no other; or `k` is no number of units.
    """
    if k < 1:
        raise SelectionError(f"`k` is a number of units, at least 1. Received: {k}.")
    if not seen[label] or seen.sum() < 2:
        raise SelectionError(
            f"To say what carries {name!r} takes samples of it and of another label. Observe data "
            "that has both."
        )
    others = seen.copy()
    others[label] = False
    found: list[tuple[float, Strong]] = []
    for layer, each in values.items():
        own, rest = each[label], each[others].mean(axis=0)
        gain = own - rest if by == "firing" else _over_scale(own - rest, each[seen])
        found += [
            (float(gain[unit]), Strong(layer, int(unit), float(own[unit]), float(rest[unit])))
            for unit in np.argsort(-gain, kind="stable")[:k]
        ]
    found.sort(key=lambda pair: -pair[0])
    return Strongest(name, by, tuple(one for _, one in found[:k]))


def _over_scale(gain: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Divide by the layer's largest mean, so that layers of different scale compare."""
    largest = float(values.max())
    return gain / largest if largest > 0 else gain
