"""A proof tests something, or says that it did not."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as L

import keras_nns as nns
from keras_nns.graph.generated_inputs import sample_inputs, telling_inputs
from keras_nns.graph.tracing import trace
from keras_nns.plans.kept_units import Plan
from keras_nns.reporting.findings import exactness


def network(*, bias, last=None):
    """Two layers, the first with a bias that has to be overcome."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((4,)),
            L.Dense(6, activation="relu", name="hidden"),
            L.Dense(2, name="last"),
        ]
    )
    kernel, _ = model.get_layer("hidden").get_weights()
    model.get_layer("hidden").set_weights([kernel, np.full(6, bias)])
    if last is not None:
        model.get_layer("last").set_weights([np.full((6, 2), last), np.ones(2)])
    return model


def half(model):
    return Plan(trace(model).fingerprint, {"hidden": 6}, {"hidden": (0, 2, 3)})


def test_inputs_are_drawn_for_which_the_answer_varies():
    model = network(bias=-40.0)
    graph = trace(model)
    # Of normal numbers none overcomes the bias.
    assert np.ptp(model(sample_inputs(graph, 16, seed=0)), axis=0).max() == 0
    assert np.ptp(model(telling_inputs(graph, model, 16, seed=0)), axis=0).max() > 0
    proof = nns.prove(model, half(model))
    assert proof.varied
    assert proof.exact
    assert str(proof).startswith("equal to the masked parent")


def test_inputs_of_a_model_that_varies_anyway_stay_normal_numbers():
    model = network(bias=0.0)
    graph = trace(model)
    np.testing.assert_array_equal(
        telling_inputs(graph, model, 16, seed=5), sample_inputs(graph, 16, seed=5)
    )


def test_pictures_that_are_divided_first_are_given_in_their_range():
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            L.Rescaling(1 / 255),
            L.Flatten(),
            L.Dense(6, activation="relu", name="hidden"),
            L.Dense(2, kernel_initializer="ones", bias_initializer="ones"),
        ]
    )
    model.get_layer("hidden").bias.assign(np.ones(6))
    drawn = telling_inputs(trace(model), model, 16, seed=0)
    assert 50 < drawn.std() < 2000


def test_a_proof_of_a_constant_says_that_nothing_was_tested():
    model = network(bias=1.0, last=0.0)
    proof = nns.prove(model, half(model))
    assert not proof.varied
    assert str(proof).startswith("not tested")
    with pytest.warns(UserWarning, match="one and the same answer for all 8 samples"):
        nns.cut(model, half(model), prove=True)
    (said,) = exactness(["three"], [proof])
    assert "not tested" in said


def test_samples_that_are_all_the_same_test_nothing():
    model = network(bias=0.0)
    assert not nns.prove(model, half(model), samples=np.ones((5, 4))).varied
    # Of a single one it cannot be told.
    assert nns.prove(model, half(model), samples=np.ones((1, 4))).varied


def two_outputs(*, second, bias=0.0):
    inputs = keras.Input((4,))
    hidden = L.Dense(6, activation="relu", kernel_initializer="ones", name="hidden")(inputs)
    first = L.Dense(2, kernel_initializer="ones", name="first")(hidden)
    late = L.ReLU()(L.Rescaling(1.0, offset=bias)(hidden))
    return keras.Model(inputs, [first, L.Dense(2, kernel_initializer=second, name="second")(late)])


def test_an_output_that_does_not_vary_is_named():
    model = two_outputs(second="zeros")
    proof = nns.prove(model, half(model))
    assert (proof.exact, proof.varied, proof.constant) == (True, True, ("second",))
    assert str(proof).startswith("equal to") and "not tested: output 'second'" in str(proof)
    with pytest.warns(UserWarning, match="not tested: output 'second'"):
        nns.cut(model, half(model), prove=True)
    _, said = exactness(["three"], [proof])
    assert "not tested: output 'second'" in said


def test_inputs_are_drawn_for_which_every_output_varies():
    # Behind so low a bias the second is 0 for normal numbers, while the first varies already.
    model = two_outputs(second="ones", bias=-60.0)
    first, second = model(sample_inputs(trace(model), 16, seed=0))
    assert np.ptp(first, axis=0).max() > 0
    assert np.ptp(second, axis=0).max() == 0
    assert nns.prove(model, half(model)).constant == ()


def test_outputs_of_one_layer_are_told_apart():
    inputs = keras.Input((4,))
    hidden = L.Dense(6, activation="relu", kernel_initializer="ones", name="hidden")(inputs)
    last = L.Dense(2, kernel_initializer="ones", name="last")
    model = keras.Model(inputs, [last(hidden), last(keras.ops.zeros_like(hidden))])
    proof = nns.prove(model, half(model))
    assert (proof.exact, proof.varied, proof.constant) == (True, True, ("last",))
