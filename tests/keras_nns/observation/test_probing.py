"""The probing submodel, and where units are watched."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from backends import on_tensorflow
from keras import layers as L

import keras_nns as nns
from keras_nns.graph.tracing import trace
from keras_nns.observation.probing import taps_of


def watched(model):
    """Where each layer is watched: paths of the calls, with their axes."""
    graph = trace(model)
    return {
        tap.name: [(graph.calls[p.key].call.path, p.axis) for p in tap.points]
        for tap in taps_of(graph)
    }


@pytest.mark.slow
def test_a_probe_answers_what_the_layers_give(case):
    probe = nns.probe(case.model)
    found = probe.predict(case.x, verbose=0, batch_size=7)
    expected = case.values()
    assert list(found) == list(expected)
    for name, (signed, _) in expected.items():
        assert found[name].dtype == np.float32
        np.testing.assert_allclose(found[name], signed, rtol=1e-5, atol=1e-6)


@pytest.mark.slow
def test_a_probe_follows_its_parent(plain):
    model = keras.models.clone_model(plain.model)
    probe = nns.probe(model, layers=["tanh"])
    before = probe(plain.x)["tanh"]
    model.set_weights(plain.model.get_weights())
    after = probe(plain.x)["tanh"]
    np.testing.assert_allclose(after, plain.values()["tanh"][0], rtol=1e-5, atol=1e-6)
    assert np.abs(before - after).max() > 0.1
    assert probe.parent is model


@pytest.mark.slow
def test_a_probe_can_stand_in_a_model_of_the_users(plain):
    probe = nns.probe(plain.model, layers="relu")
    inputs = keras.Input((6,))
    small = keras.Model(inputs, L.ReLU(name="end")(probe(inputs)["relu"] - 1))
    expected = np.maximum(plain.values()["relu"][0] - 1, 0)
    np.testing.assert_allclose(small.predict(plain.x, verbose=0), expected, rtol=1e-5, atol=1e-6)


def test_a_probe_is_not_saved(plain, tmp_path):
    with pytest.raises(nns.errors.ModelError, match="parent"):
        nns.probe(plain.model).save(tmp_path / "probe.keras")


def test_units_are_watched_behind_batch_norm_and_relu():
    inputs = keras.Input((8, 8, 1))
    x = L.Conv2D(3, 3, name="first")(inputs)
    x = L.BatchNormalization(name="norm")(x)
    x = L.Activation("relu", name="fires")(x)
    x = L.MaxPooling2D(name="pool")(x)
    x = L.Conv2D(2, 3, activation="relu", name="second")(x)
    x = L.BatchNormalization(name="late")(x)
    model = keras.Model(inputs, L.Dense(2, name="answer")(L.Flatten()(x)))
    assert watched(model) == {"first": [("fires", 3)], "second": [("second", 3)]}


def test_a_unit_that_others_read_before_the_nonlinearity_is_watched_at_home():
    inputs = keras.Input((4,))
    linear = L.Dense(3, name="linear")(inputs)
    fires = L.ReLU(name="fires")(linear)
    joined = L.Concatenate()([linear, fires])
    model = keras.Model(inputs, L.Dense(2, name="answer")(joined))
    assert watched(model) == {"linear": [("linear", 1)]}


def test_a_residual_branch_is_watched_behind_the_sum_only_where_a_nonlinearity_follows():
    inputs = keras.Input((4,))
    stem = L.Dense(3, activation="relu", name="stem")(inputs)
    branch = L.Dense(3, name="branch")(stem)
    model = keras.Model(inputs, L.Dense(2, name="answer")(L.Add(name="sum")([stem, branch])))
    assert watched(model) == {"stem": [("stem", 1)], "branch": [("branch", 1)]}


@pytest.mark.slow
def test_channels_that_stand_first_are_watched_there():
    inputs = keras.Input((8, 6))
    x = L.Permute((2, 1), name="turned")(L.Conv1D(3, 3, name="conv")(inputs))
    x = L.ReLU(name="fires")(x)
    model = keras.Model(inputs, L.Dense(2, name="answer")(L.Flatten()(x)))
    assert watched(model)["conv"] in ([("fires", 1)], [("conv", 2)])
    x = np.random.default_rng(0).normal(size=(9, 8, 6)).astype("float32")
    (point,) = watched(model)["conv"]
    outputs = keras.Model(inputs, model.get_layer(point[0]).output).predict(x, verbose=0)
    expected = outputs.mean(axis=2 if point[1] == 1 else 1)
    np.testing.assert_allclose(
        nns.probe(model).predict(x, verbose=0)["conv"], expected, rtol=1e-5, atol=1e-6
    )


def test_the_models_own_answer_is_not_hidden():
    inputs = keras.Input((4,))
    hidden = L.Dense(3, activation="relu", name="hidden")(inputs)
    shown = L.Dense(3, activation="relu", name="shown")(hidden)
    answer = L.Dense(2, name="answer")(shown)
    model = keras.Model(inputs, [answer, shown])
    assert list(watched(model)) == ["hidden"]
    assert list(nns.probe(model, layers=["shown"])(np.ones((2, 4)))) == ["shown"]
    with pytest.raises(nns.errors.ModelError, match="no hidden units"):
        nns.probe(keras.Model(inputs, [answer, shown, hidden]))


def test_a_sequence_without_any_step_counts_as_silent():
    inputs = keras.Input((3,), dtype="int32")
    x = L.Embedding(5, 2, mask_zero=True, name="embedding")(inputs)
    model = keras.Model(inputs, L.Dense(2, name="answer")(L.GlobalAveragePooling1D()(x)))
    found = nns.probe(model)(np.array([[0, 0, 0], [1, 0, 0]], "int32"))["embedding"]
    assert np.all(np.asarray(found[0]) == 0)
    weights = model.get_layer("embedding").get_weights()[0]
    np.testing.assert_allclose(found[1], weights[1], rtol=1e-6)


@on_tensorflow("tf.function")
def test_probing_works_inside_a_compiled_function(plain):
    probe = nns.probe(plain.model)
    found = tf.function(probe)(tf.constant(plain.x))
    np.testing.assert_allclose(found["relu"], plain.values()["relu"][0], rtol=1e-5, atol=1e-6)
