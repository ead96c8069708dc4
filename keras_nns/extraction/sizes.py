"""What networks cost, and the size at which they meet a budget."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import keras
import numpy as np

import tflite_export
from keras_nns.errors import SelectionError
from keras_nns.extraction.networks import Judged
from keras_nns.extraction.tasks import Recipe, Task, skeleton
from keras_nns.graph import costs
from keras_nns.graph.budgets import Budget
from keras_nns.graph.estimates import Estimates
from keras_nns.plans.kept_units import Plan
from keras_nns.progress import Job, Part
from keras_nns.selection.ranking import Cost, Ranking
from keras_nns.shipping.forms import Form, Shipped

_CLOSE = 0.99
"""A plan is close enough that costs this share of the budget or more."""

_TRIES = 6
"""How often a plan is measured, at most."""

_HALVINGS = 6
"""How often the range of sizes is halved to find the smallest that loses no more."""

_SECONDS = 0.3
"""How long a latency is measured."""

_WORK = {"observe": 1.0, "score": 4.0, "export": 1.0, "repair": 10.0, "judge": 1.0}
"""About how long parts take beside each other."""

Make = Callable[[Plan], Judged]

# What memory and time grow with can be set against units; they themselves jump.
_COUNTED = {"drop": "parameters", "activation_memory": "macs", "latency_ms": "macs"}


class Clock:
    """How long each part of the work took, and how often it was done.

    What is timed within another part counts for itself alone.

    Args:
        job: Is told of the parts as they come.
        networks: About how many networks will be made and judged.
        files: About how many files will be made.

    Attributes:
        seconds: By part.
        times: By part.
    """

    def __init__(self, job: Job, *, networks: int = 1, files: int = 0) -> None:
        parts = {
            "observe": Part("observing", _WORK["observe"]),
            "score": Part("scoring units", _WORK["score"]),
            "search": Part("searching"),
            "export": Part("making files", _WORK["export"], files),
            "repair": Part("repairing", _WORK["repair"], networks),
            "judge": Part("judging", _WORK["judge"], networks),
        }
        job.expect(**parts)
        self._job = job
        self.seconds = dict.fromkeys(parts, 0.0)
        self.times = dict.fromkeys(parts, 0)
        self._within = [0.0]

    @contextmanager
    def __call__(self, part: str) -> Iterator[None]:
        """Time what is done inside."""
        start = time.perf_counter()
        self._within.append(0.0)
        try:
            with self._job.part(part):
                yield
        finally:
            whole = time.perf_counter() - start
            self.seconds[part] += whole - self._within.pop()
            self.times[part] += 1
            self._within[-1] += whole


def expected(budget: Budget, quantize: object) -> dict[str, int]:
    """Return about how many networks and files a search for a budget takes, for a `Clock`."""
    if budget.unit == "drop":
        return {"networks": _HALVINGS + 2, "files": 0 if quantize is None else _HALVINGS + 2}
    measured = budget.unit not in ("parameters", "macs")
    return {"networks": 1, "files": (_TRIES if measured else 0) + (quantize is not None)}


class Meter:
    """What networks of a task cost, estimated from their plans or measured.

    Args:
        task: What they answer.
        recipe: What is done to them behind the cut, which may change their shape.
        clock: What counts the files that are made to measure them, and the time it takes.
        form: In which form they ship: what is measured are such files.

    Attributes:
        form: As given.
    """

    def __init__(self, task: Task, recipe: Recipe, clock: Clock, form: Form) -> None:
        self.form = form
        self._task = task
        self._recipe = recipe
        self._clock = clock
        self._estimates = Estimates(task.graph)
        self._last: Shipped | None = None

    def estimate(self, unit: str) -> Cost:
        """Return the function that says about what a plan costs in a unit, building nothing."""
        return lambda plan: self._estimates.of(unit, self._task.keep(plan))

    def weighed(self, unit: str) -> Cost:
        """Return the estimate that units are set against, one by one, for a budget in a unit."""
        return self.estimate(_COUNTED.get(unit, unit))

    def planned(self, budget: Budget, plan: Plan) -> float:
        """Return what the network of a plan will cost, in a budget's unit."""
        model = skeleton(self._task, self._recipe, plan)
        return self._cost(budget, model, lambda: self.form.sized(model))

    def cost(self, budget: Budget, model: keras.Model) -> float:
        """Return what a model costs, in a budget's unit."""
        return self._cost(budget, model, lambda: self.shipped(model).flat)

    def shipped(self, model: keras.Model) -> Shipped:
        """Return what a model ships as; that of the last one asked for is kept."""
        if self._last is None or self._last.model is not model:
            self._last = Shipped(model, self.form)
        return self._last

    def shown(self, budget: Budget, amount: float, *, unit: bool = True) -> str:
        """Write an amount in a budget's unit, in the variant that ships."""
        return budget.shown(amount, unit=unit, variant=self.form.variant)

    def _cost(self, budget: Budget, model: keras.Model, file: Callable[[], bytes]) -> float:
        if budget.unit == "parameters":
            return float(costs.parameters(model))
        if budget.unit == "macs":
            return float(costs.count_macs(model))
        with self._clock("export"):
            flat = file()
            if budget.unit == "bytes":
                return float(len(flat))
            if budget.unit == "latency_ms":
                return milliseconds(flat)
            alive = tflite_export.anatomy(flat).activation_bytes
        if alive is None:
            raise SelectionError(
                f"The memory of {model.name!r} is not known beforehand: its .tflite leaves shapes "
                "open, or has loops. Use another unit."
            )
        return float(alive)


def milliseconds(flat: bytes) -> float:
    """Return the median milliseconds of one sample on one thread of this machine."""
    return tflite_export.card(flat, seconds=_SECONDS).rows[0].latency[0].p50 / 1000


# To a size --------------------------------------------------------------------------------------


def smallest_needed(meter: Meter, budget: Budget, task: Task) -> tuple[Plan, float]:
    """Return the smallest plan that networks for a budget need be looked for from, and its cost.

    It keeps one unit of every layer; where the budget is below that, nothing of what networks can
    do without. Nothing is asked of the data.

    Args:
        meter: What networks cost.
        budget: What a network may cost, in a unit of size or time.
        task: What they answer.

    Raises:
        SelectionError: The budget is below all of that; the message says what is the least.
    """
    plan = task.one_of_each()
    cost = meter.planned(budget, plan)
    if cost > budget.limit:
        plan = task.emptied(plan)
        cost = meter.planned(budget, plan) if plan.empty else cost
        refuse_below(meter, cost, budget, plan)
    return plan, cost


def refuse_below(meter: Meter, cost: float, budget: Budget, plan: Plan) -> None:
    """Make sure that a budget allows what the smallest network costs.

    Args:
        meter: What networks cost.
        cost: What the smallest costs.
        budget: What it may cost.
        plan: Its plan.

    Raises:
        SelectionError: It does not; the message says what is the least.
    """
    if cost <= budget.limit:
        return
    without = f", without {', '.join(map(repr, plan.empty))}" if plan.empty else ""
    raise SelectionError(
        f"A budget of {meter.shown(budget, budget.limit)} is below one unit in every layer"
        f"{without}, which costs {meter.shown(budget, cost)}. The nearest possible is "
        f"{budget.of(cost)!r}."
    )


def largest_within(
    meter: Meter, ranking: Ranking, budget: Budget, make: Make, *, least: float
) -> tuple[Judged, float]:
    """Find the largest network that fits a budget of size or time.

    Args:
        meter: What networks cost.
        ranking: In which order units join them.
        budget: What a network may cost.
        make: Makes the network of a plan.
        least: What the smallest of the ranking costs.

    Returns:
        The network, and what it costs.

    Raises:
        SelectionError: Even the smallest costs more once it is repaired.
    """
    limit = budget.limit
    while True:
        made = make(_fitting(meter, ranking, budget, limit, least))
        cost = meter.cost(budget, made.network.model)
        if cost <= budget.limit:
            return made, cost
        if limit <= least:
            refuse_below(meter, cost, budget, made.network.plan)
        # Repair gave it what its skeleton did not have, such as a bias.
        limit = max(least, limit - 1.1 * (cost - budget.limit))


def _fitting(meter: Meter, ranking: Ranking, budget: Budget, limit: float, least: float) -> Plan:
    """Return the largest plan found whose skeleton costs no more than the limit."""
    estimate = meter.estimate(budget.unit)
    best, everything = ranking.smallest, ranking.everything
    low, low_cost, high = estimate(best), least, float("inf")
    slope = 1.0
    if budget.unit in ("activation_memory", "latency_ms") or (
        budget.unit == "bytes" and meter.form.variant != "float32"
    ):
        # Estimates are of another kind than what is measured: see how one grows with the other.
        whole = meter.planned(budget, everything)
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
        cost = meter.planned(budget, plan)
        if cost > limit:
            high = estimate(plan)
            # From here the way down is shorter than from below.
            plan = ranking.fit(estimate, max(low, high - (cost - limit) / slope))
            cost = meter.planned(budget, plan)
            if cost > limit or plan == best:
                continue
        best, low, low_cost = plan, estimate(plan), cost
        if cost >= _CLOSE * limit or plan == everything:
            break
    return best


# To a drop --------------------------------------------------------------------------------------


def smallest_within(
    meter: Meter, ranking: Ranking, budget: Budget, make: Make, bare: Make | None
) -> tuple[Judged, float, float]:
    """Halve the range of sizes again and again, to the smallest network that loses no more.

    Args:
        meter: What networks cost.
        ranking: In which order units join them.
        budget: How much a network may lose.
        make: Makes the network of a plan.
        bare: Makes it without repair, for where only that loses too much, as with few samples; None
            where nothing is repaired.

    Returns:
        The network, what it loses, and what the smallest of the ranking loses.

    Raises:
        SelectionError: Even with all units more is lost.
    """
    estimate = meter.weighed(budget.unit)

    def best_of(plan: Plan) -> Judged:
        mended = make(plan)
        if mended.drop <= budget.limit or bare is None:
            return mended
        return min(mended, bare(plan), key=lambda one: one.drop)

    smallest = best_of(ranking.smallest)
    if smallest.drop <= budget.limit:
        return smallest, smallest.drop, smallest.drop
    best = best_of(ranking.everything)
    if best.drop > budget.limit:
        raise SelectionError(
            f"A drop of at most {budget.limit:g} cannot be had: with all units, head "
            f"{best.comparison.after.head!r} loses {best.drop:.4g}. The nearest possible is "
            f"{budget.of(best.drop)!r}."
        )
    low, high = np.log([estimate(ranking.smallest), estimate(ranking.everything)])
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        tried = best_of(ranking.fit(estimate, float(np.exp(middle))))
        if tried.drop <= budget.limit:
            best, high = tried, middle
        else:
            low = middle
    return best, best.drop, smallest.drop
