"""IDX files, the format of MNIST: read whole or refused, and taken in the parts they name."""

from __future__ import annotations

import gzip
import struct
import tracemalloc

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from keras_nns.data.batches import as_batches
from keras_nns.data.formats import read_idx
from keras_nns.data.named import find, load_dataset
from keras_nns.errors import DataError, FileError

RNG = np.random.default_rng(0)


def image_model():
    return keras.Sequential([keras.Input((6, 5, 1)), keras.layers.Flatten(), keras.layers.Dense(4)])


def images(size):
    x = RNG.integers(0, 256, (size, 6, 5), dtype=np.uint8)
    return x, (np.arange(size) % 4).astype(np.uint8)


def idx_bytes(array, code=8):
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, code, array.ndim, *array.shape)
    return header + array.tobytes()


def write_idx(folder, *, compressed=False, dot=False, **sizes):
    """Write the IDX files of parts of the given sizes; return their arrays."""
    folder.mkdir(exist_ok=True)
    parts = {}
    for part, size in sizes.items():
        parts[part] = images(size)
        for kind, array, axes in zip(("images", "labels"), parts[part], (3, 1), strict=True):
            name = f"{part}-{kind}{'.' if dot else '-'}idx{axes}-ubyte"
            data = idx_bytes(array)
            if compressed:
                (folder / f"{name}.gz").write_bytes(gzip.compress(data))
            else:
                (folder / name).write_bytes(data)
    return parts


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("dot", [False, True])
def test_idx_files_keep_their_split(tmp_path, compressed, dot):
    parts = write_idx(tmp_path, compressed=compressed, dot=dot, t10k=7, train=20)
    splits = load_dataset(tmp_path)
    for found, labels, (x, y) in (
        (splits.x_train, splits.y_train, parts["train"]),
        (splits.x_test, splits.y_test, parts["t10k"]),
    ):
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, x[..., None] / 255, rtol=1e-6)
        np.testing.assert_array_equal(labels, y)
    assert splits.label_names == ("0", "1", "2", "3")
    assert load_dataset(tmp_path, label_names=list("wxyz")).label_names == tuple("wxyz")
    raw = load_dataset(tmp_path, scale=False)
    assert raw.x_train.dtype == np.uint8
    assert load_dataset(tmp_path, image_size=(3, 3)).x_test.shape == (7, 3, 3, 1)


def test_one_idx_file_names_its_part(tmp_path):
    parts = write_idx(tmp_path, t10k=20, train=30)
    model = image_model()
    path = tmp_path / "t10k-images-idx3-ubyte"
    for source, options in ((path, {}), (tmp_path, {"part": "test"})):
        batches = as_batches(source, model=model, batch_size=4, **options)
        assert (batches.size, batches.batches) == (20, 5)
        x, y = parts["t10k"]
        found = np.concatenate([batch.inputs for batch in batches])
        np.testing.assert_allclose(found, x[..., None] / 255, rtol=1e-6)
        np.testing.assert_array_equal(np.concatenate([b.labels for b in batches]), y)
    splits = load_dataset(path)
    assert (len(splits.x_train), len(splits.x_test)) == (16, 4)


def test_a_path_of_two_parts_asks_which(tmp_path):
    write_idx(tmp_path, t10k=20, train=30)
    with pytest.raises(DataError, match=r"training and a test part.*s\.x_test"):
        as_batches(tmp_path, model=image_model())
    with pytest.raises(DataError, match="part='val'"):
        find(tmp_path, part="val")


@pytest.mark.slow
@given(
    st.sampled_from([(8, "u1"), (9, "i1"), (11, ">i2"), (12, ">i4"), (13, ">f4"), (14, ">f8")]),
    hnp.array_shapes(max_dims=4, max_side=5),
    st.data(),
)
def test_idx_of_every_type_round_trips(tmp_path_factory, kind, shape, data):
    code, dtype = kind
    array = data.draw(hnp.arrays(dtype, shape))
    path = tmp_path_factory.mktemp("idx") / "a"
    path.write_bytes(idx_bytes(array, code))
    read = read_idx(path)
    np.testing.assert_array_equal(read, array)
    assert read.dtype.isnative


@given(st.data())
def test_a_damaged_idx_file_is_refused(tmp_path_factory, data):
    whole = idx_bytes(np.arange(12, dtype=np.uint8).reshape(3, 4))
    if data.draw(st.booleans()):
        whole = gzip.compress(whole, mtime=0)
    path = tmp_path_factory.mktemp("idx") / "a"
    path.write_bytes(whole[: data.draw(st.integers(0, len(whole) - 1))])
    with pytest.raises(FileError, match="a"):
        read_idx(path)


def damage_magic(folder):
    (folder / "train-labels-idx1-ubyte").write_bytes(b"\x89PNG and so on")


def lose_labels(folder):
    (folder / "train-labels-idx1-ubyte").unlink()


def lose_part(folder):
    for path in folder.glob("train*"):
        path.unlink()


def swap_labels(folder):
    (folder / "t10k-labels-idx1-ubyte").rename(folder / "train-labels-idx1-ubyte")


def add_foreign(folder):
    (folder / "other-train-labels-idx1-ubyte").write_bytes(b"")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (damage_magic, "train-labels.*not an IDX file"),
        (lose_labels, "has train-images-idx3-ubyte but not the labels"),
        (lose_part, "of its test part alone"),
        (swap_labels, "do not belong together"),
        (add_foreign, "two files for one part"),
    ],
)
def test_idx_folders_that_are_not_whole_are_refused(tmp_path, spoil, message):
    write_idx(tmp_path, t10k=5, train=8)
    spoil(tmp_path)
    with pytest.raises((FileError, DataError), match=message):
        load_dataset(tmp_path)


def test_idx_labels_of_another_set_are_refused(tmp_path):
    write_idx(tmp_path, t10k=5, train=8)
    (tmp_path / "train-labels-idx1-ubyte").write_bytes(idx_bytes(np.zeros(7, np.uint8)))
    with pytest.raises(FileError, match="do not belong together"):
        load_dataset(tmp_path)


@pytest.mark.slow
def test_real_idx_files(shared_data):
    for name in ("mnist", "fashion_mnist"):
        splits = load_dataset(shared_data / name)
        assert splits.x_train.shape == (60_000, 28, 28, 1)
        assert splits.x_test.shape == (10_000, 28, 28, 1)
        assert (splits.x_train.min(), splits.x_train.max()) == (0, 1)
    np.testing.assert_array_equal(np.bincount(splits.y_train), [6000] * 10)


@pytest.mark.parametrize("packed", [False, True])
def test_an_idx_file_that_claims_more_than_it_holds_takes_no_memory(tmp_path, packed):
    """Its header is 16 bytes; what it asks for is never made room for."""
    data = struct.pack(">BBBB3I", 0, 0, 8, 3, 2**20, 2**10, 2**10) + bytes(1000)
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(gzip.compress(data) if packed else data)
    tracemalloc.start()
    with pytest.raises(FileError, match="cut short"):
        read_idx(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**20


def test_more_behind_a_packed_idx_file_is_read_no_further(tmp_path):
    data = idx_bytes(images(4)[0]) + bytes(2**25)
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(gzip.compress(data))
    tracemalloc.start()
    with pytest.raises(FileError, match="there are more"):
        read_idx(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2**22
