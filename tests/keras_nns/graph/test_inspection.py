"""inspect: costs of a unit are what a cut without it saves."""

from __future__ import annotations

import json

import keras
import pytest
from keras import layers

import keras_nns as nns
from keras_nns.graph import costs
from keras_nns.graph.tracing import trace
from keras_nns.plans.kept_units import Plan


@pytest.fixture
def model():
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(6, 3, padding="same", name="stem")(inputs)
    x = layers.ReLU()(layers.BatchNormalization()(x))
    y = layers.Conv2D(6, 3, padding="same", use_bias=False, name="branch")(x)
    x = layers.Add()([x, y])
    x = layers.DepthwiseConv2D(3, padding="same")(x)
    x = layers.MaxPooling2D()(x)
    x = layers.Flatten()(x)
    x = layers.Dense(5, activation="relu", name="hidden")(x)
    return keras.Model(inputs, layers.Dense(3, activation="softmax", name="answer")(x))


def without_one(model, group):
    layout = trace(model).layout
    kept = {g.name: tuple(range(g.size)) for g in layout.prunable}
    kept[group] = kept[group][1:]
    sizes = {g.name: g.size for g in layout.prunable}
    return nns.cut(model, Plan(nns.fingerprint(model), sizes, kept))


def test_costs_are_what_a_cut_saves(model):
    found = {group.name: group for group in nns.inspect(model).groups}
    assert list(found) == ["stem", "hidden", "answer"]
    assert found["stem"].layers == ("stem", "branch")
    for name in ("stem", "hidden"):
        small = without_one(model, name)
        assert found[name].parameters == model.count_params() - small.count_params()
        saved = costs.count_macs(model) - costs.count_macs(small)
        assert found[name].multiply_adds == saved


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")
def test_a_model_that_was_cut_says_from_what(model, tmp_path):
    assert nns.inspect(model).origin == ""
    sizes = {group.name: group.size for group in trace(model).layout.prunable}
    names = tuple("abc")
    plans = [
        Plan(nns.fingerprint(model), sizes, {"stem": (0, 2), "hidden": (1,)}, labels, names)
        for labels in ((2,), ())
    ]
    small = nns.cut(model, plans[0], head="binary")
    told = nns.inspect(small)
    assert told.origin == "It holds 3 of its parent's 11 units, cut for c."
    assert told.origin in str(told) and told.to_json()["origin"] == told.origin
    assert nns.inspect(nns.cut(model, plans[1])).origin == "It holds 3 of its parent's 11 units."
    nameless = Plan(nns.fingerprint(model), sizes, plans[0].kept, (2,))
    assert nns.inspect(nns.cut(model, nameless)).origin.endswith("units, cut for 2.")
    nns.save_model(small, tmp_path / "small.keras")
    assert nns.inspect(nns.load_model(tmp_path / "small.keras")).origin == told.origin
    both = nns.compose({"c": small, "d": nns.cut(model, plans[0], head="binary")})
    assert nns.inspect(both).origin == "Composed of 2 networks, for c, d."


def test_a_model_of_fewer_tokens_says_of_how_many():
    steps = [layers.Embedding(12, 5), layers.LSTM(4), layers.Dense(3, name="answer")]
    reader = keras.Sequential([keras.Input((6,), dtype="int32"), *steps])
    cut = nns.cut_vocabulary(reader, [0, 3, 4]).model
    assert nns.inspect(cut).origin.endswith("units, and knows 3 of its tokens.")


def test_what_is_protected_says_why(model):
    answer = nns.inspect(model).groups[-1]
    assert answer.prunable == 0
    assert any("output" in reason for reason in answer.reasons)


def test_shown_and_told(model):
    found = nns.inspect(model)
    assert found.parameters == model.count_params()
    text = str(found)
    assert "stem" in text and "6 of 6" in text
    assert json.loads(json.dumps(found.to_json()))["groups"][0]["units"] == 6
    assert found.to_markdown().count("\n") == 1 + len(found.groups)


def test_open_sizes_have_no_multiply_adds_until_inputs_are_given():
    inputs = keras.Input((None, 4))
    x = layers.Conv1D(6, 3, padding="same", name="conv")(inputs)
    model = keras.Model(inputs, layers.Dense(2)(layers.GlobalMaxPooling1D()(x)))
    assert nns.inspect(model).groups[0].multiply_adds is None
    import numpy as np

    assert nns.inspect(model, inputs=np.zeros((1, 10, 4))).groups[0].multiply_adds == 3 * 4 * 10 + 2
