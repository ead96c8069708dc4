"""Whether a float32 file differs from Keras by more than float32 rounding: both beside float64.

    python benchmarks/export_rounding.py [ARCHITECTURE ...]

Architectures of `keras.applications` with the weights they are born with, on 64 pixels of noise (75
for Inception): once as they are and once with the moving statistics of their batch norms settled on
that noise. The same weights in Keras's float64 are the reference. Distances are the largest
difference of the logits, in shares of the largest logit.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from timing import machine

import tflite_export
from tflite_export.running.interpreter import Runner

ARCHITECTURES = ("ResNet50", "InceptionV3")
IMAGES = 16


def build(name: str, side: int) -> keras.Model:
    keras.utils.set_random_seed(0)
    return getattr(keras.applications, name)(
        weights=None, input_shape=(side, side, 3), classes=7, classifier_activation=None
    )


def settle(model: keras.Model, images: np.ndarray) -> None:
    """Give every batch norm the mean and variance of what reaches it."""
    norms = [
        layer
        for layer in model._flatten_layers()
        if isinstance(layer, keras.layers.BatchNormalization)
    ]
    momenta = [layer.momentum for layer in norms]
    for layer in norms:
        layer.momentum = 0.0
    model(images, training=True)
    for layer, momentum in zip(norms, momenta, strict=True):
        layer.momentum = momentum


@contextmanager
def double() -> Iterator[None]:
    """Build and run Keras models in float64 within the block."""
    floatx, policy = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx("float64")
    keras.config.set_dtype_policy("float64")
    try:
        yield
    finally:
        keras.config.set_floatx(floatx)
        keras.config.set_dtype_policy(policy)


def answers(model: keras.Model, images: np.ndarray) -> np.ndarray:
    """One image at a time, as the file runs it."""
    rows = [keras.ops.convert_to_numpy(model(image[None], training=False)) for image in images]
    return np.concatenate(rows).astype("float64")


def distances(model: keras.Model, reference: keras.Model, images: np.ndarray) -> str:
    with double():
        reference.set_weights([weight.astype("float64") for weight in model.get_weights()])
        exact = answers(reference, images.astype("float64"))
    runner = Runner(tflite_export.convert(model))
    file = np.concatenate([runner([image[None]])[0] for image in images]).astype("float64")
    keras32 = answers(model, images)

    def apart(one: np.ndarray, other: np.ndarray) -> str:
        return f"{np.abs(one - other).max() / np.abs(exact).max():.1e}"

    return (
        f"Keras float32 to float64 {apart(keras32, exact)}, file to float64 "
        f"{apart(file, exact)}, file to Keras float32 {apart(file, keras32)}, "
        f"largest logit {np.abs(exact).max():.2g}"
    )


def compared(name: str) -> None:
    side = 75 if name.startswith("Inception") else 64
    model = build(name, side)
    with double():
        reference = build(name, side)
    images = np.random.default_rng(0).uniform(0, 255, (IMAGES, side, side, 3)).astype("float32")
    print(f"{name}, as born: {distances(model, reference, images)}", flush=True)
    settle(model, images)
    print(f"{name}, settled: {distances(model, reference, images)}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=ARCHITECTURES, metavar="ARCHITECTURE")
    given = parser.parse_args()
    print(machine())
    for name in given.names:
        compared(name)


if __name__ == "__main__":
    main()
