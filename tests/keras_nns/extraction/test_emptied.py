"""Thinning every layer or emptying a branch: beside every plan there is, and by the networks."""

from __future__ import annotations

import itertools
from dataclasses import replace

import keras
import numpy as np
import pytest
from keras import layers as L

import keras_nns as nns
from keras_nns.extraction.emptied import ThinnedOrEmptied
from keras_nns.graph.junctions import junction_of, remainder_of
from keras_nns.observation.activity import Activity, LayerActivity
from keras_nns.plans.units import Fingerprint, Group, Layout, Member
from keras_nns.selection.ranking import Ranking

RNG = np.random.default_rng(0)

# The order, beside every plan ---------------------------------------------------------------------

SIZES = {"stem": 6, "inner": 5, "narrow": 4, "middle": 4}
BRANCHES = [("inner",), ("narrow", "middle")]


def cost(plan):
    """Layers between widths, and in each branch something that goes with all of it."""
    stem, inner, narrow, middle = (len(plan.kept[name]) for name in SIZES)
    one = 18 * stem * inner + 4 * inner + 8 * stem if inner else 0
    two = stem * narrow + 9 * narrow * middle + middle * stem + 8 * stem if narrow else 0
    return 9 * stem + one + two


def orders(seed, scale=(1.0, 1.0)):
    rng = np.random.default_rng(seed)
    worth = {name: np.sort(rng.exponential(size=(1, size))) for name, size in SIZES.items()}
    worth["inner"] *= scale[0]
    worth["narrow"] *= scale[1]
    worth["middle"] *= scale[1]
    groups = tuple(Group(n, s, (Member(n, tuple(range(s))),)) for n, s in SIZES.items())
    layers = {n: LayerActivity(*[np.ones((1, s))] * 2) for n, s in SIZES.items()}
    parts = (Fingerprint("s", "w"), Layout(groups), ("code",), np.array([10]))
    activity = Activity(*parts, layers, ("mean",))
    thinned, emptied = (
        Ranking(activity, worth, (0,), name="drawn", balance="cost", cost=cost, branches=branches)
        for branches in ((), BRANCHES)
    )
    return thinned, emptied, {name: values[0] for name, values in worth.items()}


def every_plan(whole):
    """Any width of every layer, and without any of the branches."""
    widths = [range(1, size + 1) for size in SIZES.values()]
    for stem, inner, narrow, middle in itertools.product(widths[0], range(6), range(5), range(5)):
        if bool(narrow) == bool(middle):
            chosen = dict(zip(SIZES, (stem, inner, narrow, middle), strict=True))
            kept = {n: tuple(range(SIZES[n] - w, SIZES[n])) for n, w in chosen.items()}
            yield replace(whole, kept=kept)


def lost(plan, worth):
    """By hand: what left of each layer; of a branch that is gone, what its last layer tells."""
    total = sum(worth[n][: len(worth[n]) - len(plan.kept[n])].sum() for n in SIZES)
    return total if plan.kept["narrow"] else total - worth["narrow"].sum()


@pytest.mark.slow
@pytest.mark.parametrize("scale", [(1.0, 1.0), (0.1, 1.0), (1.0, 0.1), (3.0, 3.0)])
@pytest.mark.parametrize("seed", range(3))
def test_little_more_is_lost_than_in_the_best_of_all_plans(seed, scale):
    thinned, emptied, worth = orders(seed, scale)
    both = ThinnedOrEmptied(thinned, emptied, lambda plan: True)
    plans = [(cost(p), lost(p, worth), p) for p in every_plan(thinned.everything)]
    whole, gone = cost(thinned.everything), 0
    for share in (0.8, 0.5, 0.3, 0.2, 0.1):
        limit = max(share * whole, cost(thinned.smallest))
        best = min(own for amount, own, _ in plans if amount <= limit)
        plan = both.fit(cost, limit)
        assert not plan.empty and plan == thinned.fit(cost, limit)
        alone, rival = lost(plan, worth), both.rival(plan, cost)
        if rival is not None:
            gone += 1
            assert rival.plan.empty and cost(rival.plan) <= cost(plan)
            assert lost(rival.plan, worth) <= alone
            assert rival.clearly == (lost(rival.plan, worth) <= 0.95 * alone)
            plan = rival.plan
        assert emptied.lost(plan) == pytest.approx(lost(plan, worth))
        total = sum(values.sum() for values in worth.values())
        assert lost(plan, worth) <= best + 0.1 * total
    assert gone or min(scale) >= 1.0


def test_what_is_left_of_a_branch_leaves_together_and_comes_back_together():
    _, emptied, _ = orders(0, (1.0, 0.2))
    for limit in range(9, cost(emptied.everything) + 1, 7):
        plan = emptied.fit(cost, limit)
        assert cost(plan) <= limit
        assert bool(plan.kept["narrow"]) == bool(plan.kept["middle"])
    assert emptied.smallest.empty == ("inner", "narrow", "middle")
    assert emptied.fit(cost, cost(emptied.everything)) == emptied.everything


# Networks -----------------------------------------------------------------------------------------


def residual():
    """A branch that says next to nothing, beside a shortcut that changes the channels."""
    keras.utils.set_random_seed(1)
    start = keras.Input((6, 6, 2))
    x = L.ReLU()(L.Conv2D(6, 3, padding="same", name="stem")(start))
    y = L.Conv2D(8, 3, padding="same", strides=2, activation="relu", name="inside")(x)
    y = L.BatchNormalization(name="norm")(L.Conv2D(8, 3, padding="same", name="back")(y))
    y = L.Rescaling(0.01, name="quiet")(y)
    x = L.BatchNormalization(name="other")(L.Conv2D(8, 1, strides=2, name="shortcut")(x))
    x = L.GlobalAveragePooling2D()(L.ReLU()(L.Add(name="joined")([y, x])))
    model = keras.Model(start, L.Dense(3, activation="softmax", name="answer")(x))
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    return model


def pictures(count=300):
    y = np.arange(count) % 3
    x = np.random.default_rng(3).normal(0, 0.5, (count, 6, 6, 2))
    x[np.arange(count), y + 1, :, 0] += 1.5
    x[np.arange(count), :, y + 2, 1] -= 1.0
    return x.astype("float32"), y


@pytest.fixture(scope="module")
def quiet():
    model = residual()
    model.fit(*pictures(), epochs=8, verbose=0)
    return model


@pytest.mark.slow
def test_a_branch_that_says_little_goes_and_the_cut_is_exact(quiet):
    x, y = pictures()
    budget = nns.Budget(parameters=150)
    asked = {"labels": [0, 1], "budget": budget}
    kept = nns.extract(quiet, (x, y), empty_branches=False, **asked)
    found = nns.extract(quiet, (x, y), **asked)
    assert kept.plan.empty == () and found.plan.empty == ("inside",)
    assert "none of 'inside'" in found.summary and found.cost <= 150
    assert {layer.name for layer in found.model.layers}.isdisjoint(
        {"inside", "back", "norm", "quiet"}
    )
    assert len(found.plan.kept["stem"]) > len(kept.plan.kept["stem"])
    assert nns.prove(quiet, found.plan, head="other", allow_empty=True).exact
    # Of one unit in every layer each costs something; without the branch there is less.
    forced = nns.extract(quiet, (x, y), empty_branches=True, **asked)
    assert forced.plan == found.plan and forced.least < found.least == kept.least
    smallest = nns.Budget(parameters=int(forced.least))
    assert nns.extract(quiet, (x, y), labels=[0, 1], budget=smallest).plan.empty == ("inside",)
    curve = nns.sweep(quiet, (x, y), labels=[0, 1], sizes=[0.117, 1.0])
    assert [point.plan.empty for point in curve.points] == [("inside",), ()]
    asked = {"labels": [0, 1], "sizes": 2, "repair": False}
    for chosen, gone in ((True, ("inside",)), (False, ())):
        curve = nns.sweep(quiet, (x, y), empty_branches=chosen, **asked)
        assert curve.points[0].plan.empty == gone


@pytest.mark.slow
def test_what_is_added_takes_over_what_the_branch_gave(quiet):
    """Least squares by hand: nothing of what is off goes with what the shortcut reads."""
    x, y = pictures()
    plan = nns.select(nns.observe(quiet, (x, y), verbose=False), 0, keep=nns.fraction(1.0))
    plan = replace(plan, kept={**plan.kept, "stem": (0, 2, 3), "inside": ()})
    small = nns.cut(quiet, plan, allow_empty=True)
    assert remainder_of(small, "shortcut", "joined").norm == "other"
    assert junction_of(quiet, "shortcut", settled=False).path == "joined"
    steps = nns.steps.least_squares(ridge=0)
    fixed = nns.repair(small, quiet, x, steps=steps, held_out=0).model

    def value(model, name):
        return keras.Model(model.inputs, model.get_layer(name).output).predict(x, verbose=0)

    own = value(fixed, "joined")
    off = value(quiet, "joined") - own
    stem = keras.Model(fixed.inputs, fixed.get_layer("shortcut").input).predict(x, verbose=0)
    read = stem[:, ::2, ::2].reshape(-1, stem.shape[-1])
    design = np.c_[read, np.ones(len(read))]
    moments = design.T @ off.reshape(len(design), -1) / len(design)
    np.testing.assert_allclose(moments, 0, atol=2e-5)
    assert np.abs(off).mean() > 1e-4


@pytest.fixture(scope="module")
def attentive():
    keras.utils.set_random_seed(3)
    start = keras.Input((6, 4))
    x = L.Dense(8, name="in")(start)
    for name in ("one", "two"):
        y = L.MultiHeadAttention(2, 4, name=f"{name}_att")(x, x)
        x = L.LayerNormalization(name=f"{name}_n1")(L.Add()([x, y]))
        y = L.Dense(8, name=f"{name}_back")(L.Dense(12, activation="relu", name=f"{name}_up")(x))
        x = L.LayerNormalization(name=f"{name}_n2")(L.Add()([x, y]))
    x = L.GlobalAveragePooling1D()(x)
    model = keras.Model(start, L.Dense(3, activation="softmax", name="answer")(x))
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    model.fit(*sequences(), epochs=6, verbose=0)
    for name in ("one_back", "two_att/attention_output"):
        kernel = next(w for w in model.weights if w.path == f"{name}/kernel")
        kernel.assign(0.01 * kernel)
    return model


def sequences(count=240):
    y = np.arange(count) % 3
    x = np.random.default_rng(5).normal(0, 0.5, (count, 6, 4))
    x[np.arange(count), :, y] += 0.7
    return x.astype("float32"), y


@pytest.mark.slow
def test_a_transformer_does_without_attention_and_without_a_feed_forward_part(attentive):
    data = sequences()
    budget = nns.Budget(parameters=attentive.count_params() // 2)
    found = nns.extract(attentive, data, labels=[0, 1], budget=budget, empty_branches=True)
    assert "one_up" in found.plan.empty and "two_att:heads" in found.plan.empty
    assert {"two_att:key", "two_att:value"} <= set(found.plan.empty)
    assert {layer.name for layer in found.model.layers}.isdisjoint({"two_att", "one_up"})
    assert nns.prove(attentive, found.plan, head="other", allow_empty=True).exact
    assert found.comparison.drop < 0.1


# Wrong use ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_wrong_uses_each_have_one_clear_error(quiet):
    asked = {"labels": [0, 1], "budget": nns.Budget(parameters=400)}
    with pytest.raises(nns.errors.SelectionError, match="'auto', True or False"):
        nns.extract(quiet, pictures(), empty_branches="yes", **asked)
    with pytest.raises(nns.errors.SelectionError, match="balance='share' has no scale"):
        nns.extract(quiet, pictures(), empty_branches=True, balance="share", **asked)
    with pytest.raises(nns.errors.SelectionError, match="'auto', True or False"):
        nns.sweep(quiet, pictures(), labels=0, empty_branches=None)
