"""`verify`: it passes what is right and refuses everything else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import tflite_export

layers = keras.layers


def test_a_right_file_passes_with_small_differences(
    flat: bytes, cnn: keras.Model, pixels: np.ndarray
) -> None:
    result = tflite_export.verify(flat, cnn, pixels)
    assert result.variant == "float32"
    assert result.samples == 70
    assert 0 <= result.relative <= 1e-5
    assert result.tolerance == tflite_export.VARIANTS["float32"].tolerance
    assert result.agreement == 1.0
    (output,) = result.outputs
    assert output.name == "scores"
    assert output.scale == pytest.approx(cnn.predict(pixels, verbose=0).max(), rel=1e-5)
    assert output.absolute == pytest.approx(output.relative * output.scale)


def test_the_difference_is_the_one_that_was_put_in(pixels: np.ndarray) -> None:
    """Shift one bias: the largest difference must be exactly the shift."""
    model = keras.Sequential(
        [keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(3, name="scores")]
    )
    flat = tflite_export.convert(model)
    bias = model.layers[-1].bias
    bias.assign([0.0, 0.25, 0.0])
    with pytest.raises(tflite_export.VerificationError, match=r"'scores'.*another model"):
        tflite_export.verify(flat, model, pixels)
    result = tflite_export.verify(flat, model, pixels, tolerance=1.0)
    scale = np.abs(model.predict(pixels, verbose=0)).max()
    assert result.absolute == pytest.approx(0.25, abs=1e-5)
    assert result.relative == pytest.approx(0.25 / scale, rel=1e-4)


def test_agreement_counts_equal_decisions() -> None:
    model = keras.Sequential([keras.Input((2,)), layers.Dense(2, use_bias=False)])
    model.set_weights([np.eye(2, dtype=np.float32)])
    flat = tflite_export.convert(model)
    # The swapped model decides differently wherever the two inputs differ.
    model.set_weights([np.eye(2, dtype=np.float32)[::-1]])
    samples = np.array([[0, 1], [1, 0], [2, 2], [3, 3]], np.float32)
    assert tflite_export.verify(flat, model, samples, tolerance=10).agreement == 0.5


@pytest.mark.parametrize(("activation", "agreement"), [("sigmoid", 1.0), ("linear", None)])
def test_one_output_is_a_decision_only_as_a_probability(
    activation: str, agreement: float | None
) -> None:
    model = keras.Sequential([keras.Input((3,)), layers.Dense(1, activation=activation)])
    samples = np.random.default_rng(0).standard_normal((30, 3)).astype(np.float32)
    result = tflite_export.verify(tflite_export.convert(model), model, samples)
    assert result.agreement == agreement


def test_an_answer_that_is_not_a_number_fails() -> None:
    model = keras.Sequential([keras.Input((2,)), layers.Dense(2, use_bias=False)])
    model.set_weights([np.full((2, 2), np.nan, np.float32)])
    flat = tflite_export.convert(model)
    with pytest.raises(tflite_export.VerificationError):
        tflite_export.verify(flat, model, np.ones((3, 2), np.float32))


def test_a_path_is_read(flat: bytes, cnn: keras.Model, pixels: np.ndarray, tmp_path: Path) -> None:
    path = tflite_export.save(flat, tmp_path / "model.tflite")
    assert tflite_export.verify(path, cnn, pixels) == tflite_export.verify(flat, cnn, pixels)
    with pytest.raises(tflite_export.ExportFileError, match=r"missing\.tflite"):
        tflite_export.verify(tmp_path / "missing.tflite", cnn, pixels)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: x * 255, "another scale"),
        (lambda x: x / 255, "another scale"),
        (lambda x: x[..., 0], r"\(70, 8, 8\); expected \(samples, 8, 8, 1\)"),
        (lambda x: x[:, :7], "expected"),
        (lambda x: x[:0], "empty"),
        (lambda x: np.where(x > 0.99, np.inf, x), "NaN or infinite"),
        (lambda x: x.astype(str), "expected numbers"),
        (lambda x: [x, x], "expected"),
        (lambda x: {"image": x}, "'image'"),
    ],
    ids=["0..255", "too small", "rank", "shape", "empty", "infinite", "text", "two", "name"],
)
def test_wrong_samples_are_refused(
    flat: bytes, cnn: keras.Model, pixels: np.ndarray, change: Any, words: str
) -> None:
    with pytest.raises(tflite_export.VerificationError, match=words):
        tflite_export.verify(flat, cnn, change(pixels))


def test_fractions_are_refused_for_token_ids() -> None:
    model = keras.Sequential(
        [keras.Input((4,), dtype="int32"), layers.Embedding(9, 2), layers.Flatten()]
    )
    flat = tflite_export.convert(model)
    whole = np.array([[0.0, 1.0, 2.0, 8.0]])
    assert tflite_export.verify(flat, model, whole).absolute == 0
    with pytest.raises(tflite_export.VerificationError, match="whole numbers"):
        tflite_export.verify(flat, model, whole + 0.5)


@pytest.mark.parametrize(
    "other",
    [
        lambda: keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(9)]),
        lambda: keras.Sequential([keras.Input((8, 9, 1)), layers.Flatten(), layers.Dense(10)]),
        lambda: keras.Sequential([keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(10)]),
    ],
    ids=["fewer outputs", "wider input", "same shapes"],
)
def test_another_models_file_is_refused(flat: bytes, other: Any) -> None:
    model = other()
    samples = np.random.default_rng(0).random((5, *model.input_shape[1:]), dtype=np.float32)
    with pytest.raises(tflite_export.VerificationError, match="another model"):
        tflite_export.verify(flat, model, samples)


def test_damaged_and_foreign_files_are_refused(
    flat: bytes, cnn: keras.Model, pixels: np.ndarray
) -> None:
    flipped = bytearray(flat)
    flipped[len(flat) // 2] ^= 1
    for broken, words in [
        (b"", "not a TFLite model"),
        (b"PK\x03\x04 a zip archive", "not a TFLite model"),
        (flat[: len(flat) // 2], "truncated|damaged"),
        (flat[:-30], "truncated or damaged"),
        (bytes(flipped), "damaged"),
    ]:
        with pytest.raises(tflite_export.VerificationError, match=words):
            tflite_export.verify(broken, cnn, pixels)


def test_a_wrong_tolerance_is_refused(flat: bytes, cnn: keras.Model, pixels: np.ndarray) -> None:
    for tolerance in (-1.0, float("nan")):
        with pytest.raises(tflite_export.OptionError, match="tolerance"):
            tflite_export.verify(flat, cnn, pixels, tolerance=tolerance)


def test_files_of_other_converters_are_compared_too(shared_data: Path) -> None:
    """The published ResNet-8 against the Keras model it was made from."""
    model = keras.models.load_model(
        shared_data / "models" / "cifar10_resnet8_mlperftiny.h5", compile=False
    )
    images = np.load(shared_data / "cifar10" / "test200_lossless.npz")["x"][:20]
    published = shared_data / "models" / "cifar10_resnet8_mlperftiny_float.tflite"
    result = tflite_export.verify(published, model, images)
    assert result.variant == "float32"
    assert result.agreement == 1.0
