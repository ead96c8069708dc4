"""Batch norms folded into the layers beside them, and the reasons where they cannot be."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from cleaning_models import assert_same, names, plan_of, residual
from contract import chain, inputs_of, randomise
from keras import layers as L

import keras_nns as nns


def norm(name="bn", **options):
    return L.BatchNormalization(name=name, **options)


FOLDED = {
    "conv": ((6, 6, 2), lambda: [L.Conv2D(4, 3, padding="same", name="l"), norm(), L.ReLU()]),
    "no bias": ((6, 6, 2), lambda: [L.Conv2D(4, 3, use_bias=False, name="l"), norm(), L.ReLU()]),
    "plain norm": ((6, 6, 2), lambda: [L.Conv2D(4, 3), norm(scale=False, center=False), L.ReLU()]),
    "grouped": ((6, 6, 4), lambda: [L.Conv2D(4, 3, groups=2), norm(), L.ReLU()]),
    "conv 1d": ((6, 2), lambda: [L.Conv1D(4, 3, padding="causal"), norm(), L.ReLU()]),
    "depthwise": ((6, 6, 3), lambda: [L.DepthwiseConv2D(3, depth_multiplier=2), norm(), L.ReLU()]),
    "separable": ((6, 6, 3), lambda: [L.SeparableConv2D(4, 3), norm(), L.ReLU()]),
    "transposed": ((6, 6, 3), lambda: [L.Conv2DTranspose(4, 3), norm(), L.ReLU()]),
    "dense": ((6,), lambda: [L.Dense(4), norm(), L.ReLU()]),
    "dense on steps": ((5, 6), lambda: [L.Dense(4), norm(), L.ReLU()]),
    "two": ((6,), lambda: [L.Dense(4), norm("one"), norm("two"), L.ReLU()]),
    "into the next": ((6, 6, 2), lambda: [L.MaxPooling2D(), norm(), L.Conv2D(3, 2)]),
    "into the next dense": ((6,), lambda: [L.Dense(3, activation="relu"), norm(), L.Dense(2)]),
    "into the next depthwise": ((6, 6, 2), lambda: [L.ReLU(), norm(), L.DepthwiseConv2D(3)]),
}


@pytest.mark.slow
@pytest.mark.parametrize("sequential", [True, False])
@pytest.mark.parametrize("name", FOLDED)
def test_batch_norms_are_folded(name, sequential):
    shape, parts = FOLDED[name]
    parts = [*parts(), L.Flatten(), L.Dense(2, name="answer")]
    if sequential:
        model = randomise(keras.Sequential([keras.Input(shape), *parts]))
    else:
        model = randomise(chain(shape, *parts))
    model.layers[-2].trainable = False
    model.compile("sgd", "mse")
    left = nns.simplify(model)
    assert any(isinstance(layer, L.BatchNormalization) for layer in left.model.layers)
    done = nns.simplify(model, fold_batch_norm=True)
    assert not any(isinstance(layer, L.BatchNormalization) for layer in done.model.layers)
    assert isinstance(done.model, keras.Sequential) == sequential
    assert not done.model.layers[-2].trainable and done.model.compiled
    assert set(names(done.model)) < set(names(model))
    assert_same(done.model, model, inputs_of(model))


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        (lambda: [L.Conv2D(4, 3, activation="relu"), norm(), L.ReLU()], "activation first"),
        (lambda: [L.ReLU(), norm(), L.Conv2D(4, 3, padding="same")], "pads with zeros"),
        (lambda: [L.ReLU(), norm(), L.Conv2D(4, 3, groups=2)], "has groups"),
        (lambda: [L.Conv2D(4, 3), norm(axis=1), L.ReLU()], "another axis"),
        (lambda: [L.ReLU(), norm(), L.ReLU()], "no linear layer"),
    ],
)
def test_batch_norms_that_cannot_be_folded_say_why(parts, reason):
    model = randomise(chain((6, 6, 2), *parts(), L.Flatten(), L.Dense(2)))
    done = nns.simplify(model, fold_batch_norm=True)
    assert "bn" in names(done.model)
    assert any(c.layer == "bn" and reason in c.change for c in done.changes), done.changes


def test_a_convolution_that_is_read_elsewhere_keeps_its_batch_norm():
    inputs = keras.Input((6, 6, 2))
    x = L.Conv2D(4, 3, name="conv")(inputs)
    x = L.Add()([x, L.ReLU()(norm()(x))])
    model = randomise(keras.Model(inputs, L.Dense(2)(L.Flatten()(x))))
    done = nns.simplify(model, fold_batch_norm=True)
    assert any("read elsewhere" in c.change for c in done.changes)
    assert_same(done.model, model, inputs_of(model))


@pytest.mark.slow
def test_a_residual_network_loses_all_its_batch_norms():
    model = residual()
    before = [w.numpy() for w in model.weights]
    done = nns.simplify(model, fold_batch_norm=True)
    assert not [n for n in names(done.model) if "bn" in n]
    assert_same(done.model, model, inputs_of(model))
    for old, weight in zip(before, model.weights, strict=True):
        np.testing.assert_array_equal(old, weight.numpy())
    plan = plan_of(model, **{"1_a": (), "stem": (0, 3)})
    lean = nns.simplify(nns.cut(model, plan, allow_empty=True), fold_batch_norm=True)
    assert_same(lean.model, nns.mask(model, plan), inputs_of(model))
