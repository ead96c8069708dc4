"""Which rows of a tensor belong to one sample, where reshapes put windows or steps among them."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops

import keras_nns as nns
from keras_nns.graph.tracing import trace
from keras_nns.graph.watching import watch_points
from keras_nns.observation.activity import STATISTICS

CLOSE = {"rtol": 1e-5, "atol": 1e-6}


def windows():
    """A model that looks at the two halves of every picture by themselves, and their data."""
    inputs = keras.Input((4, 6, 3))
    x = L.Dense(5, activation="relu", name="before")(inputs)
    x = ops.reshape(ops.transpose(ops.reshape(x, (-1, 2, 2, 6, 5)), (0, 2, 1, 3, 4)), (-1, 12, 5))
    x = L.Dense(6, activation="tanh", name="inside")(x)
    x = x + L.MultiHeadAttention(2, 3, name="attention")(x, x)
    x = ops.reshape(x, (-1, 24, 6))
    x = L.Dense(4, activation="relu", name="after")(x)
    model = keras.Model(inputs, L.Dense(3, "softmax")(L.GlobalAveragePooling1D()(x)))
    random = np.random.default_rng(0)
    return model, random.normal(size=(9, 4, 6, 3)).astype("float32"), np.arange(9) % 2


@pytest.mark.slow
def test_rows_that_windows_put_among_samples_are_gathered_again():
    """Halves of a picture lie behind one another as so many samples."""
    model, data, labels = windows()
    graph = trace(model)
    rows = {name: point.rows for name, (point,) in watch_points(graph).items()}
    assert [rows[n] for n in ("before", "inside", "attention:heads", "after")] == [1, 2, 2, 1]
    activity = nns.observe(model, (data, labels), statistics=STATISTICS, batch_size=4)
    part = keras.Model(model.input, model.get_layer("inside").output)
    values = np.asarray(part(data)).reshape(9, 24, 6)
    for label in (0, 1):
        own = values[labels == label]
        expected = own.mean(axis=(0, 1))
        np.testing.assert_allclose(activity.mean("inside")[label], expected, **CLOSE)
        expected = np.abs(own).mean(axis=1).max(axis=0)
        np.testing.assert_allclose(activity.maximum("inside")[label], expected, **CLOSE)
    # The gradient of a window's rows counts for its sample.
    gradients = nns.observe_gradients(model, (data, labels), batch_size=4)
    alone = sum(
        nns.observe_gradients(model, (data[i : i + 1], labels[i : i + 1])).layers["inside"].slope
        for i in range(9)
    )
    np.testing.assert_allclose(gradients.layers["inside"].slope, alone, **CLOSE)


@pytest.mark.slow
def test_the_callback_and_the_probe_gather_rows_too():
    model, data, labels = windows()
    expected = nns.observe(model, (data, labels))
    model.compile(keras.optimizers.SGD(0.0), "sparse_categorical_crossentropy")
    monitor = nns.ActivityMonitor()
    model.fit(data, labels, batch_size=4, epochs=1, verbose=0, callbacks=[monitor])
    for name in ("inside", "attention:heads"):
        found = monitor.activity.mean(name)[:2]
        np.testing.assert_allclose(found, expected.mean(name)[:2], **CLOSE)
    probed = nns.probe(model)(data)["inside"]
    assert probed.shape == (9, 6)
    np.testing.assert_allclose(
        np.mean(probed[labels == 1], axis=0), expected.mean("inside")[1], **CLOSE
    )


def test_steps_in_front_of_samples_are_not_taken_for_them():
    inputs = keras.Input((5, 3))
    x = L.Dense(4, activation="relu", name="before")(inputs)
    x = ops.transpose(x, (1, 0, 2))
    x = L.Dense(6, activation="relu", name="inside")(x)
    x = L.GlobalMaxPooling1D()(ops.transpose(x, (1, 0, 2)))
    model = keras.Model(inputs, L.Dense(3)(x))
    activity = nns.observe(model, np.zeros((5, 5, 3), "float32"), np.arange(5) % 2)
    assert "inside" not in activity.layers and "before" in activity.layers
