"""What targets mean is found from their shape and values and the model's output."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, losses

import keras_nns as nns
from keras_nns.data.batches import as_batches
from keras_nns.errors import DataError

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(8, 6, 3)).astype("float32")
Y = np.random.default_rng(1).integers(0, 2, (8, 6))
REALS = RANDOM.normal(size=(8, 6)).astype("float32")
PIXELS = RANDOM.integers(0, 256, (8, 4, 5, 3))
X2, ONES = RANDOM.normal(size=(8, 3)).astype("float32"), np.ones((8, 4, 5, 1), "float32")


def per_step(steps=6, labels=2, activation=None, loss=None):
    model = keras.Sequential(
        [
            keras.Input((steps, 3)),
            layers.Conv1D(4, 3, padding="same"),
            layers.Dense(labels, activation),
        ]
    )
    model.layers[-1].bias.assign(np.full(labels, 0.1))
    if loss is not None:
        model.compile("sgd", loss)
    return model


def per_pixel(labels=3):
    inputs = keras.Input((4, 5, 1))
    hidden = layers.Conv2D(4, 3, padding="same")(inputs)
    return keras.Model(inputs, layers.Conv2D(labels, 1)(hidden))


def at_once(labels=1, activation=None, loss=None, shape=()):
    made = [keras.Input((3,)), layers.Dense(labels, activation)]
    model = keras.Sequential([*made, *([layers.Reshape((*shape, labels))] if shape else [])])
    model.layers[0].bias.assign(np.full(labels, 0.1))
    if loss is not None:
        model.compile("sgd", loss)
    return model


CASES = {
    "steps": (per_step, X, Y, "positions"),
    "steps in a column": (per_step, X, Y[..., None], "positions"),
    "one-hot steps": (per_step, X, np.eye(2)[Y], "positions"),
    "booleans": (per_step, X, Y.astype(bool), "positions"),
    "any number of steps": (lambda: per_step(None), X, Y, "positions"),
    "as many steps as labels": (lambda: per_step(6, 6), X, Y, "positions"),
    "one yes or no": (lambda: per_step(6, 1), X, Y, "positions"),
    "pixels": (per_pixel, ONES, PIXELS[..., 0] % 3, "positions"),
    "one-hot pixels": (per_pixel, ONES, np.eye(3)[PIXELS[..., 0] % 3], "positions"),
    "pictures": (per_pixel, ONES, PIXELS, "values"),
    "grey pictures": (lambda: per_pixel(1), ONES, PIXELS[..., :1] / 255, "values"),
    "grey pictures without channel": (lambda: per_pixel(1), ONES, PIXELS[..., 0], "values"),
    "0 and 1 behind a loss of numbers": (lambda: per_step(6, 1, loss="mse"), X, Y, "values"),
    "labels of samples": (per_step, X, np.arange(8) % 3, "labels"),
    "a regression": (at_once, X2, REALS[:, 0], "values"),
    "whole numbers": (at_once, X2, np.arange(8) * 10, "values"),
    "several numbers": (lambda: at_once(6), X2, REALS, "values"),
    "fractions behind sigmoids": (lambda: at_once(6, "sigmoid"), X2, np.abs(np.tanh(REALS)),
                                  "values"),
    "0 and 1": (at_once, X2, Y[:, 0].astype("float32"), "labels"),
    "0 and 1 of a regression": (lambda: at_once(loss="mae"), X2, Y[:, 0], "values"),
    "multi-hot": (lambda: at_once(6), X2, Y, "labels"),
    "numbers of labels": (lambda: at_once(6), X2, np.arange(8) % 6, "labels"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("form", ["arrays", "dataset", "generator"])
def test_their_meaning(case, form):
    make, x, y, kind = CASES[case]
    data = (x, y)
    if form == "dataset":
        data = tf.data.Dataset.from_tensor_slices(data).batch(5)
    elif form == "generator":
        data = ((x[i : i + 5], y[i : i + 5]) for i in (0, 5))
    counted = {"label_count": 3} if case == "labels of samples" else {}
    batches = as_batches(data, model=make(), **counted)
    assert batches.kind == kind
    read = list(batches)
    assert [batch.size for batch in read] in ([8], [5, 3])
    targets = [batch.targets for batch in read]
    if kind == "labels":
        assert targets == [None] * len(read)
        return
    joined = np.concatenate(targets)
    np.testing.assert_array_equal(
        joined.reshape(-1).astype(float), np.asarray(y).reshape(-1).astype("float32")
    )
    labels = np.concatenate([batch.labels for batch in read])
    if kind == "values":
        assert batches.label_names == ("all",)
        assert not labels.any()
    else:
        numbers = y.argmax(-1) if joined.dtype == bool else y.reshape(y.shape[: joined.ndim])
        for label in range(labels.shape[1]):
            present = [label in sample for sample in numbers]
            assert labels[:, label].tolist() == present


WRONG = {
    "labels from 1": (lambda: at_once(activation="sigmoid"), X2, Y[:, 0] + 1, "subtract 1"),
    "labels from 1 behind a loss": (lambda: at_once(loss="binary_crossentropy"), X2, Y[:, 0] + 1,
                                    "subtract 1"),
    "pixels of 255": (lambda: per_step(6, 1, "sigmoid"), X, Y * 255, "divide them by 255"),
    "void": (per_step, X, np.where(Y, 255, 0), r"ignore_class=255\)"),
    "steps from 1": (per_step, X, Y + 1, "subtract 1"),
    "soft steps": (per_step, X, np.full((8, 6, 2), 0.5), "argmax"),
    "broken steps": (per_step, X, Y + 0.5, "whole numbers"),
    "missing": (at_once, X2, np.where(Y[:, 0], np.nan, REALS[:, 0]), r"of 8 .* are missing"),
    "missing steps": (per_step, X, np.where(Y, np.nan, 1.0), "are missing"),
    "another size": (per_pixel, ONES, PIXELS[:, :2], "must have the shape"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_is_named_with_a_way_on(case):
    make, x, y, said = WRONG[case]
    with pytest.raises(DataError, match=said):
        list(as_batches((x, y), model=make()))


def test_the_ways_on_work():
    ignoring = losses.SparseCategoricalCrossentropy(ignore_class=255)
    (batch,) = as_batches((X, np.where(Y, 255, 0)), model=per_step(loss=ignoring))
    np.testing.assert_array_equal(batch.targets, np.where(Y, -1, 0))
    assert not batch.labels[:, 1].any()
    y = np.where(Y[:, 0], np.nan, REALS[:, 0])
    known = np.isfinite(y)
    assert as_batches((X2[known], y[known]), model=at_once()).kind == "values"


def test_too_many_labels_to_count_are_refused_and_samples_have_labels_all_the_same():
    model = per_step(6, 5000)
    with pytest.raises(DataError, match="Pass one label for each sample"):
        as_batches((X, Y), model=model)
    assert as_batches((X, Y[:, 0]), model=model).kind == "labels"


def test_names_say_that_targets_are_labels():
    batches = as_batches((X2, Y[:, 0]), model=at_once(loss="mse"), label_names=["no", "yes"])
    assert batches.kind == "labels"
    names = ["cat", "dog", "sky"]
    batches = as_batches((ONES, PIXELS[..., 0] % 3), model=per_pixel(), label_names=names)
    assert batches.label_names == tuple(names)
    with pytest.raises(DataError, match="tells 3 labels apart"):
        as_batches((ONES, PIXELS[..., 0] % 3), model=per_pixel(), label_names=["a", "b"])


def test_labels_of_whole_samples_are_read_as_before():
    model = per_step()
    kinds = np.arange(8) % 3
    activity = nns.observe(model, X, kinds, verbose=False)
    assert activity.samples.tolist() == [3, 3, 2]
    rows = np.stack([(k == Y).any(axis=1) for k in range(2)], axis=1)
    activity = nns.observe(model, X, rows, label_names=["no", "yes"], verbose=False)
    dense = nns.observe(model, X, Y, label_names=["no", "yes"], verbose=False)
    assert activity == dense
    table = np.eye(6, dtype=int)[np.arange(8) % 6]
    batches = as_batches((X, table), model=model, label_count=6)
    assert np.array_equal(next(iter(batches)).labels, table.astype(bool))


@pytest.mark.parametrize("shape", [(1,), (1, 1)])
def test_one_position_is_none(shape):
    x, y = RANDOM.normal(size=(60, 3)).astype("float32"), np.arange(60) % 4
    model = at_once(4, "softmax", shape=shape)
    flat = keras.Sequential([keras.Input((3,)), layers.Dense(4, "softmax")])
    flat.set_weights(model.get_weights())
    assert as_batches((x, y), model=model).kind == "labels"
    theirs, ours = nns.evaluate(flat, x, y), nns.evaluate(model, x, y)
    assert ours.to_json() | {"model": ""} == theirs.to_json() | {"model": ""}


def test_a_generator_is_read_once_and_from_its_beginning():
    begun = []

    def batches():
        begun.append(len(begun))
        for start in (0, 4):
            yield X2[start : start + 4], REALS[start : start + 4, 0]

    read = as_batches(batches, model=at_once())
    for _ in range(2):
        assert np.concatenate([b.targets for b in read])[:, 0].tolist() == REALS[:, 0].tolist()
    assert len(begun) == 2
    once = as_batches(batches(), model=at_once())
    assert [b.targets[0, 0] for b in once.skip(1)] == [REALS[4, 0]]
