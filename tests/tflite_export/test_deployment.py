"""The card, the anatomy of a file and the C array: figures checked against hand counts."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
from pathlib import Path

import keras
import numpy as np
import pytest
from rich.console import Console
from sklearn.metrics import accuracy_score, recall_score

import tflite_export
from tflite_export.c_array import in_flash

pytestmark = pytest.mark.slow

layers = keras.layers
Digits = tuple[np.ndarray, np.ndarray]


def test_parameters_and_multiply_adds_of_a_cnn() -> None:
    model = keras.Sequential(
        [
            keras.Input((10, 12, 3)),
            layers.Conv2D(4, (3, 2), strides=2, padding="same", activation="relu"),
            layers.DepthwiseConv2D(3, padding="valid"),
            layers.Conv2DTranspose(5, 2, strides=2),
            layers.Flatten(),
            layers.Dense(7),
        ]
    )
    rng = np.random.default_rng(0)
    # Zero biases would be left out of the file, and equal ones stored once.
    model.set_weights([rng.standard_normal(weight.shape) for weight in model.get_weights()])
    parts = tflite_export.anatomy(tflite_export.convert(model))
    # conv 5x6x4 outputs of 3*2*3; depthwise 3x4x4 of 3*3; transposed: 3x4x4 inputs spread
    # over 2*2*5; dense 6*8*5 inputs by 7.
    by_hand = 5 * 6 * 4 * 18 + 3 * 4 * 4 * 9 + 3 * 4 * 4 * 20 + 240 * 7
    assert parts.multiply_adds == by_hand
    assert parts.parameters == model.count_params()
    assert parts.operators["CONV_2D"] == 1
    assert parts.operators["TRANSPOSE_CONV"] == 1
    assert parts.flex == ()


@pytest.mark.parametrize("quantize", ["float32", "dynamic", "int8", "weight_int4"])
def test_the_variant_does_not_change_the_counts(
    trained: keras.Model, digits: Digits, quantize: str
) -> None:
    flat = tflite_export.convert(trained, quantize=quantize, samples=digits[0][:200])
    parts = tflite_export.anatomy(flat)
    assert parts.parameters == trained.count_params()
    assert parts.multiply_adds == 6 * 6 * 12 * 9 + 4 * 4 * 12 * 9 * 12 + 192 * 24 + 24 * 10


def test_activation_bytes_are_the_fullest_moment() -> None:
    model = keras.Sequential(
        [keras.Input((64,)), layers.Dense(100), layers.Dense(8), layers.Dense(4)]
    )
    parts = tflite_export.anatomy(tflite_export.convert(model))
    assert parts.activation_bytes == 4 * (64 + 100)


def test_what_a_loop_hides_is_not_made_up() -> None:
    model = keras.Sequential([keras.Input((5, 3)), layers.LSTM(4)])
    loop = tflite_export.anatomy(tflite_export.convert(model))
    assert loop.multiply_adds is None
    assert loop.activation_bytes is None
    assert loop.parameters >= model.count_params()
    written_out = tflite_export.anatomy(tflite_export.convert(model, unroll=True))
    # The first step has no state to multiply yet.
    assert written_out.multiply_adds == 5 * 3 * 16 + 4 * 4 * 16


def test_least_runtime_rises_with_the_types(trained: keras.Model, digits: Digits) -> None:
    found = {
        name: tflite_export.anatomy(
            tflite_export.convert(trained, quantize=name, samples=digits[0][:200])
        ).minimum_runtime
        for name in ("float32", "int16x8", "weight_int4")
    }
    assert found == {"float32": "1.5.0", "int16x8": "2.3.0", "weight_int4": "2.11.0"}


def test_operators_that_micro_lacks_are_named() -> None:
    inputs = keras.Input((4, 6))
    model = keras.Model(inputs, keras.ops.tile(layers.Activation("relu")(inputs), (1, 2, 1)))
    parts = tflite_export.anatomy(tflite_export.convert(model))
    assert parts.not_in_micro == ("TILE: no such operator.",)
    assert not parts.runs_on_micro


def test_published_files_run_on_micro(shared_data: Path) -> None:
    parts = tflite_export.anatomy(shared_data / "models" / "kws_dscnn_mlperftiny_int8.tflite")
    assert parts.runs_on_micro
    # MLPerf Tiny's keyword network: 5 convolutions, 4 depthwise, one dense layer.
    assert parts.operators["CONV_2D"] == 5
    assert parts.operators["DEPTHWISE_CONV_2D"] == 4


@pytest.fixture(scope="module")
def made(trained: keras.Model, digits: Digits) -> tuple[dict[str, bytes], tflite_export.Card]:
    images, labels = digits
    files = {
        "float32": tflite_export.convert(trained, labels=[f"digit {n}" for n in range(10)]),
        "int8": tflite_export.convert(
            trained, quantize="int8", samples=images[:300], targets=labels[:300]
        ),
    }
    card = tflite_export.card(
        files, images[1200:], targets=labels[1200:], threads=[1, 2], seconds=0.05
    )
    return files, card


def test_card_figures(
    made: tuple[dict[str, bytes], tflite_export.Card], trained: keras.Model, digits: Digits
) -> None:
    files, card = made
    images, labels = digits[0][1200:], digits[1][1200:]
    assert [row.name for row in card.rows] == ["float32", "int8"]
    assert [row.variant for row in card.rows] == ["float32", "int8"]
    for row in card.rows:
        assert row.bytes == len(files[row.name])
        assert gzip.decompress(gzip.compress(files[row.name], 9, mtime=0)) == files[row.name]
        assert row.gzip_bytes == len(gzip.compress(files[row.name], 9, mtime=0))
        assert [time.threads for time in row.latency] == [1, 2]
        for time in row.latency:
            assert 0 < time.p50 <= time.p95
            assert time.runs >= 30
    decisions = trained.predict(images, verbose=0).argmax(axis=-1)
    parent = card.rows[0]
    assert parent.samples == len(labels)
    assert parent.accuracy == pytest.approx(accuracy_score(labels, decisions))
    np.testing.assert_allclose(
        [label.recall for label in parent.labels], recall_score(labels, decisions, average=None)
    )
    for label in parent.labels:
        others = labels != label.label
        assert label.specificity == pytest.approx((decisions[others] != label.label).mean())
        assert label.balanced_accuracy == pytest.approx((label.recall + label.specificity) / 2)
    assert parent.labels[3].name == "digit 3"


def test_card_as_text_and_data(made: tuple[dict[str, bytes], tflite_export.Card]) -> None:
    files, card = made
    markdown = card.to_markdown().splitlines()
    assert markdown[0] == "|  | float32 | int8 |"
    assert markdown[1] == "| --- | ---: | ---: |"
    widths = {line.count("|") for line in markdown}
    assert widths == {4}
    assert f"| bytes | {len(files['float32']):,} | {len(files['int8']):,} |" in markdown
    assert json.loads(json.dumps(card.to_json()))["rows"][1]["bytes"] == len(files["int8"])
    console = Console(record=True, width=120, file=open("/dev/null", "w"))  # noqa: PTH123, SIM115
    try:
        console.print(card.to_table())
    finally:
        console.file.close()
    text = console.export_text()
    assert "digit 3" in text
    assert f"{len(files['int8']):,}" in text


def test_card_of_one_path_without_samples(flat: bytes, tmp_path: Path) -> None:
    path = tflite_export.save(flat, tmp_path / "model.tflite")
    (row,) = tflite_export.card(path, seconds=0).rows
    assert row.name == str(path)
    assert (row.accuracy, row.samples, row.labels) == (None, 0, ())
    assert row.latency[0].runs == 30


def test_card_of_a_one_probability_model() -> None:
    model = keras.Sequential([keras.Input((1,)), layers.Dense(1, activation="sigmoid")])
    model.set_weights([np.ones((1, 1)), np.zeros(1)])
    samples = np.array([[-1.0], [-2.0], [3.0], [-4.0]])
    (row,) = tflite_export.card(
        tflite_export.convert(model), samples, targets=[0, 0, 1, 1], seconds=0
    ).rows
    assert row.accuracy == 0.75
    assert [label.recall for label in row.labels] == [1.0, 0.5]
    assert [label.specificity for label in row.labels] == [0.5, 1.0]
    named = tflite_export.add_metadata(tflite_export.convert(model), labels=["cat"])
    (row,) = tflite_export.card(named, samples, targets=[0, 0, 1, 1], seconds=0).rows
    assert [(label.name, label.recall) for label in row.labels] == [("not cat", 1.0), ("cat", 0.5)]


def test_cards_of_different_labels_stand_side_by_side_by_name() -> None:
    inputs = keras.Input((2,))
    parent = keras.Model(inputs, layers.Dense(3, activation="softmax")(inputs))
    small = keras.Model(inputs, layers.Dense(1, activation="sigmoid")(inputs))
    samples, targets = np.eye(2, dtype=np.float32), np.array([0, 2])
    rows = [
        *tflite_export.card(
            tflite_export.convert(parent, labels=["ant", "bee", "cat"]),
            samples,
            targets=targets,
            seconds=0,
        ).rows,
        *tflite_export.card(
            tflite_export.convert(small, labels=["cat"]), samples, targets=targets == 2, seconds=0
        ).rows,
    ]
    lines = {line[0]: line[1:] for line in tflite_export.Card(tuple(rows)).cells()}
    titles = list(lines)
    start = titles.index("recall / specificity / balanced:")
    assert set(lines[titles[start]]) == {""}
    assert titles[start + 1 :] == [
        "ant",
        "bee",
        "cat",
        "not cat",
    ]
    assert lines["ant"][1] == lines["not cat"][0] == "–"
    assert "–" not in lines["cat"]


def test_wrong_use_of_the_card(flat: bytes, pixels: np.ndarray) -> None:
    for options, words in [
        ({"targets": [1]}, "without samples"),
        ({"threads": []}, "threads"),
        ({"threads": [0]}, "threads"),
        ({"seconds": -1}, "seconds"),
        ({"samples": pixels, "targets": [1, 2]}, "one label index per sample"),
        ({"samples": pixels[:, :4]}, "expected"),
    ]:
        with pytest.raises(tflite_export.OptionError, match=words):
            tflite_export.card(flat, **options)
    with pytest.raises(tflite_export.OptionError, match="empty"):
        tflite_export.card({})
    with pytest.raises(tflite_export.FlatbufferError):
        tflite_export.card(b"nothing")


@pytest.mark.parametrize("compiler", ["gcc", "g++"])
def test_c_array_compiles_and_is_aligned(flat: bytes, tmp_path: Path, compiler: str) -> None:
    if shutil.which(compiler) is None:
        pytest.skip(f"needs {compiler}")
    (tmp_path / "model.h").write_text(tflite_export.to_c(flat, "model"))
    (tmp_path / "main.c").write_text(
        '#include <stdio.h>\n#include <stdint.h>\n#include "model.h"\n#include "model.h"\n'
        "int main(void) {\n"
        "  unsigned long sum = 0;\n"
        "  for (unsigned int i = 0; i < model_len; i++) sum += model[i];\n"
        '  printf("%u %lu %u", model_len, sum, (unsigned)((uintptr_t)model % 16));\n'
        "  return 0;\n}\n"
    )
    program = tmp_path / "program"
    subprocess.run(
        [compiler, "-Wall", "-Werror", "-o", str(program), str(tmp_path / "main.c")], check=True
    )
    length, total, rest = subprocess.check_output([str(program)], text=True).split()
    data = in_flash(flat)
    assert (int(length), int(total)) == (len(data), sum(data))
    assert int(rest) == 0


def test_c_names_are_identifiers(flat: bytes) -> None:
    for name in ("3d", "a-b", "", "a b"):
        with pytest.raises(tflite_export.OptionError, match="C identifier"):
            tflite_export.to_c(flat, name)


@pytest.mark.parametrize("name", ["int", "class", "typeof", "co_await", "_Model", "__m", "my__m"])
def test_c_names_are_free_to_use(flat: bytes, name: str) -> None:
    with pytest.raises(
        tflite_export.OptionError, match=r"reserved for compilers. Call it (\w+),"
    ) as e:
        tflite_export.to_c(flat, name)
    better = str(e.value).split("Call it ")[1].split(",")[0]
    assert f" {better}[]" in tflite_export.to_c(flat, better)


def test_open_sizes_are_not_counted_as_one() -> None:
    inputs = keras.Input((None, None, 3))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(inputs))
    flat = tflite_export.convert(keras.Model(inputs, layers.Dense(2)(x)))
    parts = tflite_export.anatomy(flat)
    assert (parts.multiply_adds, parts.activation_bytes) == (None, None)
    (row,) = tflite_export.card(flat, np.zeros((2, 8, 6, 3), np.float32), seconds=0).rows
    assert row.latency[0].p50 > 0
    assert row.xnnpack
    with pytest.raises(tflite_export.OptionError, match=r"open sizes.*pass samples"):
        tflite_export.card(flat)
    with pytest.raises(tflite_export.FlatbufferError, match="LiteRT cannot run"):
        # Smaller than the window of the convolution.
        tflite_export.card(flat, np.zeros((2, 2, 2, 3), np.float32), seconds=0)


def test_the_card_says_whether_xnnpack_ran_it(trained: keras.Model, digits: Digits) -> None:
    files = {
        name: tflite_export.convert(trained, quantize=name, samples=digits[0][:200])
        for name in ("float32", "int8", "int16x8")
    }
    made = tflite_export.card(files, digits[0][:1], threads=[1, 2], seconds=0)
    assert [row.xnnpack for row in made.rows] == [True, True, False]
    assert ["by XNNPACK", "yes", "yes", "no"] in made.cells()
