"""Subnetworks are compiled as their parents are, also where Keras cannot read its own settings."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as L

import keras_nns as nns

X = np.random.default_rng(0).normal(size=(60, 5)).astype("float32")
Y = np.arange(60) % 4


@keras.saving.register_keras_serializable(package="tests")
def mean_squared_error(wanted, given):
    """A user's own loss that is called as one of Keras's."""
    return keras.ops.mean((wanted - given) ** 2, axis=-1) + 7.0


def cut_of(loss, metrics, head="labels", labels=(0, 1)):
    model = keras.Sequential(
        [keras.Input((5,)), L.Dense(8, activation="relu"), L.Dense(4, activation="softmax")]
    )
    model.compile("sgd", loss, metrics=metrics)
    activity = nns.observe(model, (X, Y), verbose=False)
    return nns.cut(model, nns.select(activity, list(labels), keep=nns.top(4)), head=head)


def from_a_file(name):
    """The metric that a model of an `.h5` file comes with: it calls a name."""
    return keras.metrics.MeanMetricWrapper(name, name="accuracy")


WANTED = {
    ("labels", "categorical_crossentropy"): "categorical_crossentropy",
    ("labels", "sparse_categorical_crossentropy"): "sparse_categorical_crossentropy",
    ("binary", "categorical_crossentropy"): "binary_crossentropy",
    ("binary", "sparse_categorical_crossentropy"): "binary_crossentropy",
    ("other", "categorical_crossentropy"): "categorical_crossentropy",
}


@pytest.mark.parametrize(("head", "loss"), WANTED)
@pytest.mark.parametrize("function", [False, True])
def test_a_subnetwork_of_a_file_of_old_can_be_trained(head, loss, function):
    given = getattr(keras.losses, loss) if function else loss
    metric = from_a_file(loss.replace("crossentropy", "accuracy"))
    small = cut_of(given, [metric], head, (2,) if head == "binary" else (0, 1))
    width = small.output_shape[-1]
    y = Y % max(width, 2)
    if "sparse" not in loss and width > 1:
        y = keras.utils.to_categorical(y, width)
    history = small.fit(X, y, verbose=0).history
    assert set(history) == {"loss", "accuracy"}
    own = small.get_compile_config()["loss"]
    assert own == WANTED[head, loss]
    if width > 1:
        answers = small.predict(X, verbose=0).argmax(axis=1)
        right = (answers == Y % width).mean()
        assert small.evaluate(X, y, verbose=0, return_dict=True)["accuracy"] == pytest.approx(right)


def test_a_loss_of_ones_own_stays_whatever_it_is_called():
    small = cut_of(mean_squared_error, None)
    small.predict(X[:1], verbose=0)
    assert small.evaluate(X, np.zeros((60, 2)), verbose=0) > 7


def test_a_metric_that_wraps_a_function_of_ones_own_stays():
    metric = keras.metrics.MeanMetricWrapper(mean_squared_error, name="far")
    small = cut_of("mse", [metric])
    assert small.evaluate(X, np.zeros((60, 2)), verbose=0, return_dict=True)["far"] > 7
