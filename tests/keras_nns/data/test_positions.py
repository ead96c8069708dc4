"""Labels of every position are never read as labels of a sample."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras_nns as nns
from keras_nns.data.batches import as_batches
from keras_nns.errors import DataError


def per_step(steps=6, labels=2):
    model = keras.Sequential(
        [keras.Input((steps, 3)), layers.Conv1D(4, 3, padding="same"), layers.Dense(labels)]
    )
    model.layers[-1].bias.assign(np.full(labels, 0.1))
    return model


def per_pixel():
    inputs = keras.Input((4, 5, 1))
    return keras.Model(inputs, layers.Conv2D(3, 1)(layers.Conv2D(4, 3, padding="same")(inputs)))


X = np.random.default_rng(0).normal(size=(8, 6, 3)).astype("float32")
Y = np.random.default_rng(1).integers(0, 2, (8, 6))
CASES = {
    "steps": (per_step, X, Y),
    "steps in a column": (per_step, X, Y[..., None]),
    "one-hot steps": (per_step, X, np.eye(2)[Y]),
    "booleans": (per_step, X, Y.astype(bool)),
    "any number of steps": (lambda: per_step(None), X, Y),
    "as many steps as labels": (lambda: per_step(6, 6), X, Y),
    "pixels": (per_pixel, np.ones((8, 4, 5, 1)), np.zeros((8, 4, 5), int)),
    "one-hot pixels": (per_pixel, np.ones((8, 4, 5, 1)), np.zeros((8, 4, 5, 3))),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("options", [{}, {"label_count": 2}, {"label_names": ["no", "yes"]}])
def test_they_are_refused_by_name(case, stream, options):
    model, x, y = CASES[case]
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(4) if stream else (x, y)
    what = "Nothing shows how many" if stream and not options else "one for each position"
    with pytest.raises(DataError, match=what):
        list(as_batches(data, model=model(), **options))


@pytest.mark.parametrize("verb", [nns.observe, nns.evaluate])
def test_every_verb_refuses_them(verb):
    with pytest.raises(DataError, match="one for each position"):
        verb(per_step(), X, Y)


def test_labels_of_whole_samples_are_read_as_before():
    model = per_step()
    kinds = np.arange(8) % 3
    activity = nns.observe(model, X, kinds, verbose=False)
    assert activity.samples.tolist() == [3, 3, 2]
    # The way on that the error names.
    rows = np.stack([(k == Y).any(axis=1) for k in range(2)], axis=1)
    present = [sum(k in row for row in Y.tolist()) for k in range(2)]
    activity = nns.observe(model, X, rows, label_names=["no", "yes"], verbose=False)
    assert activity.samples.tolist() == present
    table = np.eye(6, dtype=int)[np.arange(8) % 6]
    batches = as_batches((X, table), model=model, label_count=6)
    assert np.array_equal(next(iter(batches)).labels, table.astype(bool))
