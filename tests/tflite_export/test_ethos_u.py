"""What Arm's compiler says of a file, beside that compiler run on its own."""

from __future__ import annotations

import csv
import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import tflite_export
from tflite_export.vela import compiler

pytestmark = [
    pytest.mark.skipif(
        importlib.util.find_spec("ethosu") is None,
        reason="needs ethos-u-vela: install keras-nns[npu]",
    ),
    # Noise to calibrate on: no answer of these files is looked at.
    pytest.mark.filterwarnings("ignore::tflite_export.CalibrationWarning"),
]


@pytest.fixture(scope="module")
def int8(cnn: keras.Model, pixels: np.ndarray, digit_labels: list[str]) -> bytes:
    return tflite_export.convert(cnn, quantize="int8", samples=pixels, labels=digit_labels)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["ethos-u55-128", "ethos-u85-256"])
def test_figures_are_those_of_the_compiler_by_itself(
    int8: bytes, target: str, tmp_path: Path
) -> None:
    told = tflite_export.npu(int8, target=target)
    path = tmp_path / "alone.tflite"
    path.write_bytes(int8)
    code = "import sys; from ethosu.vela.vela import main; sys.exit(main())"
    options = ["--accelerator-config", target, "--output-dir", str(tmp_path)]
    subprocess.run(
        [sys.executable, "-c", code, str(path), *options], check=True, capture_output=True
    )
    (summary,) = tmp_path.glob("*_summary_*.csv")
    row = next(csv.DictReader(summary.read_text().splitlines()))
    assert told.cycles == float(row["cycles_total"])
    assert told.sram == 1024 * float(row["sram_memory_used"])
    assert told.dram == 1024 * float(row["dram_memory_used"])
    assert told.milliseconds == pytest.approx(1000 * float(row["inference_time"]), rel=1e-6)
    assert told.system == row["system_config"]


def test_integer_files_run_on_the_npu_and_keep_what_is_packed(
    int8: bytes, digit_labels: list[str]
) -> None:
    told = tflite_export.npu(int8)
    assert told.on_npu == tflite_export.anatomy(int8).operators
    assert told.on_cpu == ()
    # The device's file: one operator for all of it, with labels and a check sum that fits.
    assert tflite_export.anatomy(told.flat).operators == {"ethos-u": 1}
    assert list(tflite_export.read_metadata(told.flat).labels) == digit_labels
    assert told.flash == len(told.flat)
    assert "nothing" in str(told)
    assert json.loads(json.dumps(told.to_json()))["cycles"] == told.cycles
    assert "TFL3" not in repr(told)


def test_a_float_file_stays_on_the_cpu_and_says_so(flat: bytes) -> None:
    told = tflite_export.npu(flat)
    assert told.cycles is told.milliseconds is None
    assert told.on_npu == {}
    operators = tflite_export.anatomy(flat).operators
    assert len(told.on_cpu) == sum(operators.values())
    assert all("Float32" in one.reason for one in told.on_cpu)
    assert "all of it runs on the CPU" in str(told)


@pytest.mark.slow
def test_float_ends_are_left_to_the_cpu(cnn: keras.Model, pixels: np.ndarray, int8: bytes) -> None:
    ends = tflite_export.convert(cnn, quantize="int8_float", samples=pixels)
    told = tflite_export.npu(ends)
    assert [one.operator for one in told.on_cpu] == ["QUANTIZE", "DEQUANTIZE"]
    assert told.cycles == tflite_export.npu(int8).cycles


@pytest.mark.slow
def test_seven_channels_are_slower_than_eight() -> None:
    cycles = {}
    for channels in (7, 8):
        net = keras.Sequential(
            [keras.Input((28, 28, 1)), keras.layers.Conv2D(channels, 3, padding="same")]
        )
        noise = np.random.default_rng(0).random((20, 28, 28, 1), dtype=np.float32)
        flat = tflite_export.convert(net, quantize="int8", samples=noise)
        cycles[channels] = tflite_export.npu(flat, target="ethos-u55-128").cycles
    assert cycles[7] > cycles[8]


def test_targets_are_those_that_the_compiler_knows() -> None:
    code = "from ethosu.vela.architecture_features import Accelerator as A; print(*A.member_list())"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == list(tflite_export.NPU_TARGETS)


def test_wrong_use_says_what_to_do(int8: bytes) -> None:
    with pytest.raises(tflite_export.OptionError, match="ethos-u55-128, ethos-u55-256"):
        tflite_export.npu(int8, target="ethos-u55")
    with pytest.raises(tflite_export.FlatbufferError, match="not a TFLite model"):
        tflite_export.npu(b"nothing of the kind")
    with pytest.raises(tflite_export.ConversionError, match="Nowhere") as caught:
        tflite_export.npu(int8, system="Nowhere")
    assert "--system-config" in caught.value.log


def test_a_file_that_ends_the_compiler_does_not_end_the_next(int8: bytes, tmp_path: Path) -> None:
    before = tflite_export.npu(int8)
    path = tmp_path / "damaged.tflite"
    path.write_bytes(b"\0\0\0\0TFL3" + bytes(64))
    with pytest.raises(tflite_export.ConversionError, match="cannot compile"):
        compiler.COMPILER.run([str(path), "--output-dir", str(tmp_path)])
    assert tflite_export.npu(int8) == before


def test_without_the_extra_the_command_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(tflite_export.ConversionError, match=r"pip install 'keras-nns\[npu\]'"):
        compiler.Compiler().run([])


def test_nothing_is_printed(int8: bytes, capfd: pytest.CaptureFixture[str]) -> None:
    tflite_export.npu(int8)
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_a_card_has_what_the_npu_says(int8: bytes, flat: bytes) -> None:
    made = tflite_export.card({"int8": int8, "float": flat}, seconds=0, target="ethos-u55-128")
    cells = {title: values for title, *values in made.cells()}
    told = tflite_export.npu(int8, target="ethos-u55-128")
    assert cells["cycles, ethos-u55-128"] == [f"{told.cycles:,}", "–"]
    assert cells["SRAM bytes there"] == [f"{told.sram:,}", "0"]
    assert cells["left to the CPU there"][0] == "–"
    assert "CONV_2D" in cells["left to the CPU there"][1]
    rows = json.loads(json.dumps(made.to_json()))["rows"]
    assert rows[0]["npu"]["cycles"] == told.cycles
    assert "npu" in rows[0]
    assert "flat" not in rows[0]["npu"]
    assert tflite_export.card(int8, seconds=0).to_json()["rows"][0]["npu"] is None
