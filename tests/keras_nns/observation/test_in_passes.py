"""Layers that do not fit into memory together are watched in several passes (`memory=`)."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import keras_nns as nns
from keras_nns.errors import DataError, SelectionError
from keras_nns.observation.activity import STATISTICS
from keras_nns.observation.in_passes import grouped, needed, observe_in_passes
from keras_nns.observation.watcher import Observer

layers = keras.layers


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(8, activation="relu", name="one"),
            layers.Dense(12, activation="tanh", name="two"),
            layers.Dense(4, activation="relu", name="three"),
            layers.Dense(3, activation="softmax", name="answer"),
        ]
    )


@pytest.fixture(scope="module")
def data():
    random = np.random.default_rng(0)
    return random.normal(size=(70, 6)).astype("float32"), random.integers(0, 3, 70)


@pytest.fixture
def observer(model):
    return Observer(model, statistics=STATISTICS)


def test_passes_see_what_one_sees(observer, data, monkeypatch):
    whole = observer.observe(data, batch_size=16)
    titles = []

    def heard(items, title, **_):
        titles.append(title)
        yield from items

    track = "keras_nns.observation.watcher.track"
    monkeypatch.setattr(track, heard)
    sizes = [needed(tap, 3, STATISTICS, 16) for tap in observer.taps]
    found = observe_in_passes(observer, data, None, memory=max(sizes), batch_size=16)
    assert found == whole and list(found.layers) == ["one", "two", "three"]
    assert found.seen.to_json() == whole.seen.to_json() and found.unwatched == whole.unwatched
    assert titles == [f"observing, pass {i} of 3" for i in (1, 2, 3)]


def test_what_fits_is_one_pass(model, data):
    assert nns.observe(model, data, memory="1MB") == nns.observe(model, data)


def test_shards_are_seen_in_passes_too(observer, data):
    whole = observer.observe(data, shard=(2, 3))
    found = observe_in_passes(observer, data, None, memory=25_000, batch_size=128, shard=(2, 3))
    assert len(observer.taps) < 3
    assert found == whole and found.shards == whole.shards


def test_groups_are_as_large_as_the_limit_and_in_order(observer):
    one, two, three = observer.taps
    assert grouped([(one, 3), (two, 2), (three, 2)], 5) == [[one, two], [three]]
    assert grouped([(one, 3), (two, 3), (three, 2)], 5) == [[one], [two, three]]


def test_without_a_limit_passes_are_told_of_or_not_taken(model, data, tmp_path, monkeypatch):
    whole = nns.observe(model, data, memory=None)
    monkeypatch.setattr("keras_nns.observation.in_passes._UNASKED", 100)
    # The largest layer has a pass to itself: without a limit that was set, none is refused.
    with pytest.warns(UserWarning, match="24 units takes about .* in 3 passes.*memory=None"):
        assert nns.observe(model, data) == whole
    assert nns.observe(model, iter([data])) == whole
    assert nns.observe(model, data, checkpoint=tmp_path / "half") == whole
    assert nns.observe(model, data, memory=None) == whole


def test_what_is_needed_grows_with_units_labels_and_statistics(observer):
    one, two, _ = observer.taps
    few = needed(one, 3, ("fired",), 16)
    # 8 bytes held and read, 12 for what is added, of each label; 12 for each sample of a batch.
    assert few == 8 * (3 * 28 + 12 * 16)
    assert needed(one, 6, ("fired",), 16) == few + 8 * 3 * 28
    # What may be negative has the sum of its absolute value too.
    assert needed(two, 3, ("mean",), 16) == 12 * (3 * 44 + 12 * 16)


def test_wrong_use_is_one_clear_error(model, data, tmp_path):
    def refused(error, said, given=data, **options):
        with pytest.raises(error, match=said):
            nns.observe(model, given, **options)

    for memory in ("12", "parameters=3k", 0, True, 1.5):
        refused(SelectionError, "size such as '512MB'|needs its unit", memory=memory)
    refused(SelectionError, "'one' alone takes about .* Received: memory of 100", memory="100B")
    refused(DataError, "seen in . passes, and an iterator can be read", iter([data]), memory="40kB")
    refused(DataError, "A checkpoint is of one pass", memory="1MB", checkpoint=tmp_path / "half")


def test_other_samples_in_another_pass_are_noticed(model, data):
    x, y = data
    passes = iter(range(9))

    def changing():
        size = 70 - next(passes)
        return iter([(x[:size], y[:size])])

    with pytest.raises(DataError, match="Pass 2 over the data gave other samples"):
        nns.observe(model, changing, memory="40kB")
