"""Data sets from names and files: read right, split honestly, refused clearly."""

from __future__ import annotations

import os
import re

import keras
import numpy as np
import pytest
import sklearn.datasets
import tensorflow as tf

import keras_nns as nns
from keras_nns.cli import main
from keras_nns.data.batches import as_batches
from keras_nns.data.named import find, load_dataset
from keras_nns.errors import DataError, FileError
from keras_nns.observation.activity import Activity

RNG = np.random.default_rng(0)


def images(size, shape=(6, 5), labels=4):
    x = RNG.integers(0, 256, (size, *shape), dtype=np.uint8)
    return x, (np.arange(size) % labels).astype(np.uint8)


def write_images(folder, classes, shape=(4, 6, 3)):
    """Write PNG files, one folder for each class; return pixels and labels in sorted order."""
    x, y = [], []
    for label, (name, count) in enumerate(sorted(classes.items())):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            pixels = RNG.integers(0, 256, shape, dtype=np.uint8)
            png = tf.io.encode_png(pixels).numpy()
            (folder / name / f"{i:03}.png").write_bytes(png)
            x.append(pixels)
            y.append(label)
    return np.array(x), np.array(y)


def image_model(shape=(4, 6, 3), labels=3):
    inputs = keras.Input(shape)
    pooled = keras.layers.GlobalAveragePooling2D()(inputs)
    return keras.Model(inputs, keras.layers.Dense(labels)(pooled))


def gather(batches):
    batches = list(batches)
    return (
        np.concatenate([np.asarray(batch.inputs) for batch in batches]),
        np.concatenate([batch.labels for batch in batches]),
    )


def same_samples(splits, x, y):
    """Whether the two parts together are the samples of x and y, each once."""
    found = np.concatenate([splits.x_train, splits.x_test]).reshape(len(x), -1)
    labels = np.concatenate([splits.y_train, splits.y_test])
    order, expected = np.lexsort(found.T), np.lexsort(x.reshape(len(x), -1).T)
    np.testing.assert_array_equal(labels[order], np.asarray(y)[expected])
    np.testing.assert_allclose(found[order], x.reshape(len(x), -1)[expected], rtol=1e-6)


def test_digits_are_scikit_learn_s():
    digits = load_dataset("digits")
    bunch = sklearn.datasets.load_digits()
    same_samples(digits, bunch.images / 16, bunch.target)
    assert digits.x_train.shape == (1437, 8, 8, 1)
    assert digits.x_train.dtype == np.float32
    assert digits.label_names == tuple("0123456789")
    assert any("writers" in note for note in digits.notes)
    # Each digit is held out in proportion.
    share = np.bincount(digits.y_test) / np.bincount(bunch.target)
    np.testing.assert_allclose(share, 0.2, atol=0.01)


def test_the_split_is_the_same_every_time():
    one, two = load_dataset("digits"), load_dataset("digits")
    np.testing.assert_array_equal(one.x_test, two.x_test)
    assert load_dataset("digits", test_share=0.5).x_test.shape[0] == 899
    assert load_dataset("digits", scale=False).x_train.max() == 16


def test_npz_with_its_own_split(tmp_path):
    (x, y), (x_test, y_test) = images(12, (4, 4, 3)), images(8, (4, 4, 3))
    path = tmp_path / "set.npz"
    np.savez(path, x_train=x, y_train=y, x_test=x_test, y_test=y_test, ids=np.arange(3))
    splits = load_dataset(path)
    np.testing.assert_allclose(splits.x_train, x / 255, rtol=1e-6)
    np.testing.assert_allclose(splits.x_test, x_test / 255, rtol=1e-6)
    np.testing.assert_array_equal(splits.y_test, y_test)
    assert splits.y_test.dtype == np.int64
    assert splits.notes == ("The split of the .npz file.",)


@pytest.mark.parametrize(
    ("y", "names"),
    [
        (np.arange(20) % 4, ("0", "1", "2", "3")),
        (np.array(["d", "a", "c", "b"] * 5), ("a", "b", "c", "d")),
        (np.eye(4)[np.arange(20) % 4], ("0", "1", "2", "3")),
    ],
)
def test_npz_without_a_split_is_split(tmp_path, y, names):
    x = RNG.normal(size=(20, 3)).astype(np.float32)
    np.savez(tmp_path / "set.npz", x=x, y=y)
    splits = load_dataset(tmp_path / "set.npz")
    assert splits.label_names == names
    codes = {"U": lambda: np.searchsorted(names, y), "f": lambda: y.argmax(1)}
    same_samples(splits, x, codes.get(y.dtype.kind, lambda: y)())
    np.testing.assert_array_equal(np.sort(splits.y_test), [0, 1, 2, 3])
    assert "4 of 20 samples held out" in splits.notes[-1]


def test_npz_may_name_its_labels_and_have_several_for_a_sample(tmp_path):
    y = RNG.random((30, 3)) < 0.6
    np.savez(tmp_path / "set.npz", x=np.ones((30, 2)), y=y, label_names=["a", "b", "c"])
    splits = load_dataset(tmp_path / "set.npz")
    assert splits.label_names == ("a", "b", "c")
    assert splits.y_train.dtype == np.bool_
    assert splits.y_train.sum() + splits.y_test.sum() == y.sum()


def test_whole_numbers_that_are_no_images_are_left_alone(tmp_path):
    tokens = RNG.integers(0, 9, (20, 7))
    small = RNG.integers(0, 256, (20, 7), dtype=np.uint8)
    signed = RNG.integers(-128, 128, (20, 4, 4, 1), dtype=np.int8)
    for x in (tokens, small, signed):
        np.savez(tmp_path / "set.npz", x=x, y=np.arange(20) % 2)
        splits = load_dataset(tmp_path / "set.npz")
        assert splits.x_train.dtype == x.dtype
        same_samples(splits, x, np.arange(20) % 2)


def test_npz_gives_batches_scaled_as_they_come(tmp_path):
    x, y = images(10, (4, 6, 3), labels=3)
    np.savez(tmp_path / "set.npz", x=x, y=y)
    batches = as_batches(tmp_path / "set.npz", model=image_model(), batch_size=4)
    found, labels = gather(batches)
    np.testing.assert_allclose(found, x / 255, rtol=1e-6)
    np.testing.assert_array_equal(labels, y)
    np.testing.assert_array_equal(gather(batches.skip(2))[1], y[8:])


BAD_NPZ = {
    "pickle": (lambda p: np.savez(p, x=np.array([{}], dtype=object), y=[0]), "Python objects"),
    "names": (lambda p: np.savez(p, a=[1], b=[0]), r"Expected the entries.*\['a', 'b'\]"),
    "lengths": (lambda p: np.savez(p, x=np.ones((3, 2)), y=[0]), "do not go together"),
    "empty": (lambda p: np.savez(p, x=np.ones((0, 2)), y=np.ones(0)), "do not go together"),
    "text": (lambda p: p.write_text("hello"), "not an .npz"),
    "nothing": (lambda p: p.write_bytes(b""), "not an .npz"),
    "array": (lambda p: p.write_bytes(b"\x93NUMPY\x01\x00"), "not an .npz"),
}


@pytest.mark.parametrize("case", BAD_NPZ)
def test_a_bad_npz_is_refused(tmp_path, case):
    write, message = BAD_NPZ[case]
    path = tmp_path / "bad.npz"
    write(path)
    with pytest.raises(FileError, match=rf"bad\.npz.*{message}"):
        load_dataset(path)


def test_an_npz_cut_short_is_refused(tmp_path):
    path = tmp_path / "cut.npz"
    np.savez_compressed(path, x=RNG.random((50, 8)), y=np.arange(50) % 2)
    whole = path.read_bytes()
    for length in range(1, len(whole), 97):
        path.write_bytes(whole[:length])
        with pytest.raises(FileError, match=r"cut\.npz"):
            load_dataset(path)
    flipped = bytearray(whole)
    flipped[300] ^= 0xFF
    path.write_bytes(flipped)
    with pytest.raises(FileError, match=r"cut\.npz"):
        load_dataset(path)


def test_labels_too_few_to_split_are_named(tmp_path):
    np.savez(tmp_path / "set.npz", x=np.ones((9, 2)), y=[0] * 8 + [1])
    with pytest.raises(DataError, match=r"hold out a share of 0\.2 of 9.*two samples"):
        load_dataset(tmp_path / "set.npz")


def test_a_folder_of_images_comes_in_batches(tmp_path):
    x, y = write_images(tmp_path, {"dog": 3, "cat": 4, "ant": 2})
    state = np.random.get_state()[1].copy()
    batches = as_batches(tmp_path, model=image_model(), batch_size=4)
    assert batches.label_names == ("ant", "cat", "dog")
    assert (batches.size, batches.batches, batches.repeatable) == (9, 3, True)
    for _ in range(2):
        found, labels = gather(batches)
        np.testing.assert_allclose(found, x / 255, rtol=1e-6)
        np.testing.assert_array_equal(labels, y)
    rest = batches.skip(1)
    assert rest.size == 5
    np.testing.assert_array_equal(gather(rest)[1], y[4:])
    np.testing.assert_array_equal(np.random.get_state()[1], state)


def test_images_are_sized_for_the_model(tmp_path):
    write_images(tmp_path, {"a": 1, "b": 1, "c": 1})
    for shape, expected in (
        ((8, 8, 3), (3, 8, 8, 3)),
        ((4, 6, 1), (3, 4, 6, 1)),
        ((None, None, 3), (3, 4, 6, 3)),
    ):
        found, _ = gather(as_batches(tmp_path, model=image_model(shape)))
        assert found.shape == expected
        assert 0 <= found.min() <= found.max() <= 1


def test_some_of_the_model_s_classes_are_found_by_name(tmp_path):
    write_images(tmp_path, {"dog": 2, "cat": 2})
    model = image_model(labels=3)
    with pytest.raises(DataError, match=r"2 different labels.*Pass label_names"):
        as_batches(tmp_path, model=model)
    batches = as_batches(tmp_path, model=model, label_names=["dog", "elk", "cat"])
    np.testing.assert_array_equal(gather(batches)[1], [2, 2, 0, 0])


def test_a_folder_of_images_is_loaded_and_split(tmp_path):
    x, y = write_images(tmp_path, {"dog": 10, "cat": 5})
    (tmp_path / "cat" / "notes.txt").write_text("not an image")
    (tmp_path / ".cache").mkdir()
    splits = load_dataset(tmp_path)
    same_samples(splits, x / 255, y)
    assert splits.label_names == ("cat", "dog")
    assert splits.y_test.tolist().count(0) == 1
    assert splits.notes[0] == "1 files that are not images were left out."
    grey = load_dataset(tmp_path, image_size=(2, 2), channels=1, scale=False)
    assert grey.x_train.shape == (12, 2, 2, 1)
    assert grey.x_train.max() > 1
    with pytest.raises(DataError, match=r"1, 3 or 4 channels.*2"):
        load_dataset(tmp_path, channels=2)


@pytest.mark.parametrize("held_out", ["test", "val", "validation"])
def test_folders_of_parts_keep_their_split(tmp_path, held_out):
    x, y = write_images(tmp_path / "train", {"a": 3, "b": 2})
    x_test, y_test = write_images(tmp_path / held_out, {"a": 1, "b": 2}, shape=(5, 5, 3))
    splits = load_dataset(tmp_path)
    np.testing.assert_allclose(splits.x_train, x / 255, rtol=1e-6)
    np.testing.assert_array_equal(splits.y_train, y)
    assert splits.x_test.shape == (3, 4, 6, 3)
    np.testing.assert_array_equal(splits.y_test, y_test)
    assert splits.notes == (f"The split of the folders: {held_out}/ is held out.",)
    found, _ = gather(as_batches(tmp_path, model=image_model((5, 5, 3), labels=2), part="test"))
    np.testing.assert_allclose(found, x_test / 255, rtol=1e-6)
    np.testing.assert_array_equal(
        gather(as_batches(tmp_path / "train", model=image_model(labels=2)))[1], y
    )


def test_parts_of_other_classes_are_refused(tmp_path):
    write_images(tmp_path / "train", {"a": 1, "b": 1})
    write_images(tmp_path / "test", {"a": 1, "c": 1})
    with pytest.raises(DataError, match=r"classes \['b', 'c'\] are in one"):
        load_dataset(tmp_path)


def test_a_damaged_image_is_named(tmp_path):
    write_images(tmp_path, {"a": 3, "b": 3, "c": 3})
    (tmp_path / "b" / "001.png").write_text("no picture")
    with pytest.raises(FileError, match=r"001\.png.*not an image"):
        load_dataset(tmp_path)
    with pytest.raises(FileError, match=r"001\.png.*not an image"):
        list(as_batches(tmp_path, model=image_model(), batch_size=2))


def test_images_need_a_model_of_images(tmp_path):
    write_images(tmp_path, {"a": 1, "b": 1})
    flat = keras.Sequential([keras.Input((72,)), keras.layers.Dense(2)])
    with pytest.raises(DataError, match="needs a model of one image input"):
        as_batches(tmp_path, model=flat)


def test_paths_that_hold_no_data_set(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "model.tflite").write_bytes(b"TFL3")
    for name in ("empty", "model.tflite"):
        with pytest.raises(FileError, match=rf"{name}' holds no data set. Expected a folder"):
            load_dataset(tmp_path / name)
    with pytest.raises(FileError, match=r"no data set or path 'digit'. Expected one of .'digits'"):
        load_dataset("digit")


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist", "cifar10"])
def test_keras_s_sets(name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    shape = (4, 4, 3) if name == "cifar10" else (4, 4)
    (x, y), (x_test, y_test) = images(20, shape), images(8, shape)
    # CIFAR-10's labels are a column.
    pairs = (x, y.reshape(-1, *[1] * (name == "cifar10"))), (x_test, y_test)
    monkeypatch.setattr(getattr(keras.datasets, name), "load_data", lambda: pairs)
    splits = load_dataset(name)
    assert splits.x_train.shape == (20, 4, 4, 3 if name == "cifar10" else 1)
    np.testing.assert_allclose(splits.x_test.reshape(x_test.shape), x_test / 255, rtol=1e-6)
    np.testing.assert_array_equal(splits.y_train, y)
    assert len(set(splits.label_names)) == 10
    assert find(name, part="test").label_names == splits.label_names


def test_without_a_network_the_way_out_is_named(monkeypatch, tmp_path):
    def load_data():
        raise Exception("URL fetch failure")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(keras.datasets.cifar10, "load_data", load_data)
    with pytest.raises(DataError, match=r"Cannot download 'cifar10': URL fetch.*IDX files.*\.npz"):
        load_dataset("cifar10")


def test_real_npz_files(shared_data):
    voices = load_dataset(shared_data / "sequence" / "japanese_vowels.npz")
    assert (voices.x_train.shape, voices.x_test.shape) == ((270, 29, 12), (370, 29, 12))
    assert voices.label_names == tuple("012345678")
    words = load_dataset(shared_data / "text" / "sms_tokens.npz")
    assert words.x_train.dtype == np.int16
    pictures = load_dataset(shared_data / "cifar10" / "train_first4000_lossless.npz")
    assert pictures.x_train.shape == (3200, 32, 32, 3)
    assert pictures.x_train.max() == 1


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_images_come_as_keras_reads_them(tmp_path, channels):
    write_images(tmp_path, {"a": 3, "b": 4}, shape=(7, 9, 3))
    modes = {1: "grayscale", 3: "rgb", 4: "rgba"}
    kerases = keras.utils.image_dataset_from_directory(
        tmp_path, color_mode=modes[channels], image_size=(5, 4), batch_size=3, shuffle=False,
        label_mode="int", verbose=False,
    )  # fmt: skip
    read = find(tmp_path).reader(shape=(5, 4, channels), batch_size=3, scale=False)
    for mine, theirs in zip(read(0), kerases, strict=True):
        np.testing.assert_array_equal(mine[0], theirs[0])
        np.testing.assert_array_equal(mine[1], theirs[1])


def test_folders_in_another_encoding_and_what_a_mac_leaves(tmp_path):
    x, y = write_images(tmp_path, {"b": 5, os.fsdecode(b"caf\xe9"): 6})
    for hidden in ("._000.png", ".DS_Store"):
        (tmp_path / "b" / hidden).write_bytes(b"\0\5\x16\7")
    batches = as_batches(tmp_path, model=image_model(labels=2), batch_size=2)
    found, labels = gather(batches)
    np.testing.assert_allclose(found, x / np.float32(255), rtol=1e-6)
    np.testing.assert_array_equal(labels, y)
    assert batches.label_names == ("b", "café")
    splits = load_dataset(tmp_path)
    same_samples(splits, x / np.float32(255), y)
    assert splits.label_names == ("b", "café")
    assert splits.notes[:2] == (
        "2 hidden files were left out.",
        "Names of folders that are not UTF-8 were read as Latin-1: ['café'].",
    )


def test_two_folders_of_one_name_are_refused(tmp_path):
    write_images(tmp_path, {"café": 2, os.fsdecode(b"caf\xe9"): 2})
    with pytest.raises(DataError, match=r"two folders for each of \['café'\]"):
        load_dataset(tmp_path)


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")
def test_two_parts_are_taken_as_the_message_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    x, y = np.arange(24.0).reshape(12, 2), np.arange(12) % 3
    np.savez("data.npz", x_train=x[:8], y_train=y[:8], x_test=x[8:], y_test=y[8:])
    hidden, answer = keras.layers.Dense(4), keras.layers.Dense(3, "softmax")
    model = keras.Sequential([keras.Input((2,)), hidden, answer])
    with pytest.raises(DataError, match="Take one: ") as caught:
        nns.observe(model, "data.npz", verbose=False)
    ways = r"Take one: (s = .*?), then (\(.*?\)); in a shell (--part test)\."
    said = re.search(ways, str(caught.value))
    names = {"nns": nns}
    exec(said[1], names)
    found, labels = eval(said[2], names)
    assert (found.tolist(), labels.tolist()) == (x[8:].tolist(), y[8:].tolist())
    model.save("model.keras")
    words = ["observe", "model.keras", "data.npz", *said[3].split(), "-o", "a.npz", "--quiet"]
    assert main(words) == 0
    assert Activity.load("a.npz").samples.sum() == 4
