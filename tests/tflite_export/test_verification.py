"""`verify`: it passes what is right and refuses everything else."""

from __future__ import annotations

import re
import warnings
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest

import tflite_export
from tflite_export.flatbuffer import container
from tflite_export.keras_model.source import kernels
from tflite_export.running.resemblance import Resemblance, resemblance

pytestmark = pytest.mark.slow

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
    with pytest.raises(tflite_export.VerificationError, match=r"'scores'.*trained since"):
        tflite_export.verify(flat, model, pixels)
    result = tflite_export.verify(flat, model, pixels, tolerance=1.0)
    scale = np.abs(model.predict(pixels, verbose=0)).max()
    assert result.absolute == pytest.approx(0.25, abs=1e-5)
    assert result.relative == pytest.approx(0.25 / scale, rel=1e-4)
    assert str(result).startswith("float32, run by litert on 70 samples: largest difference 0.25 (")


def test_a_model_that_mixes_its_batch_is_told_so() -> None:
    keras.utils.set_random_seed(0)
    start = keras.Input((6,))
    hidden = layers.Dense(5, "relu")(start)
    centred = hidden - keras.ops.mean(hidden, axis=0, keepdims=True)
    model = keras.Model(start, layers.Dense(3)(centred))
    samples = np.random.default_rng(0).normal(size=(20, 6)).astype("float32")
    with pytest.raises(tflite_export.VerificationError, match="by the others of its batch"):
        tflite_export.verify(tflite_export.convert(model), model, samples)


def test_what_a_model_computes_in_is_said_beside_the_figures() -> None:
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((6,)), layers.Dense(5, "relu", dtype="mixed_float16"), layers.Dense(3)]
    )
    samples = np.random.default_rng(0).normal(size=(20, 6)).astype("float32")
    found = tflite_export.verify(tflite_export.convert(model), model, samples)
    assert found.computes_in == "float16"
    assert str(found).endswith("beside the model rebuilt in float32, which computes in float16")
    plain = keras.Sequential([keras.Input((6,)), layers.Dense(3)])
    found = tflite_export.verify(tflite_export.convert(plain), plain, samples)
    assert found.computes_in is None and "rebuilt" not in str(found)


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


def test_an_autoencoder_decides_nothing() -> None:
    """The largest of 640 numbers that rebuild the input is no decision to hold a file to."""
    rng = np.random.default_rng(0)
    samples = rng.standard_normal((150, 40)).astype(np.float32)
    inputs = keras.Input((40,))
    model = keras.Model(inputs, layers.Dense(40)(layers.Dense(8, activation="relu")(inputs)))
    flat = tflite_export.convert(model, quantize="int8", samples=samples)
    assert tflite_export.verify(flat, model, samples).agreement is None


@pytest.mark.parametrize(
    ("channels", "activation", "agreement"),
    [(3, "linear", None), (3, "softmax", 1.0), (1, "sigmoid", 1.0)],
)
def test_pictures_decide_only_where_they_give_probabilities(
    channels: int, activation: str, agreement: float | None
) -> None:
    model = keras.Sequential(
        [keras.Input((6, 6, 2)), layers.Conv2D(channels, 3, activation=activation)]
    )
    samples = np.random.default_rng(0).random((5, 6, 6, 2), dtype=np.float32)
    (output,) = tflite_export.verify(tflite_export.convert(model), model, samples).outputs
    assert output.agreement == agreement
    assert output.decisions == (0 if agreement is None else 5 * 4 * 4)


def test_pixels_that_change_are_counted_not_pictures() -> None:
    """One picture of which every pixel is decided otherwise must not pass as one exception."""
    model = keras.Sequential(
        [keras.Input((4, 4, 2)), layers.Conv2D(2, 1, use_bias=False), layers.Softmax()]
    )
    kernel = 1e-2 * np.eye(2, dtype=np.float32).reshape(1, 1, 2, 2)
    model.set_weights([kernel])
    flat = tflite_export.convert(model)
    model.set_weights([kernel[..., ::-1]])
    samples = np.random.default_rng(0).random((1, 4, 4, 2), dtype=np.float32)
    tolerance = tflite_export.Tolerance(largest=0.1, agreement=0.9)
    with pytest.raises(tflite_export.VerificationError, match="16 of 16 cases"):
        tflite_export.verify(flat, model, samples, tolerance=tolerance)


def test_a_data_set_is_asked_for_its_arrays(flat: bytes, cnn: keras.Model) -> None:
    import tensorflow as tf

    dataset = tf.data.Dataset.from_tensor_slices(np.zeros((3, 8, 8, 1), np.float32)).batch(2)
    for given in (dataset, iter([1, 2])):
        with pytest.raises(tflite_export.VerificationError, match="expected arrays"):
            tflite_export.verify(flat, cnn, given)


def test_few_samples_may_lie_close_together() -> None:
    model = keras.Sequential([keras.Input((1,)), layers.Dense(2)])
    ages = np.linspace(0, 90, 100, dtype=np.float32)[:, None]
    flat = tflite_export.convert(model, samples=ages)
    assert tflite_export.verify(flat, model, ages[40:42]).samples == 2
    with pytest.raises(tflite_export.VerificationError, match="another scale"):
        tflite_export.verify(flat, model, ages / 90)


def test_tokens_that_no_table_has_are_said() -> None:
    model = keras.Sequential(
        [keras.Input((4,), dtype="int32"), layers.Embedding(9, 2), layers.Flatten()], name="words"
    )
    flat = tflite_export.convert(model)
    tokens = np.full((120, 4), 9)
    with pytest.raises(tflite_export.OptionError, match=r"'words' itself fails.*9 is not in \[0"):
        tflite_export.verify(flat, model, tokens)
    with pytest.raises(tflite_export.FlatbufferError, match="LiteRT fails on these inputs"):
        tflite_export.card(flat, tokens, targets=np.zeros(120), seconds=0)


@pytest.fixture(scope="module")
def touchy() -> tuple[keras.Model, np.ndarray]:
    """Large weights on the small difference of two features: float32 itself leaves it open."""
    rng = np.random.default_rng(0)
    model = keras.Sequential(
        [
            keras.Input((64,)),
            layers.Dense(2, name="features"),
            layers.Dense(1, activation="sigmoid", name="head"),
        ],
        name="touchy",
    )
    kernel = rng.standard_normal((64, 1)) / 8
    features = np.hstack([kernel, kernel + 1e-4 * rng.standard_normal((64, 1))])
    model.set_weights([features, np.zeros(2), np.array([[4000.0], [-4000.0]]), np.zeros(1)])
    return model, rng.standard_normal((300, 64)).astype(np.float32)


def test_what_float32_leaves_open_is_no_fault_of_the_file(
    touchy: tuple[keras.Model, np.ndarray],
) -> None:
    model, samples = touchy
    flat = tflite_export.convert(model)
    result = tflite_export.verify(flat, model, samples)
    assert 1e-5 < result.relative < 1e-2
    # By hand, in float64: the model's own answers are as far from the exact ones.
    first, _, second, _ = (np.asarray(w, np.float64) for w in model.get_weights())
    exact = 1 / (1 + np.exp(-(samples.astype(np.float64) @ first @ second)))
    assert np.abs(model.predict(samples, verbose=0) - exact).max() > 1e-5
    with pytest.raises(tflite_export.VerificationError, match="tolerance 1e-05"):
        tflite_export.verify(flat, model, samples, tolerance=1e-5 * (1 - 1e-9))


def test_weights_that_moved_are_more_than_rounding(
    touchy: tuple[keras.Model, np.ndarray], trained: keras.Model, digits: Any
) -> None:
    for model, samples in (touchy, (trained, digits[0][:100])):
        flat = tflite_export.convert(model)
        other = keras.models.clone_model(model)
        other.set_weights([weight * 1.05 for weight in model.get_weights()])
        with pytest.raises(tflite_export.VerificationError, match=r"nearly so.*trained since"):
            tflite_export.verify(flat, other, samples)


def test_a_coarse_variant_is_not_taken_for_another_model(
    touchy: tuple[keras.Model, np.ndarray],
) -> None:
    model, samples = touchy
    flat = tflite_export.convert(model, quantize="int8", samples=samples)
    with pytest.raises(tflite_export.VerificationError) as caught:
        tflite_export.verify(flat, model, samples)
    said = str(caught.value)
    assert "holds this model's weights" in said
    assert "grows most at layer 'head'" in said
    assert "another model" not in said
    # What it says would pass does, and what it says to accept is enough.
    offered = re.search(r"quantize='(\w+)' passes, with ([\d,]+) bytes", said)
    assert offered is not None
    other = tflite_export.convert(model, quantize=offered[1], samples=samples)
    assert len(other) == int(offered[2].replace(",", ""))
    assert tflite_export.verify(other, model, samples).variant == offered[1]
    numbers = re.findall(r"--tolerance (\w+)=([\d.]*\d)", said)
    assert {name for name, _ in numbers} == {"rms", "agreement"}
    accepted = tflite_export.Tolerance(**{name: float(number) for name, number in numbers})
    assert tflite_export.verify(flat, model, samples, tolerance=accepted).variant == "int8"


def test_the_layer_where_it_begins_is_named() -> None:
    """One unit of one layer, in the middle, is far wider than the others."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(4, 3, activation="relu", name="first"),
            layers.Conv2D(6, 3, name="middle"),
            layers.BatchNormalization(name="norm"),
            layers.ReLU(name="relu"),
            layers.Flatten(),
            layers.Dense(5, activation="softmax", name="scores"),
        ]
    )
    kernel, bias = model.get_layer("middle").get_weights()
    # Its range is what one scale for the tensor behind it has to span.
    kernel[..., 2] *= 3000
    model.get_layer("middle").set_weights([kernel, bias])
    scores, offset = model.get_layer("scores").get_weights()
    scores.reshape(4, 4, 6, 5)[:, :, 2] = 0
    model.get_layer("scores").set_weights([scores, offset])
    samples = np.random.default_rng(0).random((200, 8, 8, 1), dtype=np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", tflite_export.CalibrationWarning)
        flat = tflite_export.convert(model, quantize="int8", samples=samples)
    with pytest.raises(tflite_export.VerificationError, match="grows most at layer 'relu'") as e:
        tflite_export.verify(flat, model, samples)
    # What passes first runs on a computer alone, where the refused file runs on TFLite Micro too.
    there = re.search(r"On TFLite Micro, which does not run that, '(\w+)' passes", str(e.value))
    assert there is not None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", tflite_export.CalibrationWarning)
        other = tflite_export.convert(model, quantize=there[1], samples=samples)
    assert tflite_export.anatomy(other).runs_on_micro
    assert tflite_export.verify(other, model, samples).variant == there[1]


def test_other_weights_are_told_from_rounding(trained: keras.Model, digits: Any) -> None:
    flat = tflite_export.convert(trained, quantize="int8", samples=digits[0][:200])
    other = keras.models.clone_model(trained)
    with pytest.raises(tflite_export.VerificationError, match=r"hold the kernel of layer 'conv'"):
        tflite_export.verify(flat, other, digits[0][:200])


@pytest.mark.parametrize("quantize", [None, "float16", "dynamic", "int8", "weight_int8"])
def test_a_files_kernels_are_found_whatever_their_form(quantize: str | None) -> None:
    """Batch norms are folded into them, types and axes change."""
    model = keras.Sequential(
        [
            keras.Input((9, 9, 3)),
            layers.Conv2D(8, 3, use_bias=False, name="conv"),
            layers.BatchNormalization(),
            layers.DepthwiseConv2D(3, name="depthwise"),
            layers.ReLU(),
            layers.Flatten(),
            layers.Dense(4, name="dense"),
        ]
    )
    model.layers[1].gamma.assign(np.linspace(-2, 3, 8))
    images = np.random.default_rng(0).random((200, 9, 9, 3), dtype=np.float32)
    flat = tflite_export.convert(model, quantize=quantize, samples=images)
    told = resemblance(container.parse(flat), kernels(model))
    assert told == Resemblance(("conv", "depthwise", "dense"), ())
    told = resemblance(container.parse(flat), kernels(keras.models.clone_model(model)))
    assert told == Resemblance((), ("conv", "depthwise", "dense"))
