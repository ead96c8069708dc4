"""Batches of a size that a model or Python cannot take are refused in one sentence."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras_nns as nns

BATCH = 10


@pytest.fixture(scope="module")
def carrying():
    """A model that carries what it has seen from batch to batch."""
    keras.utils.set_random_seed(0)
    start = keras.Input(batch_shape=(BATCH, 4, 3))
    return keras.Model(
        start, layers.Dense(2, "softmax")(layers.LSTM(5, stateful=True, name="cells")(start))
    )


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(0)
    return rng.normal(size=(40, 4, 3)).astype("float32"), np.arange(40) % 2


@pytest.mark.parametrize(
    ("rows", "size", "received"),
    [(40, 256, "a batch of 256"), (40, 8, "a batch of 8"), (33, BATCH, "33 samples")],
)
@pytest.mark.parametrize("verb", [nns.observe, nns.evaluate])
def test_states_hold_one_size_of_batch(carrying, data, verb, rows, size, received):
    x, y = data
    with pytest.raises(nns.errors.DataError) as error:
        verb(carrying, (x[:rows], y[:rows]), batch_size=size)
    said = str(error.value)
    assert "carries states of 10 samples from batch to batch (LSTM 'cells' is stateful)" in said
    assert "batch_size=10" in said and said.endswith(f"Received: {received}.")


def test_batches_of_a_stream_are_looked_at_as_they_come(carrying, data):
    x, y = data
    stream = tf.data.Dataset.from_tensor_slices((x, y)).filter(lambda *_: True).batch(7)
    with pytest.raises(nns.errors.DataError, match="Received: a batch of 7"):
        nns.observe(carrying, stream, verbose=False)


def test_batches_of_the_right_size_carry_states_on(carrying, data):
    x, y = data
    for layer in carrying.layers:
        if hasattr(layer, "reset_states"):
            layer.reset_states()
    found = nns.observe(carrying, data, batch_size=BATCH, verbose=False).mean("cells")
    kernel, recurrent, bias = (np.asarray(w) for w in carrying.get_layer("cells").weights[:3])
    hidden, cell, seen = np.zeros((BATCH, 5)), np.zeros((BATCH, 5)), []

    def sigmoid(value):
        return 1 / (1 + np.exp(-value))

    for first in range(0, 40, BATCH):
        for step in range(4):
            gates = x[first : first + BATCH, step] @ kernel + hidden @ recurrent + bias
            into, forget, new, out = np.split(gates, 4, axis=-1)
            cell = sigmoid(forget) * cell + sigmoid(into) * np.tanh(new)
            hidden = sigmoid(out) * np.tanh(cell)
        seen.append(hidden)
    right = np.concatenate(seen)
    by_hand = [right[y == label].mean(axis=0) for label in (0, 1)]
    np.testing.assert_allclose(found, by_hand, atol=1e-6)


@pytest.mark.parametrize("size", [0, -1, 2.5, "32", None])
def test_a_batch_size_is_a_whole_number(size):
    model = keras.Sequential([keras.Input((3,)), layers.Dense(4, "relu"), layers.Dense(2)])
    with pytest.raises(nns.errors.DataError, match="must be a whole number, at least 1"):
        nns.observe(model, (np.ones((4, 3)), [0, 1, 0, 1]), batch_size=size)


def mixed(kind):
    start = keras.Input((4,))
    hidden = layers.Dense(5, "relu", name="hidden")(start)
    if kind == "mean":
        hidden = hidden - keras.ops.mean(hidden, axis=0, keepdims=True)
    elif kind == "norm":
        hidden = layers.UnitNormalization(axis=[0, 1])(hidden)
    elif kind == "sum of all":
        hidden = hidden / keras.ops.sum(keras.ops.abs(hidden))
    elif kind == "features":
        hidden = hidden - keras.ops.mean(hidden, axis=-1, keepdims=True)
    elif kind == "steps in front":
        steps = keras.ops.transpose(keras.ops.reshape(hidden, (-1, 1, 5)), (1, 0, 2))
        hidden = keras.ops.mean(steps, axis=0)
    return keras.Model(start, layers.Dense(2, "softmax")(hidden))


@pytest.mark.parametrize("kind", ["mean", "norm", "sum of all"])
def test_a_model_that_goes_over_its_batch_is_told_of(kind):
    x = np.random.default_rng(0).normal(size=(20, 4)).astype("float32")
    model = mixed(kind)
    one, other = model(x)[:1], model(x[:1])
    assert np.abs(np.asarray(one) - np.asarray(other)).max() > 1e-3
    with pytest.warns(UserWarning, match="depends on the others of its batch.*over the batch axis"):
        nns.observe(model, (x, np.arange(20) % 2), verbose=False)


@pytest.mark.parametrize("kind", ["features", "steps in front"])
def test_one_that_does_not_is_not(kind, recwarn):
    x = np.random.default_rng(0).normal(size=(20, 4)).astype("float32")
    nns.observe(mixed(kind), (x, np.arange(20) % 2), verbose=False)
    assert not recwarn.list
