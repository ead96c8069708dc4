"""What a C array holds: all that an interpreter reads of a file, and nothing else."""

from __future__ import annotations

import importlib.util
import re

import flatbuffers
import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter

import tflite_export
from tflite_export.c_array import in_flash

layers = keras.layers
pytestmark = pytest.mark.filterwarnings("ignore::tflite_export.CalibrationWarning")
VARIANTS = ("float32", "int8", "int16x8", "dynamic", "weight_int4", "float16")


@pytest.fixture(scope="module")
def samples() -> np.ndarray:
    return np.random.default_rng(0).random((40, 9, 9, 2), dtype=np.float32)


@pytest.fixture(scope="module")
def files(samples: np.ndarray) -> dict[str, bytes]:
    keras.utils.set_random_seed(3)
    inputs = keras.Input((9, 9, 2), name="pixels")
    x = layers.Conv2D(12, 3, activation="relu")(inputs)
    x = layers.SeparableConv2D(8, 3, activation="relu")(x)
    x = layers.Dense(64, activation="relu")(layers.GlobalAveragePooling2D()(x))
    model = keras.Model(inputs, layers.Dense(3, activation="softmax", name="scores")(x))
    return {
        variant: tflite_export.convert(
            model,
            quantize=variant,
            samples=samples if variant in ("int8", "int16x8") else None,
            labels=["cat", "dog", "toad"],
            description="Words for people.",
            files={"note.txt": "more of them"},
        )
        for variant in VARIANTS
    }


def array(header: str) -> bytes:
    return bytes(int(byte, 16) for byte in re.findall(r"0x([0-9a-f]{2})", header))


def answers(flat: bytes, samples: np.ndarray) -> np.ndarray:
    interpreter = Interpreter(model_content=flat)
    interpreter.allocate_tensors()
    (read,), (given,) = interpreter.get_input_details(), interpreter.get_output_details()
    found = []
    scale, zero = (1, 0) if read["dtype"] == np.float32 else read["quantization"]
    given_as = samples if scale == 1 else np.round(samples / scale) + zero
    for sample in given_as.astype(read["dtype"]):
        interpreter.set_tensor(read["index"], sample[None])
        interpreter.invoke()
        found.append(interpreter.get_tensor(given["index"])[0])
    return np.array(found)


def told(flat: bytes) -> list[object]:
    """Everything that an interpreter reads, by the schema's own reader."""
    model = schema.ModelT.InitFromPackedBuf(flat, 0)

    def plain(value: object) -> object:
        if isinstance(value, np.ndarray):
            return (str(value.dtype), value.tolist())
        if isinstance(value, list):
            return [plain(one) for one in value]
        return (type(value).__name__, facts(value)) if hasattr(value, "__dict__") else value

    def facts(value: object) -> dict[str, object]:
        return {
            name: plain(one) for name, one in vars(value).items() if name not in ("name", "buffer")
        }

    constants = [
        [plain(model.buffers[tensor.buffer].data) for tensor in graph.tensors]
        for graph in model.subgraphs
    ]
    return [plain(model.operatorCodes), plain(model.subgraphs), constants, model.version]


@pytest.mark.parametrize("variant", VARIANTS)
def test_all_that_is_read_is_there(variant: str, files, samples) -> None:
    flat = files[variant]
    data = array(tflite_export.to_c(flat, "pets"))
    assert data == in_flash(flat) == in_flash(data)
    assert told(data) == told(flat)
    np.testing.assert_array_equal(answers(data, samples), answers(flat, samples))


@pytest.mark.parametrize("variant", VARIANTS)
def test_nothing_else_is(variant: str, files) -> None:
    flat = files[variant]
    data = in_flash(flat)
    for word in (b"pixels", b"scores", b"conv2d", b"serving_default", b"cat", b"Words", b"PK\x03"):
        assert word in flat
        assert word not in data
    model = schema.ModelT.InitFromPackedBuf(data, 0)
    # Some delegates ask whether they may calculate in float16.
    allowed = [b"reduced_precision_support"] if variant == "float16" else []
    assert [entry.name for entry in model.metadata or ()] == allowed
    read = {tensor.buffer for graph in model.subgraphs for tensor in graph.tensors}
    read |= {entry.buffer for entry in model.metadata or ()}
    assert set(range(len(model.buffers))) == read | {0}
    assert len(flat) - len(data) > 1_300


def test_constants_lie_where_they_can_be_read_in_place(files) -> None:
    data = in_flash(files["int8"])
    model = schema.Model.GetRootAs(data, 0)
    for number in range(model.BuffersLength()):
        buffer = model.Buffers(number)
        if buffer.DataLength():
            start = buffer._tab.Vector(buffer._tab.Offset(4))
            assert start % 16 == 0


def test_the_whole_file_where_it_is_asked_for(files) -> None:
    flat = files["float32"]
    assert array(tflite_export.to_c(flat, metadata=True)) == flat


def test_what_other_programs_keep_in_a_file_stays(files) -> None:
    """Offline memory plans and compressed tensors are metadata that TFLite Micro reads."""
    model = schema.ModelT.InitFromPackedBuf(files["int8"], 0)
    buffer, entry = schema.BufferT(), schema.MetadataT()
    buffer.data = np.arange(40, dtype=np.uint8)
    entry.name, entry.buffer = "OfflineMemoryAllocation", len(model.buffers)
    model.buffers.append(buffer)
    model.metadata.append(entry)
    stamp = next(one for one in model.metadata if one.name == b"tflite_export")
    model.metadata.remove(stamp)
    model.buffers[stamp.buffer].data = None
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    found = schema.ModelT.InitFromPackedBuf(in_flash(bytes(builder.Output())), 0)
    (kept,) = found.metadata
    assert kept.name == b"OfflineMemoryAllocation"
    np.testing.assert_array_equal(found.buffers[kept.buffer].data, np.arange(40))


@pytest.mark.skipif(
    importlib.util.find_spec("tflite_micro") is None,
    reason="needs tflite-micro: install keras-nns[micro]",
)
@pytest.mark.parametrize("variant", ["float32", "int8"])
def test_tflite_micro_answers_the_same_in_the_same_arena(variant: str, files, samples) -> None:
    from tflite_micro import runtime

    flat, data = files[variant], in_flash(files[variant])
    assert tflite_export.arena(data) == tflite_export.arena(flat)
    both = [
        runtime.Interpreter.from_bytes(one, arena_size=tflite_export.arena(flat) + 4096)
        for one in (flat, data)
    ]
    for sample in samples[:5]:
        found = []
        for interpreter in both:
            details = interpreter.get_input_details(0)
            wanted = sample[None]
            if details["dtype"] == np.int8:
                scales = details["quantization_parameters"]
                wanted = np.round(wanted / scales["scales"][0]) + scales["zero_points"][0]
            interpreter.set_input(wanted.astype(details["dtype"]), 0)
            interpreter.invoke()
            found.append(interpreter.get_output(0))
        np.testing.assert_array_equal(*found)


@pytest.mark.skipif(
    importlib.util.find_spec("ethosu") is None,
    reason="needs Vela: install keras-nns[npu]",
)
def test_a_file_for_an_npu_keeps_its_commands(files) -> None:
    flat = tflite_export.npu(files["int8"], target="ethos-u55-128").flat
    data = in_flash(flat)
    assert told(data) == told(flat)
    assert b"ethos-u" in data


def test_what_is_no_model_or_damaged_is_refused(files) -> None:
    with pytest.raises(tflite_export.FlatbufferError, match="not a TFLite model"):
        tflite_export.to_c(b"nothing of the kind")
    broken = bytearray(files["int8"])
    broken[len(broken) // 3] ^= 1
    with pytest.raises(tflite_export.FlatbufferError):
        tflite_export.to_c(bytes(broken))
