"""A stopped observation goes on over the same data alone, and remembers all that it saw."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras_nns as nns
from keras_nns.cli import main
from keras_nns.observation.activity import Activity

SIZE = 10

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(3)
    return keras.Sequential(
        [keras.Input((4,)), layers.Dense(6, activation="relu"), layers.Dense(3)], name="parent"
    )


def samples(seed):
    random = np.random.default_rng(seed)
    return random.normal(size=(200, 4)).astype("float32"), random.integers(0, 3, 200)


def stopping(x, y, batches):
    """The data, which ends in an error behind so many batches."""
    for i in range(batches):
        yield x[i * SIZE : (i + 1) * SIZE], y[i * SIZE : (i + 1) * SIZE]
    raise OSError("the disk is gone")


def in_batches(x, y):
    return [(x[i : i + SIZE], y[i : i + SIZE]) for i in range(0, len(x), SIZE)]


OPTIONS = {"batch_size": SIZE, "checkpoint_every": 3, "verbose": False}


@pytest.fixture
def stopped(model, tmp_path):
    """A checkpoint of 12 of 20 batches."""
    path = tmp_path / "going.npz"
    x, y = samples(1)
    with pytest.raises(OSError, match="the disk is gone"):
        nns.observe(model, Broken(x, y), checkpoint=path, **OPTIONS)
    return path


class Broken(keras.utils.PyDataset):
    """Batches of arrays; one of them cannot be read where it is told so."""

    def __init__(self, x, y, broken=13):
        super().__init__()
        self.x, self.y, self.broken = x, y, broken

    def __len__(self):
        return len(self.x) // SIZE

    def __getitem__(self, i):
        if i == self.broken:
            raise OSError("the disk is gone")
        return self.x[i * SIZE : (i + 1) * SIZE], self.y[i * SIZE : (i + 1) * SIZE]


def whole(x, y):
    return Broken(x, y, broken=None)


@pytest.mark.slow
def test_it_goes_on_over_the_same_data(model, stopped):
    x, y = samples(1)
    found = nns.observe(model, whole(x, y), checkpoint=stopped, **OPTIONS)
    assert found == nns.observe(model, whole(x, y), **OPTIONS)
    assert not stopped.exists()


def changed(place, what):
    x, y = (array.copy() for array in samples(1))
    if what == "input":
        x[place, 2] += 1e-3
    elif what == "bit":
        x[place, 2] = np.nextafter(x[place, 2], np.float32(9))
    else:
        y[place] = (y[place] + 1) % 3
    return whole(x, y)


def exchanged(one, other, count=SIZE):
    """Some inputs in the place of others: all are there, by labels that are not theirs."""
    x, y = samples(1)
    order = np.arange(len(x))
    order[one : one + count], order[other : other + count] = (
        order[other : other + count].copy(),
        order[one : one + count].copy(),
    )
    return whole(x[order], y)


OTHERS = {
    "other data": lambda: whole(*samples(2)),
    "scaled": lambda: whole(samples(1)[0] * 2, samples(1)[1]),
    "other labels": lambda: whole(samples(1)[0], samples(2)[1]),
    "turned round": lambda: whole(*(array[::-1] for array in samples(1))),
    "one input of the first batch": lambda: changed(3, "input"),
    "one label of the first batch": lambda: changed(3, "label"),
    "one input between": lambda: changed(57, "input"),
    "one label between": lambda: changed(84, "label"),
    "one input between, by a bit": lambda: changed(57, "bit"),
    "two batches between": lambda: exchanged(40, 70),
    "two samples of a batch between": lambda: exchanged(41, 45, 1),
    "one input of the last batch summed": lambda: changed(115, "input"),
    "one label of the last batch summed": lambda: changed(115, "label"),
}


@pytest.mark.parametrize("case", OTHERS)
def test_other_data_of_the_same_size_is_refused(case, model, stopped):
    with pytest.raises(nns.errors.FileError, match=r"over other data.*Delete it to start anew"):
        nns.observe(model, OTHERS[case](), checkpoint=stopped, **OPTIONS)
    assert stopped.exists()


def test_a_generator_that_cannot_be_read_twice_is_held_against_what_was_summed(model, tmp_path):
    path, (x, y) = tmp_path / "going.npz", samples(1)
    with pytest.raises(OSError, match="the disk is gone"):
        nns.observe(model, stopping(x, y, 7), checkpoint=path, **OPTIONS)
    with pytest.raises(nns.errors.FileError, match=r"batch 0 is not the one"):
        nns.observe(model, iter(in_batches(*samples(2))), checkpoint=path, **OPTIONS)
    with pytest.raises(nns.errors.FileError, match=r"batch 4 is not the one"):
        nns.observe(model, iter(in_batches(x[:40], y[:40])), checkpoint=path, **OPTIONS)
    rest = nns.observe(model, iter(in_batches(x, y)), checkpoint=path, **OPTIONS)
    assert rest == nns.observe(model, iter(in_batches(x, y)), **OPTIONS)


def test_a_data_set_that_shuffles_anew_is_refused(model, tmp_path):
    path, (x, y) = tmp_path / "going.npz", samples(1)
    data = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(200, seed=1).batch(SIZE)
    nns.observe(model, data, checkpoint=path, keep_checkpoint=True, **OPTIONS)
    with pytest.raises(nns.errors.FileError, match="in another order"):
        nns.observe(model, data, checkpoint=path, **OPTIONS)


@pytest.mark.slow
def test_a_complete_one_gives_the_activity_at_once(model, tmp_path):
    path, (x, y) = tmp_path / "going.npz", samples(1)
    first = nns.observe(model, x, y, checkpoint=path, keep_checkpoint=True, **OPTIONS)
    again = nns.observe(model, x, y, checkpoint=path, **OPTIONS)
    assert again == first and not path.exists()
    same(again.seen, first.seen)


def same(one, other):
    assert one.hashes.tolist() == other.hashes.tolist()
    assert one.counts.tolist() == other.counts.tolist()
    assert (one.hashed, one.samples, one.limit) == (other.hashed, other.samples, other.limit)


@pytest.mark.slow
def test_what_was_seen_before_the_stop_is_not_forgotten(model, stopped):
    x, y = samples(1)
    activity = nns.observe(model, whole(x, y), checkpoint=stopped, **OPTIONS)
    same(activity.seen, nns.observe(model, whole(x, y), **OPTIONS).seen)
    small = nns.cut(
        model, nns.select(activity, 1, keep=nns.top(3), score="mean_activation"), head="binary"
    )
    # As whoever judges on what the first run saw.
    with pytest.raises(nns.errors.DataError, match="was observed, repaired or trained"):
        nns.evaluate(small, x[:110], y[:110])


@pytest.mark.slow
def test_an_interrupt_inside_a_step_leaves_sums_and_sketch_of_the_same_batches(
    model, tmp_path, monkeypatch
):
    from keras_nns.data.sketch import Sketcher

    path, (x, y) = tmp_path / "going.npz", samples(1)
    expected = nns.observe(model, whole(x, y), **OPTIONS)
    add = Sketcher.add

    def interrupted(self, *args):
        add(self, *args)
        if self.batches == 8:
            raise KeyboardInterrupt

    monkeypatch.setattr(Sketcher, "add", interrupted)
    with pytest.raises(KeyboardInterrupt):
        nns.observe(model, whole(x, y), checkpoint=path, **OPTIONS)
    monkeypatch.undo()
    found = nns.observe(model, whole(x, y), checkpoint=path, **OPTIONS)
    assert found == expected
    same(found.seen, expected.seen)


@pytest.mark.slow
def test_the_command_deletes_it_once_the_result_is_written(model, tmp_path, monkeypatch, capsys):
    x, y = samples(1)
    np.savez(tmp_path / "data.npz", x=x, y=y)
    nns.save_model(model, tmp_path / "model.keras")
    going, output = tmp_path / "going.npz", tmp_path / "activity.npz"
    line = ["observe", str(tmp_path / "model.keras"), str(tmp_path / "data.npz"), "-o", str(output)]
    line += ["--checkpoint", str(going), "--quiet", "--batch-size", str(SIZE)]
    save = Activity.save

    def full(self, path, **options):
        raise nns.errors.FileError("no space left on the device")

    monkeypatch.setattr(Activity, "save", full)
    assert main(line) != 0
    assert going.exists() and not output.exists()
    seen = []

    def noted(self, *args, **options):
        seen.append(going.exists())
        save(self, *args, **options)

    monkeypatch.setattr(Activity, "save", noted)
    assert main(line) == 0
    assert seen == [True] and not going.exists()
    found = Activity.load(output)
    assert found == nns.observe(model, x, y, **OPTIONS)
    assert found.seen.samples == len(x)
