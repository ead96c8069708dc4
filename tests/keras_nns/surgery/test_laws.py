"""Laws 1 to 4 on whole models: what observing, selecting and cutting promise together."""

from __future__ import annotations

import sys

import keras
import numpy as np
import pytest
from keras import tree

import keras_nns as nns
from keras_nns.graph.tracing import trace
from keras_nns.plans.kept_units import Plan

# TensorFlow's tensors under numpy 2, when Keras reads a layer's variables.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)


def random_plan(model, random, labels=(0,)):
    """Keep a random half of every group, and what cannot go."""
    graph = trace(model)
    kept = {}
    for group in graph.layout.prunable:
        stays = random.random(group.size) < 0.5
        stays[random.integers(group.size)] = True
        stays[list(group.protected)] = True
        kept[group.name] = tuple(np.flatnonzero(stays).tolist())
    sizes = {g.name: g.size for g in graph.layout.prunable}
    return Plan(graph.fingerprint, sizes, kept, labels)


def assert_equal_models(one, other):
    for a, b in zip(one.weights, other.weights, strict=True):
        assert a.path == b.path
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    assert nns.fingerprint(one) == nns.fingerprint(other)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_cutting_in_two_steps_is_cutting_to_what_both_keep(case, seed):
    random = np.random.default_rng(seed)
    p, q = random_plan(case.model, random), random_plan(case.model, random, (1, 2))
    if (p & q).empty:
        q = q | p
    first = nns.cut(case.model, p)
    again = q.relative_to(p, nns.fingerprint(first))
    assert_equal_models(nns.cut(first, again), nns.cut(case.model, p & q))


@pytest.mark.slow
def test_a_cut_to_a_selection_is_its_mask(case):
    activity = nns.observe(case.model, case.x, case.y)
    for plan in (
        nns.select(activity, 1, score="mean_activation"),
        nns.select(activity, [0, 2], keep=nns.top(2), score="mean_activation"),
    ):
        proof = nns.prove(case.model, plan, samples=case.x)
        assert proof.exact, str(proof)
        small, large = nns.cut(case.model, plan), nns.mask(case.model, plan)
        for one, other in zip(
            tree.flatten(small(case.x)), tree.flatten(large(case.x)), strict=True
        ):
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
        assert nns.lineage(small).plan == plan


@pytest.mark.slow
def test_a_plan_that_keeps_everything_gives_an_equal_model(case):
    activity = nns.observe(case.model, case.x, case.y)
    plan = nns.select(activity, [0, 1, 2], keep=nns.fraction(1), score="mean_activation")
    assert plan.keeps_all
    assert_equal_models(nns.cut(case.model, plan), case.model)


def test_a_plan_of_another_model_is_refused(cases):
    one, other = cases("dense"), cases("nested")
    plan = nns.select(nns.observe(one.model, one.x, one.y), 0, score="mean_activation")
    for operate in (nns.cut, nns.mask, nns.prove):
        with pytest.raises(nns.errors.PlanError, match="another model"):
            operate(other.model, plan)


def test_an_activity_from_a_file_selects_the_same(plain, tmp_path):
    activity = nns.observe(plain.model, plain.x, plain.y)
    activity.save(tmp_path / "a.npz")
    plan = nns.select(nns.Activity.load(tmp_path / "a.npz"), [0, 1], score="mean_activation")
    plan.save(tmp_path / "p.json")
    assert Plan.load(tmp_path / "p.json") == nns.select(activity, [0, 1], score="mean_activation")
    assert_equal_models(
        nns.cut(plain.model, Plan.load(tmp_path / "p.json")),
        nns.cut(plain.model, nns.select(activity, [0, 1], score="mean_activation")),
    )


@pytest.mark.slow
def test_a_graph_deeper_than_the_recursion_limit_is_masked_and_proven():
    """Keras maps a graph by recursion, and a mask doubles its depth."""
    inputs = keras.Input((3,))
    x = keras.layers.Dense(4, name="hidden")(inputs)
    for _ in range(600):
        x = keras.layers.Identity()(x)
    model = keras.Model(inputs, keras.layers.Dense(2)(x))
    plan = Plan(nns.fingerprint(model), {"hidden": 4}, {"hidden": (0, 2)})
    before = sys.getrecursionlimit()
    assert nns.prove(model, plan).exact
    assert sys.getrecursionlimit() == before


@pytest.mark.slow
@pytest.mark.parametrize("first", ["masking", "embedding"])
def test_a_sequential_that_masks_steps_is_cut_to_one(first):
    random = np.random.default_rng(0)
    if first == "masking":
        start = [keras.Input((5, 3)), keras.layers.Masking()]
        x = random.normal(size=(6, 5, 3)).astype("float32")
    else:
        start = [keras.Input((5,)), keras.layers.Embedding(7, 3, mask_zero=True)]
        x = random.integers(1, 7, (6, 5))
    x[::2, 3:] = 0
    model = keras.Sequential(
        [*start, keras.layers.GRU(6, name="cells"), keras.layers.Dense(3, activation="softmax")]
    )
    plan = nns.select(
        nns.observe(model, (x, np.arange(6) % 3)),
        labels=1,
        keep=nns.top(2),
        score="mean_activation",
    )
    small = nns.cut(model, plan, head="binary", prove=True)
    assert isinstance(small, keras.Sequential)
    oracle = nns.mask(model, plan, head="binary")
    np.testing.assert_allclose(
        small.predict(x, verbose=0), oracle.predict(x, verbose=0), rtol=1e-5, atol=1e-6
    )


def test_a_plan_for_another_model_of_the_same_shape_is_told_so():
    """Nothing of either model has changed."""
    first, second = (
        keras.Sequential(
            [keras.Input((3,)), keras.layers.Dense(4, name="d"), keras.layers.Dense(2, name="e")]
        )
        for _ in range(2)
    )
    graph = trace(first)
    plan = Plan(graph.fingerprint, {"d": 4}, {"d": (0, 1)})
    with pytest.raises(nns.errors.PlanError, match="for another model of the same shape, or"):
        nns.cut(second, plan)
    assert nns.cut(second, plan, retrained=True).count_params() == 2 * 4 + 3 * 2
