"""The same number of units in layers that are alike, counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

import keras_nns as nns
from keras_nns.observation.activity import Activity, LayerActivity
from keras_nns.plans.units import Fingerprint, Group, Layout, Member

SCORES = {
    "block_0:hidden": [[9, 8, 7, 6], [0, 0, 0, 5]],
    "block_1:hidden": [[4, 3, 1, 0], [1, 0, 6, 0]],
    "block_2:hidden": [[5, 1, 1, 1], [0, 0, 0, 0]],
    "block_0:heads": [[3, 1], [1, 1]],
    "block_1:heads": [[1, 2], [9, 1]],
    "other": [[8, 1, 1, 1], [0, 0, 0, 0]],
}


def activity_of(protected=()):
    groups = []
    for name, values in SCORES.items():
        kind = name.split(":")[-1].replace("other", "")
        member = Member(name, tuple(range(len(values[0]))))
        held = frozenset(protected) if name == "block_2:hidden" else frozenset()
        why = ("because",) if held else ()
        groups.append(Group(name, len(values[0]), (member,), held, why, kind=kind))
    layers = {n: LayerActivity(*[np.array(v, float) * 10] * 2) for n, v in SCORES.items()}
    parts = (Fingerprint("s", "w"), Layout(tuple(groups)), ("code", "prose"), np.array([10, 10]))
    return Activity(*parts, layers, ("mean",))


def test_of_a_global_rule_each_layer_keeps_the_best_of_its_average():
    rule = nns.at_least(5)
    # Of code's hidden units 4, 0 and 1 reach it: 5 in 3 layers, rounded up 2 in each.
    plan = nns.select(activity_of(), "code", score="mean_activation", keep=nns.uniform(rule))
    assert plan.kept["block_0:hidden"] == (0, 1)
    assert plan.kept["block_1:hidden"] == (0, 1)
    assert plan.kept["block_2:hidden"] == (0, 1)
    assert plan.kept["other"] == (0,), "it is like no other, and keeps what the rule keeps"
    assert plan.choices[0].keep == "uniform(at_least(5))"
    lowest = dict(plan.choices[0].thresholds)
    assert lowest["block_1:hidden"] == 3


def test_labels_of_a_list_are_looked_at_together():
    together = nns.select(
        activity_of(), "all", score="mean_activation", keep=nns.uniform(nns.top(1))
    )
    assert together.kept["block_1:hidden"] == (2,)
    assert together.kept["block_1:heads"] == (0,)
    one_by_one = nns.select(activity_of(), "all", score="mean_activation", keep=nns.top(1))
    assert one_by_one.kept["block_1:hidden"] == (0, 2)


def test_what_must_stay_counts_among_the_number():
    plan = nns.select(
        activity_of(protected=(1, 2, 3)),
        "code",
        score="mean_activation",
        keep=nns.uniform(nns.top(1)),
    )
    assert plan.kept["block_2:hidden"] == (1, 2, 3)
    assert plan.kept["block_0:hidden"] == (0, 1, 2)
    assert plan.kept["block_0:heads"] == (0,)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.8])
def test_each_of_several_plans_is_even_by_itself(share):
    for plan in nns.select(
        activity_of(), "each", score="mean_activation", keep=nns.uniform(nns.above(share))
    ):
        assert len({len(kept) for name, kept in plan.kept.items() if "hidden" in name}) == 1
        assert len({len(kept) for name, kept in plan.kept.items() if "heads" in name}) == 1
