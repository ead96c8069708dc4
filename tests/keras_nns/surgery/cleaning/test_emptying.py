"""Layers emptied by a plan: branches and whole residual blocks leave, with their constants kept."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from cleaning_models import assert_same, names, plan_of, residual
from contract import chain, inputs_of, randomise
from keras import layers as L
from keras import ops

import keras_nns as nns
from keras_nns.graph.tracing import trace


@pytest.mark.slow
@pytest.mark.parametrize("activation", ["relu", "sigmoid"])
def test_an_emptied_residual_block_is_removed_whole(activation):
    model = residual(activation)
    plan = plan_of(model, **{"1_a": (), "2_a": (0, 2)})
    with pytest.raises(nns.errors.PlanError, match="allow_empty=True"):
        nns.cut(model, plan)
    small = nns.cut(model, plan, allow_empty=True, prove=True)
    assert not {"1_a", "1_bn_a", "1_act", "1_b", "1_bn_b"} & set(names(small))
    assert {"stem", "1_out", "2_a", "2_add", "answer"} <= set(names(small))
    assert nns.prove(model, plan, allow_empty=True).exact
    assert_same(small, nns.mask(model, plan), inputs_of(model))
    assert nns.lineage(small).plan == plan
    # What is left can be cut further, and counts its units among those that are left.
    rest = plan_of(model, **{"2_a": (0, 1), "stem": (0, 1, 4)})
    again = nns.cut(small, rest.relative_to(plan, nns.fingerprint(small)))
    assert_same(again, nns.mask(model, plan & rest), inputs_of(model))


def test_the_constant_of_an_emptied_block_by_hand():
    model = residual()
    small = nns.cut(model, plan_of(model, **{"1_a": ()}), allow_empty=True)
    norm = model.get_layer("1_bn_b")
    gamma, beta, mean, variance = (w.numpy() for w in norm.weights)
    constant = beta - gamma * mean / np.sqrt(variance + norm.epsilon)
    added = small.get_layer("1_add")
    assert type(added) is L.Rescaling and added.scale == 1
    np.testing.assert_allclose(added.offset, constant, rtol=1e-6, atol=1e-7)


def test_a_constant_goes_into_the_bias_before_it_where_there_is_one():
    inputs = keras.Input((4,))
    x = L.Dense(5, name="straight")(inputs)
    y = L.Dense(5, name="out")(L.Dense(3, activation="relu", name="inner")(inputs))
    x = L.Dense(2, name="answer")(L.ReLU()(L.Add(name="add")([x, y])))
    model = randomise(keras.Model(inputs, x))
    small = nns.cut(model, plan_of(model, inner=()), allow_empty=True, prove=True)
    assert not {"inner", "out", "add"} & set(names(small))
    np.testing.assert_allclose(
        small.get_layer("straight").bias,
        model.get_layer("straight").bias.numpy() + model.get_layer("out").bias.numpy(),
        rtol=1e-6,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "join",
    [
        lambda x, y: L.Subtract(name="join")([x, y]),
        lambda x, y: L.Subtract(name="join")([y, x]),
        lambda x, y: L.Multiply(name="join")([x, y]),
        lambda x, y: L.Average(name="join")([x, y, x]),
        lambda x, y: L.Add(name="join")([x, y, x]),
        lambda x, y: x + y,
        lambda x, y: y - x,
        lambda x, y: x * y,
        lambda x, y: L.Multiply(name="join")([x, ops.sigmoid(y)]),
    ],
)
def test_joins_with_a_branch_that_became_constant(join):
    inputs = keras.Input((4,))
    x = L.Dense(5, activation="tanh", name="straight")(inputs)
    y = L.Dense(5, name="out")(L.Dense(3, activation="relu", name="inner")(inputs))
    model = randomise(keras.Model(inputs, L.Dense(2, name="answer")(join(x, y))))
    wide = next(g.name for g in trace(model).layout.prunable if g.size == 5)
    plan = plan_of(model, **{"inner": (), wide: (0, 2, 3)})
    small = nns.cut(model, plan, allow_empty=True, prove=True)
    assert not {"inner", "out"} & set(names(small))
    assert_same(small, nns.mask(model, plan), inputs_of(model))


@pytest.mark.slow
def test_a_concatenation_does_without_what_is_empty():
    inputs = keras.Input((6, 6, 2))
    parts = [L.Conv2D(3, 3, activation="relu", name=f"part{i}")(inputs) for i in range(3)]
    x = L.GlobalAveragePooling2D()(L.Concatenate(name="join")(parts))
    model = randomise(keras.Model(inputs, L.Dense(2, name="answer")(x)))
    plan = plan_of(model, part0=(), part2=(1,))
    small = nns.cut(model, plan, allow_empty=True, prove=True)
    assert "part0" not in names(small) and small.get_layer("answer").kernel.shape == (4, 2)
    plan = plan_of(model, part0=(), part1=())
    small = nns.cut(model, plan, allow_empty=True, prove=True)
    assert "join" not in names(small)


@pytest.mark.slow
def test_an_emptied_attention_branch_gives_its_bias():
    inputs = keras.Input((4, 3))
    x = L.Dense(6, activation="tanh", name="stem")(inputs)
    y = L.MultiHeadAttention(2, 3, name="attention")(x, x)
    x = L.GlobalAveragePooling1D()(L.Add(name="add")([x, y]))
    model = randomise(keras.Model(inputs, L.Dense(2, name="answer")(x)))
    plan = plan_of(model, **{"attention:heads": ()})
    small = nns.cut(model, plan, allow_empty=True, prove=True)
    assert "attention" not in names(small)


@pytest.mark.slow
def test_a_nested_block_is_emptied():
    inside = keras.Input((6,))
    hidden = L.Dense(4, activation="relu", name="hidden")(inside)
    inner = keras.Model(
        inside, L.Add(name="add")([inside, L.Dense(6, name="out")(hidden)]), name="inner"
    )
    inputs = keras.Input((3,))
    x = L.Dense(6, activation="tanh", name="stem")(inputs)
    model = randomise(keras.Model(inputs, L.Dense(2, name="answer")(inner(inner(x)))))
    plan = plan_of(model, **{"inner/hidden": (), "stem": (0, 1, 5)})
    small = nns.cut(model, plan, allow_empty=True, prove=True)
    assert names(small.get_layer("inner")) == ["add"]


def test_a_plan_that_lets_nothing_through_is_refused():
    model = randomise(
        chain((4,), L.Dense(6, activation="relu", name="one"), L.Dense(2, name="two"))
    )
    with pytest.raises(
        nns.errors.PlanError, match=r"output 'two' would be the same for every input"
    ):
        nns.cut(model, plan_of(model, one=()), allow_empty=True)
    inputs = keras.Input((4,))
    x = L.Dense(5, activation="tanh", name="straight")(inputs)
    y = L.Dense(5, name="out")(L.Dense(3, activation="relu", name="inner")(inputs))
    x = L.Dense(2, name="answer")(L.Maximum(name="most")([x, y]))
    model = randomise(keras.Model(inputs, x))
    with pytest.raises(nns.errors.PlanError, match=r"layer 'out' \(Dense\).*select keeps one"):
        nns.cut(model, plan_of(model, inner=()), allow_empty=True)
