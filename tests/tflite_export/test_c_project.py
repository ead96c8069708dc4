"""Folders that build: compiled, run, and their answers compared with LiteRT's."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tflm_programs
from tflm_programs import needs_compiler

import tflite_export
from tflite_export import c_project
from tflite_export.c_sources import headers
from tflite_export.c_sources.checks import check_values
from tflite_export.runtimes import micro_kernels

layers = keras.layers

pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("tflite_micro") is None,
        reason="needs tflite-micro: install keras-nns[micro]",
    ),
    # Noise to calibrate on: no answer of these files is judged.
    pytest.mark.filterwarnings("ignore::tflite_export.CalibrationWarning"),
]

HOSTILE = ['"quoted"', "back\\slash", "\x1b[31mred", "??/", "*/ //", "%s%n", "ä ✓", "\u202ert"]
SHOWN = ['"quoted"', "back\\slash", "\\x1b[31mred", "??/", "*/ //", "%s%n", "ä ✓", "\\u202ert"]


@pytest.fixture(scope="module")
def small() -> keras.Model:
    keras.utils.set_random_seed(5)
    return keras.Sequential(
        [
            keras.Input((5, 5, 2), name="pixels"),
            layers.Conv2D(3, 3, activation="relu"),
            layers.Flatten(),
            layers.Dense(8, activation="softmax", name="scores"),
        ]
    )


@pytest.fixture(scope="module")
def samples() -> np.ndarray:
    # Beyond the range of calibration too, where integers end.
    return np.random.default_rng(2).normal(0.3, 0.7, (40, 5, 5, 2)).astype(np.float32)


@pytest.fixture(scope="module")
def int8(small: keras.Model, samples: np.ndarray) -> bytes:
    return tflite_export.convert(small, quantize="int8", samples=samples[:20], labels=HOSTILE)


def two_ends() -> keras.Model:
    keras.utils.set_random_seed(1)
    left, right = keras.Input((3,), name="left"), keras.Input((2, 2), name="right")
    both = layers.Concatenate()([left, layers.Flatten()(right)])
    return keras.Model(
        [left, right],
        [
            layers.Dense(1, activation="sigmoid", name="yes")(both),
            layers.Dense(1, name="far")(both),
            layers.Dense(6, name="logits")(both),
        ],
    )


def loop() -> keras.Model:
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [keras.Input((4, 3), name="steps"), layers.LSTM(4), layers.Dense(1, activation="sigmoid")]
    )


def no_dense() -> keras.Model:
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.Input((6, 6, 1), name="pixels"),
            layers.Conv2D(6, 3, activation="relu"),
            layers.DepthwiseConv2D(3, activation="relu"),
            layers.Conv2D(4, 1),
            layers.GlobalAveragePooling2D(),
            layers.Softmax(),
        ]
    )


CASES = ["float32", "int8", "int16x8", "two ends", "no dense", "loop"]


def case(name: str, small: keras.Model) -> tuple[bytes, list[list[np.ndarray]]]:
    """A file, and samples for it with the inputs in the order of its graph."""
    model = {"two ends": two_ends, "no dense": no_dense, "loop": loop}.get(name, lambda: small)()
    rng = np.random.default_rng(0)
    # Beyond the range of calibration too, where integers end.
    values = {
        end.name: 1.5 * rng.normal(size=(30, *end.shape[1:])).astype("float32")
        for end in model.inputs
    }
    labels = {"int8": list("abcdefgh"), "two ends": {"yes": ["cat"], "logits": list("uvwxyz")}}
    options: dict[str, Any] = {"labels": labels.get(name)}
    if name not in ("float32", "loop"):
        quiet = [value[np.abs(value).reshape(30, -1).max(1) < 4] for value in values.values()]
        options["samples"] = quiet if len(quiet) > 1 else quiet[0]
        options["quantize"] = "int16x8" if name == "int16x8" else "int8"
    if name == "two ends":
        options["samples"] = list(values.values())
    flat = tflite_export.convert(model, **options)
    order = [end.name for end in tflite_export.read_metadata(flat).inputs]
    return flat, [list(one) for one in zip(*(values[end] for end in order), strict=True)]


def checks(flat: bytes) -> tflm_programs.Told:
    """What LiteRT answers to all that a program may begin with."""
    inputs, _ = c_project._ends(flat)
    asked = [[check_values(end, seed) for end in inputs] for seed in range(24)]
    return tflm_programs.told_by_litert(flat, asked)


def given(samples: list[list[np.ndarray]]) -> bytes:
    """What the plain program reads."""
    return b"".join(value.astype("<f4").tobytes() for one in samples for value in one)


def expected_labels(real: list[np.ndarray], flat: bytes) -> list[str]:
    """What `verify` would call the decision, said by hand."""
    about = tflite_export.read_metadata(flat).outputs
    found = []
    for answer, end in zip(real, about, strict=True):
        if answer.size > 1:
            position = int(answer.argmax())
            found.append(end.labels[position] if end.labels else str(position))
        elif end.name == "far":
            found.append("-")
        else:
            above = bool(answer.ravel()[0] > 0.5)
            name = end.labels[0] if end.labels else ""
            found.append((name if above else f"not {name}") if name else str(int(above)))
    return found


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_the_plain_program_answers_as_litert(name: str, small: keras.Model, tmp_path: Path) -> None:
    flat, values = case(name, small)
    folder = tflite_export.to_c_project(flat, tmp_path / "project")
    program = tflm_programs.build("plain", folder, tmp_path / "program", micro=name == "loop")
    told = tflm_programs.told_by_litert(flat, values)
    measured = tflite_export.arena(flat)
    answers = tflm_programs.answers_file(told, tmp_path / "answers", measured, checks=checks(flat))

    status, out, err, made = tflm_programs.run(program, given=given(values), answers=answers)
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert len(lines) == len(values)
    for line, answer in zip(lines, told.real, strict=True):
        labels, scores = tflm_programs.parsed(line)
        for ours, theirs in zip(scores, answer, strict=True):
            np.testing.assert_array_equal(ours.astype(np.float32), theirs.ravel())
        assert labels == expected_labels(answer, flat)

    added, count, size, aligned, identifier = made
    operators = list(tflite_export.anatomy(flat).operators)
    assert added.split() == [headers.method(one) for one in operators]
    assert count == f"{len(operators)} of {len(operators)}"
    assert measured + 1024 <= int(size) <= 1.125 * measured + 1024
    assert aligned == "0 0" and identifier == "TFL3"

    file = tmp_path / "stored.bin"
    file.write_bytes(b"".join(told.stored))
    assert tflm_programs.run(program, "--stored", str(file), answers=answers)[:2] == (0, out)


@needs_compiler
def test_what_the_plain_program_refuses(int8: bytes, samples: np.ndarray, tmp_path: Path) -> None:
    folder = tflite_export.to_c_project(int8, tmp_path / "project")
    program = tflm_programs.build("plain", folder, tmp_path / "program")
    told = tflm_programs.told_by_litert(int8, [[one] for one in samples[:8]])
    answers = tflm_programs.answers_file(told, tmp_path / "answers", 1, checks=checks(int8))
    whole = samples[:8].tobytes()

    _, out, _, _ = tflm_programs.run(program, given=whole, answers=answers)
    assert [line.split("\t")[0] for line in out.splitlines()] == [
        SHOWN[int(real[0].argmax())] for real in told.real
    ]
    for options, sent, words in [
        ((), b"", "there is no sample"),
        ((), whole[:-1], "the last sample is cut short"),
        (("nowhere.bin",), b"", "the file cannot be read"),
        ((), np.full(50, 9e9, "<f4").tobytes(), "the network cannot be run"),
    ]:
        status, _, err, _ = tflm_programs.run(program, *options, given=sent, answers=answers)
        assert status == 1 and words in err
    for options in (["--help"], ["a", "b"], ["--odd"]):
        status, _, err, _ = tflm_programs.run(program, *options, answers=answers)
        assert status == 2 and err.startswith("usage: ")

    wrong = checks(int8)
    wrong.answers = [bytes(reversed(answer)) for answer in wrong.answers]
    tflm_programs.answers_file(told, answers, 1, checks=wrong)
    status, out, err, _ = tflm_programs.run(program, given=whole, answers=answers)
    assert (status, out) == (1, "") and "is right: it is too old for the network" in err
    tflm_programs.answers_file(told, answers, 10**6)
    status, out, err, _ = tflm_programs.run(program, given=whole, answers=answers)
    assert (status, out) == (1, "") and "MODEL_ARENA_MARGIN" in err
    told.sizes[0][0] += 1
    tflm_programs.answers_file(told, answers, 1)
    assert "TF_LITE_STATIC_MEMORY" in tflm_programs.run(program, given=whole, answers=answers)[2]


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("micro", [False, True])
@pytest.mark.parametrize("project", ["arduino", "esp-idf"])
def test_boards_answer_lines_of_text(
    project: str, micro: bool, int8: bytes, samples: np.ndarray, tmp_path: Path
) -> None:
    folder = tflite_export.to_c_project(int8, tmp_path / "pets_1", project=project)
    program = tflm_programs.build(project, folder, tmp_path / "program", micro=micro)
    told = tflm_programs.told_by_litert(int8, [[one] for one in samples[:6]])
    answers = tflm_programs.answers_file(told, tmp_path / "answers", 1, checks=checks(int8))

    lines = [" ".join(map(str, one.ravel().tolist())) for one in samples[:6]]
    lines[1] = lines[1].replace(" ", ", ")
    # As terminals end lines, and what is no sample in between.
    typed = "\r\n".join(
        [*lines[:3], "1 2 3", "", lines[0] + " 7", "x " + lines[0], "1" * 40, *lines[3:], ""]
    )
    status, out, _, _ = tflm_programs.run(program, given=typed.encode(), answers=answers)
    assert status == 0
    ready, *rest = out.splitlines()
    assert ready == "ready for lines of 50 numbers; bytes used of the arena: 1"
    assert [line.rpartition(" ")[2] for line in rest if "no sample" in line] == [
        "3",
        "51",
        "51",
        "1",
    ]
    found = [line for line in rest if "no sample" not in line]
    for line, real in zip(found, told.real, strict=True):
        label, scores = line.split("\t")
        assert label == SHOWN[int(real[0].argmax())]
        np.testing.assert_allclose(np.array(scores.split(), float), real[0].ravel(), atol=5e-7)

    tflm_programs.answers_file(told, answers, 10**6)
    _, out, _, _ = tflm_programs.run(program, given=typed.encode(), answers=answers)
    assert out.startswith("this build of TFLite Micro does not take the network")


def test_every_operator_has_its_method() -> None:
    """The names are those of TFLite Micro's own header, which the stand-in repeats."""
    header = tflm_programs.STUB / "tensorflow/lite/micro/micro_mutable_op_resolver.h"
    known = {f"Add{name}" for name in re.findall(r"ADDS\((\w+)\)", header.read_text())} - {
        "Addname"
    }
    operators = {*micro_kernels.KERNELS, *micro_kernels.WEIGHTED, *micro_kernels.UNTOLD}
    methods = {headers.method(operator) for operator in operators}
    assert len(methods) == len(operators)
    assert methods == known


def test_header_tells_ends_and_labels(int8: bytes, tmp_path: Path) -> None:
    folder = tflite_export.to_c_project(int8, tmp_path / "project")
    text = (folder / "model_info.h").read_text(encoding="ascii")
    told = tflm_programs.told_by_litert(int8, [])
    assert re.search(r'\{"pixels", kInt8, 4, \{1, 5, 5, 2\}, 50, [\d.e+-]+f, -?\d+, kNothing', text)
    assert re.search(r'\{"scores", kInt8, 2, \{1, 8\}, 8, 0.00390625f, -128, kLargest', text)
    assert told.sizes == ([50], [8])
    assert f"kArenaMeasured = {tflite_export.arena(int8)};" in text
    readme = (folder / "README.txt").read_text()
    assert "$" not in readme and max(map(len, readme.splitlines())) <= 100
    assert "5 x 5 x 2 numbers of int8" in readme and "8 numbers of int8, 8 labels" in readme


def test_readme_says_how_raw_values_are_prepared(flat: bytes, tmp_path: Path) -> None:
    readme = (tflite_export.to_c_project(flat, tmp_path / "p") / "README.txt").read_text()
    assert "'pixels' is (raw - mean) / std, mean 0 and std 255." in readme


@pytest.mark.parametrize("variant", ["dynamic", "weight_int8"])
def test_what_tflite_micro_does_not_run_is_refused(
    variant: str, small: keras.Model, tmp_path: Path
) -> None:
    flat = tflite_export.convert(small, quantize=variant)
    reason = tflite_export.anatomy(flat).not_in_micro[0]
    with pytest.raises(tflite_export.FlatbufferError, match=re.escape(reason)):
        tflite_export.to_c_project(flat, tmp_path / "project")
    assert not list(tmp_path.iterdir())


def test_wrong_use_is_refused_and_nothing_is_written(
    int8: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(tflite_export.OptionError, match="'arduino', 'esp-idf'"):
        tflite_export.to_c_project(int8, tmp_path / "p", project="mbed")
    for name in ("my sketch", "-pets", "pets.", "ä", "p" * 64):
        with pytest.raises(tflite_export.OptionError, match="no name for one"):
            tflite_export.to_c_project(int8, tmp_path / name, project="arduino")
    with pytest.raises(tflite_export.FlatbufferError):
        tflite_export.to_c_project(b"nothing", tmp_path / "p")
    with pytest.raises(tflite_export.ExportFileError, match="cannot read"):
        tflite_export.to_c_project(tmp_path / "none.tflite", tmp_path / "p")

    def stopped(flat: bytes) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(c_project, "smallest_arena", stopped)
    with pytest.raises(KeyboardInterrupt):
        tflite_export.to_c_project(int8, tmp_path / "p")
    monkeypatch.undo()
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "tflite_micro" else real(name)
    )
    with pytest.raises(tflite_export.OptionError, match=r"keras-nns\[micro\]"):
        tflite_export.to_c_project(int8, tmp_path / "p")
    assert not list(tmp_path.iterdir())


def test_a_folder_is_replaced_only_when_asked_and_only_if_it_is_ours(
    int8: bytes, tmp_path: Path
) -> None:
    folder = tflite_export.to_c_project(int8, tmp_path / "p")
    (folder / "main.o").touch()
    before = {path: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(tflite_export.ExportFileError, match="--overwrite"):
        tflite_export.to_c_project(int8, folder)
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    tflite_export.to_c_project(int8, folder, overwrite=True)
    assert {path.name for path in folder.iterdir()} == {path.name for path in before} - {"main.o"}
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(tflite_export.ExportFileError, match=r"notes\.txt"):
        tflite_export.to_c_project(int8, folder, overwrite=True)
    assert (folder / "notes.txt").read_text() == "mine"


def test_a_file_that_holds_variables_is_refused() -> None:
    told = tflite_export.Anatomy({"READ_VARIABLE": 1}, 0, 0, 0, None, (), ())
    with pytest.raises(tflite_export.FlatbufferError, match="from call to call"):
        c_project._refuse(told)


def _xmos() -> Path | None:
    found = importlib.util.find_spec("xmos_ai_tools")
    return None if found is None or found.origin is None else Path(found.origin).parent


@needs_compiler
@pytest.mark.slow
@pytest.mark.skipif(
    _xmos() is None,
    reason="needs TFLite Micro itself as a library: pip install --no-deps xmos-ai-tools==1.4.2",
)
@pytest.mark.parametrize("name", CASES)
def test_the_plain_program_with_the_real_library(
    name: str, small: keras.Model, tmp_path: Path
) -> None:
    """Headers and library of XMOS's copy of TFLite Micro, whose names begin with tflite_micro."""
    import tensorflow as tf

    flat, values = case(name, small)
    folder = tflite_export.to_c_project(flat, tmp_path / "project")
    home = _xmos()
    assert home is not None
    libraries = home / "xinterpreters" / "libs" / "linux"
    gemmlowp = Path(tf.sysconfig.get_include()) / "external" / "gemmlowp"
    includes = f"-isystem {home / 'runtime' / 'include'} -isystem {gemmlowp}"
    library = f"{libraries / 'xtflm_python.so.1.0.1'} -Wl,-rpath,{libraries}"
    options = [f"CXXFLAGS=-O0 -Dtflite=tflite_micro {includes}", "TFLM_INCLUDES=", "TFLM_FLAGS="]
    tflm_programs.checked(["make", "-C", str(folder), *options, f"TFLM_LIBRARY={library}"])
    told = tflm_programs.told_by_litert(flat, values)
    status, out, err, _ = tflm_programs.run(folder / "model", given=given(values))
    if name in ("int8", "int16x8", "two ends"):
        # This copy is from before 2024, and reads one scale for all units of a dense layer.
        assert status == 1 and "too old for the network" in err
        return
    assert status == 0, err
    step = 1 / 256 if name == "no dense" else 1e-6
    for line, answer in zip(out.splitlines(), told.real, strict=True):
        _, scores = tflm_programs.parsed(line)
        for ours, theirs in zip(scores, answer, strict=True):
            np.testing.assert_allclose(ours, theirs.ravel(), atol=step)
