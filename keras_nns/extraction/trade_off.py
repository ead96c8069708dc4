"""Sweep: the whole trade-off between what subnetworks cost and what they are worth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np

from keras_nns import tables
from keras_nns.errors import SelectionError
from keras_nns.extraction.clocks import Clock
from keras_nns.extraction.meters import Meter
from keras_nns.extraction.networks import Judged, judge_network, make_network
from keras_nns.extraction.observed import (
    form_of,
    observe_parent,
    open_division,
    rank_units,
    score_units,
    warn_of_guesses,
    warn_of_refusals,
)
from keras_nns.extraction.tasks import Task, set_task, write_recipe
from keras_nns.extraction.unfinished import left_behind
from keras_nns.files.atomic import Json
from keras_nns.graph import costs
from keras_nns.graph.budgets import Budget
from keras_nns.graph.costs import Costs
from keras_nns.judgement.compared import Comparison
from keras_nns.plans.kept_units import Plan
from keras_nns.progress import Verbose, job
from keras_nns.repairing.patient import Step
from keras_nns.repairing.prepared import MEMORY
from keras_nns.selection.activations import Score
from keras_nns.selection.choosing import Label
from keras_nns.selection.ranking import Balance, Cost, Ranking, check_balance
from keras_nns.shipping.forms import Quantization, Shipped
from keras_nns.surgery.lineage import Head

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
        return _size(self.unit, cost)

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


def sweep(
    model: keras.Model,
    data: Any,
    y: Any = None,
    *,
    labels: Label | Sequence[Label] = "all",
    sizes: int | Sequence[float] = 8,
    unit: Unit = "parameters",
    quantize: Quantization | None = None,
    head: Head | None = None,
    score: Score | str | None = None,
    balance: Balance | None = None,
    repair: bool | Step | Sequence[Step] = True,
    distill_epochs: int = 0,
    held_out: float = 0.2,
    seed: int = 0,
    batch_size: int = 256,
    label_names: Sequence[Any] | None = None,
    output: str | None = None,
    memory: int = MEMORY,
    verbose: Verbose = "auto",
) -> Sweep:
    """Make subnetworks of many sizes for some labels, from one observation, and judge each.

    All are judged on the same samples held out from everything else. Choosing one by these figures
    makes its own figure here a little too good: judge the one you chose on other data.

    Args:
        model: The parent. It is not changed.
        data: As in `extract`.
        y: As in `extract`.
        labels: As in `extract`.
        sizes: How many sizes, in equal ratios from one unit in every layer to the whole parent; or
            the sizes themselves, as shares of the parent's, above 0 and at most 1.
        unit: What sizes are measured in: `"parameters"`, `"macs"` or `"bytes"`.
        quantize: As in `extract`: bytes are counted in that variant, and files are judged.
        head: As in `extract`.
        score: As in `extract`.
        balance: As in `extract`.
        repair: As in `extract`.
        distill_epochs: As in `extract`.
        held_out: As in `extract`.
        seed: As in `extract`.
        batch_size: As in `extract`.
        label_names: As in `extract`.
        output: As in `extract`.
        memory: As in `extract`.
        verbose: As in `extract`.

    Returns:
        The subnetworks with their costs and figures, which `nns.plots.trade_off` draws.

    Raises:
        SelectionError: The sizes or the unit make no sense.
        NNSError: As in `extract`.
        KeyboardInterrupt: It was cut off. Where networks had been judged by then, a sweep of them
            is its `.found`.

    Example:
        >>> found = nns.sweep(model, (x, y), labels=3, sizes=[0.1, 0.3], repair=False)
        >>> [point.model.output_shape for point in found.points]  # 3 or not
        [(None, 1), (None, 1)]
        >>> figure = nns.plots.trade_off(found)
    """
    if unit not in UNITS:
        raise SelectionError(f"`unit` must be one of {', '.join(UNITS)}. Received: unit={unit!r}.")
    _check_sizes(sizes)
    if balance is not None:
        check_balance(balance)
    with job(verbose) as shown:
        division = open_division(
            model,
            data,
            y,
            held_out=held_out,
            seed=seed,
            batch_size=batch_size,
            label_names=label_names,
            output=output,
        )
        task = set_task(
            model,
            labels,
            label_names=division.label_names,
            head=head,
            output=output,
            asked=division.asked,
        )
        recipe = write_recipe(task, repair, distill_epochs)
        expected = sizes if isinstance(sizes, int) else len(sizes)
        clock = Clock(shown, networks=expected, files=expected + 1)
        meter = Meter(task, recipe, clock, form_of(task, division, quantize))
        with clock("observe"):
            parent = observe_parent(task, division, batch_size=batch_size, memory=memory)
        with clock("score"):
            scored = score_units(parent, task, score, balance)
        ranking = rank_units(parent, task, scored, meter.estimate(unit))
        plans = _plans(ranking, meter.estimate(unit), sizes)
        warn_of_guesses(parent, scored, ranking, plans)
        parent_costs = _measured(meter, model)
        made: list[tuple[Judged, Costs]] = []

        def found() -> Sweep | None:
            return _swept(task, unit, made, parent_costs, meter, asked=len(plans)) if made else None

        with left_behind(found):
            for plan in plans:
                with clock("repair"):
                    network = make_network(parent, task, recipe, plan)
                with clock("judge"):
                    judged = judge_network(parent, task, network, meter.shipped(network.model))
                made.append((judged, _measured(meter, network.model)))
        with clock("judge"):
            warn_of_refusals([judged.shipped for judged, _ in made])
    return _swept(task, unit, made, parent_costs, meter, asked=len(plans))


def _swept(
    task: Task,
    unit: Unit,
    made: Sequence[tuple[Judged, Costs]],
    parent_costs: Costs,
    meter: Meter,
    *,
    asked: int,
) -> Sweep:
    """Put networks in order, and say which of them nothing beats."""
    amounts = [_size(unit, cost) for _, cost in made]
    fronts = _front(amounts, [judged.worth for judged, _ in made])
    points = [
        Point(
            model=judged.network.model,
            plan=judged.network.plan,
            costs=cost,
            worth=judged.worth,
            comparison=judged.comparison,
            in_keras=judged.in_keras,
            shipped=judged.shipped,
            on_front=front,
        )
        for (judged, cost), front in zip(made, fronts, strict=True)
    ]
    first = made[0][0].comparison.before
    return Sweep(
        labels=tuple(task.label_names[label] for label in task.labels),
        head=task.head,
        unit=unit,
        points=tuple(points[i] for i in np.argsort(amounts, kind="stable")),
        parent_costs=parent_costs,
        parent_worth=first.worth,
        samples=first.samples,
        variant=meter.form.variant,
        missing=asked - len(made),
    )


def _plans(ranking: Ranking, cost: Cost, sizes: int | Sequence[float]) -> list[Plan]:
    """Return the plans of the sizes asked for, no two alike, the smallest first."""
    least, most = cost(ranking.smallest), cost(ranking.everything)
    if isinstance(sizes, int):
        targets = np.geomspace(least, most, sizes)
    else:
        targets = np.maximum(np.sort(sizes) * most, least)
    plans: list[Plan] = []
    for target in targets.tolist():
        plan = ranking.fit(cost, target * (1 + 1e-9))
        if not plans or plan != plans[-1]:
            plans.append(plan)
    return plans


def _measured(meter: Meter, model: keras.Model) -> Costs:
    return costs.measure(model, tflite_bytes=round(meter.cost(Budget(bytes=1), model)["bytes"]))


def _size(unit: str, cost: Costs) -> int:
    amount = cost.tflite_bytes if unit == "bytes" else getattr(cost, unit)
    assert amount is not None
    return int(amount)


def _check_sizes(sizes: int | Sequence[float]) -> None:
    if isinstance(sizes, int) and not isinstance(sizes, bool):
        if sizes < 1:
            raise SelectionError(f"`sizes` must be 1 or more. Received: sizes={sizes}.")
        return
    shares = np.asarray(sizes, dtype=np.float64) if np.size(sizes) else np.zeros(1)
    if isinstance(sizes, bool) or shares.ndim != 1 or not ((shares > 0) & (shares <= 1)).all():
        raise SelectionError(
            "`sizes` is a number of sizes, or shares of the parent above 0 and at most 1. "
            f"Received: sizes={sizes!r}."
        )


def _front(sizes: Sequence[int], worths: Sequence[float]) -> list[bool]:
    """Say which points no other beats."""
    both = list(zip(sizes, worths, strict=True))
    return [
        not any((s <= size and w > worth) or (s < size and w >= worth) for s, w in both)
        and not math.isnan(worth)
        for size, worth in both
    ]
