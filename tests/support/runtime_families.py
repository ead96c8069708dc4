"""One small model for each family of layers, and what runtimes do with every variant of it.

Run as a program it writes the table of docs/export.md anew.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from keras import layers

import tflite_export
from tflite_export import VARIANTS
from tflite_export.runtimes.behaviour import behaviour
from tflite_export.runtimes.choice import opened

PAGE = Path(__file__).parents[2] / "docs" / "export.md"
START, END = "<!-- runtimes -->\n", "<!-- /runtimes -->\n"
_FAR = {"float32": 1e-3}
"""Of the output's scale, by arithmetic; of integers, many steps behind one another."""
_STEPS = 0.12


def _images(*middle: Any) -> Any:
    return keras.Sequential(
        [keras.Input((8, 8, 3)), *middle, layers.Flatten(), layers.Dense(4, name="scores")]
    )


def _steps(*middle: Any) -> Any:
    return keras.Sequential([keras.Input((6, 8)), *middle, layers.Flatten(), layers.Dense(4)])


def _attention() -> Any:
    inputs = keras.Input((6, 8))
    x = layers.Add()([inputs, layers.MultiHeadAttention(2, 4)(inputs, inputs)])
    return keras.Model(inputs, layers.Dense(4)(layers.GlobalAveragePooling1D()(x)))


def _words() -> Any:
    return keras.Sequential(
        [
            keras.Input((6,), dtype="int32"),
            layers.Embedding(30, 8),
            layers.GlobalAveragePooling1D(),
            layers.Dense(4),
        ]
    )


def _separable() -> Any:
    return _images(layers.DepthwiseConv2D(3), layers.Conv2D(6, 1), layers.BatchNormalization())


FAMILIES: dict[str, Callable[[], Any]] = {
    "Dense, softmax": lambda: _images(layers.Dense(8), layers.Softmax()),
    "Conv2D, ReLU, pooling": lambda: _images(
        layers.Conv2D(6, 3, activation="relu"), layers.MaxPooling2D(), layers.AveragePooling2D(2)
    ),
    "DepthwiseConv2D, batch norm": _separable,
    "Conv2D in groups, dilated": lambda: _images(
        layers.Conv2D(6, 3, groups=3), layers.Conv2D(6, 2, dilation_rate=2)
    ),
    "Conv2DTranspose, UpSampling2D": lambda: _images(
        layers.Conv2DTranspose(4, 2, strides=2), layers.UpSampling2D(interpolation="bilinear")
    ),
    "Conv1D": lambda: _steps(layers.Conv1D(6, 3, activation="relu")),
    "Conv3D": lambda: keras.Sequential(
        [keras.Input((4, 4, 4, 2)), layers.Conv3D(4, 2), layers.Flatten(), layers.Dense(4)]
    ),
    "sigmoid, tanh, leaky ReLU, hard swish": lambda: _images(
        layers.Conv2D(4, 1, activation="sigmoid"),
        layers.Conv2D(4, 1, activation="tanh"),
        layers.LeakyReLU(),
        layers.Conv2D(4, 1, activation="hard_silu"),
    ),
    "GELU": lambda: _images(layers.Conv2D(4, 1, activation="gelu")),
    "layer normalisation": lambda: _steps(layers.Dense(8), layers.LayerNormalization()),
    "attention": _attention,
    "Embedding": _words,
    "LSTM": lambda: _steps(layers.LSTM(5)),
    "GRU": lambda: _steps(layers.GRU(5)),
}


def samples_of(model: Any) -> Any:
    """Inputs for a model, always the same ones."""
    rng = np.random.default_rng(0)
    shape = (120, *model.input_shape[1:])
    if len(shape) == 2:
        return rng.integers(0, 30, shape).astype(np.int32)
    return rng.normal(size=shape).astype(np.float32)


def verdicts(family: str) -> dict[str, dict[str, str]]:
    """By variant, what LiteRT and TFLite Micro do with a family, and what is said without them.

    "right", "wrong", or "no".
    """
    keras.utils.set_random_seed(0)
    model = FAMILIES[family]()
    x = samples_of(model)
    found = {}
    for name in VARIANTS:
        with warnings.catch_warnings():
            # Random weights answer few labels, and Conv3D stays in float32.
            warnings.simplefilter("ignore")
            try:
                flat = tflite_export.convert(model, quantize=name, samples=x)
            except tflite_export.ConversionError:
                continue
        limit = VARIANTS[name].tolerance
        far = _FAR.get(VARIANTS[name].activations, _STEPS)
        try:
            right = tflite_export.verify(flat, model, x, tolerance=1e9)
            litert = "right" if right.rms <= min(2 * limit.rms, 10 * limit.largest) else "wrong"
        except tflite_export.VerificationError:
            litert = "no"
        some = [x[:40]]
        runner = opened(flat, "litert")
        reference = [np.concatenate([runner([row[None]])[0] for row in some[0]])]
        micro = behaviour(flat, "micro", some, reference)
        told = tflite_export.anatomy(flat)
        found[name] = {
            "litert": litert,
            "micro": ("right" if micro.difference < far else "wrong") if micro.runs else "no",
            "told": "right" if told.runs_on_micro else "not",
            "why": micro.refusal or " ".join(told.not_in_micro),
        }
    return found


def row(family: str, found: dict[str, dict[str, str]]) -> str:
    """One line of the table: TFLite Micro's word, and LiteRT's where it is not "right"."""
    cells = []
    for name in VARIANTS:
        one = found.get(name)
        if one is None:
            cells.append("–")
        else:
            litert = "" if one["litert"] == "right" else f" (LiteRT: {one['litert']})"
            cells.append(f"{one['micro']}{litert}")
    return f"| {family} | " + " | ".join(cells) + " |"


def table(lines: list[str]) -> str:
    """The whole table."""
    head = f"| family | {' | '.join(f'`{name}`' for name in VARIANTS)} |\n"
    return head + f"| --- |{' --- |' * len(VARIANTS)}\n" + "\n".join(lines) + "\n"


if __name__ == "__main__":
    made = table([row(family, verdicts(family)) for family in FAMILIES])
    before, rest = PAGE.read_text().split(START)
    PAGE.write_text(before + START + made + END + rest.split(END)[1])
