"""Units by what they cost where costs have steps, beside every choice of widths there is."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from keras_nns.observation.activity import Activity, LayerActivity
from keras_nns.plans.units import Fingerprint, Group, Layout, Member
from keras_nns.selection.ranking import Ranking

SIZES = {"a": 20, "b": 24, "c": 17}
WEIGHTS = {"a": 30, "b": 11, "c": 5}


def in_eights(width):
    """Eight cost what one costs; between the steps the device copies what it need not at them."""
    return 8 * math.ceil(width / 8) + (5 if width % 8 else 0)


def cost(plan):
    return sum(WEIGHTS[name] * in_eights(len(units)) for name, units in plan.kept.items())


def ranking(seed, *, stepped=True, balance="cost"):
    rng = np.random.default_rng(seed)
    scores = {name: rng.exponential(size=(1, size)) for name, size in SIZES.items()}
    groups = tuple(Group(n, s, (Member(n, tuple(range(s))),)) for n, s in SIZES.items())
    layers = {n: LayerActivity(*[np.ones((1, s))] * 2) for n, s in SIZES.items()}
    parts = (Fingerprint("s", "w"), Layout(groups), ("code",), np.array([10]))
    activity = Activity(*parts, layers, ("mean",))
    made = Ranking(
        activity, scores, (0,), name="drawn", balance=balance, cost=cost, stepped=stepped
    )
    return made, {name: np.sort(values[0])[::-1] for name, values in scores.items()}


def worth(plan, values):
    return sum(values[name][: len(units)].sum() for name, units in plan.kept.items())


def best(values, limit):
    """The most that any widths are worth within a limit: all of them are tried."""
    found = 0.0
    for widths in itertools.product(*(range(1, size + 1) for size in SIZES.values())):
        chosen = dict(zip(SIZES, widths, strict=True))
        if sum(WEIGHTS[n] * in_eights(w) for n, w in chosen.items()) <= limit:
            found = max(found, sum(values[n][:w].sum() for n, w in chosen.items()))
    return found


@pytest.mark.parametrize(("seed", "share"), [(0, 0.8), (1, 0.6), (2, 0.5), (3, 0.7), (4, 0.9)])
def test_no_width_stands_behind_a_step_and_little_is_lost(seed, share):
    made, values = ranking(seed)
    limit = share * cost(made.everything)
    plan = made.fit(cost, limit)
    assert cost(plan) <= limit
    for name, units in plan.kept.items():
        wider = [w for w in range(len(units) + 1, SIZES[name] + 1)]
        cheaper = [w for w in wider if in_eights(w) <= in_eights(len(units))]
        assert not cheaper, f"{name} has {len(units)} units, and {cheaper} cost no more"
    # What is best is had by trying everything; a greedy choice is near it.
    assert worth(plan, values) >= 0.95 * best(values, limit)


@pytest.mark.parametrize("seed", range(3))
def test_looking_at_single_units_loses_more(seed):
    made, values = ranking(seed)
    single, _ = ranking(seed, stepped=False)
    limit = 0.55 * cost(made.everything)
    plan, other = made.fit(cost, limit), single.fit(cost, limit)
    assert worth(plan, values) >= worth(other, values)


def test_plans_are_nested_and_bounds_are_kept():
    made, _ = ranking(0)
    plans = [made.fit(cost, share * cost(made.everything)) for share in (1.0, 0.3)]
    assert plans[0] == made.everything
    assert made.first(0) == made.smallest
    smallest = made.fit(cost, cost(made.smallest) - 1)
    assert all(len(units) >= 1 for units in smallest.kept.values())


def test_shares_of_layers_reach_over_a_step_too():
    made, _ = ranking(1, balance="share")
    limit = 0.6 * cost(made.everything)
    plan = made.fit(cost, limit)
    assert cost(plan) <= limit
    for name, units in plan.kept.items():
        longer = range(len(units) + 1, SIZES[name] + 1)
        assert all(in_eights(w) > in_eights(len(units)) for w in longer)
