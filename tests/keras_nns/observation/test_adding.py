"""Activities of shards add up to one pass, or the part that does not fit is named."""

from __future__ import annotations

import itertools
import warnings
from dataclasses import replace

import keras
import numpy as np
import pytest

import keras_nns as nns
from keras_nns.cli import main
from keras_nns.data.shards import Shards
from keras_nns.errors import DataError, FileError, ModelError
from keras_nns.files import atomic
from keras_nns.observation.activity import STATISTICS
from keras_nns.observation.watcher import Observer

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)
layers = keras.layers
COUNT = 4


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(1)
    return keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            layers.Conv2D(5, 3, activation="relu", name="conv"),
            layers.Flatten(),
            layers.Dense(7, activation="tanh", name="dense"),
            layers.Dense(3, activation="softmax", name="answer"),
        ],
        name="net",
    )


@pytest.fixture(scope="module")
def data():
    random = np.random.default_rng(0)
    return random.normal(3, 1, (97, 6, 6, 1)).astype("float32"), random.integers(0, 3, 97)


@pytest.fixture(scope="module")
def observer(model):
    return Observer(model, statistics=STATISTICS)


@pytest.fixture(scope="module")
def whole(observer, data):
    return observer.observe(data, batch_size=16)


@pytest.fixture(scope="module")
def parts(observer, data):
    return [observer.observe(data, batch_size=16, shard=(i, COUNT)) for i in range(1, COUNT + 1)]


def same_bits(one, other):
    return one == other and one.shards == other.shards


def test_shards_add_up_to_one_pass(whole, parts):
    assert [str(p.shards) for p in parts] == [f"shard {i} of 4" for i in (1, 2, 3, 4)]
    total = nns.add(parts)
    assert total.shards is None and str(total) == str(whole)
    np.testing.assert_array_equal(total.samples, whole.samples)
    for name in whole.layers:
        np.testing.assert_array_equal(total.layers[name].fired, whole.layers[name].fired)
        np.testing.assert_array_equal(total.maximum(name), whole.maximum(name))
        for figure in ("mean", "magnitude", "active_share", "mean_square"):
            np.testing.assert_allclose(
                getattr(total, figure)(name), getattr(whole, figure)(name), rtol=1e-6, atol=1e-9
            )
        # Of squares summed in float32, rounding is in units of the squares.
        np.testing.assert_allclose(
            total.variance(name), whole.variance(name), atol=1e-6 * whole.mean_square(name).max()
        )


def test_any_order_gives_the_same_bits(parts):
    total = nns.add(parts)
    for order in itertools.permutations(parts):
        assert same_bits(nns.add(order), total)
    assert nns.add([parts[2] + parts[0], parts[3], parts[1]]).shards is None


def test_files_add_up_as_what_they_hold(parts, tmp_path):
    names = [tmp_path / f"part{i}.npz" for i in range(COUNT)]
    for part, name in zip(parts, names, strict=True):
        part.save(name)
        assert same_bits(nns.Activity.load(name), part)
    mixed = [names[1], str(names[0]), parts[3], names[2]]
    assert same_bits(nns.add(mixed), nns.add(parts))


def test_what_is_added_of_some_shards_remembers_which(parts, tmp_path):
    some = nns.add([parts[3], parts[0], parts[1]], incomplete=True)
    assert str(some.shards) == "shards 1, 2 and 4 of 4"
    assert str(some).endswith(", shards 1, 2 and 4 of 4 of the data")
    some.save(tmp_path / "some.npz")
    # What was missing may come later.
    rest = nns.add([tmp_path / "some.npz", parts[2]])
    assert rest.shards is None
    np.testing.assert_array_equal(rest.samples, nns.add(parts).samples)


def test_a_single_shard_of_one_is_the_whole(observer, data, whole):
    assert same_bits(observer.observe(data, batch_size=16, shard=(1, 1)), whole)


def refused(parts, **options):
    with pytest.raises(DataError) as caught:
        nns.add(parts, **options)
    return str(caught.value)


def test_a_shard_that_is_missing_is_named(parts):
    said = refused(parts[:1])
    assert said.startswith("Shards 2 to 4 of 4 are missing beside part 1 (shard 1 of 4).")
    assert "shard=(2, 4) (--shard 2/4 in a shell)" in said
    assert refused(parts[:3]).startswith("Shard 4 of 4 is missing")


@pytest.mark.parametrize("options", [{}, {"incomplete": True}, {"other_data": True}])
def test_a_shard_that_is_there_twice_is_refused_always(parts, options):
    said = refused([*parts, parts[1]], **options)
    assert said.startswith(
        "part 5 (shard 2 of 4) holds the same shard 2 as part 2 (shard 2 of 4), so these would "
        "count twice."
    )
    with pytest.raises(DataError, match="Both hold shard 2 of 4"):
        parts[1] + parts[1]


def test_a_whole_that_is_there_twice_is_refused(whole, parts):
    assert "part 2 holds the same samples as part 1" in refused([whole, whole])
    assert refused([whole, *parts]).startswith("part 2 (shard 1 of 4) is of other data than part 1")


def test_shards_of_another_run_are_named_and_added_where_that_is_meant(observer, data, parts):
    x, y = data
    other = [observer.observe((x[::-1], y[::-1]), shard=(i, 2)) for i in (1, 2)]
    said = refused([*parts[:2], other[0], *parts[2:]])
    assert said.startswith("part 3 (shard 1 of 2) is of other data than part 1 (shard 1 of 4)")
    both = nns.add([other[1], *parts, other[0]], other_data=True)
    np.testing.assert_array_equal(both.samples, 2 * nns.add(parts).samples)
    assert both.shards is None
    # All of each, or nobody could say which are there.
    for options in ({"other_data": True}, {"other_data": True, "incomplete": True}):
        assert "Shard 2 of 2 is missing" in refused([*parts, other[0]], **options)
    with pytest.raises(DataError, match="parts of different data"):
        parts[0] + other[1]


def test_whole_sets_of_one_model_add_up(observer, data, whole):
    x, y = data
    both = nns.add([observer.observe(x[:50], y[:50]), observer.observe(x[50:], y[50:])])
    np.testing.assert_array_equal(both.samples, whole.samples)


def test_parts_of_other_settings_are_named(model, data, parts):
    path = parts[0]
    cases = {
        "other statistics": replace(parts[1], statistics=("fired", "mean")),
        "another threshold": replace(parts[1], threshold=0.5),
        "other labels": replace(parts[1], label_names=("a", "b", "c")),
        "other layers": replace(parts[1], layers={"conv": parts[1].layers["conv"]}),
        "another model": replace(
            parts[1], fingerprint=replace(parts[1].fingerprint, weights="others")
        ),
    }
    for what, part in cases.items():
        said = refused([path, part])
        assert said.startswith(f"part 2 (shard 2 of 4) was observed with {what} than part 1"), said
    assert "its weights are others" in said


def test_nothing_and_no_activities_are_refused(parts, tmp_path):
    assert refused([]).startswith("There is nothing to add")
    assert "Received: int, as part 1" in refused([3])
    with pytest.raises(FileError, match="No such file"):
        nns.add([parts[0], tmp_path / "missing.npz"])
    (tmp_path / "bad.npz").write_bytes(b"PK nothing")
    with pytest.raises(FileError, match=r"bad\.npz"):
        nns.add([tmp_path / "bad.npz"])
    parts[0].save(tmp_path / "part.npz")
    header, arrays = atomic.read_arrays(tmp_path / "part.npz", "keras_nns.activity")
    header["shards"]["numbers"] = [5]
    atomic.write_arrays(tmp_path / "odd.npz", "keras_nns.activity", header, arrays)
    for read in (nns.Activity.load, nns.add):
        with pytest.raises(FileError, match="damaged: there are no shards"):
            read(tmp_path / "odd.npz")


def test_layers_that_keep_a_state_are_not_dealt(data):
    steps = keras.Input((3, 2), batch_size=4)
    hidden = layers.LSTM(5, stateful=True)(steps)
    model = keras.Model(steps, layers.Dense(3)(hidden))
    with pytest.raises(ModelError, match="stateful: what they answer depends on the batches"):
        nns.observe(model, np.zeros((8, 3, 2), "float32"), np.zeros(8, int), shard=(1, 2))


def test_a_checkpoint_is_of_its_shard(model, data, tmp_path):
    path = tmp_path / "half"
    options = {"checkpoint": path, "keep_checkpoint": True}
    first = nns.observe(model, data, shard=(1, 2), **options)
    assert same_bits(nns.observe(model, data, shard=(1, 2), **options), first)
    with pytest.raises(FileError, match="another run: shard is '1 of 2' there and '2 of 2' here"):
        nns.observe(model, data, shard=(2, 2), **options)


@pytest.mark.slow
def test_commands_observe_and_add_shards(model, data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    nns.save_model(model, "net.keras")
    np.savez("data.npz", x=data[0], y=data[1])
    for i in (1, 2):
        assert main(f"observe net.keras data.npz --shard {i}/2 -o part{i}.npz".split()) == 0
    assert main(["add", "part2.npz", "part1.npz", "-o", "all.npz"]) == 0
    assert "over 97 samples\n" in capsys.readouterr().out
    assert main(["observe", "net.keras", "data.npz", "-o", "once.npz"]) == 0
    alone, added = nns.Activity.load("once.npz"), nns.Activity.load("all.npz")
    np.testing.assert_array_equal(added.layers["conv"].fired, alone.layers["conv"].fired)
    capsys.readouterr()
    assert main(["add", "part2.npz", "-o", "half.npz"]) == 1
    assert "Shard 1 of 2 is missing beside part2.npz (shard 2 of 2)." in capsys.readouterr().err
    assert main(["add", "part2.npz", "--incomplete", "-o", "half.npz"]) == 0
    for wrong, said in (("0/8", "a scheduler counts from 0, add 1"), ("2:8", "a shard as 2/8")):
        assert main(f"observe net.keras data.npz --shard {wrong} -o no.npz".split()) == 2
        assert said in capsys.readouterr().err


def test_a_record_is_not_part_of_what_is_compared(parts):
    assert replace(parts[0], shards=Shards((2,), 9, "x")) == parts[0]


def test_selecting_by_a_part_is_warned_of(parts):
    with pytest.warns(nns.errors.DataWarning, match="of shard 2 of 4 of the data alone"):
        nns.select(parts[1], labels=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nns.select(nns.add(parts), labels=0)
