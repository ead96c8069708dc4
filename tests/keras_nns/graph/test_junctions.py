"""Layers whose output is added to something: which sum is found, and that it is what is fitted."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as L

import keras_nns as nns
from keras_nns.graph.junctions import junction_of

X = np.random.default_rng(0).normal(size=(300, 6)).astype("float32")
IMAGES = np.random.default_rng(1).normal(size=(40, 6, 6, 3)).astype("float32")


def blocks(norm=False):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6,))
    h = L.Dense(10, activation="relu", name="stem", bias_initializer="normal")(inputs)
    for i in (1, 2):
        b = L.Dense(12, activation="relu", name=f"hidden{i}", bias_initializer="normal")(h)
        b = L.Dense(10, name=f"back{i}", use_bias=not norm)(b)
        b = L.BatchNormalization(name=f"norm{i}", gamma_initializer="uniform")(b) if norm else b
        h = L.Add(name=f"sum{i}")([h, L.Dropout(0.3)(b)])
    model = keras.Model(inputs, L.Dense(3, name="out")(h))
    if norm:
        random = np.random.default_rng(2)
        for layer in model.layers:
            if isinstance(layer, L.BatchNormalization):
                values = [random.uniform(0.5, 2, 10), *random.normal(size=(2, 10))]
                layer.set_weights([*values, random.uniform(0.5, 2, 10)])
    return model


def halved(model, data):
    activity = nns.observe(model, (data, np.arange(len(data)) % 3))
    return nns.cut(
        model,
        nns.select(activity, "all", keep=nns.fraction(0.6), score="mean_activation"),
        head="parent",
    )


def value(model, name, x):
    return keras.Model(model.input, model.get_layer(name).output)(x).numpy().astype(float)


@pytest.mark.slow
@pytest.mark.parametrize("norm", [False, True])
def test_the_sum_is_fitted_as_nearly_as_the_branch_allows(norm):
    """Normal equations: what is still wrong with the sum is no combination of what it is from."""
    model = blocks(norm)
    small = halved(model, X)
    plan = nns.lineage(small).plan
    steps = nns.steps.least_squares(ridge=0)
    fixed = nns.repair(small, model, X, steps=steps, held_out=0).model
    kept = list(plan.kept["stem"])
    for i in (1, 2):
        off = value(model, f"sum{i}", X)[:, kept] - value(fixed, f"sum{i}", X)
        design = np.c_[value(fixed, f"hidden{i}", X), np.ones(len(X))]
        assert np.abs(off).mean() > 1e-3
        np.testing.assert_allclose(design.T @ off / len(X), 0, atol=2e-5)
        # In the second block that is another fit than the branch's alone.
        beside = value(model, f"sum{i - 1}" if i > 1 else "stem", X)[:, kept]
        lacking = beside - value(fixed, f"sum{i - 1}" if i > 1 else "stem", X)
        assert (np.abs(design.T @ lacking / len(X)).max() > 1e-3) == (i == 2)


@pytest.mark.slow
def test_a_projected_shortcut_makes_up_for_the_branch_or_the_other_way_round():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6, 6, 3))
    h = L.Conv2D(8, 3, padding="same", activation="relu", name="stem")(inputs)
    b = L.Conv2D(8, 3, padding="same", activation="relu", name="hidden", strides=2)(h)
    b = L.Conv2D(12, 3, padding="same", name="back")(b)
    s = L.Conv2D(12, 1, strides=2, name="shortcut")(h)
    total = L.Add(name="sum")([b, s])
    out = L.Dense(3, name="out")(L.GlobalAveragePooling2D()(L.ReLU()(total)))
    model = keras.Model(inputs, out)
    found = {name: junction_of(model, name) for name in ("back", "shortcut")}
    (last,) = [name for name, junction in found.items() if junction is not None]
    small = halved(model, IMAGES)
    kept = list(nns.lineage(small).plan.kept["back"])
    fixed = nns.repair(
        small, model, IMAGES, steps=nns.steps.least_squares(ridge=0), held_out=0
    ).model
    off = value(model, "sum", IMAGES)[..., kept] - value(fixed, "sum", IMAGES)
    # The pixel under the middle of the window, or of the strided kernel.
    read = value(fixed, "hidden", IMAGES) if last == "back" else value(fixed, "stem", IMAGES)
    read = read if last == "back" else read[:, ::2, ::2]
    design = np.c_[read.reshape(-1, read.shape[-1]), np.ones(off[..., 0].size)]
    moments = design.T @ off.reshape(-1, len(kept)) / len(design)
    np.testing.assert_allclose(moments, 0, atol=2e-5)
    assert np.abs(off).mean() > 1e-3


def test_which_sum_a_layer_goes_into():
    model = blocks(norm=True)
    found = junction_of(model, "back2")
    assert found.norm == "norm2" and found.others == (0,)
    for name in ("stem", "hidden1", "out"):
        assert junction_of(model, name) is None

    def alone(join):
        inputs = keras.Input((4,))
        first = L.Dense(4, name="first")(inputs)
        return keras.Model(inputs, join(inputs, first))

    assert junction_of(alone(lambda x, h: x + h), "first").others == (0,)
    assert junction_of(alone(lambda x, h: L.Add()([h, x, x])), "first").others == (1, 2)
    assert junction_of(alone(lambda x, h: x + L.Identity()(L.Dropout(0.5)(h))), "first") is not None
    for join in (
        lambda x, h: L.Add()([h, h]),
        lambda x, h: L.Subtract()([x, h]),
        lambda x, h: [L.Add()([x, h]), h],
        lambda x, h: L.Concatenate()([L.Add()([x, h]), h]),
        lambda x, h: L.Add()([x, L.ReLU()(h)]),
        lambda x, h: L.Add()([L.Dense(4)(h), h]),
        lambda x, h: h,
    ):
        assert junction_of(alone(join), "first") is None


def test_a_layer_called_twice_or_with_an_activation_has_none():
    inputs = keras.Input((4,))
    shared = L.Dense(4, name="shared")
    twice = keras.Model(inputs, L.Add()([inputs, shared(shared(inputs))]))
    assert junction_of(twice, "shared") is None
    active = L.Dense(4, activation="relu", name="active")
    assert junction_of(keras.Model(inputs, L.Add()([inputs, active(inputs)])), "active") is None
