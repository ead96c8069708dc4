"""Data dealt into shards: every sample once, the same way everywhere."""

from __future__ import annotations

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_nns.data.batches import as_batches
from keras_nns.data.dealing import Dealer
from keras_nns.data.shards import Shard, Shards, numbers_in_words, united
from keras_nns.errors import DataError


@pytest.fixture(scope="module")
def model():
    return keras.Sequential([keras.Input((1,)), keras.layers.Dense(3)])


def flat(lists):
    return [*itertools.chain.from_iterable(lists)]


def rows(size):
    """Inputs that number the samples, and labels."""
    return np.arange(size, dtype=np.float32)[:, None], np.arange(size) % 3


class Sequence(keras.utils.PyDataset):
    def __init__(self, size):
        super().__init__()
        self.x, self.y = rows(size)

    def __len__(self):
        return (len(self.x) + 3) // 4

    def __getitem__(self, i):
        return self.x[4 * i : 4 * i + 4], self.y[4 * i : 4 * i + 4]


def files(size, folder):
    np.savez(folder / "set.npz", x=rows(size)[0], y=rows(size)[1])
    return folder / "set.npz"


CONTAINERS = {
    "arrays": lambda size, _: rows(size),
    "npz": files,
    "tf.data": lambda size, _: tf.data.Dataset.from_tensor_slices(rows(size)).batch(5),
    "batches": lambda size, _: [(x[i : i + 3], y[i : i + 3]) for x, y in [rows(size)]
                                for i in range(0, size, 3)],
    "generator": lambda size, _: iter([rows(size)]),
}  # fmt: skip


def shards(model, make, count, **options):
    """Every shard's samples by their numbers, each of data opened anew."""
    dealt = [
        Dealer(as_batches(make(), model=model, **options), Shard(i, count))
        for i in range(1, count + 1)
    ]
    found = [[batch.inputs[:, 0].astype(int).tolist() for batch in one.batches] for one in dealt]
    assert len({one.data() for one in dealt}) == 1
    return found


@pytest.mark.parametrize("kind", CONTAINERS)
@pytest.mark.parametrize(("size", "count"), [(23, 4), (7, 7), (12, 1), (100, 3)])
def test_every_sample_is_in_one_shard(model, tmp_path, kind, size, count):
    found = shards(model, lambda: CONTAINERS[kind](size, tmp_path), count, batch_size=5)
    numbers = [flat(one) for one in found]
    assert sorted(flat(numbers)) == list(range(size))
    assert max(map(len, numbers)) - min(map(len, numbers)) <= 1


@settings(max_examples=40)
@given(size=st.integers(1, 60), count=st.integers(1, 8), batch_size=st.integers(1, 9))
def test_neighbours_stay_together_whatever_the_batches(model, size, count, batch_size):
    count = min(size, count)
    found = shards(model, lambda: rows(size), count, batch_size=batch_size)
    assert flat(map(flat, found)) == list(range(size))
    # numpy deals so too, but gives the larger shares to the first.
    sizes = sorted(len(flat(one)) for one in found)
    assert sizes == sorted(map(len, np.array_split(np.arange(size), count)))


def test_what_is_gone_through_keeps_its_batches_full(model):
    data = tf.data.Dataset.from_tensor_slices(rows(40)).batch(8)
    (first, *_) = shards(model, lambda: data, 4)
    assert first == [list(range(0, 32, 4)), [32, 36]]


def test_a_py_dataset_is_dealt_in_whole_batches(model):
    found = shards(model, lambda: Sequence(30), 3)
    assert [len(one) for one in found] == [2, 3, 3]
    assert flat(map(flat, found)) == list(range(30))


def test_a_shard_of_arrays_and_of_files_reads_its_own_alone(model):
    class Counted:
        shape, dtype = (1000, 1), np.dtype("float32")

        def __init__(self):
            self.read = set()

        def __getitem__(self, rows):
            self.read |= set(range(1000)[rows])
            return np.zeros((len(range(1000)[rows]), 1), np.float32)

        def __len__(self):
            return 1000

    x = Counted()
    data = as_batches((x, np.arange(1000) % 3), model=model, batch_size=10)
    x.read.clear()
    assert sum(b.size for b in Dealer(data, Shard(2, 4)).batches) == 250
    assert x.read == set(range(250, 500))


def test_images_of_a_folder_are_dealt_by_the_image(tmp_path):
    net = keras.Sequential([keras.Input((2, 2, 1)), keras.layers.Flatten(), keras.layers.Dense(2)])
    for number in range(11):
        folder = tmp_path / "set" / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        keras.utils.save_img(
            folder / f"{number:02}.png", np.full((2, 2, 1), number * 20), scale=False
        )

    def shades(i, batch_size, path=tmp_path / "set"):
        dealt = Dealer(as_batches(path, model=net, batch_size=batch_size), Shard(i, 3))
        found = [round(float(x) * 255 / 20) for b in dealt.batches for x in b.inputs[:, 0, 0, 0]]
        return found, dealt.data()

    whole = [0, 2, 4, 6, 8, 10, 1, 3, 5, 7, 9]
    for batch_size in (2, 64):
        found, data = zip(*(shades(i, batch_size) for i in (1, 2, 3)), strict=True)
        assert flat(found) == whole
        assert len(set(data)) == 1
    # Wherever it lies; but not with other images.
    (tmp_path / "set").rename(tmp_path / "moved")
    assert shades(1, 2, tmp_path / "moved")[1] == data[0]
    (tmp_path / "moved" / "a" / "10.png").unlink()
    assert shades(1, 2, tmp_path / "moved")[1] != data[0]


def test_weights_and_labels_of_a_shard_are_its_own(model):
    x, y = rows(10)
    w = np.array([1, 1, 1, 0, 1, 2, 1, 1, 1, 1.0])
    data = tf.data.Dataset.from_tensor_slices((x, y, w)).batch(4)
    for make in (lambda: (x, y, w), lambda: data):
        found = [
            (int(n), int(label), float(weight))
            for i in (1, 2)
            for batch in Dealer(as_batches(make(), model=model), Shard(i, 2)).batches
            for n, label, weight in zip(batch.inputs[:, 0], batch.labels, batch.each, strict=True)
        ]
        assert sorted(found) == [(i, i % 3, w[i]) for i in range(10) if w[i]]


def test_other_data_or_another_order_shows(model):
    def data_of(data):
        dealt = Dealer(as_batches(data, model=model), Shard(1, 2))
        list(dealt.batches)
        return dealt.data()

    x, y = rows(50)
    turned = np.roll(np.arange(50), 1)
    for wrap in (lambda x, y: (x, y), lambda x, y: [(x[:30], y[:30]), (x[30:], y[30:])]):
        alike = data_of(wrap(x, y))
        assert alike == data_of(wrap(x.copy(), y.copy()))
        others = {data_of(wrap(x[:-1], y[:-1])), data_of(wrap(x[turned], y[turned]))}
        others |= {data_of(wrap(x, y[turned])), data_of(wrap(x + 1, y))}
        assert len(others) == 4 and alike not in others
    shuffled = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(50, seed=1).batch(10)
    assert data_of(shuffled) != data_of(shuffled)


@pytest.mark.parametrize("kind", [*CONTAINERS, "py_dataset"])
def test_an_empty_shard_is_refused(model, tmp_path, kind):
    make = CONTAINERS.get(kind, lambda size, _: Sequence(size))
    with pytest.raises(DataError, match=r"is empty: the data has \d (samples|batches)\. Deal it"):
        shards(model, lambda: make(3, tmp_path), 5)


@pytest.mark.parametrize("given", [2, (0, 4), (5, 4), (1,), (1.5, 2), (True, 2), "2/8", None])
def test_what_is_no_shard_is_refused(given):
    with pytest.raises(DataError, match=r"such as \(2, 8\) for the second of eight"):
        Shard.of(given)


def test_which_shards_two_sums_hold():
    one, three = Shards((1,), 4, "a"), Shards((3,), 4, "a")
    assert united(None, None) is None
    both = united(three, one)
    assert (both.numbers, str(both), both.missing) == ((1, 3), "shards 1 and 3 of 4", (2, 4))
    assert Shards.from_json(both.to_json()) == both
    assert united(both, Shards((2, 4), 4, "a")) is None
    with pytest.raises(DataError, match="Both hold shard 3 of 4"):
        united(both, three)
    for other in (None, Shards((1,), 3, "a"), Shards((1,), 4, "b")):
        with pytest.raises(DataError, match="different data"):
            united(three, other)


@pytest.mark.parametrize(
    ("numbers", "words"),
    [((2,), "2"), ((1, 2), "1 and 2"), ((1, 3, 4, 5, 8), "1, 3 to 5 and 8"), ((4, 5, 6), "4 to 6")],
)
def test_numbers_in_words(numbers, words):
    assert numbers_in_words(numbers) == words
