"""Programs of `to_c_project`, built against a stand-in of TFLite Micro that answers as LiteRT."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

STUB = Path(__file__).parent / "tflm_stub"
_WARN = ["-std=c++11", "-O1", "-Wall", "-Wextra", "-Werror"]

needs_compiler = pytest.mark.skipif(
    not (shutil.which("g++") and shutil.which("make")), reason="needs g++ and make"
)


@dataclass
class Told:
    """What LiteRT has of each sample: bytes as stored, real answers, and the sizes of all ends."""

    stored: list[bytes]
    answers: list[bytes]
    real: list[list[np.ndarray]]
    sizes: tuple[list[int], list[int]]


def told_by_litert(flat: bytes, samples: list[list[np.ndarray]]) -> Told:
    """Run samples, each of real inputs in the order of the graph, in LiteRT's interpreter."""
    interpreter = Interpreter(model_content=flat, num_threads=1)
    interpreter.allocate_tensors()
    ends = interpreter.get_input_details(), interpreter.get_output_details()
    told = Told([], [], [], ([], []))
    for side, details in zip(told.sizes, ends, strict=True):
        side += [int(np.prod(one["shape"])) * np.dtype(one["dtype"]).itemsize for one in details]
    for sample in samples:
        stored = [_stored(value, one) for value, one in zip(sample, ends[0], strict=True)]
        for value, one in zip(stored, ends[0], strict=True):
            interpreter.set_tensor(one["index"], value)
        interpreter.invoke()
        found = [interpreter.get_tensor(one["index"]) for one in ends[1]]
        told.stored.append(b"".join(value.tobytes() for value in stored))
        told.answers.append(b"".join(value.tobytes() for value in found))
        told.real.append([_real(value, one) for value, one in zip(found, ends[1], strict=True)])
    return told


def _stored(value: np.ndarray, about: dict[str, Any]) -> np.ndarray:
    scale, zero = about["quantization"]
    kind = np.dtype(about["dtype"])
    value = value.reshape(about["shape"])
    if not scale:
        return value.astype(kind)
    limits = np.iinfo(kind)
    steps = np.round(value.astype(np.float64) / np.float64(scale)) + zero
    return steps.clip(limits.min, limits.max).astype(kind)


def _real(value: np.ndarray, about: dict[str, Any]) -> np.ndarray:
    scale, zero = about["quantization"]
    if not scale:
        return value
    return ((value.astype(np.float64) - zero) * np.float64(scale)).astype(np.float32)


def answers_file(told: Told, path: Path, arena: int, *, checks: Told | None = None) -> Path:
    """Write what the stand-in shall answer, to samples and to what a program begins with."""
    numbers = [arena]
    for sizes in told.sizes:
        numbers += [len(sizes), *sizes]
    both = [told] if checks is None else [checks, told]
    pairs = [pair for one in both for pair in zip(one.stored, one.answers, strict=True)]
    numbers.append(len(pairs))
    path.write_bytes(struct.pack(f"<{len(numbers)}I", *numbers) + b"".join(a + b for a, b in pairs))
    return path


def build(project: str, folder: Path, program: Path, *, micro: bool = False) -> Path:
    """Compile a project against the stand-in, with all warnings as errors."""
    flags = ["-DSTUB_MICRO"] if micro else []
    stub = str(STUB / "stub.cpp")
    if project == "plain":
        source = f"{' '.join([*_WARN, *flags])} -I{STUB}"
        line = ["make", "-C", str(folder), f"CXXFLAGS={source}", "TFLM_INCLUDES=", "TFLM_FLAGS="]
        checked([*line, f"TFLM_LIBRARY=-x c++ {source} {stub} -x none"])
        return Path(shutil.move(folder / "model", program))
    if project == "arduino":
        # As the IDE does it: the sketch is C++ that includes Arduino.h.
        sources = ["-include", str(STUB / "Arduino.h"), "-x", "c++", str(*folder.glob("*.ino"))]
        sources += [str(folder / "network.cpp"), str(STUB / "arduino_main.cpp")]
        flags += ["-DARDUINO=10819", f"-I{folder}"]
    else:
        sources = [*map(str, (folder / "main").glob("*.cpp")), str(STUB / "esp_main.cpp")]
        flags += [f"-I{folder / 'main'}"]
    checked(["g++", *_WARN, *flags, f"-I{STUB}", *sources, stub, "-o", str(program)])
    return program


def checked(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def run(
    program: Path, *options: str, given: bytes = b"", answers: Path | None = None
) -> tuple[int, str, str, list[str]]:
    """Run a program: exit status, what it wrote, and what the stand-in was made with."""
    record = program.with_suffix(".record")
    done = subprocess.run(
        [str(program), *options],
        input=given,
        capture_output=True,
        check=False,
        env={**os.environ, "STUB_RECORD": str(record), "STUB_ANSWERS": str(answers)},
    )
    made = record.read_text().splitlines() if record.exists() else []
    return done.returncode, done.stdout.decode(), done.stderr.decode(), made


def parsed(line: str) -> tuple[list[str], list[np.ndarray]]:
    """Labels and scores of a line of the plain program."""
    words = line.split("\t")
    scores = [np.array(text.split(" "), dtype=np.float64) for text in words[1::2]]
    return words[::2], scores
