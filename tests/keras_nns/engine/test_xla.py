"""Steps that XLA compiles, and steps of mixed precision, give what plain ones give."""

from __future__ import annotations

from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers as L

import keras_nns as nns
from keras_nns.engine.tensorflow import steps

RANDOM = np.random.default_rng(0)
IMAGES = RANDOM.normal(size=(90, 6, 6, 1)).astype("float32")
TOKENS = RANDOM.integers(1, 12, (90, 5))
Y = np.arange(90) % 3


def convolutions(policy="float32"):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 6, 1))
    x = L.Conv2D(6, 3, activation="relu", name="first", dtype=policy)(inputs)
    x = L.BatchNormalization(dtype=policy)(x)
    y = L.Conv2D(6, 3, padding="same", activation="relu", name="branch", dtype=policy)(x)
    x = L.Add()([x, y])
    x = L.Dense(8, "relu", name="second", dtype=policy)(L.GlobalAveragePooling2D()(x))
    model = keras.Model(inputs, L.Dense(3, "softmax", dtype="float32")(x))
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model, IMAGES


def sequences():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((5,))
    x = L.Embedding(12, 8, name="table")(inputs)
    x = L.Add()([x, L.MultiHeadAttention(2, 4, name="attend")(x, x)])
    x = L.LSTM(6, name="recurrent")(L.LayerNormalization()(x))
    model = keras.Model(inputs, L.Dense(3, "softmax")(L.Dense(7, "relu", name="last")(x)))
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model, TOKENS


def figures(model, x):
    """What a pass over data gives: activity, gradients, and the weights of a repaired network."""
    activity = nns.observe(model, (x, Y), batch_size=32, verbose=False)
    gradients = nns.observe_gradients(model, (x, Y), batch_size=32)
    plan = nns.select(activity, labels=[0, 2], score="mean_activation", keep=nns.fraction(0.5))
    small = nns.cut(model, plan, head="labels")
    mended = nns.repair(small, model, (x, Y), steps=[nns.steps.least_squares()]).model
    return {
        "firing rates": {name: activity.firing_rate(name) for name in activity.layers},
        "means": {name: activity.mean(name) for name in activity.layers},
        "effects": {name: gradients.per_sample(name, "effect") for name in gradients.layers},
        "plan": {name: np.array(units) for name, units in plan.kept.items()},
        "weights": dict(enumerate(mended.get_weights())),
    }


def agree(found, wanted, rtol, atol):
    for what, values in wanted.items():
        assert found[what].keys() == values.keys()
        for name, value in values.items():
            if what == "plan":
                assert value.tolist() == found[what][name].tolist()
            else:
                np.testing.assert_allclose(found[what][name], value, rtol, atol, err_msg=what)


@pytest.fixture
def compiled(monkeypatch):
    """Let XLA compile every step; count them."""
    made = []

    def function(step, **options):
        made.append(step)
        return tf.function(step, jit_compile=True, **options)

    fake = SimpleNamespace(**{name: getattr(tf, name) for name in dir(tf) if name[0] != "_"})
    fake.function = function
    monkeypatch.setattr(steps, "tf", fake)
    return made


@pytest.mark.slow
@pytest.mark.parametrize("make", [convolutions, sequences])
def test_what_xla_compiles_gives_the_same(make, request):
    model, x = make()
    plain = figures(model, x)
    made = request.getfixturevalue("compiled")
    agree(figures(model, x), plain, 1e-4, 1e-5)
    assert len(made) >= 3


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["mixed_float16", "mixed_bfloat16"])
def test_mixed_precision_gives_what_its_rounding_leaves(policy):
    """Half precision keeps three digits, bfloat16 two; sums of them lose no more."""
    plain, x = convolutions()
    mixed, _ = convolutions(policy)
    mixed.set_weights(plain.get_weights())
    digits = 1e-3 if policy == "mixed_float16" else 1e-2
    a, b = (nns.observe(model, (x, Y), verbose=False) for model in (plain, mixed))
    one, other = (nns.observe_gradients(model, (x, Y)) for model in (plain, mixed))
    for name in a.layers:
        scale = np.abs(a.mean(name)).max()
        np.testing.assert_allclose(b.mean(name), a.mean(name), atol=4 * digits * scale)
        wanted = one.per_sample(name, "effect")
        scale = np.abs(wanted).max()
        np.testing.assert_allclose(
            other.per_sample(name, "effect"), wanted, atol=8 * digits * scale
        )
    plan = nns.select(b, labels=[0, 2], score="mean_activation", keep=nns.fraction(0.5))
    small = nns.cut(mixed, plan, head="labels", prove=True)
    mended = nns.repair(small, mixed, (x, Y)).model
    assert [layer.dtype_policy.name for layer in mended.layers].count(policy) >= 3
    assert np.isfinite(mended.predict(x, verbose=0)).all()
