"""Small models and files that the export tests share."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
from sklearn.datasets import load_digits

import tflite_export

Build = Callable[[], tuple[keras.Model, Any]]
layers = keras.layers


def randomized(model: keras.Model, seed: int = 7) -> keras.Model:
    """Give every weight a value, so that biases and batch statistics count."""
    rng = np.random.default_rng(seed)
    for variable in model.weights:
        scale = 0.3 * rng.standard_normal(variable.shape)
        variable.assign(np.abs(scale) + 0.5 if "variance" in variable.path else scale)
    return model


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(11)


@pytest.fixture(scope="session")
def cnn() -> keras.Model:
    return randomized(
        keras.Sequential(
            [
                keras.Input((8, 8, 1), name="pixels"),
                layers.Conv2D(4, 3, name="conv"),
                layers.BatchNormalization(name="norm"),
                layers.ReLU(name="relu"),
                layers.Flatten(name="flat"),
                layers.Dense(10, activation="softmax", name="scores", activity_regularizer="l2"),
            ],
            name="digits_cnn",
        )
    )


@pytest.fixture(scope="session")
def pixels() -> np.ndarray:
    return np.random.default_rng(3).random((70, 8, 8, 1), dtype=np.float32)


@pytest.fixture(scope="session")
def digit_labels() -> list[str]:
    return ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "neuf ✓"]


@pytest.fixture(scope="session")
def flat(cnn: keras.Model, pixels: np.ndarray, digit_labels: list[str]) -> bytes:
    return tflite_export.convert(
        cnn,
        labels=digit_labels,
        samples=pixels,
        normalization=tflite_export.Normalization(mean=0.0, std=255.0),
        files={"plan.json": {"kept": [0, 3]}},
        description="made for a test",
    )


class Subclass(keras.Model):
    """A model without a graph."""

    def __init__(self) -> None:
        super().__init__(name="subclass")
        self.first = layers.Dense(6, activation="tanh")
        self.second = layers.Dense(3)

    def call(self, inputs: Any) -> Any:
        return self.second(self.first(inputs))


def _mlp() -> tuple[keras.Model, Any]:
    # Built without an Input: the shapes come from the first call.
    model = keras.Sequential([layers.Dense(7, activation="gelu"), layers.Dense(3)], name="mlp")
    model.build((None, 5))
    return model, _random(20, 5)


def _residual() -> tuple[keras.Model, Any]:
    inputs = keras.Input((6, 6, 3), name="image")
    x = layers.Conv2D(4, 3, padding="same")(inputs)
    y = layers.DepthwiseConv2D(3, padding="same")(layers.BatchNormalization()(x))
    y = layers.SeparableConv2D(4, 3, padding="same", activation="swish")(y)
    x = layers.Concatenate()([layers.Add()([x, y]), x])
    x = layers.GlobalAveragePooling2D()(layers.MaxPooling2D()(x))
    return keras.Model(inputs, layers.Dense(4, activation="softmax")(x)), _random(12, 6, 6, 3)


def _dicts() -> tuple[keras.Model, Any]:
    left, right = keras.Input((3,), name="left"), keras.Input((4,), name="right")
    both = layers.Concatenate()([left, right])
    outputs = {
        "kind": layers.Dense(3, activation="softmax")(both),
        "value": layers.Dense(1)(right),
    }
    model = keras.Model({"left": left, "right": right}, outputs, name="dicts")
    return model, {"right": _random(9, 4), "left": _random(9, 3)}


def _many() -> tuple[keras.Model, Any]:
    # More than ten of each: sorted by text, the tenth comes before the second.
    inputs = [keras.Input((2,), name=f"in_{number}") for number in range(12)]
    outputs = [layers.Dense(1, name=f"out_{n}")(tensor) for n, tensor in enumerate(inputs)]
    return keras.Model(inputs, [*outputs, inputs[0]], name="many"), [_random(5, 2)] * 12


def _nested() -> tuple[keras.Model, Any]:
    inner = keras.Sequential([keras.Input((5,)), layers.Dense(4, activation="relu")], name="inner")
    inputs = keras.Input((5,), name="x")
    # Shared: the same inner model sees two different tensors.
    x = layers.Add()([inner(inputs), inner(layers.Rescaling(2.0)(inputs))])
    return keras.Model(inputs, layers.Dense(2)(x), name="nested"), _random(10, 5)


def _attention() -> tuple[keras.Model, Any]:
    inputs = keras.Input((6, 8), name="tokens")
    x = layers.MultiHeadAttention(2, 4)(inputs, inputs)
    x = layers.LayerNormalization()(layers.Add()([x, inputs]))
    x = layers.Dense(8)(layers.Dense(16, activation="gelu")(x))
    return keras.Model(inputs, layers.GlobalAveragePooling1D()(x)), _random(8, 6, 8)


def _recurrent(layer: keras.layers.Layer) -> tuple[keras.Model, Any]:
    model = keras.Sequential(
        [keras.Input((6, 3)), layers.Masking(), layer, layers.Dense(3, activation="softmax")]
    )
    sequences = _random(10, 6, 3)
    sequences[::2, 4:] = 0
    return model, sequences


def _embedding() -> tuple[keras.Model, Any]:
    model = keras.Sequential(
        [
            keras.Input((7,), dtype="int32", name="words"),
            layers.Embedding(20, 4, mask_zero=True),
            layers.Bidirectional(layers.LSTM(3)),
            layers.Dense(1, activation="sigmoid"),
        ]
    )
    return model, np.random.default_rng(5).integers(0, 20, (12, 7))


def _mixed() -> tuple[keras.Model, Any]:
    inner = keras.Sequential([keras.Input((6,)), layers.Dense(5, dtype="mixed_bfloat16")])
    inputs = keras.Input((6, 6), name="x")
    x = layers.TimeDistributed(layers.Dense(6, dtype="mixed_float16"), dtype="mixed_float16")(
        inputs
    )
    x = layers.Bidirectional(layers.GRU(3, dtype="mixed_float16"), dtype="mixed_float16")(x)
    return keras.Model(inputs, layers.Dense(2, dtype="float32")(inner(x))), _random(8, 6, 6)


def _subclass() -> tuple[keras.Model, Any]:
    model, samples = Subclass(), _random(10, 4)
    model(samples)
    return model, samples


def _random(*shape: int) -> np.ndarray:
    return np.random.default_rng(5).standard_normal(shape).astype(np.float32)


MODELS: dict[str, Build] = {
    "mlp": _mlp,
    "residual": _residual,
    "dicts": _dicts,
    "many": _many,
    "nested": _nested,
    "attention": _attention,
    "lstm": lambda: _recurrent(layers.LSTM(5)),
    "gru": lambda: _recurrent(layers.GRU(5, reset_after=False)),
    "simple_rnn": lambda: _recurrent(layers.SimpleRNN(5)),
    "stacked_cells": lambda: _recurrent(layers.RNN([layers.LSTMCell(4), layers.GRUCell(3)])),
    "bidirectional": lambda: _recurrent(layers.Bidirectional(layers.GRU(4))),
    "embedding": _embedding,
    "mixed_precision": _mixed,
    "subclass": _subclass,
}


@pytest.fixture(scope="module", params=list(MODELS))
def case(request: pytest.FixtureRequest) -> tuple[str, keras.Model, Any]:
    """One model of every kind, with samples."""
    model, samples = MODELS[request.param]()
    return request.param, randomized(model), samples


@pytest.fixture(scope="session")
def digits() -> tuple[np.ndarray, np.ndarray]:
    """scikit-learn's digits as images in 0..1, in a mixed order, with their labels."""
    images, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))
    return images[order].reshape(-1, 8, 8, 1).astype(np.float32) / 16, labels[order]


@pytest.fixture(scope="session")
def trained(digits: tuple[np.ndarray, np.ndarray]) -> keras.Model:
    """A small CNN that really recognises digits: quantization is judged on it."""
    images, labels = digits
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1), name="pixels"),
            layers.Conv2D(12, 3, activation="relu", name="conv"),
            layers.Conv2D(12, 3, activation="relu", name="conv_1"),
            layers.Flatten(name="flat"),
            layers.Dense(24, activation="relu", name="hidden"),
            layers.Dense(10, activation="softmax", name="scores"),
        ],
        name="digits_trained",
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(images[:1200], labels[:1200], epochs=12, batch_size=32, verbose=0)
    return model


@pytest.fixture(scope="session")
def litertjs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that LiteRT.js was installed in."""
    folder = tmp_path_factory.mktemp("npm")
    line = ["npm", "install", "--no-audit", "--no-fund", "@litertjs/core@2.5.3"]
    done = subprocess.run(line, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"npm gives no LiteRT.js: {done.stderr[-200:]}")
    return folder
