"""Random graphs and random plans: `cut` equals `mask`, whatever is joined to whatever."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from contract import inputs_of, randomise
from hypothesis import assume, given, settings
from keras import layers as L
from random_graphs import GRAPHS, ONE, STEPS, TWO, build, recipes, seeds, shares, unhurried

from keras_nns.graph.tracing import trace
from keras_nns.plans.kept_units import Plan
from keras_nns.surgery.cutting import cut, prove


def check(recipe, share, seed):
    """Compare cut and mask for one plan of one recipe."""
    model = build(recipe)
    graph = trace(model)
    random = np.random.default_rng(seed)
    kept = {}
    for group in graph.layout.prunable:
        units = set(np.flatnonzero(random.random(group.size) < share).tolist())
        for need in group.needs:
            if units.isdisjoint(need):
                units.add(int(random.choice(need)))
        kept[group.name] = tuple(units)
    if not kept:
        return False
    sizes = {group.name: group.size for group in graph.layout.prunable}
    plan = Plan(graph.fingerprint, sizes=sizes, kept=kept)
    proof = prove(model, plan, samples=inputs_of(model))
    assert proof.exact, str(proof)
    if seed % 7 == 0:
        assert cut(model, plan).count_params() <= model.count_params()
    return True


@pytest.mark.slow
@settings(max_examples=int(GRAPHS or 60), derandomize=GRAPHS is None, **unhurried)
@given(recipe=recipes, share=shares, seed=seeds)
def test_cut_equals_mask_on_random_graphs(recipe, share, seed):
    assume(check(recipe, share, seed))


def renamed(model, order):
    """Copy a model under other layer names, whose alphabetical order is that of `order`."""
    names = {
        layer.name: f"layer_{place:03d}" for layer, place in zip(model.layers, order, strict=True)
    }

    def rename(layer):
        config = layer.get_config()
        config["name"] = names.get(layer.name, layer.name)
        return type(layer).from_config(config)

    copy = keras.models.clone_model(model, clone_function=rename)
    copy.set_weights(model.get_weights())
    return copy, names


@pytest.mark.slow
def test_nothing_depends_on_how_layers_are_named_or_in_which_order():
    start = keras.Input((STEPS, 3))
    one, two = L.Dense(6, activation="tanh")(start), L.Dense(6)(start)
    x = L.Add()([one, L.Conv1D(6, 2, padding="same")(two)])
    x = L.Concatenate()([L.LSTM(5)(x), L.GlobalMaxPooling1D()(L.MultiHeadAttention(2, 3)(x, one))])
    model = randomise(keras.Model(start, L.Dense(3)(L.Dense(7, activation="relu")(x))))
    graph = trace(model)
    random = np.random.default_rng(0)
    sizes = {group.name: group.size for group in graph.layout.prunable}
    kept = {
        name: tuple(sorted(random.choice(size, (size + 1) // 2, replace=False).tolist()))
        for name, size in sizes.items()
    }
    x = inputs_of(model)
    expected = np.asarray(cut(model, Plan(graph.fingerprint, sizes=sizes, kept=kept))(x))
    assert np.abs(expected - model(x)).max() > 0.01

    # The plan's groups, and the units within each, in other orders.
    for _ in range(3):
        names = random.permutation(list(kept)).tolist()
        other = Plan(
            graph.fingerprint,
            sizes={name: sizes[name] for name in reversed(names)},
            kept={name: tuple(random.permutation(kept[name]).tolist()) for name in names},
        )
        np.testing.assert_array_equal(cut(model, other)(x), expected)

    # The layers under other names.
    count = len(model.layers)
    for order in (range(count), reversed(range(count)), random.permutation(count)):
        copy, new = renamed(model, order)
        again = trace(copy)
        path = {
            old.name: group.name
            for old, group in zip(graph.layout.prunable, again.layout.prunable, strict=True)
        }
        assert {new[name.split(":")[0]] for name in path} == {
            name.split(":")[0] for name in path.values()
        }
        plan = Plan(
            again.fingerprint,
            sizes={path[name]: size for name, size in sizes.items()},
            kept={path[name]: units for name, units in kept.items()},
        )
        np.testing.assert_array_equal(cut(copy, plan)(x), expected)


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(ONE) + sorted(TWO))
def test_every_part_is_exact_by_itself(name):
    assert check([(name, 0, 1, 2), ("dense", 0, 0, 1)], 0.5, 3)
