"""Kernels are stored as the variant says, or it is said; dead units keep their biases."""

from __future__ import annotations

import warnings
from typing import Any

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

import tflite_export
from tflite_export import recipes

pytestmark = pytest.mark.slow

layers = keras.layers


@pytest.fixture(scope="module")
def small() -> keras.Model:
    """Every kernel has fewer than the 1,024 numbers from which TensorFlow quantises."""
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((12, 12, 1)),
            layers.Conv2D(4, 3, activation="relu", name="plain"),
            layers.DepthwiseConv2D(3, name="depthwise"),
            layers.Conv2DTranspose(4, 2, name="transposed"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(5, name="scores"),
        ]
    )


def kernel_types(flat: bytes) -> set[str]:
    """Types of what has as many numbers as a kernel of `small`, by LiteRT."""
    interpreter = Interpreter(model_content=flat, num_threads=1)
    return {
        detail["dtype"].__name__
        for detail in interpreter.get_tensor_details()
        if tuple(detail["shape"]) in {(4, 3, 3, 1), (1, 3, 3, 4), (4, 2, 2, 4), (5, 4)}
    }


@pytest.mark.parametrize("quantize", ["dynamic", "weight_int8", "weight_int4", "dynamic_int4"])
def test_small_kernels_are_small(small: keras.Model, quantize: str) -> None:
    flat = tflite_export.convert(small, quantize=quantize)
    assert tflite_export.read_metadata(flat).quantize == quantize
    # LiteRT shows int4 as int8. Weights alone are widened again before they are used.
    widened = {"float32"} if quantize.startswith("weight") else set()
    assert kernel_types(flat) == {"int8", *widened}
    images = np.random.default_rng(0).random((50, 12, 12, 1), dtype=np.float32)
    rms = tflite_export.verify(flat, small, images, tolerance=1.0).rms
    assert 0 < rms < (0.1 if "int4" in quantize else 0.02)


def test_what_stays_in_float32_is_said(small: keras.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = keras.Sequential([keras.Input((5, 5, 5, 2)), layers.Conv3D(4, 2, name="deep")])
    with pytest.warns(tflite_export.FloatKernelWarning, match=r"'deep' \(64 numbers\)"):
        tflite_export.convert(deep, quantize="weight_int8")
    monkeypatch.setattr(recipes, "installed", lambda: False)
    with pytest.warns(tflite_export.FloatKernelWarning, match=r"'plain' \(36.*keras-nns\[quant"):
        flat = tflite_export.convert(small, quantize="dynamic")
    assert "float32" in kernel_types(flat)


def _conv(inputs: Any) -> Any:
    return layers.Conv2D(6, 3, activation="relu", name="layer")(inputs)


def _depthwise(inputs: Any) -> Any:
    return layers.DepthwiseConv2D(3, name="layer")(inputs)


def _transposed(inputs: Any) -> Any:
    return layers.Conv2DTranspose(6, 3, strides=2, name="layer")(inputs)


def _dense(inputs: Any) -> Any:
    return layers.Dense(6, name="layer")(layers.Flatten()(inputs))


@pytest.mark.parametrize("build", [_conv, _depthwise, _transposed, _dense])
@pytest.mark.parametrize("quantize", ["int8", "int16x8"])
def test_a_unit_of_zeros_answers_its_bias_under_a_recipe(build: Any, quantize: str) -> None:
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 4))
    model = keras.Model(inputs, build(inputs))
    layer = model.get_layer("layer")
    kernel, bias = layer.get_weights()
    axis = 2 if build in (_depthwise, _transposed) else kernel.ndim - 1
    np.moveaxis(kernel, axis, 0)[1:3] = 0
    bias[:] = np.linspace(0.1, 0.7, len(bias))
    bias[1] = 0
    layer.set_weights([kernel, bias])
    x = np.random.default_rng(0).uniform(-1, 1, (150, 8, 8, 4)).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", tflite_export.CalibrationWarning)
        flat = tflite_export.convert(model, quantize={"*": quantize}, samples=x)
    interpreter = Interpreter(model_content=flat)
    interpreter.allocate_tensors()
    (start,), (end,) = interpreter.get_input_details(), interpreter.get_output_details()
    scale, zero = start["quantization"]
    limits = np.iinfo(start["dtype"])
    stored = np.clip(np.round(x[:1] / scale) + zero, limits.min, limits.max)
    interpreter.set_tensor(start["index"], stored.astype(start["dtype"]))
    interpreter.invoke()
    scale, zero = end["quantization"]
    answer = scale * (interpreter.get_tensor(end["index"]).astype(np.float64) - zero)
    np.testing.assert_allclose(answer[..., 1], 0, atol=scale)
    np.testing.assert_allclose(answer[..., 2], bias[2], atol=scale)
    assert tflite_export.verify(flat, model, x, tolerance=1.0).rms < 0.01
