"""Every variant runs through the same contract; recipes; the choice of samples."""

from __future__ import annotations

import re
import warnings
from typing import Any

import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from ai_edge_litert.tools import flatbuffer_utils
from sklearn.metrics import recall_score

import tflite_export
from tflite_export.conversion import calibration
from tflite_export.keras_model import decisions

pytestmark = pytest.mark.slow

layers = keras.layers
Digits = tuple[np.ndarray, np.ndarray]

# What the file may weigh next to float32, and the type at its ends.
CONTRACT = {
    "float32": (1.01, np.float32),
    "float16": (0.75, np.float32),
    "dynamic": (0.55, np.float32),
    "int8": (0.55, np.int8),
    "int8_float": (0.6, np.float32),
    "int16x8": (0.6, np.float32),
    "weight_int8": (0.55, np.float32),
    "weight_int4": (0.5, np.float32),
    "dynamic_int4": (0.5, np.float32),
}


def test_the_contract_covers_every_variant() -> None:
    assert set(CONTRACT) == set(tflite_export.VARIANTS)


@pytest.fixture(scope="module")
def exported(trained: keras.Model, digits: Digits) -> dict[str, bytes]:
    images, labels = digits
    return {
        name: tflite_export.convert(
            trained, quantize=name, samples=images[:400], targets=labels[:400]
        )
        for name in CONTRACT
    }


@pytest.mark.parametrize("name", list(CONTRACT))
def test_contract(
    exported: dict[str, bytes], trained: keras.Model, digits: Digits, name: str
) -> None:
    flat = exported[name]
    ratio, ends = CONTRACT[name]
    assert len(flat) <= ratio * len(exported["float32"])
    interpreter = Interpreter(model_content=flat)
    details = [*interpreter.get_input_details(), *interpreter.get_output_details()]
    assert [detail["name"] for detail in details] == ["pixels", "scores"]
    assert {detail["dtype"] for detail in details} == {ends}
    assert tflite_export.read_metadata(flat).quantize == name

    images, labels = digits[0][1200:], digits[1][1200:]
    result = tflite_export.verify(flat, trained, images, targets=labels)
    assert result.variant == name
    assert result.samples == len(images)
    # Recomputed by scikit-learn from a run of its own.
    answers = run(flat, images)
    expected = recall_score(labels, answers.argmax(axis=-1), average=None)
    np.testing.assert_allclose([both.file.recall for both in result.labels], expected)
    keras_answers = trained.predict(images, verbose=0)
    np.testing.assert_allclose(
        [both.model.recall for both in result.labels],
        recall_score(labels, keras_answers.argmax(axis=-1), average=None),
    )
    assert sum(both.file.samples for both in result.labels) == len(labels)
    # Of float32 it is rounding alone, which differs a little between batches of other sizes.
    apart = np.abs(answers - keras_answers)
    assert result.absolute == pytest.approx(apart.max(), abs=1e-6)
    assert result.rms == pytest.approx(
        np.sqrt((apart**2).mean()) / np.abs(keras_answers).max(), rel=1e-3, abs=1e-8
    )


def run(flat: bytes, images: np.ndarray) -> np.ndarray:
    """Quantize by hand what goes in and dequantize what comes out."""
    interpreter = Interpreter(model_content=flat)
    interpreter.allocate_tensors()
    (start,), (end,) = interpreter.get_input_details(), interpreter.get_output_details()
    rows = []
    for image in images:
        value = image[None]
        scale, zero = start["quantization"]
        if scale:
            value = np.clip(np.round(value / scale) + zero, -128, 127).astype(start["dtype"])
        interpreter.set_tensor(start["index"], value)
        interpreter.invoke()
        answer = interpreter.get_tensor(end["index"])
        scale, zero = end["quantization"]
        rows.append((answer.astype(np.float64) - zero) * scale if scale else answer)
    return np.concatenate(rows)


def test_a_file_of_the_wrong_weights_fails_in_every_variant(
    exported: dict[str, bytes], trained: keras.Model, digits: Digits
) -> None:
    other = keras.models.clone_model(trained)
    for name, flat in exported.items():
        with pytest.raises(tflite_export.VerificationError, match=f"the {name} file"):
            tflite_export.verify(flat, other, digits[0][:100])


def test_a_file_that_decides_differently_fails(trained: keras.Model, digits: Digits) -> None:
    """Same scale, small differences, other decisions: only the agreement can tell."""
    model = keras.Sequential([keras.Input((2,)), layers.Dense(2, use_bias=False)])
    model.set_weights([np.array([[100.0, 100.0], [0.1, 0.0]], np.float32)])
    samples = np.random.default_rng(0).uniform(-1, 1, (100, 2)).astype(np.float32)
    flat = tflite_export.convert(model, quantize="int8", samples=samples)
    tolerance = tflite_export.Tolerance(rms=0.05, agreement=0.95)
    with pytest.raises(tflite_export.VerificationError, match="decides differently"):
        tflite_export.verify(flat, model, samples, tolerance=tolerance)
    assert tflite_export.verify(flat, model, samples, tolerance=0.05).rms < 0.05


def weight_types(flat: bytes) -> dict[str, set[int]]:
    """Tensor types of the constants that each kind of operator reads."""
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(flat))
    found: dict[str, set[int]] = {}
    for operator in model.subgraphs[0].operators:
        name = flatbuffer_utils.opcode_to_name(model, operator.opcodeIndex)
        for index in operator.inputs[1:2]:
            found.setdefault(name, set()).add(model.subgraphs[0].tensors[index].type)
    return found


def test_recipes_choose_by_layer(trained: keras.Model, digits: Digits) -> None:
    types = schema.TensorType
    flat = tflite_export.convert(
        trained, quantize={"*": "dynamic", "hidden": "float32", "scores": "dynamic_int4"}
    )
    tensors = flatbuffer_utils.read_model_from_bytearray(bytearray(flat)).subgraphs[0].tensors
    weights = {
        tuple(tensor.shape): tensor.type
        for tensor in tensors
        if tensor.shape is not None and len(tensor.shape) > 1
    }
    assert weights[(12, 3, 3, 1)] == types.INT8
    assert weights[(12, 3, 3, 12)] == types.INT8
    assert weights[(24, 192)] == types.FLOAT32
    assert weights[(10, 24)] == types.INT4
    assert tflite_export.read_metadata(flat).quantize == "recipe:dynamic_int4"
    tflite_export.verify(flat, trained, digits[0][:200])


def test_a_pattern_does_not_touch_a_layer_of_a_similar_name(trained: keras.Model) -> None:
    """TensorFlow numbers calls: the scope of ``conv`` is ``conv_1``, a layer's name too."""
    for pattern, shapes in {
        "conv": {(12, 3, 3, 1)},
        "conv_1": {(12, 3, 3, 12)},
        "conv*": {(12, 3, 3, 1), (12, 3, 3, 12)},
    }.items():
        flat = tflite_export.convert(trained, quantize={pattern: "weight_int8"})
        model = flatbuffer_utils.read_model_from_bytearray(bytearray(flat))
        small = {
            tuple(tensor.shape)
            for tensor in model.subgraphs[0].tensors
            if tensor.type == schema.TensorType.INT8
        }
        assert small == shapes, pattern


def test_recipes_choose_by_operator(trained: keras.Model) -> None:
    flat = tflite_export.convert(trained, quantize={"op:FULLY_CONNECTED": "dynamic"})
    found = weight_types(flat)
    assert found["FULLY_CONNECTED"] == {schema.TensorType.INT8}
    assert found["CONV_2D"] == {schema.TensorType.FLOAT32}


def test_integer_recipes_measure_on_samples(trained: keras.Model, digits: Digits) -> None:
    recipe = {"*": "int8", "scores": "float32"}
    with pytest.raises(tflite_export.OptionError, match="samples="):
        tflite_export.convert(trained, quantize=recipe)
    flat = tflite_export.convert(trained, quantize=recipe, samples=digits[0][:300])
    assert tflite_export.verify(flat, trained, digits[0][1200:]).agreement >= 0.97


def test_recipes_in_the_quantizers_own_form(trained: keras.Model, digits: Digits) -> None:
    from ai_edge_quantizer import recipe

    flat = tflite_export.convert(trained, quantize=recipe.weight_only_wi4_afp32())
    assert tflite_export.read_metadata(flat).quantize == "recipe:weight_int4"
    tflite_export.verify(flat, trained, digits[0][:200])


@pytest.mark.parametrize(
    ("recipe", "words"),
    [
        ({"nothing*": "int8"}, r"'nothing\*' fits no layer.*conv, conv_1, flat"),
        ({"*": "int5"}, "'int5'"),
        ({"*": "float16"}, "'float16' cannot be part of a recipe"),
        ({"op:NO_SUCH": "dynamic"}, "'op:NO_SUCH'"),
        ({}, "empty"),
        (8, "Received: int"),
    ],
)
def test_wrong_recipes(trained: keras.Model, recipe: Any, words: str) -> None:
    with pytest.raises(tflite_export.OptionError, match=words):
        tflite_export.convert(trained, quantize=recipe)


@pytest.mark.parametrize("quantize", ["int8", "int8_float", "int16x8"])
def test_integer_arithmetic_needs_samples(trained: keras.Model, quantize: str) -> None:
    with pytest.raises(tflite_export.OptionError, match="samples="):
        tflite_export.convert(trained, quantize=quantize)


def test_recurrent_models_in_int8_are_written_out() -> None:
    """TensorFlow's calibrator ends the process on a loop: it must never see one."""
    rng = np.random.default_rng(0)
    samples = rng.standard_normal((150, 5, 3)).astype(np.float32)
    model = keras.Sequential([keras.Input((5, 3)), layers.GRU(4, name="memory"), layers.Dense(2)])
    flat = tflite_export.convert(model, quantize="int8", samples=samples)
    names = {
        flatbuffer_utils.opcode_to_name(parsed, operator.opcodeIndex)
        for parsed in [flatbuffer_utils.read_model_from_bytearray(bytearray(flat))]
        for operator in parsed.subgraphs[0].operators
    }
    assert "WHILE" not in names
    tflite_export.verify(flat, model, samples)
    open_ended = keras.Sequential([keras.Input((None, 3)), layers.GRU(4, name="memory")])
    with pytest.raises(tflite_export.OptionError, match=r"'memory'.*'dynamic'"):
        tflite_export.convert(open_ended, quantize="int8", samples=samples)


def test_token_ids_stay_whole_numbers_in_int8() -> None:
    model = keras.Sequential(
        [
            keras.Input((6,), dtype="int32"),
            layers.Embedding(30, 8),
            layers.GlobalAveragePooling1D(),
            layers.Dense(3, activation="softmax"),
        ]
    )
    samples = np.random.default_rng(0).integers(0, 30, (200, 6))
    with warnings.catch_warnings():
        # An untrained model answers few labels: that is not what is tested.
        warnings.simplefilter("ignore", tflite_export.CalibrationWarning)
        flat = tflite_export.convert(model, quantize="int8", samples=samples)
    interpreter = Interpreter(model_content=flat)
    assert interpreter.get_input_details()[0]["dtype"] == np.int32
    assert interpreter.get_output_details()[0]["dtype"] == np.int8
    tolerance = tflite_export.Tolerance(rms=0.05)
    tflite_export.verify(flat, model, samples, tolerance=tolerance)


@pytest.mark.parametrize("batch_size", [4, None])
def test_integer_arithmetic_with_other_batches(
    trained: keras.Model, digits: Digits, batch_size: int | None
) -> None:
    flat = tflite_export.convert(
        trained, quantize="int8", samples=digits[0][:202], batch_size=batch_size
    )
    assert tflite_export.verify(flat, trained, digits[0][1200:1301]).samples == 101


def test_samples_in_another_scale_are_noticed_by_the_range_of_int8(
    exported: dict[str, bytes], trained: keras.Model, digits: Digits
) -> None:
    for change in (lambda x: x * 255, lambda x: x / 255):
        with pytest.raises(tflite_export.VerificationError, match="another scale"):
            tflite_export.verify(exported["int8"], trained, change(digits[0][:50]))


def test_few_samples_and_missing_labels_are_said(trained: keras.Model, digits: Digits) -> None:
    images, labels = digits
    with pytest.warns(tflite_export.CalibrationWarning, match="only 40 samples"):
        tflite_export.convert(trained, quantize="int8", samples=images[:40], targets=labels[:40])
    some = labels < 8
    with pytest.warns(tflite_export.CalibrationWarning, match=r"targets.*label 8, 9 \(of 10\)"):
        tflite_export.convert(trained, quantize="int8", samples=images[some], targets=labels[some])


def test_missing_labels_are_noticed_without_targets(trained: keras.Model, digits: Digits) -> None:
    images, labels = digits
    with pytest.warns(tflite_export.CalibrationWarning, match="model's own answers"):
        tflite_export.convert(trained, quantize="int8", samples=images[labels == 3])


@pytest.mark.parametrize(
    ("targets", "words"),
    [
        ([0, 1], r"shape \(400,\)"),
        (np.full(400, 10), "from 10 to 10"),
        (np.full(400, 0.5), "whole numbers"),
        (np.full(400, "a"), "Received"),
    ],
)
def test_wrong_targets(trained: keras.Model, digits: Digits, targets: Any, words: str) -> None:
    with pytest.raises(tflite_export.OptionError, match=words):
        tflite_export.convert(
            trained, quantize="int8", samples=digits[0][:400], targets=np.asarray(targets)
        )


def test_samples_are_drawn_balanced_from_a_sorted_file() -> None:
    targets = np.repeat([0, 1, 2], [2000, 600, 30])
    values = np.arange(len(targets), dtype=np.float32)[:, None]
    (chosen,) = calibration.choose([values], targets, None, width=3)
    drawn = np.bincount(targets[chosen[:, 0].astype(int)])
    assert len(chosen) == calibration.MOST
    assert drawn[2] == 30, "a rare label gives all it has"
    assert abs(int(drawn[0]) - int(drawn[1])) <= 1
    assert len(np.unique(chosen)) == len(chosen)
    first = chosen[targets[chosen[:, 0].astype(int)] == 0]
    assert first.max() > 1900, "spread over the label, not its beginning"


def test_one_hot_targets_are_indices() -> None:
    labels = np.array([2, 0, 1])
    found = decisions.target_indices(np.eye(3)[labels], 3, 3)
    np.testing.assert_array_equal(found, labels)


def test_published_int8_file_is_recognised_and_held_to_its_variant(shared_data: Any) -> None:
    model = keras.models.load_model(
        shared_data / "models" / "cifar10_resnet8_mlperftiny.h5", compile=False
    )
    data = np.load(shared_data / "cifar10" / "test200_lossless.npz")
    published = shared_data / "models" / "cifar10_resnet8_mlperftiny_int8.tflite"
    tolerance = tflite_export.Tolerance(agreement=0.9)
    result = tflite_export.verify(
        published, model, data["x"], targets=data["y"], tolerance=tolerance
    )
    assert result.variant == "int8"
    right = sum(round(both.file.recall * both.file.samples) for both in result.labels)
    assert right == 170, "its published accuracy on these images is 0.850"


def test_samples_that_repeat_are_said(trained: keras.Model, digits: Digits) -> None:
    images, labels = (np.tile(part[:50], (4, 1, 1, 1)[: part.ndim]) for part in digits)
    with pytest.warns(tflite_export.CalibrationWarning, match="only 50 of the 200 samples drawn"):
        tflite_export.convert(trained, quantize="int8", samples=images, targets=labels)


def test_samples_that_the_model_does_not_know_are_said(
    trained: keras.Model, digits: Digits
) -> None:
    images, labels = digits[0][:300], digits[1][:300]
    for samples, targets in [
        (images, (labels + 1) % 10),  # numbered otherwise
        (1 - images, labels),  # prepared otherwise
    ]:
        decided = trained.predict(samples, verbose=0).argmax(axis=1)
        looked_at = np.linspace(0, 299, 128).round().astype(int)
        right = (decided == targets)[looked_at].mean()
        assert right < 0.15
        for quantize in ("int8", None):
            with pytest.warns(tflite_export.CalibrationWarning, match=f"decides {right:.0%} of"):
                tflite_export.convert(trained, quantize=quantize, samples=samples, targets=targets)


def test_samples_on_another_scale_are_said(trained: keras.Model, digits: Digits) -> None:
    images, labels = digits[0][:300], digits[1][:300]
    start = keras.Input(images.shape[1:])
    pixels = keras.Sequential([start, layers.Rescaling(1 / 255), trained])
    # Next to x from 0 to 1, and anything beyond.
    waves = keras.Sequential([start, layers.Activation(keras.ops.sin), trained])
    for model, samples, words in [
        (waves, images * 255, r"divided by 255: pass samples / 255"),
        (pixels, images, r"multiplied by 255: pass samples \* 255"),
    ]:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            tflite_export.convert(model, samples=samples, targets=labels)
        (said,) = [str(one.message) for one in caught if "decides" in str(one.message)]
        assert re.search(words, said)
        shares = [int(share) for share in re.findall(r"(\d+)%", said)]
        assert shares[1] >= shares[0] + 30
    with warnings.catch_warnings():
        warnings.simplefilter("error", tflite_export.CalibrationWarning)
        tflite_export.convert(trained, samples=images, targets=labels)


def test_labels_balance_samples_of_a_model_that_decides_otherwise() -> None:
    """Two outputs, nine kinds of samples: the labels are of use to draw by, whatever is decided."""
    inputs = keras.Input((3,), name="x")
    model = keras.Model(inputs, [layers.Dense(2, name="a")(inputs), layers.Dense(1)(inputs)])
    samples = np.random.default_rng(0).random((900, 3), dtype=np.float32)
    targets = np.arange(900) % 9
    flat = tflite_export.convert(model, quantize="int8_float", samples=samples, targets=targets)
    assert tflite_export.read_metadata(flat).quantize == "int8_float"
    with pytest.raises(tflite_export.OptionError, match=r"\(900, labels\)"):
        tflite_export.convert(model, quantize="int8", samples=samples, targets=np.ones((900, 2, 2)))


@pytest.mark.parametrize("quantize", ["int8", "int16x8"])
def test_integer_recipes_measure_the_whole_range(quantize: str) -> None:
    """A batch of one sample reaches little of it: averaged extremes would clip the rest."""
    rng = np.random.default_rng(0)
    samples = [rng.standard_normal((150, n)).astype(np.float32) for n in (6, 3)]
    inputs = [keras.Input((6,), name="z"), keras.Input((3,), name="a")]
    model = keras.Model(inputs, layers.Dense(8, name="out")(layers.Concatenate()(inputs)))
    flat = tflite_export.convert(model, quantize={"*": quantize}, samples=samples)
    assert tflite_export.verify(flat, model, samples, tolerance=1.0).rms < 0.006


def test_integer_recipes_for_a_layer_behind_a_recurrent_one() -> None:
    samples = np.random.default_rng(0).standard_normal((150, 5, 3)).astype(np.float32)
    model = keras.Sequential([keras.Input((5, 3)), layers.LSTM(4), layers.Dense(2, name="out")])
    flat = tflite_export.convert(model, quantize={"out": "int8"}, samples=samples)
    found = weight_types(flat)
    assert schema.TensorType.INT8 in found["FULLY_CONNECTED"]
    assert tflite_export.verify(flat, model, samples, tolerance=1.0).rms < 0.006


def test_int16_of_token_ids_says_which_way_goes() -> None:
    model = keras.Sequential(
        [
            keras.Input((6,), dtype="int32", name="words"),
            layers.Embedding(30, 8),
            layers.GlobalAveragePooling1D(),
            layers.Dense(3),
        ]
    )
    samples = np.random.default_rng(0).integers(0, 30, (200, 6))
    with warnings.catch_warnings():
        # An untrained model answers few labels: that is not what is tested.
        warnings.simplefilter("ignore", tflite_export.CalibrationWarning)
        with pytest.raises(tflite_export.ConversionError, match=r"'words', int32.*'int16x8'\}"):
            tflite_export.convert(model, quantize="int16x8", samples=samples)
        flat = tflite_export.convert(model, quantize={"*": "int16x8"}, samples=samples)
    assert tflite_export.verify(flat, model, samples).rms < 0.005
