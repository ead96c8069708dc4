"""Batch norms in training: they begin with the data's statistics, and the model answers alike."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as L

import keras_nns as nns
from keras_nns.training.batch_norms import following, settle

RNG = np.random.default_rng(5)


def unsettled(model):
    """Give every weight a random value, and moving statistics that are of no data."""
    for variable in model.variables:
        far = RNG.normal(0, 0.4, variable.shape)
        name = variable.path.rsplit("/", 1)[-1]
        if name in ("gamma", "moving_variance"):
            far = RNG.uniform(0.3, 4.0, variable.shape)
        if variable.dtype == "float32":
            variable.assign(far)
    return model


def dense():
    return keras.Sequential(
        [
            keras.Input((6,)),
            L.Dense(5, activation="relu"),
            L.BatchNormalization(name="norm"),
            L.Dense(2),
        ]
    )


def images():
    start = keras.Input((6, 6, 2))
    x = L.Conv2D(4, 3, padding="same", use_bias=False)(start)
    x = L.ReLU()(L.BatchNormalization(name="norm")(x))
    y = L.BatchNormalization(name="second")(L.Conv2D(4, 1)(x))
    return keras.Model(start, L.Dense(3)(L.GlobalAveragePooling2D()(L.Add()([x, y]))))


def on_the_first_axis():
    start = keras.Input((4, 5))
    x = L.BatchNormalization(axis=1, name="norm")(start)
    return keras.Model(start, L.Dense(3)(L.Flatten()(x)))


def nested():
    inner = keras.Sequential([keras.Input((6,)), L.BatchNormalization(name="norm"), L.Dense(4)])
    start = keras.Input((6,))
    return keras.Model(start, L.Dense(2)(inner(start)))


def called_twice():
    norm = L.BatchNormalization(name="norm")
    one, two = keras.Input((6,)), keras.Input((6,))
    return keras.Model([one, two], L.Dense(2)(L.Add()([norm(one), norm(two)])))


def masked():
    return keras.Sequential(
        [
            keras.Input((7, 3)),
            L.Masking(0.0),
            L.BatchNormalization(name="norm"),
            L.LSTM(3),
            L.Dense(2),
        ]
    )


MODELS = [dense, images, on_the_first_axis, nested, called_twice, masked]


def data_for(model, samples=90):
    made = [
        RNG.normal(0.7, 2.0, (samples, *tensor.shape[1:])).astype("float32")
        for tensor in model.inputs
    ]
    for x in made:
        if any(isinstance(layer, L.Masking) for layer in model.layers):
            x[: samples // 2, 4:] = 0
    return made if len(made) > 1 else made[0]


def in_batches(x, size=32):
    several = isinstance(x, list)
    count = len(x[0] if several else x)
    for i in range(0, count, size):
        yield [t[i : i + size] for t in x] if several else x[i : i + size], None


@pytest.mark.slow
@pytest.mark.parametrize("make", MODELS)
def test_the_answers_stay(make):
    model = unsettled(make())
    x = data_for(model)
    before = model.predict(x, verbose=0)
    moving = [np.asarray(v) for v in model.non_trainable_variables]
    settle(model, in_batches(x))
    assert any(
        np.abs(now - was).max() > 0.1
        for now, was in zip(map(np.asarray, model.non_trainable_variables), moving, strict=True)
        if now.dtype == np.float32
    )
    after = model.predict(x, verbose=0)
    np.testing.assert_allclose(after, before, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("make", MODELS)
def test_training_begins_with_the_function_that_there_was(make):
    """On all of the data as one batch, training goes by the very statistics that were set."""
    model = unsettled(make())
    x = data_for(model)
    if make is called_twice:  # whose two calls have statistics of their own in a batch
        x = [x[0], x[0]]

    def apart():
        before = model.predict(x, verbose=0)
        return np.abs(np.asarray(model(x, training=True)) - before).max() / np.abs(before).max()

    assert apart() > 1e-2
    settle(model, in_batches(x))
    assert apart() < 1e-4


@pytest.mark.slow
def test_statistics_are_those_of_the_data():
    model = unsettled(images())
    x = data_for(model)
    read = keras.Model(model.inputs, model.get_layer("norm").input).predict(x, verbose=0)
    settle(model, in_batches(x))
    norm = model.get_layer("norm")
    np.testing.assert_allclose(norm.moving_mean, read.mean((0, 1, 2)), rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(norm.moving_variance, read.var((0, 1, 2)), rtol=1e-4)


@pytest.mark.slow
def test_padded_steps_do_not_count():
    model = unsettled(masked())
    x = data_for(model)
    settle(model, in_batches(x))
    real = x[(x != 0).any(axis=-1)]
    norm = model.get_layer("norm")
    np.testing.assert_allclose(norm.moving_mean, real.mean(0), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "change",
    [
        lambda norm: setattr(norm, "trainable", False),
        lambda norm: setattr(norm, "gamma_constraint", keras.constraints.NonNeg()),
    ],
)
def test_what_may_not_change_stays(change):
    model = unsettled(dense())
    change(model.get_layer("norm"))
    before = [np.asarray(v) for v in model.variables]
    settle(model, in_batches(data_for(model)))
    for was, now in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(was, now)


@keras.saving.register_keras_serializable(package="tests")
class Block(L.Layer):
    """A user's layer with a batch norm inside."""

    def __init__(self, **options):
        super().__init__(**options)
        self.norm = L.BatchNormalization()

    def call(self, x, training=False):
        return self.norm(x, training=training)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("inside", "shape"), [(Block(), (6,)), (L.TimeDistributed(L.BatchNormalization()), (4, 6))]
)
def test_one_inside_another_layer_stays(inside, shape):
    start = keras.Input(shape)
    after = L.BatchNormalization(name="norm")
    model = unsettled(keras.Model(start, L.Dense(2)(L.Flatten()(after(inside(start))))))
    x = data_for(model)
    before = model.predict(x, verbose=0)
    weights = inside.get_weights()
    settle(model, in_batches(x))
    for was, now in zip(weights, inside.get_weights(), strict=True):
        np.testing.assert_array_equal(was, now)
    np.testing.assert_allclose(model.predict(x, verbose=0), before, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_where_all_is_padding_nothing_changes():
    model = unsettled(masked())
    before = [np.asarray(v) for v in model.variables]
    settle(model, in_batches(np.zeros((40, 7, 3), "float32")))
    for was, now in zip(before, model.variables, strict=True):
        np.testing.assert_array_equal(was, now)


@pytest.mark.parametrize("missing", ["scale", "center"])
def test_without_gamma_or_beta_it_stays(missing):
    start = keras.Input((6,))
    norm = L.BatchNormalization(**{missing: False})
    model = unsettled(keras.Model(start, L.Dense(2)(norm(start))))
    before = np.asarray(norm.moving_mean)
    settle(model, in_batches(data_for(model)))
    np.testing.assert_array_equal(before, norm.moving_mean)


@pytest.mark.slow
def test_a_channel_that_never_varies():
    model = unsettled(dense())
    x = data_for(model)
    x[:] = x[0]
    before = model.predict(x, verbose=0)
    settle(model, in_batches(x))
    np.testing.assert_allclose(model.predict(x, verbose=0), before, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("steps", "momentum"), [(10, 0.8), (50, 0.9), (5000, 0.99)])
def test_momentum_is_for_the_time_being(steps, momentum):
    model = dense()
    norm = model.get_layer("norm")
    with pytest.raises(KeyboardInterrupt), following(model, steps):
        assert norm.momentum == pytest.approx(momentum)
        raise KeyboardInterrupt
    assert norm.momentum == 0.99


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["distill", "fine_tune"])
def test_training_with_no_rate_changes_next_to_nothing(verb):
    """Without it the network would end with other statistics, and other answers."""
    x = RNG.normal(0.7, 2.0, (512, 6)).astype("float32")
    y = np.arange(512) % 2
    model = unsettled(
        keras.Sequential(
            [
                keras.Input((6,)),
                L.Dense(8),
                L.BatchNormalization(),
                L.ReLU(),
                L.Dense(2, activation="softmax"),
            ]
        )
    )
    activity = nns.observe(model, (x, y), verbose=False)
    small = nns.cut(
        model,
        nns.select(activity, labels=[0, 1], keep=nns.top(4), score="mean_activation"),
        head="labels",
    )
    options = {"epochs": 3, "held_out": 0, "optimizer": keras.optimizers.SGD(0.0)}
    rest = (x, y) if verb == "fine_tune" else (model, x, y)
    after = getattr(nns, verb)(small, *rest, **options).model
    moved = np.abs(after.predict(x, verbose=0) - small.predict(x, verbose=0))
    assert moved.mean() < 0.02
