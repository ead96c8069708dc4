"""`python -m tflite_export`: files in, files out, and nothing but its own words."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import warnings
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest

import tflite_export
from tflite_export.cli import main
from tflite_export.cli.sample_files import read_samples
from tflite_export.errors import ExportFileError, OptionError

pytestmark = pytest.mark.slow

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


def test_export_verify_card_show_and_c_array(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model, data = str(folder / "digits.keras"), str(folder / "data.npz")
    output = str(folder / "digits.tflite")
    options = ["--samples", data, "--labels", str(folder / "labels.txt")]
    assert main(["export", model, "-o", output, "--quantize", "int8", *options]) == 0
    out, err = capfd.readouterr()
    written, verified = out.splitlines()
    assert written == f"{output}: {Path(output).stat().st_size:,} bytes, int8"
    assert verified.startswith("verified on 300 samples: largest difference")
    assert "same decisions, balanced accuracy 0.9" in verified
    words = [line.split()[0] for line in err.splitlines()]
    assert words == ["loading", "converting", "verifying"]
    metadata = tflite_export.read_metadata(output)
    assert metadata.quantize == "int8"
    assert metadata.labels[9] == "digit 9"

    assert main(["verify", output, model, "--samples", data]) == 0
    assert capfd.readouterr().out.startswith("int8, verified on 300 samples")

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


@pytest.mark.parametrize("word", ["export", "export"])
def test_an_existing_output_is_kept(
    word: str, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    output = folder / "kept.tflite"
    output.write_bytes(b"mine")
    arguments = ["export", str(folder / "digits.keras"), "-o", str(output)]
    assert main(arguments) == 1
    assert "--overwrite" in capfd.readouterr().err
    assert output.read_bytes() == b"mine"
    assert main([*arguments, "--overwrite"]) == 0
    assert "verified on 64 generated inputs" in capfd.readouterr().out
    assert tflite_export.read_metadata(output).quantize == "float32"


def test_a_failed_conversion_leaves_its_log(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    inputs = keras.Input((4, 4))
    keras.Model(inputs, keras.ops.linalg.cholesky(inputs)).save(tmp_path / "odd.keras")
    output = tmp_path / "odd.tflite"
    assert main(["export", str(tmp_path / "odd.keras"), "-o", str(output)]) == 1
    err = capfd.readouterr().err
    assert "Cholesky" in err
    assert len(err.splitlines()) == 3, "two lines of progress, and the error"
    assert f"{output}.log" in err
    assert "tf.Cholesky" in (tmp_path / "odd.tflite.log").read_text()
    assert not output.exists()


def test_recipes_come_from_json(folder: Path) -> None:
    recipe = folder / "recipe.json"
    recipe.write_text(json.dumps({"*": "dynamic", "scores": "float32"}))
    output = folder / "recipe.tflite"
    arguments = ["export", str(folder / "digits.keras"), "-o", str(output)]
    assert main([*arguments, "--quantize", str(recipe)]) == 0
    assert tflite_export.read_metadata(output).quantize == "recipe:dynamic"


def test_warnings_are_one_line(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data = np.load(folder / "data.npz")
    np.savez(folder / "few.npz", x=data["x"][:60], y=data["y"][:60])
    output = str(folder / "few.tflite")
    arguments = ["export", str(folder / "digits.keras"), "-o", output, "--quantize", "int8"]
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
        (["export", "missing.keras", "-o", output], "no such file"),
        (["export", str(garbage), "-o", output], "as a Keras model"),
        (["export", model, "-o", output, "--samples", str(garbage)], "no .npz or .npy"),
        (["export", model, "-o", output, "--samples", str(pickled)], "plain arrays"),
        (["export", model, "-o", output, "--samples", str(lonely)], "holds no inputs"),
        (["export", model, "-o", output, "--labels", "missing.txt"], "cannot read missing.txt"),
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
    arguments = ["export", str(tmp_path / "lambda.keras"), "-o", str(tmp_path / "out.tflite")]
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
    assert "python -m tflite_export export digits.keras --quantize int8" in done.stdout
    output = folder / "quiet.tflite"
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "tflite_export",
            "export",
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
    assert done.stdout.startswith(f"{output}: {output.stat().st_size:,} bytes, float32\n")
    assert len(done.stderr.splitlines()) == 3, done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["--quantize", "int9"],
        ["--file-batch", "x"],
        ["--file-batch", "0"],
        ["--sample-count", "0"],
        ["--nothing"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_status_2(
    arguments: list[str], capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    output = tmp_path / "never.tflite"
    assert main(["export", "model.keras", "-o", str(output), *arguments]) == 2
    assert arguments[-1] in capfd.readouterr().err
    assert not output.exists()


def test_what_cannot_end_well_is_said_before_the_model_is_loaded(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "word.json").write_text('"int8"')
    (tmp_path / "ints.json").write_text('{"*": "int8"}')
    (tmp_path / "rules.json").write_text(
        json.dumps([{"op_config": {"activation_tensor_config": {"num_bits": 8}}}])
    )
    (tmp_path / "latin.txt").write_bytes(b"\xe4")
    (tmp_path / "file").write_text("no folder")
    good = str(tmp_path / "out.tflite")
    for arguments, words in [
        (["-o", str(tmp_path / "out.bin")], "must end in .tflite"),
        (["-o", str(tmp_path / "file" / "out.tflite")], "no folder to write in"),
        (["-o", good, "--quantize", "int8"], "pass --samples"),
        (["-o", good, "--quantize", str(tmp_path / "ints.json")], "pass --samples"),
        (["-o", good, "--quantize", str(tmp_path / "rules.json")], "pass --samples"),
        (["-o", good, "--quantize", str(tmp_path / "none.json")], "cannot read"),
        (["-o", good, "--quantize", str(tmp_path / "broken.json")], "is not JSON"),
        (["-o", good, "--quantize", str(tmp_path / "word.json")], "is no recipe"),
        (["-o", good, "--labels", str(tmp_path / "latin.txt")], "not UTF-8"),
    ]:
        assert main(["export", str(folder / "digits.keras"), *arguments]) == 1
        said = capfd.readouterr()
        assert words in said.err
        assert said.err.count("\n") == 1, "nothing was loaded"
        assert not said.out
    assert not Path(good).exists()


def test_card_puts_a_model_and_its_variants_beside_a_file(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model, data = str(folder / "digits.keras"), str(folder / "data.npz")
    output = str(folder / "beside.tflite")
    assert main(["export", model, "-o", output]) == 0
    capfd.readouterr()
    options = ["--quantize", "int8", "float16", "--samples", data, "--format", "json"]
    assert main(["card", model, output, *options]) == 0
    rows = json.loads(capfd.readouterr().out)["rows"]
    assert [row["name"] for row in rows] == [
        "digits.keras", "digits.keras int8", "digits.keras float16", "beside.tflite",
    ]  # fmt: skip
    assert [row["variant"] for row in rows] == ["float32", "int8", "float16", "float32"]
    assert rows[0]["accuracy"] == rows[3]["accuracy"] > 0.9
    assert main(["card", output, "--quantize", "int8", "--samples", data]) == 1
    assert "only .tflite files" in capfd.readouterr().err
    assert main(["card", model, "--quantize", "int8"]) == 1
    assert "pass --samples" in capfd.readouterr().err


def test_images_of_bytes_are_scaled_unless_asked_not_to(
    folder: Path, digits: tuple[np.ndarray, np.ndarray], capfd: pytest.CaptureFixture[str]
) -> None:
    stored = np.round(digits[0][:200, ..., 0] * 255).astype(np.uint8)
    np.savez(folder / "bytes.npz", x=stored, y=digits[1][:200])
    arguments = ["export", str(folder / "digits.keras"), "--quantize", "int8", "--overwrite"]
    arguments += ["-o", str(folder / "b.tflite"), "--samples", str(folder / "bytes.npz")]
    assert main(arguments) == 0
    (tensor,) = tflite_export.read_metadata(folder / "b.tflite").inputs
    assert (tensor.minimum, tensor.maximum) == (0.0, 1.0)
    capfd.readouterr()
    assert main([*arguments, "--quantize", "float32", "--no-scale"]) == 0
    (tensor,) = tflite_export.read_metadata(folder / "b.tflite").inputs
    assert tensor.maximum == 255.0


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_images_are_left_as_stored_for_a_model_that_scales_them(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    stored = np.random.default_rng(0).integers(0, 256, (120, 4, 4, 1), dtype=np.uint8)
    np.savez(tmp_path / "bytes.npz", x=stored)
    for scale, offset, top in ((1 / 255, 0.0, 255.0), (2.0, -1.0, 1.0)):
        scaling = layers.Rescaling(scale, offset, name="scaling")
        model = keras.Sequential([keras.Input((4, 4, 1)), scaling, layers.Flatten()])
        model.add(layers.Dense(2))
        model.save(tmp_path / "scaling.keras")
        arguments = ["export", str(tmp_path / "scaling.keras"), "--overwrite"]
        arguments += ["-o", str(tmp_path / "b.tflite"), "--samples", str(tmp_path / "bytes.npz")]
        assert main(arguments) == 0
        (tensor,) = tflite_export.read_metadata(tmp_path / "b.tflite").inputs
        assert tensor.maximum == top
        assert ("left at 0..255: layer 'scaling'" in capfd.readouterr().err) == (top == 255.0)


def test_a_damaged_directory_of_samples_drops_nothing_without_a_word(tmp_path: Path) -> None:
    x, y = np.arange(24.0).reshape(8, 3), np.arange(8) % 2
    path = tmp_path / "data.npz"
    np.savez_compressed(path, x=x, y=y)
    with zipfile.ZipFile(path) as archive:
        start = archive.start_dir
    whole, refused = path.read_bytes(), 0
    for place in range(start, len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 0x10
        path.write_bytes(damaged)
        try:
            samples, labels = read_samples(str(path))
        except (ExportFileError, OptionError):
            refused += 1
            continue
        np.testing.assert_array_equal(samples, x)
        assert labels is not None and labels.tolist() == y.tolist(), place
    assert refused > 20


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_labels_that_no_output_decides_between_are_left_out(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    inputs = keras.Input((3,), name="x")
    heads = [layers.Dense(2, name="left")(inputs), layers.Dense(1, name="right")(inputs)]
    keras.Model(inputs, heads).save(tmp_path / "two.keras")
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "data.npz", x=rng.random((120, 3), np.float32), y=np.arange(120) % 9)
    arguments = ["export", str(tmp_path / "two.keras"), "-o", str(tmp_path / "two.tflite")]
    assert main([*arguments, "--samples", str(tmp_path / "data.npz")]) == 0
    assert "the labels are left out" in capfd.readouterr().err


def test_another_runtime_and_another_tolerance(
    folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    model, data = str(folder / "digits.keras"), str(folder / "data.npz")
    output = str(folder / "micro.tflite")
    asked = ["export", model, "-o", output, "--quantize", "int8", "--samples", data]
    assert main([*asked, "--tolerance", "rms=0", "--runtime", "micro"]) == 1
    said = capfd.readouterr().err.splitlines()[-1]
    assert "in TFLite Micro is away from the model: root mean square difference" in said
    assert "same decisions, tolerance 0" in said
    assert not Path(output).exists()
    asked += ["--tolerance", "rms=0.06", "--tolerance", "agreement=0.9", "--runtime", "micro"]
    assert main(asked) == 0
    assert "verified in TFLite Micro on 300 samples" in capfd.readouterr().out
    asked = ["verify", output, model, "--samples", data, "--runtime", "micro"]
    assert main([*asked, "--tolerance", "agreement=0.9"]) == 0
    assert capfd.readouterr().out.startswith("int8, verified in TFLite Micro on 300")
    asked = ["card", output, "--samples", data, "--runtime", "micro", "--format", "json"]
    assert main(asked) == 0
    (row,) = json.loads(capfd.readouterr().out)["rows"]
    assert row["runtimes"][0]["arena_bytes"] == tflite_export.arena(output)


@pytest.mark.parametrize("text", ["rms", "rms=x", "rms=-1", "agreement=2", "speed=1"])
def test_a_tolerance_that_is_none(text: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert main(["export", "a.keras", "-o", "a.tflite", "--tolerance", text]) == 2
    assert "is no tolerance: expected largest=NUMBER, rms=NUMBER" in capfd.readouterr().err
