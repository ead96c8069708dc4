"""unfold: blocks that are layers are written out as the layers they are made of."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from architectures import random_plan
from backends import not_on
from contract import randomise, steps
from keras import layers as L
from keras import ops

import keras_nns as nns
from keras_nns.graph.partial_layers import PartialLayerNormalization
from keras_nns.graph.tracing import trace

# TensorFlow's tensors under numpy 2, when Keras writes weights.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)


@keras.saving.register_keras_serializable("test_unfolding")
class FeedForward(L.Layer):
    """Widen, activate, drop, narrow, add."""

    def __init__(self, hidden, width, **kwargs):
        super().__init__(**kwargs)
        self.hidden, self.width = hidden, width
        self.up = L.Dense(hidden, activation="relu", name="up")
        self.drop = L.Dropout(0.5, name="drop")
        self.down = L.Dense(width, name="down")

    def build(self, shape):
        self.up.build(shape)
        self.down.build((*shape[:-1], self.hidden))

    def call(self, inputs, training=None):
        return inputs + self.down(self.drop(self.up(inputs), training=training))

    def get_config(self):
        return {**super().get_config(), "hidden": self.hidden, "width": self.width}


@keras.saving.register_keras_serializable("test_unfolding")
class Stack(L.Layer):
    """Blocks in a block, called on two tensors."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.blocks = [FeedForward(5, 4, name=f"block_{i}") for i in range(2)]

    def build(self, first_shape, second_shape):
        for block in self.blocks:
            block.build(first_shape)

    def call(self, first, second=None):
        return self.blocks[1](ops.tanh(self.blocks[0](first)) * second)


@keras.saving.register_keras_serializable("test_unfolding")
class Network(keras.Model):
    """A model with a `call` of its own."""

    def __init__(self, width, **kwargs):
        super().__init__(**kwargs)
        self.width = width
        self.first = L.Dense(width, activation="relu", name="first")
        self.block = FeedForward(7, width, name="block")
        self.answer = L.Dense(3, name="answer")

    def call(self, inputs):
        return self.answer(self.block(self.first(inputs["x"])) + ops.sum(inputs["y"]) * 0)

    def get_config(self):
        return {**super().get_config(), "width": self.width}


@pytest.fixture
def model():
    start = keras.Input((6,))
    x = L.Dense(4, activation="tanh", name="before")(start)
    x = Stack(name="stack")(x, second=L.Dense(4, name="gate")(start))
    return randomise(keras.Model(start, L.Dense(3, name="answer")(x)))


def normal(*shape):
    return np.random.default_rng(0).normal(size=shape).astype("float32")


@pytest.mark.slow
def test_blocks_become_nested_models_that_can_be_cut(model):
    x = normal(5, 6)
    weights = [w.copy() for w in model.get_weights()]
    nodes = [len(layer._inbound_nodes) for layer in model.layers]
    assert [group.name for group in trace(model).layout.prunable] == []
    flat = nns.unfold(model)
    np.testing.assert_allclose(flat(x), model(x), rtol=0, atol=1e-6)
    groups = {group.name: group.size for group in trace(flat).layout.prunable}
    assert groups == {"before": 4, "stack/block_0/up": 5, "stack/block_1/up": 5}
    plan = random_plan(trace(flat), 0.5, 0)
    small = nns.cut(flat, plan, prove=True)
    assert small.count_params() < model.count_params()
    # The user's model is what it was, and shares nothing with what came of it.
    flat.set_weights([w * 0 for w in flat.get_weights()])
    for one, other in zip(weights, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert nodes == [len(layer._inbound_nodes) for layer in model.layers]


@pytest.mark.slow
def test_training_mode_reaches_the_parts(model):
    flat = nns.unfold(model)
    x = normal(64, 6)
    assert np.ptp(np.asarray(flat(x, training=True)) - np.asarray(flat(x))) > 0
    flat.compile("sgd", "mse")
    flat.fit(x, normal(64, 3), verbose=0)


@pytest.mark.slow
def test_a_written_out_model_survives_a_file(model, tmp_path):
    flat = nns.unfold(model)
    nns.save_model(flat, tmp_path / "flat.keras")
    x = normal(5, 6)
    np.testing.assert_array_equal(nns.load_model(tmp_path / "flat.keras")(x), flat(x))


def test_a_block_called_twice_is_written_out_once():
    block = FeedForward(5, 4, name="block")
    start = keras.Input((4,))
    model = randomise(keras.Model(start, L.Dense(2)(block(block(start)))))
    flat = nns.unfold(model)
    assert flat.count_params() == model.count_params()
    (group,) = trace(flat).layout.prunable
    assert (group.name, group.size) == ("block/up", 5)
    assert nns.prove(flat, random_plan(trace(flat), 0.5, 0)).exact


@pytest.mark.slow
def test_a_model_with_a_call_of_its_own():
    x = {"x": normal(5, 6), "y": normal(5, 2)}
    model = Network(8)
    model(x)
    randomise(model)
    with pytest.raises(nns.errors.ModelError, match="unfold"):
        trace(model)
    flat = nns.unfold(model, inputs=x)
    np.testing.assert_allclose(flat(x), model(x), rtol=0, atol=1e-6)
    plan = random_plan(trace(flat), 0.5, 1)
    assert set(plan.kept) == {"first", "block/up"}
    assert nns.prove(flat, plan, samples=x).exact
    assert nns.cut(flat, plan).count_params() < model.count_params()


def test_a_model_without_blocks_is_copied():
    model = randomise(steps(L.LSTM(4, return_sequences=True)))
    flat = nns.unfold(model)
    x = normal(2, 5, 3)
    np.testing.assert_array_equal(flat(x), model(x))
    assert flat is not model


def by_hand(x, gamma, beta, epsilon, features):
    """Fill up with zeros, normalise over all of them, and read what is here."""
    full = np.zeros((*x.shape[:-1], features))
    full[..., : x.shape[-1]] = x
    mean, variance = full.mean(-1, keepdims=True), full.var(-1, keepdims=True)
    return ((full - mean) / np.sqrt(variance + epsilon))[..., : x.shape[-1]] * gamma + beta


@pytest.mark.parametrize("features", [4, 9])
def test_features_that_are_not_here_count_as_zero(features):
    layer = PartialLayerNormalization(features, epsilon=0.01)
    x = normal(3, 2, 4) + 1
    layer.build(x.shape)
    gamma, beta = normal(4), normal(4) - 1
    layer.set_weights([gamma, beta])
    expected = by_hand(x.astype(float), gamma, beta, 0.01, features)
    np.testing.assert_allclose(layer(x), expected, rtol=1e-5, atol=1e-5)


def transformer():
    tokens = keras.Input((5,), dtype="int32")
    x = L.Embedding(7, 8, name="stream")(tokens)
    for number in range(2):
        y = L.LayerNormalization(epsilon=1e-3)(x)
        x = L.Add()([x, L.MultiHeadAttention(2, 4, name=f"attention_{number}")(y, y)])
        y = L.Dense(12, activation="gelu", name=f"hidden_{number}")(L.LayerNormalization()(x))
        x = L.Add()([x, L.Dense(8)(y)])
    x = L.GlobalAveragePooling1D()(L.LayerNormalization()(x))
    return keras.Model(tokens, L.Dense(3, name="answer")(x))


@pytest.mark.slow
def test_the_stream_of_a_transformer_is_cut_exactly(tmp_path):
    model = randomise(transformer())
    x = np.random.default_rng(0).integers(0, 7, (6, 5))
    (reason, *_) = trace(model).layout["stream"].reasons
    assert "unfold(model, normalizations=True)" in reason
    flat = nns.unfold(model, normalizations=True)
    np.testing.assert_allclose(flat(x), model(x), rtol=1e-5, atol=1e-5)
    graph = trace(flat)
    assert graph.layout["stream"].prunable
    for seed, share in enumerate((0.1, 0.5, 0.9)):
        plan = random_plan(graph, share, seed)
        small = nns.cut(flat, plan)
        assert nns.prove(flat, plan, samples=x).exact
        assert small.get_layer("stream").output_dim == len(plan.kept["stream"])
    nns.save_model(small, tmp_path / "small.keras")
    np.testing.assert_array_equal(nns.load_model(tmp_path / "small.keras")(x), small(x))
    assert nns.inspect(small).multiply_adds


@pytest.mark.slow
def test_a_model_in_a_time_distributed_is_run_on_all_steps_at_once():
    frame = keras.Sequential(
        [
            keras.Input((5, 5, 2)),
            L.Conv2D(6, 3, activation="relu", name="conv"),
            L.BatchNormalization(),
            L.GlobalAveragePooling2D(),
            FeedForward(7, 6, name="block"),
        ],
        name="frame",
    )
    start = keras.Input((3, 5, 5, 2))
    x = L.LSTM(4, name="cells")(L.TimeDistributed(frame, name="each")(start))
    model = randomise(keras.Model(start, L.Dense(2, name="answer")(x)))
    assert [group.name for group in trace(model).layout.prunable] == ["cells"]
    flat = nns.unfold(model)
    x = normal(4, 3, 5, 5, 2)
    np.testing.assert_allclose(flat(x), model(x), rtol=1e-5, atol=1e-6)
    graph = trace(flat)
    sizes = {group.name: group.size for group in graph.layout.prunable}
    inside = {"each/frame/conv": 6, "each/frame/block/up": 7}
    assert sizes == {**inside, "cells": 4}
    for seed, share in enumerate((0.1, 0.5, 0.9)):
        assert nns.prove(flat, random_plan(graph, share, seed), samples=x).exact


@pytest.mark.slow
def test_masked_steps_stay_in_their_time_distributed():
    inner = keras.Sequential([keras.Input((3,)), L.Dense(4)])
    model = keras.Sequential(
        [keras.Input((5, 3)), L.Masking(), L.TimeDistributed(inner, name="each"), L.LSTM(2)]
    )
    with pytest.warns(UserWarning, match=r"TimeDistributed 'each'.*masked"):
        flat = nns.unfold(model)
    assert L.TimeDistributed in [type(layer) for layer in flat.layers]


@not_on("torch", "normalises only the last axes")
def test_statistics_over_other_axes_stay_what_they_are():
    model = steps(L.LayerNormalization(axis=1), L.LayerNormalization(axis=(1, 2)))
    kinds = [type(layer) for layer in nns.unfold(model, normalizations=True).layers]
    assert PartialLayerNormalization not in kinds and kinds.count(L.LayerNormalization) == 2


class Frozen(FeedForward):
    """A block with a weight of its own."""

    def build(self, shape):
        super().build(shape)
        self.scale = self.add_weight(shape=(), name="scale", initializer="ones")

    def call(self, inputs, training=None):
        return self.scale * super().call(inputs, training=training)


@keras.saving.register_keras_serializable("test_unfolding")
class Counting(FeedForward):
    """A block that needs to know how many samples there are."""

    def call(self, inputs, training=None):
        rows = ops.arange(ops.shape(inputs)[0], dtype="float32")
        return super().call(inputs, training=training) + 0 * ops.sum(rows)


@keras.saving.register_keras_serializable("test_unfolding")
class Wayward(FeedForward):
    """A block that computes something else where the batch size is not known."""

    def call(self, inputs, training=None):
        doubled = inputs if ops.shape(inputs)[0] is None else 2 * inputs
        return super().call(doubled, training=training)


def test_a_block_with_weights_of_its_own_stays():
    model = steps(keras.saving.register_keras_serializable("test_unfolding")(Frozen)(5, 6))
    flat = nns.unfold(model)
    assert Frozen in [type(layer) for layer in flat.layers]


def test_a_block_that_needs_the_batch_size_stays_with_a_warning():
    with pytest.warns(UserWarning, match="Counting 'block'"):
        flat = nns.unfold(steps(Counting(5, 6, name="block")))
    assert Counting in [type(layer) for layer in flat.layers]


def test_a_block_that_computes_something_else_is_refused():
    with pytest.raises(nns.errors.SurgeryError, match=r"computes something else.*rules.register"):
        nns.unfold(randomise(steps(Wayward(5, 6, name="block"))))


def test_wrong_use_says_what_to_do():
    with pytest.raises(nns.errors.ModelError, match=r"Expected a keras\.Model"):
        nns.unfold("model.keras")
    with pytest.raises(nns.errors.ModelError, match="inputs=batch"):
        nns.unfold(Network(4))

    class Own(keras.Model):
        def __init__(self, network):
            super().__init__()
            self.network = network

        def call(self, inputs):
            return self.network(inputs)

    model = Own(L.Dense(3))
    model(normal(2, 3))
    with pytest.raises(
        nns.errors.ModelError,
        match=r"cannot be copied from its `get_config`.*implement.*Give Own a `get_config`",
    ) as told:
        nns.unfold(model, inputs=normal(2, 3))
    # Whole words alone: Keras adds an example of code.
    assert "Example" not in str(told.value)
