"""Generated inputs fit every kind of model, so that a proof needs no data."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import keras_nns as nns
from keras_nns.graph.generated_inputs import sample_inputs
from keras_nns.graph.tracing import trace


def words():
    text = keras.Input((), dtype="string")
    x = layers.TextVectorization(vocabulary=["one", "two", "words"], output_sequence_length=4)(text)
    x = layers.Embedding(8, 6)(x)
    x = layers.Dense(7, activation="relu")(layers.GlobalAveragePooling1D()(x))
    return keras.Model(text, layers.Dense(2)(x))


def tokens():
    inputs = keras.Input((None,), dtype="int32")
    x = layers.GlobalAveragePooling1D()(layers.Embedding(5, 6)(inputs))
    return keras.Model(inputs, layers.Dense(2)(x))


def several():
    a, b = keras.Input((3,), name="a"), keras.Input((3,), name="b", dtype="bool")
    x = layers.Dense(5)(layers.Concatenate()([a, keras.ops.cast(b, "float32")]))
    return keras.Model({"a": a, "b": b}, layers.Dense(2)(x))


@pytest.mark.slow
@pytest.mark.parametrize("build", [words, tokens, several])
def test_a_model_takes_what_is_generated_for_it(build):
    model = build()
    graph = trace(model)
    inputs = sample_inputs(graph, 5, seed=3)
    assert model(inputs).shape == (5, 2)
    again, other = sample_inputs(graph, 5, seed=3), sample_inputs(graph, 5, seed=4)
    first, second, third = (
        [np.asarray(x) for x in keras.tree.flatten(some)] for some in (inputs, again, other)
    )
    assert all((a == b).all() for a, b in zip(first, second, strict=True))
    assert any((a != b).any() for a, b in zip(first, third, strict=True))
    sizes = {group.name: group.size for group in graph.layout.prunable}
    plan = nns.Plan(graph.fingerprint, sizes, dict.fromkeys(sizes, (0, 2)))
    assert nns.prove(model, plan).exact


@pytest.mark.parametrize("crop", [10, 100, 5000])
def test_open_lengths_are_long_enough_for_what_is_cropped(crop):
    inputs = keras.Input((None, 4))
    x = layers.Conv1D(3, 3, padding="same", activation="relu", name="c")(inputs)
    model = keras.Model(inputs, layers.Conv1D(2, 5)(layers.Cropping1D(crop)(x)))
    x = sample_inputs(trace(model), 2, seed=0)
    assert model(x).shape[1] >= 1
    assert x.shape[1] < 2 * crop + 3 * 32
