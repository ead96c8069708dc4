"""`keras.applications` as float32 files: equal to Keras within 1e-5 of the output's scale."""

from __future__ import annotations

import inspect
from collections.abc import Callable

import keras
import numpy as np
import pytest
from keras import applications, layers
from shallow_applications import ALL, application

import tflite_export

# Smallest sides their pooling leaves something of, in pixels.
SIDES = {"InceptionV3": 75, "InceptionResNetV2": 75, "Xception": 71}
SIDE = 64
# One of every kind of block runs with the tests; KERAS_NNS_ALL_APPLICATIONS=1 runs them all, whole.
FAMILIES = ("ConvNeXtTiny", "EfficientNetV2B0", "MobileNetV3Small", "NASNetMobile", "ResNet50V2")


def architectures() -> list[str]:
    """Name every function of `keras.applications` that builds a model."""
    return sorted(
        name
        for name, value in vars(applications).items()
        if inspect.isfunction(value) and "weights" in inspect.signature(value).parameters
    )


def build(name: str) -> tuple[keras.Model, np.ndarray]:
    """Build an architecture with residual branches weaker than their stream.

    Those it is born with double the stream a hundred times: the answers of an EfficientNetV2L
    reach 1e7, and float32 rounding grows as they do.
    """
    keras.utils.set_random_seed(0)
    side = next((n for prefix, n in SIDES.items() if name.startswith(prefix)), SIDE)
    model = application(
        name,
        shallow=not ALL,
        # Logits: behind a softmax, untrained weights all answer the same.
        weights=None,
        input_shape=(side, side, 3),
        classes=7,
        classifier_activation=None,
    )
    for layer in model._flatten_layers():
        if isinstance(layer, layers.BatchNormalization) and layer.scale:
            layer.gamma.assign(np.full(layer.gamma.shape, 0.3))
    samples = np.random.default_rng(0).uniform(0, 255, (3, side, side, 3)).astype("float32")
    return model, samples


@pytest.mark.slow
@pytest.mark.parametrize("name", architectures())
def test_architecture(name: str, record_property: Callable[[str, object], None]) -> None:
    if name not in FAMILIES and not ALL:
        pytest.skip("one of each kind runs; set KERAS_NNS_ALL_APPLICATIONS=1 to run this one")
    model, samples = build(name)
    flat = tflite_export.convert(model)
    reached = tflite_export.verify(flat, model, samples).relative
    record_property("relative", reached)  # `pytest --junitxml=parity.xml` writes it down.
    assert reached <= 1e-5
    assert tflite_export.anatomy(flat).flex == ()
