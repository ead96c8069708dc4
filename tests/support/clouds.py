"""Clouds of points, one for each label, and a small trained network that tells them apart."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras import layers as L
from numpy.typing import NDArray

LABELS = 5
_CENTRES = np.random.default_rng(1).normal(size=(LABELS, 12))


def clouds(count: int = 500, seed: int = 0) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Draw points of 12 coordinates and their labels."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, LABELS, count)
    return (_CENTRES[y] + rng.normal(0, 0.8, (count, 12))).astype("float32"), y


def trained(x: Any, y: Any, *, shape: tuple[int, ...] = (12,)) -> keras.Model:
    """Train a network of two hidden layers, always the same way."""
    keras.utils.set_random_seed(0)
    flat = [L.Flatten(name="flat")] if len(shape) > 1 else []
    built = keras.Sequential(
        [
            # Its name is in the files whose bytes are counted.
            keras.Input(shape, name="input"),
            *flat,
            L.Dense(48, activation="relu", name="one"),
            L.Dense(24, activation="relu", name="two"),
            L.Dense(LABELS, activation="softmax", name="answer"),
        ],
        name="clouds",
    )
    built.compile(keras.optimizers.Adam(0.005), "sparse_categorical_crossentropy")
    for epoch in range(6):
        order = np.random.default_rng(epoch).permutation(len(x))
        for start in range(0, len(x), 25):
            built.train_on_batch(x[order[start : start + 25]], y[order[start : start + 25]])
    return built


def drawn(name: str) -> tuple[keras.Model, np.random.Generator]:
    """A compiled network of 12 units for 6 numbers and 4 labels, and what its weights are from."""
    model = keras.Sequential(
        [keras.Input((6,)), L.Dense(12, activation="relu", name="one"), L.Dense(4, "softmax")],
        name=name,
    )
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign(rng.normal(0, 0.5, variable.shape))
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    return model, rng
