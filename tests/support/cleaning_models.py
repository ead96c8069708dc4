"""Models and plans that the tests of clean-ups share."""

from __future__ import annotations

import keras
import numpy as np
from contract import randomise
from keras import layers as L

import keras_nns as nns
from keras_nns.graph.tracing import trace


def set_units(layer, units, bias):
    """Make units of a layer constant: no weights, and this bias."""
    kernel, given = layer.kernel.numpy(), layer.bias.numpy()
    kernel[..., units] = 0
    given[units] = bias
    layer.kernel.assign(kernel)
    layer.bias.assign(given)


def assert_same(one, other, x):
    for a, b in zip(keras.tree.flatten(one(x)), keras.tree.flatten(other(x)), strict=True):
        scale = np.abs(b).max()
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-5 * scale)


def names(model):
    return [layer.name for layer in model.layers if not isinstance(layer, L.InputLayer)]


def block(x, width, i, *, activation="relu"):
    """A residual block with batch norms, without biases in its convolutions."""
    y = L.Conv2D(width, 3, padding="same", use_bias=False, name=f"{i}_a")(x)
    y = L.Activation(activation, name=f"{i}_act")(L.BatchNormalization(name=f"{i}_bn_a")(y))
    y = L.Conv2D(x.shape[-1], 3, padding="same", use_bias=False, name=f"{i}_b")(y)
    y = L.BatchNormalization(name=f"{i}_bn_b")(y)
    return L.ReLU(name=f"{i}_out")(L.Add(name=f"{i}_add")([x, y]))


def residual(activation="relu"):
    inputs = keras.Input((6, 6, 2))
    x = L.Conv2D(5, 3, padding="same", activation="relu", name="stem")(inputs)
    for i in (1, 2):
        x = block(x, 4, i, activation=activation)
    x = L.Dense(3, activation="softmax", name="answer")(L.GlobalAveragePooling2D()(x))
    return randomise(keras.Model(inputs, x))


def plan_of(model, **kept):
    """Keep what is named, and everything else."""
    graph = trace(model)
    sizes = {g.name: g.size for g in graph.layout.prunable}
    whole = {name: tuple(range(size)) for name, size in sizes.items()}
    assert set(kept) <= set(sizes), sizes
    return nns.Plan(graph.fingerprint, sizes, whole | kept, (0,))
