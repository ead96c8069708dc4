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
