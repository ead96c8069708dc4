"""A damaged `.npz` is refused or read as it was; nothing of it is dropped without a word."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest

from keras_nns.data.named import load_dataset
from keras_nns.errors import FileError


@pytest.fixture
def path(tmp_path):
    x = np.arange(24.0).reshape(8, 3)
    y = np.arange(8) % 2
    path = tmp_path / "data.npz"
    np.savez_compressed(path, x=x, y=y, label_names=np.array(["zebra", "ant"]))
    return path


def read(path):
    splits = load_dataset(path)
    arrays = (splits.x_train, splits.y_train, splits.x_test, splits.y_test)
    return splits.label_names, [array.tolist() for array in arrays]


def directory(path):
    """Where the archive's directory begins: behind what its entries hold."""
    with zipfile.ZipFile(path) as archive:
        return archive.start_dir


@pytest.mark.slow
@pytest.mark.parametrize("how", [0x00, 0x01, 0x10, 0xFF])
def test_every_byte_of_the_directory_counts(path, how):
    whole, sound = path.read_bytes(), read(path)
    assert sound[0] == ("zebra", "ant")
    refused = 0
    for place in range(directory(path), len(whole)):
        damaged = bytearray(whole)
        damaged[place] = damaged[place] ^ how if how else 0
        path.write_bytes(damaged)
        try:
            assert read(path) == sound, place
        except FileError:
            refused += 1
    assert refused > 20


def test_entries_that_are_not_wanted_do_no_harm(tmp_path):
    x, y = np.ones((8, 3)), np.arange(8) % 2
    np.savez(tmp_path / "more.npz", x=x, y=y, notes=np.array(["a"]))
    assert load_dataset(tmp_path / "more.npz").label_names == ("0", "1")


def test_a_shape_that_says_less_than_there_is(path):
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    entries["x.npy"] = entries["x.npy"].replace(b"(8, 3)", b"(8, 2)")
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    with pytest.raises(FileError, match="holds more than its shape"):
        load_dataset(path)


def test_a_shape_that_claims_more_than_its_entry_takes_no_memory(tmp_path):
    header = io.BytesIO()
    about = {"descr": "<f4", "fortran_order": False, "shape": (2**36,)}
    np.lib.format.write_array_header_1_0(header, about)
    path = tmp_path / "data.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x.npy", header.getvalue() + bytes(64))
        archive.writestr("y.npy", header.getvalue() + bytes(64))
    with pytest.raises(FileError, match="has the shape"):
        load_dataset(path)


def test_an_entry_larger_than_its_bytes_can_be_is_refused(path):
    """Deflate makes data at most 1,032 times smaller."""
    data = bytearray(path.read_bytes())
    at = data.find(b"PK\x01\x02") + 24
    data[at : at + 4] = (2**31).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(FileError, match=r"claims 2,147,483,648 bytes"):
        load_dataset(path)
