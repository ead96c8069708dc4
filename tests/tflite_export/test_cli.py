"""`python -m tflite_export`: files in, files out, and nothing but its own words."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import warnings
from pathlib import Path

import keras
import numpy as np
import pytest

import tflite_export
from tflite_export.cli import main

layers = keras.layers


@pytest.fixture(scope="module")
def folder(
    trained: keras.Model,
    digits: tuple[np.ndarray, np.ndarray],
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    path = tmp_path_factory.mktemp("cli")
    with warnings.catch_warnings():
        # Keras 3.15 reads its variables in a way that numpy 2 deprecates.
        warnings.simplefilter("ignore", DeprecationWarning)
        trained.save(path / "digits.keras")
    np.savez(path / "data.npz", x=digits[0][:300], y=digits[1][:300])
    (path / "labels.txt").write_text("".join(f"digit {n}\n" for n in range(10)))
    return path


def test_convert_verify_card_show_and_c_array(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model, data = str(folder / "digits.keras"), str(folder / "data.npz")
    output = str(folder / "digits.tflite")
    options = ["--samples", data, "--labels", str(folder / "labels.txt")]
    assert main(["convert", model, "-o", output, "--quantize", "int8", *options]) == 0
    out, err = capfd.readouterr()
    assert out == f"{output}: {Path(output).stat().st_size:,} bytes\n"
    assert [line.split()[0] for line in err.splitlines()] == ["loading", "converting", "verified"]
    metadata = tflite_export.read_metadata(output)
    assert metadata.quantize == "int8"
    assert metadata.labels[9] == "digit 9"

    assert main(["verify", output, model, "--samples", data]) == 0
    assert capfd.readouterr().out.startswith("verified int8 on 300 samples")

    assert main(["card", output, "--samples", data, "--format", "json"]) == 0
    (row,) = json.loads(capfd.readouterr().out)["rows"]
    assert row["name"] == "digits.tflite"
    assert row["bytes"] == Path(output).stat().st_size
    assert row["samples"] == 300
    assert main(["card", output, "--format", "markdown"]) == 0
    assert capfd.readouterr().out.startswith("|  | digits.tflite |")
    assert main(["card", output]) == 0
    assert "multiply-adds" in capfd.readouterr().out

    assert main(["show", output]) == 0
    assert "digit 0, digit 1" in capfd.readouterr().out
    header = folder / "digits-small.h"
    assert main(["to-c", output, "-o", str(header)]) == 0
    assert header.read_text() == tflite_export.to_c(Path(output).read_bytes(), "digits_small")


@pytest.mark.parametrize("word", ["convert", "export"])
def test_an_existing_output_is_kept(
    word: str, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    output = folder / "kept.tflite"
    output.write_bytes(b"mine")
    arguments = [word, str(folder / "digits.keras"), "-o", str(output)]
    assert main(arguments) == 1
    assert "--overwrite" in capfd.readouterr().err
    assert output.read_bytes() == b"mine"
    assert main([*arguments, "--overwrite"]) == 0
    assert "not verified: no --samples" in capfd.readouterr().err
    assert tflite_export.read_metadata(output).quantize == "float32"


def test_a_failed_conversion_leaves_its_log(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    inputs = keras.Input((4, 4))
    keras.Model(inputs, keras.ops.linalg.cholesky(inputs)).save(tmp_path / "odd.keras")
    output = tmp_path / "odd.tflite"
    assert main(["convert", str(tmp_path / "odd.keras"), "-o", str(output)]) == 1
    err = capfd.readouterr().err
    assert "Cholesky" in err
    assert len(err.splitlines()) == 4, "two lines of progress, the error, the log's place"
    assert "tf.Cholesky" in (tmp_path / "odd.tflite.log").read_text()
    assert not output.exists()


def test_recipes_come_from_json(folder: Path) -> None:
    recipe = folder / "recipe.json"
    recipe.write_text(json.dumps({"*": "dynamic", "scores": "float32"}))
    output = folder / "recipe.tflite"
    arguments = ["convert", str(folder / "digits.keras"), "-o", str(output)]
    assert main([*arguments, "--quantize", str(recipe)]) == 0
    assert tflite_export.read_metadata(output).quantize == "recipe:dynamic"


def test_warnings_are_one_line(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data = np.load(folder / "data.npz")
    np.savez(folder / "few.npz", x=data["x"][:60], y=data["y"][:60])
    output = str(folder / "few.tflite")
    arguments = ["convert", str(folder / "digits.keras"), "-o", output, "--quantize", "int8"]
    assert main([*arguments, "--samples", str(folder / "few.npz")]) == 0
    assert "warning: only 60 samples" in capfd.readouterr().err


def test_wrong_files_are_said(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model, output = str(folder / "digits.keras"), str(folder / "never.tflite")
    garbage = folder / "garbage.keras"
    garbage.write_bytes(b"garbage")
    pickled = folder / "pickled.npz"
    np.savez(pickled, x=np.array([{"a": 1}], dtype=object))
    lonely = folder / "lonely.npz"
    np.savez(lonely, y=np.zeros(3))
    for arguments, words in [
        (["convert", "missing.keras", "-o", output], "no such file"),
        (["convert", str(garbage), "-o", output], "as a Keras model"),
        (["convert", model, "-o", output, "--samples", str(garbage)], "no .npz or .npy"),
        (["convert", model, "-o", output, "--samples", str(pickled)], "plain arrays"),
        (["convert", model, "-o", output, "--samples", str(lonely)], "holds no inputs"),
        (["convert", model, "-o", output, "--labels", "missing.txt"], "cannot read missing.txt"),
        (["convert", model, "-o", output, "--batch-size", "x"], "--batch-size"),
        (["convert", model, "-o", output, "--quantize", "int9"], "'int9'"),
        (["show", str(garbage)], "not a TFLite model"),
        (["card", "missing.tflite"], "cannot read missing.tflite"),
    ]:
        assert main(arguments) == 1, arguments
        assert words in capfd.readouterr().err
    assert not Path(output).exists()


def test_lambda_layers_are_refused_unless_trusted(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model = keras.Sequential([keras.Input((3,)), layers.Lambda(lambda x: 2 * x)])
    model.save(tmp_path / "lambda.keras")
    arguments = ["convert", str(tmp_path / "lambda.keras"), "-o", str(tmp_path / "out.tflite")]
    assert main(arguments) == 1
    assert "--unsafe" in capfd.readouterr().err
    assert main([*arguments, "--unsafe"]) == 0


def test_help_is_instant_and_a_real_run_is_quiet(folder: Path) -> None:
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "tflite_export", "--help"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert time.perf_counter() - start < 1.5
    assert "python -m tflite_export convert digits.keras --quantize int8" in done.stdout
    output = folder / "quiet.tflite"
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "tflite_export",
            "convert",
            str(folder / "digits.keras"),
            "-o",
            str(output),
            "--samples",
            str(folder / "data.npz"),
        ],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"{output}: {output.stat().st_size:,} bytes\n"
    assert len(done.stderr.splitlines()) == 3, done.stderr
