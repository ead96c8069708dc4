"""Files in the runtimes of devices: the answers and arenas are those that the runtimes give."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import warnings
from typing import Any

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from tflite_micro import runtime

import tflite_export
from tflite_export.runtimes.choice import opened
from tflite_export.runtimes.process import Process, RefusalError

pytestmark = pytest.mark.slow

layers = keras.layers


@pytest.fixture(scope="module")
def samples() -> np.ndarray:
    return np.random.default_rng(3).random((150, 8, 8, 1), dtype=np.float32)


@pytest.fixture(scope="module")
def files(cnn: keras.Model, samples: np.ndarray) -> dict[str, bytes]:
    with warnings.catch_warnings():
        # Random weights answer few labels: that is not what is tested.
        warnings.simplefilter("ignore", tflite_export.CalibrationWarning)
        return {
            name: tflite_export.convert(cnn, quantize=name, samples=samples)
            for name in ("float32", "int8", "weight_int8", "float16")
        }


def by_hand(flat: bytes, images: np.ndarray) -> np.ndarray:
    """What TFLite Micro answers in this process, scales applied by hand."""
    interpreter = runtime.Interpreter.from_bytes(flat, arena_size=1 << 20)
    start, end = interpreter.get_input_details(0), interpreter.get_output_details(0)
    rows = []
    for image in images:
        value = image[None]
        if start["dtype"] == np.int8:
            (scale,), (zero,) = (
                start["quantization_parameters"][k] for k in ("scales", "zero_points")
            )
            value = np.clip(np.round(value / scale) + zero, -128, 127).astype(np.int8)
        interpreter.set_input(value, 0)
        interpreter.invoke()
        answer = interpreter.get_output(0)[0]
        if end["dtype"] == np.int8:
            (scale,), (zero,) = (
                end["quantization_parameters"][k] for k in ("scales", "zero_points")
            )
            answer = (answer.astype(np.float64) - zero) * scale
        rows.append(answer)
    return np.array(rows)


@pytest.mark.parametrize("name", ["float32", "int8"])
def test_verify_asks_tflite_micro(
    files: dict[str, bytes], cnn: keras.Model, samples: np.ndarray, name: str
) -> None:
    result = tflite_export.verify(files[name], cnn, samples, runtime="micro")
    assert result.runtime == "micro"
    answers, expected = by_hand(files[name], samples), cnn.predict(samples, verbose=0)
    assert result.absolute == pytest.approx(np.abs(answers - expected).max(), abs=1e-6)
    assert result.agreement == (answers.argmax(-1) == expected.argmax(-1)).mean()


@pytest.mark.parametrize("name", ["float32", "int8"])
def test_the_arena_is_the_smallest_that_is_accepted(files: dict[str, bytes], name: str) -> None:
    found = tflite_export.arena(files[name])
    runtime.Interpreter.from_bytes(files[name], arena_size=found)
    # In a process of its own: short of memory, the interpreter may end the one it is in.
    process = Process("micro")
    for fewer in (16, 32, 64, 128, 256):
        with pytest.raises(RefusalError):
            process.ask("load", files[name], found - fewer)
    process.end()


def test_the_arena_is_more_than_what_is_reported(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """A network for which the interpreter's own total is too little to load it with."""
    model = keras.Sequential(
        [keras.Input((8,)), layers.Dense(4, activation="relu"), layers.Dense(4)]
    )
    x = np.random.default_rng(0).normal(size=(150, 8)).astype(np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", tflite_export.CalibrationWarning)
        flat = tflite_export.convert(model, quantize="int8", samples=x)
    found = tflite_export.arena(flat)
    interpreter = runtime.Interpreter.from_bytes(flat, arena_size=found)
    interpreter.print_allocations()
    total = re.search(r"allocation total (\d+) bytes", capfd.readouterr().err)
    assert total is not None
    assert int(total[1]) < found


def test_what_it_does_not_run_is_said(
    files: dict[str, bytes], cnn: keras.Model, samples: np.ndarray
) -> None:
    with pytest.raises(tflite_export.VerificationError, match=r"DEQUANTIZE \(float16 → float32\)"):
        tflite_export.verify(files["float16"], cnn, samples, runtime="micro")
    with pytest.raises(tflite_export.FlatbufferError, match="TFLite Micro does not run"):
        tflite_export.arena(files["float16"])
    inputs = keras.Input((4, 6))
    tiled = keras.Model(inputs, keras.ops.tile(inputs, (1, 2, 1)))
    with pytest.raises(tflite_export.FlatbufferError, match="it has no operator TILE"):
        tflite_export.arena(tflite_export.convert(tiled))


def test_what_it_runs_wrongly_is_said(cnn: keras.Model, samples: np.ndarray) -> None:
    """Kernels with a scale for each unit are read with one: LiteRT does not see it."""
    model = keras.Sequential([keras.Input((8,)), layers.Dense(4, use_bias=False)])
    kernel = np.full((8, 4), 1 / 8, np.float32) * np.array([1, 2, 4, 8], np.float32)
    model.set_weights([kernel])
    x = np.random.default_rng(0).random((100, 8), dtype=np.float32)
    flat = tflite_export.convert(model, quantize="weight_int8")
    assert tflite_export.verify(flat, model, x).agreement == 1.0
    with pytest.raises(tflite_export.VerificationError, match=r"in TFLite Micro.*LiteRT.*right"):
        tflite_export.verify(flat, model, x, runtime="micro")


@pytest.mark.parametrize("name", ["float32", "int8", "weight_int8"])
def test_compiled_models_answer_as_the_interpreter(
    files: dict[str, bytes], samples: np.ndarray, name: str
) -> None:
    interpreted, compiled = opened(files[name], "litert"), opened(files[name], "compiled")
    for image in samples[:20]:
        left, right = interpreted([image[None]]), compiled([image[None]])
        np.testing.assert_array_equal(left[0], right[0])


@pytest.mark.parametrize("name", ["micro", "compiled"])
def test_several_inputs_and_outputs_find_their_places(name: str) -> None:
    left, right = keras.Input((3,), name="left"), keras.Input((4,), name="right")
    outputs = {
        "wide": layers.Dense(5)(layers.Concatenate()([left, right])),
        "narrow": layers.Dense(1)(right),
    }
    model = keras.Model({"right": right, "left": left}, outputs)
    rng = np.random.default_rng(0)
    x = {"left": rng.normal(size=(9, 3)), "right": rng.normal(size=(9, 4))}
    result = tflite_export.verify(tflite_export.convert(model), model, x, runtime=name)
    assert {output.name for output in result.outputs} == {"wide", "narrow"}
    assert result.relative < 1e-6


def test_two_files_in_turns_keep_their_answers(
    files: dict[str, bytes], samples: np.ndarray
) -> None:
    runners = {name: opened(files[name], "micro") for name in ("float32", "int8")}
    expected = {name: by_hand(files[name], samples[:5]) for name in runners}
    for number in range(5):
        for name, runner in runners.items():
            (answer,) = runner([samples[number : number + 1]])
            np.testing.assert_allclose(answer[0], expected[name][number], atol=1e-6)


def test_a_process_that_ends_is_one_error_and_the_next_question_is_answered(
    files: dict[str, bytes],
) -> None:
    process = Process("micro")
    with pytest.raises(RefusalError) as refused:
        process.ask("load", files["int8"], 0)
    assert refused.value.signal == signal.Signals.SIGSEGV.name
    assert "Failed to allocate tail memory" in refused.value.words
    process.ask("load", files["int8"], 1 << 20)
    assert "Arena allocation total" in process.ask("print_allocations")[1]
    process.end()
    process.end()


def test_random_bytes_end_no_process(files: dict[str, bytes]) -> None:
    """Damage that a foreign file may have: refused, or run, never this process's end."""
    stripped = bytearray(files["int8"].replace(b"tflite_export", b"tflite_xxport"))
    process = Process("micro")
    rng = np.random.default_rng(0)
    refused = 0
    for _ in range(30):
        broken = bytearray(stripped)
        for position in rng.integers(0, len(broken), 8):
            broken[position] ^= 1 << rng.integers(8)
        try:
            process.ask("load", bytes(broken), 1 << 20)
        except RefusalError:
            refused += 1
    process.end()
    assert refused


def test_a_fork_asks_a_process_of_its_own(files: dict[str, bytes], samples: np.ndarray) -> None:
    runner = opened(files["int8"], "micro")
    (expected,) = runner([samples[:1]])
    child = os.fork()
    if not child:
        # No test runs in here: the exit status tells.
        (answer,) = runner([samples[:1]])
        os._exit(0 if np.array_equal(answer, expected) else 1)
    assert os.waitpid(child, 0)[1] == 0
    np.testing.assert_array_equal(runner([samples[:1]])[0], expected)


def test_wrong_use(
    files: dict[str, bytes],
    cnn: keras.Model,
    samples: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for call in (
        lambda: tflite_export.verify(files["int8"], cnn, samples, runtime="mini"),
        lambda: tflite_export.card(files, samples, runtimes=("litert", "mini"), seconds=0),
    ):
        with pytest.raises(tflite_export.OptionError, match="'mini'; expected one of 'litert'"):
            call()
    with pytest.raises(tflite_export.FlatbufferError, match="not a TFLite model"):
        tflite_export.arena(b"nothing")
    with pytest.raises(tflite_export.ExportFileError, match="missing"):
        tflite_export.arena("missing.tflite")
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "tflite_micro" else real(name)
    )
    with pytest.raises(tflite_export.OptionError, match=r"pip install 'keras-nns\[micro\]'"):
        tflite_export.arena(files["int8"])


def test_the_card_asks_runtimes(files: dict[str, bytes], samples: np.ndarray) -> None:
    made = tflite_export.card(files, samples, runtimes=("litert", "micro", "compiled"), seconds=0)
    rows: dict[str, Any] = {row.name: row.runtimes for row in made.rows}
    for name in ("float32", "int8"):
        micro, compiled = rows[name]
        assert micro.runs
        assert compiled.runs
        assert micro.arena_bytes == tflite_export.arena(files[name])
        assert (compiled.difference, compiled.agreement, compiled.arena_bytes) == (0, 1, None)
        litert = np.array([interpreted(files[name], image) for image in samples])
        apart = np.abs(by_hand(files[name], samples) - litert).max() / np.abs(litert).max()
        assert micro.difference == pytest.approx(apart, abs=1e-6)
    assert not rows["float16"][0].runs
    assert "float16" in rows["float16"][0].refusal
    assert rows["weight_int8"][0].difference > 0.01
    lines = {line[0]: line[1:] for line in made.cells()}
    assert lines["TFLite Micro"][:2] == ["runs", "runs"]
    assert lines["TFLite Micro"][3].startswith("no: DEQUANTIZE")
    assert lines["LiteRT, compiled, same decisions"] == ["1.000"] * 4
    unjudged = tflite_export.card(files["int8"], runtimes="micro", seconds=0).rows[0].runtimes[0]
    assert (unjudged.difference, unjudged.agreement) == (None, None)
    assert unjudged.arena_bytes


def interpreted(flat: bytes, image: np.ndarray) -> np.ndarray:
    """LiteRT's answer, scales applied by hand."""
    interpreter = Interpreter(model_content=flat)
    interpreter.allocate_tensors()
    (start,), (end,) = interpreter.get_input_details(), interpreter.get_output_details()
    value = image[None]
    if start["quantization"][0]:
        scale, zero = start["quantization"]
        value = np.clip(np.round(value / scale) + zero, -128, 127).astype(start["dtype"])
    interpreter.set_tensor(start["index"], value)
    interpreter.invoke()
    answer = interpreter.get_tensor(end["index"])[0]
    scale, zero = end["quantization"]
    return (answer.astype(np.float64) - zero) * scale if scale else answer
