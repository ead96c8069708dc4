"""The size at which networks meet a budget."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import numpy as np

import tflite_export
from keras_nns.errors import PlanError, SelectionError
from keras_nns.extraction.emptied import Order, ThinnedOrEmptied
from keras_nns.extraction.meters import Meter
from keras_nns.extraction.networks import Judged, Network
from keras_nns.extraction.tasks import Task
from keras_nns.graph.budgets import Budget
from keras_nns.judgement.figures import Evaluation
from keras_nns.plans.kept_units import Plan
from keras_nns.selection.leaving import Cost

_CLOSE = 0.99
"""A plan is close enough that costs this share of the budget or more."""

_MARGIN = 0.004
"""How far below a budget of what is measured to aim, as a share of it, once it was exceeded."""

_TRIES, _USUAL = 8, 4
"""How often a plan is measured, at most; and how often it usually is."""

_REFUSALS = 4
"""How often a network may be made of which there is no file, before that is the answer."""

_SMALLER = 0.97
"""What is tried next behind such a network, as a share of what it costs."""

_HALVINGS = 6
"""How often the range of sizes is halved to find the smallest that loses no more."""

_CHANCE = 0.25
"""Times one over the root of the samples: by how much two networks may differ by chance.

As if they decided differently for one sample in sixteen.
"""

Make = Callable[[Plan], Judged]
Build = Callable[[Plan], Network]


def either(
    build: Build,
    order: Order,
    cost: Cost,
    *,
    worth: Callable[[Network], Evaluation] | None,
    fits: Callable[[Network], bool] = lambda network: True,
    limit: float = 0.0,
) -> Build:
    """Build networks of plans as they are, or without branches where those are worth more.

    Where the scores tell that a plan without branches loses no more, networks of both are built,
    and the branches leave where that is better by more than chance.

    Args:
        build: Builds the network of a plan.
        order: In which order units join.
        cost: About what a plan costs.
        worth: What a network is worth on samples that it was fitted to, so that those held out say
            nothing about it. None: the scores alone tell, and one is built.
        fits: Whether a network keeps to the budget.
        limit: What a plan may cost, where that is known to be what its network will.
    """
    if not isinstance(order, ThinnedOrEmptied):
        return build

    def without(plan: Plan) -> Network | None:
        try:
            network = build(plan)
            return network if fits(network) else None
        except (PlanError, tflite_export.ConversionError):
            return None

    def built(plan: Plan) -> Network:
        rival = order.rival(plan, cost, limit)
        other = None if rival is None or not (worth or rival.clearly) else without(rival.plan)
        if other is None:
            return build(plan)
        if worth is None:
            return other
        one = build(plan)
        mine, theirs = worth(one), worth(other)
        chance = _CHANCE / math.sqrt(max(mine.samples, 1))
        return other if theirs.worth >= mine.worth + chance else one

    return built


def either_within(
    meter: Meter,
    order: Order,
    budget: Budget,
    build: Build,
    worth: Callable[[Network], Evaluation] | None,
) -> Build:
    """Build networks of plans or without branches, within a budget; see `either`."""
    if budget.drop is not None:
        return either(build, order, meter.weighed(budget), worth=worth)

    def fits(network: Network) -> bool:
        return budget.amount(meter.cost(budget, network.model)) <= budget.limit

    limit = budget.limit if meter.counted(budget) else 0.0
    return either(build, order, meter.estimated(budget), worth=worth, fits=fits, limit=limit)


def expected(budget: Budget, quantize: object) -> dict[str, int]:
    """Return about how many networks and files a search for a budget takes, for a `Clock`."""
    if budget.drop is not None:
        return {"networks": _HALVINGS + 2, "files": 0 if quantize is None else _HALVINGS + 2}
    measured = not Meter.counted(budget)
    return {"networks": 1, "files": (_USUAL if measured else 0) + (quantize is not None)}


# To a size --------------------------------------------------------------------------------------


def smallest_needed(
    meter: Meter, budget: Budget, task: Task, *, emptied: bool = False
) -> tuple[Plan, dict[str, float]]:
    """Return the smallest plan that networks for a budget need be looked for from, and its costs.

    It keeps one unit of every layer; where the budget is below that, nothing of what networks can
    do without. Nothing is asked of the data.

    Args:
        meter: What networks cost.
        budget: What a network may cost, in units of size or time.
        task: What they answer.
        emptied: Whether it does without that whatever the budget is.

    Raises:
        SelectionError: The budget is below all of that; the message says what is the least.
    """
    plan = task.one_of_each()
    costs = meter.planned(budget, plan)
    if emptied or budget.amount(costs) > budget.limit:
        plan = task.emptied(plan)
        costs = meter.planned(budget, plan) if plan.empty else costs
        refuse_below(meter, costs, budget, plan)
    return plan, costs


def refuse_below(meter: Meter, costs: dict[str, float], budget: Budget, plan: Plan) -> None:
    """Make sure that a budget allows what the smallest network costs.

    Args:
        meter: What networks cost.
        costs: What the smallest costs.
        budget: What it may cost.
        plan: Its plan.

    Raises:
        SelectionError: It does not; the message says what is the least.
    """
    if budget.amount(costs) <= budget.limit:
        return
    without = f", without {', '.join(map(repr, plan.empty))}" if plan.empty else ""
    raise SelectionError(
        f"A budget of {meter.shown(budget, budget.limits)} is below one unit in every layer"
        f"{without}, which costs {meter.shown(budget, costs)}. The nearest possible is "
        f"{budget.raised(costs)!r}."
    )


def largest_within(
    meter: Meter, ranking: Order, budget: Budget, make: Make, *, least: Mapping[str, float]
) -> tuple[Judged, dict[str, float]]:
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
    limit, floor = budget.limit, budget.amount(least)
    refused = 0
    while True:
        plan = _fitting(meter, ranking, budget, limit, floor)
        try:
            made = make(plan)
            costs = meter.cost(budget, made.network.model)
        except tflite_export.ConversionError as error:
            refused += 1
            if limit <= floor or refused == _REFUSALS:
                raise
            meter.pass_over(error)
            limit = max(floor, _SMALLER * min(limit, budget.amount(meter.planned(budget, plan))))
            continue
        over = budget.amount(costs) - budget.limit
        if over <= 0:
            return made, costs
        if limit <= floor:
            refuse_below(meter, costs, budget, made.network.plan)
        # Repair gave it what its skeleton did not have, such as a bias.
        limit = max(floor, limit - 1.1 * over)


def _fitting(meter: Meter, ranking: Order, budget: Budget, limit: float, least: float) -> Plan:
    """Return the largest plan found whose skeleton costs no more than the limit."""
    estimate = meter.estimated(budget)
    best, everything = ranking.smallest, ranking.everything

    def measured(plan: Plan) -> float:
        try:
            return budget.amount(meter.planned(budget, plan))
        except tflite_export.ConversionError as error:
            meter.pass_over(error)
            return math.inf

    # Estimate and cost: of the last that was measured, of the best, of the least that was too much.
    last = low = estimate(best), least
    high = math.inf, math.inf
    slope = meter.slope(budget)
    if slope is None:
        # See how one grows with the other.
        whole = measured(everything)
        if whole <= limit:
            return everything
        high = estimate(everything), whole
        # Where there is no file of the whole, the first that there is tells.
        slope = 0.0 if math.isinf(whole) else _slope(low, high)
    margin = 0.0
    for _ in range(_TRIES):
        target = last[0] + (limit - margin - last[1]) / slope if slope > 0 else high[0]
        if not low[0] < target < high[0]:
            # Neither again what was too much, nor less than there is.
            chord = 0.0 if math.isinf(high[1]) else _slope(low, high)
            target = low[0] + (limit - margin - low[1]) / chord if chord > 0 else target
            target = min(max(target, low[0]), low[0] + 0.9 * (high[0] - low[0]))
        plan = ranking.fit(estimate, target)
        if plan == best:
            break
        now = estimate(plan), measured(plan)
        if math.isinf(now[1]):
            high = now
            continue
        found = _slope(last, now)
        slope, last = found if found > 0 else max(slope, _slope(low, now)), now
        if now[1] > limit:
            # What is off by a little is not to be a little too much again.
            high, margin = now, 0.0 if meter.counted(budget) else _MARGIN * limit
            continue
        best, low = plan, now
        if now[1] >= _CLOSE * limit or plan == everything:
            break
    return best


def _slope(one: tuple[float, float], other: tuple[float, float]) -> float:
    """Return how much of what is measured comes with one of what is estimated; 0 if unknown."""
    run, rise = other[0] - one[0], other[1] - one[1]
    return rise / run if run * rise > 0 else 0.0


# To a drop --------------------------------------------------------------------------------------


def smallest_within(
    meter: Meter, ranking: Order, budget: Budget, make: Make, bare: Make | None
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
    estimate = meter.weighed(budget)

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
            f"{budget.raised({'drop': best.drop})!r}."
        )
    low, high = np.log([estimate(ranking.smallest), estimate(ranking.everything)])
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        try:
            tried = best_of(ranking.fit(estimate, float(np.exp(middle))))
        except tflite_export.ConversionError as error:
            meter.pass_over(error)
            low = middle
            continue
        if tried.drop <= budget.limit:
            best, high = tried, middle
        else:
            low = middle
    return best, best.drop, smallest.drop
