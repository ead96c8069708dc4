"""Labels, preprocessing and files: standard readers find them, damage is noticed."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from pathlib import Path

import flatbuffers
import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from ai_edge_litert.tools import flatbuffer_utils
from hypothesis import given, settings
from hypothesis import strategies as st

import tflite_export

Table = flatbuffers.table.Table


def child(table: Table, slot: int) -> Table:
    """Follow an offset as the schema's generated readers do."""
    return Table(table.Bytes, table.Indirect(table.Pos + table.Offset(4 + 2 * slot)))


def element(table: Table, slot: int, index: int) -> Table:
    start = table.Vector(table.Offset(4 + 2 * slot))
    return Table(table.Bytes, table.Indirect(start + 4 * index))


def string(table: Table, slot: int) -> str:
    return table.String(table.Pos + table.Offset(4 + 2 * slot)).decode()


def floats(table: Table, slot: int) -> list[float]:
    offset = table.Offset(4 + 2 * slot)
    start, count = table.Vector(offset), table.VectorLen(offset)
    return list(struct.unpack_from(f"<{count}f", table.Bytes, start))


def standard_metadata(flat: bytes) -> Table:
    """The TFLITE_METADATA entry, found and opened the way the standard reader does."""
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(flat))
    (index,) = [item.buffer for item in model.metadata if item.name == b"TFLITE_METADATA"]
    data = bytearray(bytes(model.buffers[index].data))
    assert data[4:8] == b"M001"
    return Table(data, struct.unpack_from("<I", data)[0])


def test_the_standard_schema_is_followed(flat: bytes) -> None:
    root = standard_metadata(flat)
    assert string(root, 0) == "digits_cnn"
    assert string(root, 1) == "made for a test"
    assert string(root, 7) == "1.0.0"
    subgraph = element(root, 3, 0)
    pixels, scores = element(subgraph, 2, 0), element(subgraph, 3, 0)
    assert (string(pixels, 0), string(scores, 0)) == ("pixels", "scores")
    unit = element(pixels, 4, 0)
    assert unit.Get(flatbuffers.number_types.Uint8Flags, unit.Pos + unit.Offset(4)) == 1
    assert floats(child(unit, 1), 0) == [0.0]
    assert floats(child(unit, 1), 1) == [255.0]
    file = element(scores, 6, 0)
    assert string(file, 0) == "labels.txt"
    kind = file.Get(flatbuffers.number_types.Int8Flags, file.Pos + file.Offset(8))
    assert kind == 2, "TENSOR_AXIS_LABELS"
    assert string(element(root, 6, 0), 0) == "plan.json"


def test_unzip_shows_the_label_file(flat: bytes, digit_labels: list[str], tmp_path: Path) -> None:
    path = tflite_export.save(flat, tmp_path / "model.tflite")
    with zipfile.ZipFile(path) as archive:
        assert set(archive.namelist()) == {"labels.txt", "plan.json"}
        assert archive.read("labels.txt").decode().splitlines() == digit_labels
        assert json.loads(archive.read("plan.json")) == {"kept": [0, 3]}
        # Devices map the files in place: they must not be compressed.
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}


def test_read_metadata_gives_back_what_was_put_in(
    flat: bytes, digit_labels: list[str], pixels: np.ndarray, tmp_path: Path
) -> None:
    metadata = tflite_export.read_metadata(flat)
    assert metadata.name == "digits_cnn"
    assert metadata.description == "made for a test"
    assert metadata.quantize == "float32"
    assert list(metadata.labels) == digit_labels
    (tensor,) = metadata.inputs
    assert tensor.normalization == tflite_export.Normalization((0.0,), (255.0,))
    assert tensor.minimum == pytest.approx(pixels.min())
    assert tensor.maximum == pytest.approx(pixels.max())
    path = tflite_export.save(flat, tmp_path / "model.tflite")
    assert tflite_export.read_metadata(path) == metadata
    assert tflite_export.read_metadata(str(path)) == metadata


@pytest.mark.slow
def test_metadata_changes_no_answer(cnn: keras.Model, flat: bytes, pixels: np.ndarray) -> None:
    plain = tflite_export.convert(cnn)
    left, right = (
        Interpreter(model_content=data).get_signature_runner()(pixels=pixels[:1])["scores"]
        for data in (plain, flat)
    )
    np.testing.assert_array_equal(left, right)


def test_constant_tensors_stay_aligned(flat: bytes) -> None:
    """A microcontroller reads the weights where they lie: 16 bytes, as the schema says."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.Model.GetRootAs(flat, 0)
    seen = 0
    for index in range(model.BuffersLength()):
        buffer = model.Buffers(index)
        if buffer.DataLength():
            assert buffer._tab.Vector(buffer._tab.Offset(4)) % 16 == 0
            seen += 1
    assert seen > 3


def test_adding_keeps_what_is_there(flat: bytes, digit_labels: list[str]) -> None:
    more = tflite_export.add_metadata(flat, author="someone", files={"card.md": "# Card"})
    before, after = tflite_export.read_metadata(flat), tflite_export.read_metadata(more)
    assert after.author == "someone"
    assert after.files == {**before.files, "card.md": b"# Card"}
    assert (after.inputs, after.outputs, after.name) == (before.inputs, before.outputs, before.name)
    renamed = tflite_export.add_metadata(more, labels=digit_labels[::-1])
    assert list(tflite_export.read_metadata(renamed).labels) == digit_labels[::-1]
    assert zipfile.ZipFile(io.BytesIO(renamed)).testzip() is None
    assert tflite_export.read_metadata(renamed).quantize == "float32"


def test_adding_nothing_changes_nothing(flat: bytes) -> None:
    assert tflite_export.add_metadata(flat) == flat


@pytest.mark.slow
def test_labels_of_several_outputs() -> None:
    inputs = keras.Input((3,), name="x")
    heads = [keras.layers.Dense(n, name=f"head{n}")(inputs) for n in (2, 3, 4)]
    flat = tflite_export.convert(
        keras.Model(inputs, heads), labels={"head2": ["a", "b"], "head4": list("cdef")}
    )
    metadata = tflite_export.read_metadata(flat)
    assert [tensor.labels for tensor in metadata.outputs] == [("a", "b"), (), tuple("cdef")]
    assert set(metadata.files) == {"labels_head2.txt", "labels_head4.txt"}
    with pytest.raises(tflite_export.MetadataError, match=r"3 outputs.*dict"):
        tflite_export.convert(keras.Model(inputs, heads), labels=["a", "b"])


def test_a_model_of_another_converter(shared_data: Path) -> None:
    path = shared_data / "models" / "kws_dscnn_mlperftiny_int8.tflite"
    before = tflite_export.read_metadata(path)
    assert before.quantize is None
    assert before.labels == ()
    words = [f"word {number}" for number in range(12)]
    flat = tflite_export.add_metadata(path.read_bytes(), labels=words)
    after = tflite_export.read_metadata(flat)
    assert list(after.labels) == words
    assert after.quantize is None
    sample = np.load(shared_data / "sequence" / "kws01_mfcc_int8.npz")["x"][:1]
    answers = []
    for data in (path.read_bytes(), flat):
        interpreter = Interpreter(model_content=data)
        interpreter.allocate_tensors()
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], sample)
        interpreter.invoke()
        answers.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))
    np.testing.assert_array_equal(*answers)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_any_damage_is_one_clear_error(flat: bytes, data: st.DataObject) -> None:
    if data.draw(st.booleans(), label="cut"):
        broken = flat[: data.draw(st.integers(0, len(flat) - 1), label="length")]
    else:
        # Behind the flatbuffer lie zip headers whose dates and flags change nothing.
        end = flat.index(b"PK\x03\x04")
        position = data.draw(st.integers(0, end - 1), label="position")
        bit = data.draw(st.integers(0, 7), label="bit")
        changed = bytearray(flat)
        changed[position] ^= 1 << bit
        broken = bytes(changed)
    with pytest.raises(tflite_export.FlatbufferError):
        tflite_export.read_metadata(broken)


def test_every_bit_of_the_stamp_counts(flat: bytes) -> None:
    start = flat.index(b'{"tflite_export"')
    for position in range(start, flat.index(b"}", start) + 1):
        broken = bytearray(flat)
        broken[position] ^= 1
        with pytest.raises(tflite_export.FlatbufferError):
            tflite_export.read_metadata(bytes(broken))


def test_damaged_files_are_noticed(flat: bytes) -> None:
    position = flat.rindex(b"zero")
    broken = flat[:position] + b"hero" + flat[position + 4 :]
    with pytest.raises(tflite_export.FlatbufferError, match="files are truncated or damaged"):
        tflite_export.read_metadata(broken)


@pytest.mark.parametrize(
    ("mean", "std", "words"),
    [((0,), (0,), "above 0"), ((float("nan"),), (1,), "finite"), ((), (1,), "at least one")],
)
def test_normalization_that_no_device_can_apply(mean: tuple, std: tuple, words: str) -> None:
    with pytest.raises(tflite_export.MetadataError, match=words):
        tflite_export.Normalization(mean, std)


def test_label_file_names_are_taken(flat: bytes) -> None:
    with pytest.raises(tflite_export.MetadataError, match="written from the labels"):
        tflite_export.add_metadata(flat, files={"labels.txt": "mine"})


def test_mediapipes_own_schema_reads_it(flat: bytes, digit_labels: list[str]) -> None:
    """The reader that others generated from the schema finds what was put in."""
    theirs = pytest.importorskip(
        "mediapipe.tasks.metadata.metadata_schema_py_generated", reason="needs mediapipe"
    )
    model = flatbuffer_utils.read_model_from_bytearray(bytearray(flat))
    (index,) = [item.buffer for item in model.metadata if item.name == b"TFLITE_METADATA"]
    root = theirs.ModelMetadataT.InitFromObj(
        theirs.ModelMetadata.GetRootAs(bytearray(bytes(model.buffers[index].data)), 0)
    )
    assert root.name == b"digits_cnn"
    (subgraph,) = root.subgraphMetadata
    (pixels,), (scores,) = subgraph.inputTensorMetadata, subgraph.outputTensorMetadata
    (unit,) = pixels.processUnits
    assert unit.optionsType == theirs.ProcessUnitOptions.NormalizationOptions
    assert (unit.options.mean, unit.options.std) == ([0.0], [255.0])
    (file,) = scores.associatedFiles
    assert file.type == theirs.AssociatedFileType.TENSOR_AXIS_LABELS
    with zipfile.ZipFile(io.BytesIO(flat)) as archive:
        assert archive.read(file.name.decode()).decode().splitlines() == digit_labels


def test_names_that_no_reader_could_read_are_refused(flat: bytes, digit_labels: list[str]) -> None:
    foreign = "caf\udce9"  # What `os.fsdecode` makes of a name in Latin-1.
    with pytest.raises(tflite_export.MetadataError, match="write 'café' instead"):
        tflite_export.add_metadata(flat, labels=[foreign, *digit_labels[1:]])
    with pytest.raises(tflite_export.MetadataError, match="write 'café' instead"):
        tflite_export.add_metadata(flat, files={foreign: b""})
    with pytest.raises(tflite_export.MetadataError, match="255 bytes"):
        tflite_export.add_metadata(flat, files={"é" * 128: b""})
    longest = "é" * 127 + "a"
    assert (
        longest
        in tflite_export.read_metadata(
            tflite_export.add_metadata(flat, files={longest: b"text"})
        ).files
    )


def test_a_file_that_claims_more_than_its_bytes_can_be_takes_no_memory(flat: bytes) -> None:
    data = bytearray(tflite_export.add_metadata(flat, files={"note.txt": b"text"}))
    at = data.rfind(b"PK\x01\x02") + 24
    data[at : at + 4] = (2**31).to_bytes(4, "little")
    with pytest.raises(tflite_export.FlatbufferError, match="claims 2,147,483,648 bytes"):
        tflite_export.read_metadata(bytes(data))


def test_another_tools_copy_is_told_from_damage(
    flat: bytes, cnn: keras.Model, pixels: np.ndarray
) -> None:
    """ai-edge-quantizer reads the file and writes another, with our entries and no files."""
    from ai_edge_quantizer import quantizer, recipe

    tool = quantizer.Quantizer(bytearray(flat))
    tool.load_quantization_recipe(recipe.dynamic_wi8_afp32())
    theirs = bytes(tool.quantize(None, enable_progress_report=False).quantized_model)
    with pytest.warns(tflite_export.ChangedFileWarning, match=r"another tool.*files.*are gone"):
        found = tflite_export.read_metadata(theirs)
    assert (found.name, found.quantize, found.labels) == ("digits_cnn", None, ())
    with pytest.warns(tflite_export.ChangedFileWarning):
        assert tflite_export.verify(theirs, cnn, pixels).variant == "dynamic"
    with pytest.warns(tflite_export.ChangedFileWarning):
        again = tflite_export.add_metadata(theirs, description="quantised elsewhere")
    assert tflite_export.read_metadata(again).description == "quantised elsewhere"
    broken = bytearray(again)
    broken[len(again) // 2] ^= 1
    with pytest.raises(tflite_export.FlatbufferError, match="damaged"):
        tflite_export.read_metadata(bytes(broken))
