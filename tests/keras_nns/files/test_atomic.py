"""Files: whole or not at all, checked, and without pickle."""

from __future__ import annotations

import io
import os
import pickle
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from races import race

from keras_nns.errors import FileError
from keras_nns.files import atomic

FORMAT = "test"
ARRAYS = {
    "counts": np.arange(6, dtype=np.int64).reshape(2, 3),
    "sums": np.array([[1.5, -np.inf, 2**-40]]),
    "flags": np.array([True, False]),
    "one": np.array(3.0),
    "none": np.zeros((0, 4)),
}


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    path = tmp_path_factory.mktemp("good") / "a.npz"
    atomic.write_arrays(path, FORMAT, {"name": "größe"}, ARRAYS)
    return path.read_bytes()


def read(path):
    header, arrays = atomic.read_arrays(path, FORMAT)
    assert header == {"format": FORMAT, "name": "größe"}
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == array.dtype
        np.testing.assert_array_equal(arrays[name], array)


def test_arrays_read_back_equal(tmp_path, good):
    path = tmp_path / "a.npz"
    path.write_bytes(good)
    read(path)


@pytest.mark.slow
@given(place=st.integers(0, 10**6), bit=st.integers(0, 7))
@settings(max_examples=400)
def test_a_flipped_bit_is_found_or_does_not_matter(tmp_path_factory, good, place, bit):
    data = bytearray(good)
    data[place % len(data)] ^= 1 << bit
    path = tmp_path_factory.mktemp("flips") / "a.npz"
    path.write_bytes(data)
    try:
        read(path)
    except FileError as error:
        assert "a.npz" in str(error)


def test_a_damaged_directory_loses_no_entry_silently(tmp_path, good):
    """A wrong length of an extra field makes zipfile skip the entries that follow."""
    path = tmp_path / "a.npz"
    place = good.index(b"flags.npy", good.index(b"PK\x01\x02"))
    data = bytearray(good)
    data[place - 16] |= 16
    path.write_bytes(data)
    with pytest.raises(FileError, match="damaged"):
        atomic.read_arrays(path, FORMAT)


def test_a_damaged_shape_inside_an_uncompressed_entry_is_found(tmp_path):
    """Numpy reads as far as the shape says, and never meets the checksum at the end."""
    stream = io.BytesIO()
    np.savez(stream, header=np.frombuffer(b'{"format": "test"}', np.uint8), a=np.arange(99))
    data = stream.getvalue()
    assert data.count(b"(99,)") == 1
    path = tmp_path / "a.npz"
    path.write_bytes(data.replace(b"(99,)", b"(19,)"))
    with pytest.raises(FileError, match="damaged"):
        atomic.read_arrays(path, FORMAT)


@given(end=st.integers(0, 10**6))
@settings(max_examples=50)
def test_a_file_cut_short_is_refused(tmp_path_factory, good, end):
    path = tmp_path_factory.mktemp("short") / "a.npz"
    path.write_bytes(good[: end % len(good)])
    with pytest.raises(FileError, match=r"a\.npz"):
        atomic.read_arrays(path, FORMAT)


def saved(save, *args, **kwargs):
    stream = io.BytesIO()
    save(stream, *args, **kwargs)
    return stream.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"text",
        pickle.dumps({"format": FORMAT}),
        saved(np.save, np.ones(3)),
        saved(np.savez, a=np.ones(3)),
        saved(np.savez, header=np.frombuffer(b"[1]", np.uint8)),
        saved(np.savez, header=np.frombuffer(b"{", np.uint8)),
        saved(np.savez, header=np.frombuffer(b'{"format": "other"}', np.uint8)),
        saved(np.savez, header=np.array({"format": FORMAT}, dtype=object)),
    ],
)
def test_foreign_files_are_refused(tmp_path, data):
    path = tmp_path / "a.npz"
    path.write_bytes(data)
    with pytest.raises(FileError, match=r"a\.npz"):
        atomic.read_arrays(path, FORMAT)


def test_what_only_pickle_could_write_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="pickle"):
        atomic.write_arrays(tmp_path / "a.npz", FORMAT, {}, {"a": np.array([{}], dtype=object)})
    assert list(tmp_path.iterdir()) == []


def test_an_existing_file_stays_unless_told_otherwise(tmp_path):
    path = tmp_path / "a"
    atomic.write_bytes(path, b"old")
    with pytest.raises(FileError, match="overwrite=True"):
        atomic.write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    atomic.write_bytes(path, b"new", overwrite=True)
    assert path.read_bytes() == b"new"


def test_a_dangling_link_counts_as_existing(tmp_path):
    (tmp_path / "a").symlink_to(tmp_path / "nowhere")
    with pytest.raises(FileError, match="already exists"):
        atomic.write_bytes(tmp_path / "a", b"new")


def test_an_error_while_writing_leaves_the_old_file_and_nothing_beside_it(tmp_path):
    path = tmp_path / "a"
    atomic.write_bytes(path, b"old")
    with pytest.raises(KeyboardInterrupt), atomic.replacing(path, overwrite=True) as part:
        part.write_bytes(b"ne")
        raise KeyboardInterrupt
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert path.read_bytes() == b"old"


def test_a_killed_process_leaves_the_old_file(tmp_path):
    path = tmp_path / "a"
    atomic.write_bytes(path, b"old")
    code = """
        import os, sys
        from keras_nns.files import atomic
        with atomic.replacing(sys.argv[1], overwrite=True) as part:
            part.write_bytes(b"ne")
            os._exit(9)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(path)], timeout=300, check=False
    )
    assert done.returncode == 9
    assert path.read_bytes() == b"old"


@pytest.mark.slow
@pytest.mark.parametrize("links", [True, False])
def test_of_two_processes_that_write_one_new_name_one_is_told(tmp_path, monkeypatch, links):
    if not links:  # As on file systems that have none.
        monkeypatch.setattr(os, "link", no_link)
    for turn in range(5):
        path = tmp_path / f"{turn}"

        def write(name, wait, path=path):
            with atomic.replacing(path) as part:
                part.write_text(name)
                wait()

        succeeded = race(write)
        assert sorted(succeeded.values()) == [False, True]
        assert succeeded[path.read_text()]
    assert len(list(tmp_path.iterdir())) == 5


def no_link(*_):
    raise OSError(95, "Operation not supported")


def test_two_processes_may_both_replace(tmp_path):
    path = tmp_path / "a"

    def write(name, wait):
        with atomic.replacing(path, overwrite=True) as part:
            part.write_text(name)
            wait()

    assert race(write) == {"one": True, "two": True}
    assert [p.name for p in tmp_path.iterdir()] == ["a"]
    assert path.read_text() in ("one", "two")


def test_a_full_disk_is_one_error_and_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a"
    atomic.write_bytes(path, b"old")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(FileError, match="No space left"):
        atomic.write_bytes(path, b"new", overwrite=True)
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder nobody can write in")
def test_an_unwritable_folder_is_one_error():
    with pytest.raises(FileError, match="Cannot write"):
        atomic.write_bytes("/proc/self/a", b"new")


@pytest.mark.parametrize("name", ["file/a", "", ".", "x" * 300])
def test_a_path_that_cannot_be_is_one_error(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(FileError):
        atomic.write_bytes(name, b"new", overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_folders_are_made_and_the_mode_is_that_of_an_ordinary_file(tmp_path):
    path = tmp_path / "deep" / "er" / "a"
    atomic.write_bytes(path, b"new")
    plain = tmp_path / "plain"
    plain.write_bytes(b"")
    assert path.stat().st_mode == plain.stat().st_mode


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileError, match="nowhere"):
        atomic.read_arrays(tmp_path / "nowhere", FORMAT)


def test_arrays_keep_their_shape(tmp_path):
    """A single number too: what reads it back assigns it to a variable without axes."""
    arrays = {"number": np.float64(3.5), "none": np.zeros((0, 2)), "turned": np.eye(3)[:, ::2].T}
    atomic.write_arrays(tmp_path / "a.npz", FORMAT, {}, arrays)
    _, back = atomic.read_arrays(tmp_path / "a.npz", FORMAT)
    for name, array in arrays.items():
        assert back[name].shape == np.shape(array)
        np.testing.assert_array_equal(back[name], array)


def test_what_does_not_shrink_is_stored_as_it_is(tmp_path):
    """To compress random numbers takes most of the time that a large activity takes to be saved."""
    arrays = {"noise": np.random.default_rng(0).normal(size=40_000), "zeros": np.zeros(40_000)}
    atomic.write_arrays(tmp_path / "a.npz", "test", {}, arrays)
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        ways = {entry.filename: entry.compress_type for entry in archive.infolist()}
    assert ways["noise.npy"] == zipfile.ZIP_STORED
    assert ways["zeros.npy"] == zipfile.ZIP_DEFLATED
