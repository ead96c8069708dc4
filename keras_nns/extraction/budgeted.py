"""Extract: observe, select to a budget, cut, repair, in one call."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_nns import tables
from keras_nns.errors import SelectionError
from keras_nns.extraction.maker import Made, Maker
from keras_nns.files.atomic import Json
from keras_nns.graph.budgets import Budget, ambiguous
from keras_nns.judgement.comparison import Comparison
from keras_nns.observation.activity import Activity
from keras_nns.plans.kept_units import Plan
from keras_nns.repairing.patient import Step
from keras_nns.repairing.steps import Repair
from keras_nns.selection.activations import Score
from keras_nns.selection.choosing import Label
from keras_nns.selection.ranking import Balance
from keras_nns.surgery.lineage import Head
from keras_nns.training.trained import Trained

_CLOSE = 0.99
"""A plan is close enough that costs this share of the budget or more."""

_TRIES = 6
"""How often a plan is measured, at most."""

_HALVINGS = 6
"""How often the range of sizes is halved to find the smallest that loses no more."""


@dataclass(frozen=True, eq=False)
class Extraction:
    """A subnetwork made to a budget, and how it came about. Printing it gives a table.

    Attributes:
        model: The subnetwork, a new model.
        plan: Which of the parent's units it holds.
        budget: What it may cost.
        cost: What it costs, in the budget's unit.
        least: What the smallest subnetwork there can be costs, of one unit in every layer.
        comparison: It beside the parent, asked the same, on samples held out from all of it.
        repaired: What repair gained; None without repair.
        trained: What distillation gained; None without.
        activity: What was observed, in the one pass that all plans were made from.
        exports: How many `.tflite` files were made to measure plans.
        seconds: Where the time went: to `"observe"`, to `"score"`, to `"search"`, to `"export"` and
            measure files, to `"repair"` and train, and to `"judge"`.
    """

    model: keras.Model
    plan: Plan
    budget: Budget
    cost: float
    least: float
    comparison: Comparison
    repaired: Repair | None
    trained: Trained | None
    activity: Activity
    exports: int
    seconds: Mapping[str, float]

    def to_table(self) -> tables.Table:
        """Return what it costs and what it is worth as a table."""
        table = self.comparison.to_table()
        return tables.Table(
            table.columns, table.rows, f"{self.summary}\n{table.caption}", table.prose
        )

    @property
    def summary(self) -> str:
        """What was asked and what came of it, in a sentence."""
        shown = self.budget.shown
        units = sum(map(len, self.plan.kept.values()))
        return (
            f"{shown(self.cost)}, of a budget of {shown(self.budget.limit, unit=False)} "
            f"(the least there can be: {shown(self.least, unit=False)}): {units} of "
            f"{sum(self.plan.sizes.values())} units."
        )

    def to_json(self) -> Json:
        """Return everything but the model and the activity as plain data."""
        return {
            "budget": {"unit": self.budget.unit, "limit": self.budget.limit},
            "cost": self.cost,
            "least": self.least,
            "units": {name: len(units) for name, units in self.plan.kept.items()},
            "exports": self.exports,
            "seconds": dict(self.seconds),
            "comparison": self.comparison.to_json(),
            "repaired": None if self.repaired is None else self.repaired.to_json(),
            "trained": None if self.trained is None else self.trained.to_json(),
        }

    def __str__(self) -> str:
        return str(self.to_table())


def extract(
    model: keras.Model,
    data: Any,
    y: Any = None,
    *,
    labels: Label | Sequence[Label],
    budget: Budget,
    head: Head | None = None,
    score: Score | None = None,
    balance: Balance | None = None,
    repair: bool | Step | Sequence[Step] = True,
    distill_epochs: int = 0,
    held_out: float = 0.2,
    seed: int = 0,
    batch_size: int = 256,
    label_names: Sequence[Any] | None = None,
    output: str | None = None,
) -> keras.Model:
    """Make the subnetwork for some labels that a budget allows: observe, select, cut, repair.

    The model is observed once. Which units stay is searched over the scores of that one pass, by
    what networks cost; files are exported only to measure bytes and memory. For a budget of size or
    time the answer is the largest network that fits, within what one unit costs and never over; for
    a `drop`, the smallest that was found to lose no more.

    Args:
        model: The parent. It is not changed.
        data: Training or validation data with labels, as `keras_nns.observe` takes it,
            which can be gone over several times. Never the data to judge by in the end.
        y: Labels, where `data` is inputs alone.
        labels: A label's number or name, or several.
        budget: What the network may cost, such as `Budget(bytes=60_000)`.
        head: What it answers, as in `cut`. None: `"binary"` for one label; `"other"` for several;
            `"parent"` for all; `"labels"` where each label has its own probability.
        score: How much a label needs a unit. None: `reconstruction`; where that cannot be
            had or would take too much memory, `forward_selection` or `contrast`.
        balance: How layers are compared: `"share"` keeps the same share of every layer; `"zeta"`
            compares scores in shares of the layer's highest, the paper's rule at some ζ; `"cost"`
            keeps the units of highest score for what they cost in the budget's unit, for scores
            that can be compared between layers. None: `"cost"` for `reconstruction`, `"share"`
            for others.
        repair: Whether to repair it: least squares, then the head. Or the steps, as in `repair`.
        distill_epochs: For how many epochs to distil it from the parent behind that; the head is
            set once more afterwards.
        held_out: Share of the samples that nothing looks at but the figures of `search`, and the
            choice itself for a `drop`.
        seed: Which samples those are, and their order in training.
        batch_size: Samples in a batch, for arrays.
        label_names: Name of every label of the parent, in the order of its outputs.
        output: Name of the output that answers the labels, where the parent has several.

    Returns:
        The subnetwork. `search` takes the same arguments and also gives what it costs, what is the
        least there can be, and its figures on the samples held out.

    Raises:
        SelectionError: The budget has no unit or is below one unit in every layer; the message says
            what is the least. Or a label, a score or the head makes no sense.
        DataError: The data does not fit, has no labels, or has too few samples for the repair; the
            message says how many it takes.
        SurgeryError: The model cannot be cut or repaired in this way.

    Example:
        >>> budget = nns.Budget(bytes=60_000)  # doctest: +SKIP
        >>> small = nns.extract(model, (x, y), labels=[3, 8], budget=budget)  # doctest: +SKIP
        >>> print(nns.evaluate(small, (x_test, y_test)))  # doctest: +SKIP
    """
    return search(
        model,
        data,
        y,
        labels=labels,
        budget=budget,
        head=head,
        score=score,
        balance=balance,
        repair=repair,
        distill_epochs=distill_epochs,
        held_out=held_out,
        seed=seed,
        batch_size=batch_size,
        label_names=label_names,
        output=output,
    ).model


def search(
    model: keras.Model,
    data: Any,
    y: Any = None,
    *,
    labels: Label | Sequence[Label],
    budget: Budget,
    **options: Any,
) -> Extraction:
    """Do what `extract` does, and tell how it came about.

    Args:
        model: As in `extract`.
        data: As in `extract`.
        y: As in `extract`.
        labels: As in `extract`.
        budget: As in `extract`.
        **options: The other options of `extract`.

    Returns:
        The subnetwork with its cost, the least there can be, and its figures beside the parent's.

    Raises:
        NNSError: As in `extract`.

    Example:
        >>> budget = nns.Budget(drop=0.01)  # doctest: +SKIP
        >>> found = nns.search(model, (x, y), labels=3, budget=budget)  # doctest: +SKIP
        >>> print(found)  # doctest: +SKIP
    """
    if not isinstance(budget, Budget):
        raise ambiguous(budget)
    maker = Maker(model, data, y, labels=labels, **options)
    search_for = _within_drop if budget.unit == "drop" else _within_size
    start, before = time.perf_counter(), sum(maker.seconds.values())
    made, cost, least = search_for(maker, budget)
    searching = time.perf_counter() - start - (sum(maker.seconds.values()) - before)
    return Extraction(
        model=made.model,
        plan=made.plan,
        budget=budget,
        cost=cost,
        least=least,
        comparison=made.comparison,
        repaired=made.repaired,
        trained=made.trained,
        activity=maker.activity,
        exports=maker.exports,
        seconds={**maker.seconds, "search": searching},
    )


def _within_size(maker: Maker, budget: Budget) -> tuple[Made, float, float]:
    """Return the largest subnetwork that fits, what it costs, and what the least costs."""
    smallest = maker.ranking(budget.unit).smallest
    least = maker.cost(budget, maker.skeleton(smallest))
    if least > budget.limit:
        raise SelectionError(
            f"A budget of {budget} is below one unit in every layer, which costs "
            f"{budget.shown(least)}. The nearest possible is {budget.of(least)!r}."
        )
    limit = budget.limit
    while True:
        made = maker.make(_fitting(maker, budget, limit, least))
        cost = maker.cost(budget, made.model)
        if cost <= budget.limit or limit <= least:
            return made, cost, least
        # Repair gave it what its skeleton did not have, such as a bias.
        limit = max(least, limit - 1.1 * (cost - budget.limit))


def _fitting(maker: Maker, budget: Budget, limit: float, least: float) -> Plan:
    """Return the largest plan found whose skeleton costs no more than the limit."""

    def estimate(plan: Plan) -> float:
        return maker.estimate(budget.unit, plan)

    ranking = maker.ranking(budget.unit)
    best, everything = ranking.smallest, ranking.everything
    low, low_cost, high = estimate(best), least, float("inf")
    slope = 1.0
    if budget.unit in ("activation_memory", "latency_ms"):
        # Estimates are of another kind than what is measured: see how one grows with the other.
        whole = maker.cost(budget, maker.skeleton(everything))
        if whole <= limit:
            return everything
        high = estimate(everything)
        slope = (whole - least) / max(high - low, 1.0)
    for _ in range(_TRIES):
        target = low + (limit - low_cost) / slope if slope > 0 else high
        # Never again what was too much.
        target = target if target < high else low + 0.9 * (high - low)
        plan = ranking.fit(estimate, target)
        if plan == best:
            break
        cost = maker.cost(budget, maker.skeleton(plan))
        if cost > limit:
            high = estimate(plan)
            # From here the way down is shorter than from below.
            plan = ranking.fit(estimate, max(low, high - (cost - limit) / slope))
            cost = maker.cost(budget, maker.skeleton(plan))
            if cost > limit or plan == best:
                continue
        best, low, low_cost = plan, estimate(plan), cost
        if cost >= _CLOSE * limit or plan == everything:
            break
    return best


def _within_drop(maker: Maker, budget: Budget) -> tuple[Made, float, float]:
    """Halve the range of sizes again and again, to the smallest that loses no more."""

    def estimate(plan: Plan) -> float:
        return maker.estimate("parameters", plan)

    def made(plan: Plan) -> Made:
        """Make a network; without repair where only that loses too much, as with few samples."""
        mended = maker.make(plan)
        if mended.drop <= budget.limit or not maker.mends:
            return mended
        return min(mended, maker.make(plan, bare=True), key=lambda one: one.drop)

    ranking = maker.ranking(budget.unit)
    smallest = made(ranking.smallest)
    if smallest.drop <= budget.limit:
        return smallest, smallest.drop, smallest.drop
    best = made(ranking.everything)
    if best.drop > budget.limit:
        raise SelectionError(
            f"A drop of at most {budget.limit:g} cannot be had: with all units, head "
            f"{maker.head!r} loses {best.drop:.4g}. The nearest possible is "
            f"{budget.of(best.drop)!r}."
        )
    low, high = np.log([estimate(smallest.plan), estimate(best.plan)])
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        tried = made(ranking.fit(estimate, float(np.exp(middle))))
        if tried.drop <= budget.limit:
            best, high = tried, middle
        else:
            low = middle
    return best, best.drop, smallest.drop
