"""What is summed for the units of one layer, and how two such sums add up."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]


@dataclass(frozen=True, eq=False, repr=False)
class LayerActivity:
    """Sums over samples for the units of one layer, each of shape `(labels, units)`.

    A unit's value for one sample is the mean of its output over all positions (pixels, steps). For
    layers whose output can be negative `magnitude` and `fired` take the mean of the absolute
    output, so that a unit that answers with -1 counts as active.

    Attributes:
        total: Sum of the value, or None where the mean was not watched.
        magnitude: Sum of the absolute value; the same array as `total` where nothing is negative.
        fired: How many samples had an absolute value above the threshold, int64, or None.
        deviation: Sum of squared differences from the label's mean value, or None.
        maximum: Largest absolute value, -inf for a label without samples, or None.
        active: Sum of the share of positions whose absolute value was above the threshold, or None.
        square: Sum of the mean over positions of the square, or None.
    """

    total: Float | None = None
    magnitude: Float | None = None
    fired: NDArray[np.int64] | None = None
    deviation: Float | None = None
    maximum: Float | None = None
    active: Float | None = None
    square: Float | None = None

    def __repr__(self) -> str:
        shape = next((array.shape for array in self.arrays().values()), (0, 0))
        return f"<{type(self).__name__}: {', '.join(self.arrays())} of {shape[1]} units>"

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return what was watched, by name."""
        return {f.name: a for f in fields(self) if (a := getattr(self, f.name)) is not None}


def add(
    one: LayerActivity,
    other: LayerActivity,
    n_one: NDArray[np.int64],
    n_other: NDArray[np.int64],
) -> LayerActivity:
    """Add the sums of two parts of the data.

    Args:
        one: Sums of the first part.
        other: Sums of the second.
        n_one: Samples of each label in the first part.
        n_other: Samples of each label in the second.
    """

    def total(name: str) -> Any:
        a, b = getattr(one, name), getattr(other, name)
        return None if a is None or b is None else a + b

    summed = total("total")
    same = one.magnitude is one.total and other.magnitude is other.total
    deviation = None
    if one.deviation is not None and other.deviation is not None:
        assert one.total is not None and other.total is not None
        # Chan, Golub, LeVeque 1979: two sums of squared differences around their own means.
        n_a, n_b = n_one[:, None].astype(np.float64), n_other[:, None].astype(np.float64)
        n = n_a + n_b
        gap = other.total / np.maximum(n_b, 1) - one.total / np.maximum(n_a, 1)
        both = np.where((n_a > 0) & (n_b > 0), gap**2 * n_a * n_b / np.maximum(n, 1), 0.0)
        deviation = one.deviation + other.deviation + both
    maximum = None
    if one.maximum is not None and other.maximum is not None:
        maximum = np.maximum(one.maximum, other.maximum)
    return LayerActivity(
        total=summed,
        magnitude=summed if same else total("magnitude"),
        fired=total("fired"),
        active=total("active"),
        square=total("square"),
        deviation=deviation,
        maximum=maximum,
    )
