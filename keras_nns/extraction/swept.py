"""What `sweep` returns: subnetworks of many sizes, what they cost and what they are worth."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import keras

from keras_nns import tables
from keras_nns.files.atomic import Json
from keras_nns.graph.costs import Costs
from keras_nns.judgement.compared import Comparison
from keras_nns.plans.kept_units import Plan
from keras_nns.shipping.forms import Shipped

Unit = Literal["parameters", "macs", "bytes"]
UNITS: dict[str, str] = {
    "parameters": "parameters",
    "macs": "multiply-adds",
    "bytes": "bytes of .tflite ({variant})",
}


@dataclass(frozen=True, eq=False)
class Point:
    """One subnetwork of a sweep.

    Attributes:
        model: The subnetwork.
        plan: Which of the parent's units it holds.
        costs: What it costs.
        worth: The figure that counts most (`Evaluation.worth`), on the samples held out: the mean
            balanced accuracy over the labels.
        comparison: Its figures beside the parent's, on the same samples; those of its file where
            `quantize` was given.
        in_keras: The same of the network as Keras runs it.
        shipped: Its `.tflite` file.
        on_front: Whether no other network of the sweep costs no more and is worth more, or costs
            less and is worth as much.
    """

    model: keras.Model
    plan: Plan
    costs: Costs
    worth: float
    comparison: Comparison
    in_keras: Comparison
    shipped: Shipped
    on_front: bool

    @property
    def flat(self) -> bytes:
        """The bytes of its `.tflite` file."""
        return self.shipped.flat


@dataclass(frozen=True, eq=False, repr=False)
class Sweep(tables.Tabular):
    """Subnetworks of many sizes, and which of them nothing beats. Printing it gives a table.

    Attributes:
        labels: Names of the labels they are for.
        head: What they answer.
        unit: The unit in which sizes are compared: `"parameters"`, `"macs"` or `"bytes"`.
        points: The subnetworks, the smallest first.
        parent_costs: What the parent costs.
        parent_worth: The same figure of it, asked the same.
        samples: How many samples were held out for the figures.
        variant: The variant of `.tflite` that bytes are counted in.
        missing: How many sizes were still to be made when the work was cut off; 0 for a whole
            sweep.

    Example:
        >>> found = nns.sweep(model, (x, y), labels=3, sizes=[0.2], repair=False)
        >>> small = found.front[0].model
        >>> small.count_params() <= 0.2 * model.count_params()
        True
    """

    labels: tuple[str, ...]
    head: str
    unit: str
    points: tuple[Point, ...]
    parent_costs: Costs
    parent_worth: float
    samples: int
    variant: str = "float32"
    missing: int = 0

    @property
    def front(self) -> tuple[Point, ...]:
        """The subnetworks that nothing beats, the smallest first."""
        return tuple(point for point in self.points if point.on_front)

    def size(self, cost: Costs) -> int:
        """Return what a model costs in the sweep's unit."""
        return size_of(self.unit, cost)

    def to_table(self) -> tables.Table:
        """Return the points as a table."""
        whole = self.size(self.parent_costs)
        rows = tuple(
            (
                tables.ratio(self.size(point.costs), whole),
                tables.count(point.costs.parameters),
                tables.count(point.costs.macs),
                tables.count(point.costs.tflite_bytes),
                str(sum(map(len, point.plan.kept.values()))),
                tables.share(point.worth),
                "front" if point.on_front else "",
            )
            for point in self.points
        )
        columns = (
            f"of the {self.counted}",
            "parameters",
            "multiply-adds",
            "bytes of .tflite",
            "units",
            "balanced acc." if self.measure == "balanced accuracy" else self.measure,
            "",
        )
        caption = (
            f"Networks for {', '.join(self.labels)}, head {self.head!r}, judged on "
            f"{self.samples:,} samples held out. The parent, asked the same: "
            f"{tables.share(self.parent_worth)} with {self.parent_costs.parameters:,} parameters."
        )
        if self.missing:
            were = "size was" if self.missing == 1 else "sizes were"
            caption += f" Cut off: {self.missing} larger {were} not made."
        return tables.Table(columns, rows, caption)

    @property
    def counted(self) -> str:
        """What sizes are compared in, in words."""
        return UNITS[self.unit].format(variant=self.variant)

    @property
    def measure(self) -> str:
        """Name of the figure that `worth` is."""
        return self.points[0].comparison.after.measure

    def to_json(self) -> Json:
        """Return everything but the models as plain data."""
        key = self.measure.replace(" ", "_")
        return {
            "labels": list(self.labels),
            "head": self.head,
            "unit": self.unit,
            "variant": self.variant,
            "samples": self.samples,
            "missing": self.missing,
            "parent": {
                "costs": self.parent_costs.to_json(),
                key: self.parent_worth,
            },
            "points": [
                {
                    "costs": point.costs.to_json(),
                    key: None if math.isnan(point.worth) else point.worth,
                    "on_front": point.on_front,
                    "units": {name: len(units) for name, units in point.plan.kept.items()},
                    "comparison": point.comparison.to_json(),
                }
                for point in self.points
            ],
        }


def size_of(unit: str, cost: Costs) -> int:
    """Return what a model costs in a unit of sizes."""
    amount = cost.tflite_bytes if unit == "bytes" else getattr(cost, unit)
    assert amount is not None
    return int(amount)
