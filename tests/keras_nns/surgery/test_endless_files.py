"""HDF5 files whose damage would keep HDF5 reading for ever are refused before it reads them."""

from __future__ import annotations

import h5py
import numpy as np
import pytest

import keras_nns as nns
from tflite_export.cli import main
from tflite_export.reading.hdf5 import is_endless

TEXT = h5py.string_dtype()


def written(path, texts=3):
    with h5py.File(path, "w") as file:
        for number in range(texts):
            file.attrs.create(f"text {number}", "x" * 700 * number, dtype=TEXT)
        file["numbers"] = np.arange(100)
    return path.read_bytes()


def free_space(data):
    """The place where a heap says how much of it is free, found by what it must be."""
    start = data.index(b"GCOL")
    size = int.from_bytes(data[start + 8 : start + 16], "little")
    wanted = [(end - here).to_bytes(8, "little") for end in [start + size] for here in range(end)]
    for here in range(start + 16, start + size, 8):
        if data[here : here + 8] == bytes(8) and data[here + 8 : here + 16] == wanted[here]:
            return here + 8
    raise AssertionError("no free space")


@pytest.mark.parametrize("texts", [1, 3, 12])
def test_a_heap_without_an_end_is_found(tmp_path, texts):
    path = tmp_path / "model.h5"
    data = written(path, texts)
    assert not is_endless(path)
    place = free_space(data)
    path.write_bytes(data[:place] + bytes(8) + data[place + 8 :])
    assert is_endless(path)
    with pytest.raises(nns.errors.FileError, match=r"model\.h5' is a damaged HDF5 file.*once more"):
        nns.load_model(path)


def test_the_exporters_own_command_refuses_it_too(tmp_path, capfd):
    path = tmp_path / "model.h5"
    data = written(path)
    place = free_space(data)
    path.write_bytes(data[:place] + bytes(8) + data[place + 8 :])
    assert main(["export", str(path), "-o", str(tmp_path / "model.tflite")]) != 0
    assert "a damaged HDF5 file" in capfd.readouterr().err


@pytest.mark.parametrize("content", [b"", b"GCOL", b"GCOL\x01\0\0\0", b"no HDF5 at all" * 99])
def test_other_content_has_an_end(tmp_path, content):
    path = tmp_path / "model.h5"
    path.write_bytes(content)
    assert not is_endless(path)


def test_every_cut_of_a_file_has_an_end(tmp_path):
    path = tmp_path / "model.h5"
    data = written(path)
    for length in range(0, len(data), 97):
        path.write_bytes(data[:length])
        assert not is_endless(path)
