"""Activity is a sum (law 5), and its file reads back equal or is refused (law 7)."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import keras_nns as nns
from keras_nns.files import atomic
from keras_nns.observation.activity import STATISTICS, Activity
from keras_nns.observation.layer_sums import LayerActivity
from keras_nns.plans.units import Fingerprint, Group, Layout, Member

# TensorFlow's tensors under numpy 2, when Keras writes weights.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)

FIGURES = ("mean", "magnitude", "firing_rate", "variance", "maximum", "active_share", "mean_square")
LAYOUT = Layout((Group("relu", 3, (Member("relu", (0, 1, 2)), Member("tanh", (2, 0, 1)))),))


def activity_of(values, labels, count=3):
    """Make an activity by hand from signed values `(samples, units)` of the layer `tanh`."""
    hot = np.asarray(labels)[:, None] == np.arange(count)

    def layer(signed, *, nonnegative):
        absolute = np.abs(signed)
        total = hot.T.astype(float) @ signed
        deviation, maximum = np.zeros_like(total), np.full_like(total, -np.inf)
        for label in range(count):
            if hot[:, label].any():
                own = signed[hot[:, label]]
                deviation[label] = ((own - own.mean(axis=0)) ** 2).sum(axis=0)
                maximum[label] = absolute[hot[:, label]].max(axis=0)
        magnitude = total if nonnegative else hot.T.astype(float) @ absolute
        fired = hot.T.astype(np.int64) @ (absolute > 0)
        square = hot.T.astype(float) @ signed**2
        active = fired.astype(float)
        return LayerActivity(total, magnitude, fired, deviation, maximum, active, square)

    values = np.asarray(values, dtype=np.float64).reshape(-1, 3)
    return Activity(
        fingerprint=Fingerprint("s", "w"),
        layout=LAYOUT,
        label_names=("cat", "dog", "größe"),
        samples=hot.sum(axis=0),
        layers={
            "relu": layer(np.maximum(values, 0), nonnegative=True),
            "tanh": layer(values, nonnegative=False),
        },
        statistics=STATISTICS,
    )


def random_activity(seed, samples):
    random = np.random.default_rng(seed)
    return activity_of(random.normal(size=(samples, 3)), random.integers(0, 3, samples))


activities = st.builds(random_activity, st.integers(0, 999), st.integers(0, 8))


def assert_close(one, other):
    np.testing.assert_array_equal(one.samples, other.samples)
    for name in one.layers:
        for figure in FIGURES:
            np.testing.assert_allclose(
                getattr(one, figure)(name), getattr(other, figure)(name), rtol=1e-9, atol=1e-12
            )


@pytest.mark.slow
@given(activities, activities, activities)
def test_addition_is_associative_and_commutative(a, b, c):
    assert_close((a + b) + c, a + (b + c))
    assert_close(a + b, b + a)


@given(st.integers(0, 99), st.integers(0, 12), st.integers(0, 12))
def test_a_sum_is_one_pass_over_both_parts(seed, left, right):
    random = np.random.default_rng(seed)
    values, labels = random.normal(size=(left + right, 3)), random.integers(0, 3, left + right)
    parts = activity_of(values[:left], labels[:left]) + activity_of(values[left:], labels[left:])
    assert_close(parts, activity_of(values, labels))
    assert parts.layers["relu"].magnitude is parts.layers["relu"].total
    assert parts.layers["tanh"].magnitude is not parts.layers["tanh"].total


@pytest.mark.slow
def test_observing_two_halves_adds_up_to_observing_the_whole(case):
    def observed(part):
        x = case.x
        x = (
            {k: v[part] for k, v in x.items()}
            if isinstance(x, dict)
            else [v[part] for v in x]
            if isinstance(x, list)
            else x[part]
        )
        return nns.observe(case.model, x, case.y[part], statistics=STATISTICS, batch_size=6)

    both = observed(slice(0, 9)) + observed(slice(9, None))
    whole = observed(slice(None))
    np.testing.assert_array_equal(both.samples, whole.samples)
    for name, layer in whole.layers.items():
        np.testing.assert_array_equal(both.layers[name].fired, layer.fired)
        assert np.isneginf(layer.maximum[case.y.max() + 1 :]).all()
        for figure in FIGURES:
            np.testing.assert_allclose(
                getattr(both, figure)(name), getattr(whole, figure)(name), rtol=1e-4, atol=1e-6
            )


@pytest.mark.slow
def test_size_does_not_depend_on_the_number_of_samples(plain, tmp_path):
    sizes = []
    for repeats in (1, 40):
        x, y = np.tile(plain.x, (repeats, 1)), np.tile(plain.y, repeats)
        activity = nns.observe(plain.model, x, y, statistics=STATISTICS)
        arrays = [a for layer in activity.layers.values() for a in layer.arrays().values()]
        sizes.append(sum(array.nbytes for array in arrays))
        for name, layer in activity.layers.items():
            units = plain.model.get_layer(name).units
            assert {a.shape for a in layer.arrays().values()} == {(4, units)}
    assert sizes[0] == sizes[1]


@pytest.mark.parametrize(
    "changes",
    [
        {"fingerprint": Fingerprint("s", "trained further")},
        {"label_names": ("cat", "dog", "ant")},
        {"statistics": ("fired",)},
        {"threshold": 0.5},
        {"layers": {}},
    ],
)
def test_activity_of_something_else_does_not_add_up(changes):
    activity = random_activity(0, 5)
    with pytest.raises(nns.errors.DataError, match=next(iter(changes))):
        activity + replace(activity, **changes)
    assert activity != replace(activity, **changes)
    with pytest.raises(TypeError):
        activity + 1


@given(st.data())
def test_equal_means_every_number_is_equal(data):
    activity = random_activity(3, 6)
    assert activity == random_activity(3, 6)
    assert activity != "activity"
    name = data.draw(st.sampled_from(["relu", "tanh"]))
    field = data.draw(st.sampled_from(["total", "magnitude", "fired", "deviation", "maximum"]))
    layer = activity.layers[name]
    array = getattr(layer, field).copy()
    place = data.draw(st.integers(0, array.size - 1))
    array.flat[place] = 7 if array.flat[place] != 7 else 8
    other = replace(activity, layers={**activity.layers, name: replace(layer, **{field: array})})
    assert activity != other
    samples = activity.samples.copy()
    samples[0] += 1
    assert activity != replace(activity, samples=samples)
    assert activity != replace(activity, layers={name: layer})


def test_what_was_not_watched_is_refused():
    activity = replace(random_activity(0, 5), statistics=("variance",))
    assert activity.variance("relu").shape == (3, 3)
    for figure in ("mean", "magnitude", "firing_rate", "maximum"):
        with pytest.raises(nns.errors.SelectionError, match="not watched"):
            getattr(activity, figure)("relu")
    with pytest.raises(nns.errors.SelectionError, match="'nothing' was not watched"):
        activity.variance("nothing")


@pytest.mark.parametrize("label", [3, -1, "cow", True, 1.0, None])
def test_an_unknown_label_is_refused(label):
    with pytest.raises(nns.errors.SelectionError, match="cat, dog"):
        random_activity(0, 5).label(label)


def test_a_label_is_known_by_number_and_by_name():
    activity = random_activity(0, 5)
    assert [activity.label(i) for i in ("größe", 0, np.int64(1))] == [2, 0, 1]


def test_it_cannot_be_a_key():
    with pytest.raises(TypeError, match="unhashable"):
        hash(random_activity(0, 5))


# Files --------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_files_read_back_equal(case, tmp_path):
    path = tmp_path / "activity.npz"
    for statistics in (STATISTICS, ("fired",), ("variance",), ("fired", "mean")):
        activity = nns.observe(case.model, case.x, case.y, statistics=statistics, threshold=0.125)
        activity.save(path, overwrite=True)
        again = Activity.load(path)
        assert again == activity
        assert again + activity == activity + activity
        assert str(again) == str(activity)


def test_files_hold_no_pickle_and_are_not_overwritten(tmp_path):
    path = tmp_path / "activity.npz"
    random_activity(0, 5).save(path)
    with pytest.raises(nns.errors.FileError, match="overwrite=True"):
        random_activity(0, 5).save(path)
    with np.load(path, allow_pickle=False) as archive:
        assert all(archive[name].dtype != object for name in archive.files)


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    path = tmp_path_factory.mktemp("good") / "activity.npz"
    random_activity(0, 9).save(path)
    return path.read_bytes()


@pytest.mark.slow
@given(place=st.integers(0, 10**6), bit=st.integers(0, 7))
@settings(max_examples=200)
def test_a_flipped_bit_is_found_or_does_not_matter(tmp_path_factory, good, place, bit):
    data = bytearray(good)
    data[place % len(data)] ^= 1 << bit
    path = tmp_path_factory.mktemp("flips") / "activity.npz"
    path.write_bytes(data)
    try:
        assert Activity.load(path) == random_activity(0, 9)
    except nns.errors.FileError as error:
        assert "activity.npz" in str(error)


@given(end=st.integers(0, 10**6))
@settings(max_examples=30)
def test_a_file_cut_short_is_refused(tmp_path_factory, good, end):
    path = tmp_path_factory.mktemp("short") / "activity.npz"
    path.write_bytes(good[: end % len(good)])
    with pytest.raises(nns.errors.FileError, match=r"activity\.npz"):
        Activity.load(path)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda header, arrays: header.pop("layers"), "layers"),
        (lambda header, arrays: header.update(version=2), "version"),
        (lambda header, arrays: header.update(layers=[1]), "damaged"),
        (lambda header, arrays: arrays.pop("samples"), "damaged: it lacks 'samples'"),
        (lambda header, arrays: header.pop("layout"), "damaged: it lacks 'layout'"),
        (lambda header, arrays: header["layout"][0].update(size=2**50), "are possible"),
        (lambda header, arrays: header["layout"][0].update(members=[["a", 2**50]]), "damaged"),
        (lambda header, arrays: header.update(statistics=["median"]), "median"),
        (lambda header, arrays: header["label_names"].append("more"), "labels"),
        (lambda header, arrays: header["layers"].update(more={"nonnegative": True}), "more"),
        (lambda header, arrays: arrays.pop("samples"), "samples"),
        (lambda header, arrays: arrays.pop("0.total"), "total"),
        (lambda header, arrays: arrays.update({"1.total": np.zeros((3, 2))}), "shape"),
        (lambda header, arrays: arrays.update({"1.fired": np.zeros(3)}), "shape"),
        (lambda header, arrays: arrays.update({"1.other": np.zeros((3, 3))}), "other"),
    ],
)
def test_a_file_that_does_not_fit_together_is_refused(tmp_path, good, change, word):
    path = tmp_path / "activity.npz"
    path.write_bytes(good)
    header, arrays = atomic.read_arrays(path, "keras_nns.activity")
    change(header, arrays)
    atomic.write_arrays(path, "keras_nns.activity", header, arrays, overwrite=True)
    with pytest.raises(nns.errors.FileError, match=rf"activity\.npz.*{word}"):
        Activity.load(path)


def test_foreign_files_are_refused(tmp_path):
    path = tmp_path / "model.keras"
    keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)]).save(path)
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps({"format": "keras_nns.plan"}))
    empty = tmp_path / "empty.zip"
    zipfile.ZipFile(empty, "w").close()
    for foreign in (path, plan, empty, tmp_path / "nowhere", tmp_path):
        with pytest.raises(nns.errors.FileError, match=foreign.name):
            Activity.load(foreign)


def test_the_units_that_carry_a_label():
    """Firing rates by hand: unit 1 of b fires on all of label 0 and on nothing else."""
    layout = Layout(tuple(Group(n, 3, (Member(n, (0, 1, 2)),)) for n in ("a", "b")))
    fired = {"a": [[5, 10, 0], [5, 10, 4], [5, 10, 0]], "b": [[8, 10, 0], [0, 0, 4], [4, 0, 0]]}
    total = {"a": [[1, 9, 0], [1, 9, 9], [1, 9, 0]], "b": [[0.1, 0.3, 0], [0, 0, 1], [0.1, 0, 0]]}
    layers = {
        name: LayerActivity(
            total=np.array(total[name], float), magnitude=np.array(total[name], float),
            fired=np.array(fired[name]),
        )
        for name in ("a", "b")
    }  # fmt: skip
    activity = Activity(
        Fingerprint("s", "w"), layout, ("x", "y", "z"), np.array([10, 10, 10]), layers
    )
    top = activity.top("x", 3)
    assert [(one.layer, one.unit) for one in top.units] == [("b", 1), ("b", 0), ("a", 0)]
    assert (top.units[0].own, top.units[0].others) == (1.0, 0.0)
    assert (top.units[1].own, top.units[1].others) == (0.8, 0.2)
    assert [one.unit for one in activity.top(0, 1, layers="a").units] == [0]
    # In shares of each layer's largest mean: .3 of 1 in b is more than nothing of 9 in a.
    assert [(one.layer, one.unit) for one in activity.top(0, 1, by="mean").units] == [("b", 1)]
    assert "x" in str(top) and "b" in top._repr_html_()
    for wrong, words in (
        ({"by": "gradient"}, "firing"), ({"k": 0}, "at least 1"), ({"layers": "c"}, "not watched"),
    ):  # fmt: skip
        with pytest.raises(nns.errors.SelectionError, match=words):
            activity.top(0, **wrong)
    alone = replace(activity, samples=np.array([10, 0, 0]))
    with pytest.raises(nns.errors.SelectionError, match="another label"):
        alone.top(0)


def test_what_is_shown_in_a_notebook_is_short():
    layout = Layout((Group("a", 5000, (Member("a", tuple(range(5000))),)),))
    sums = LayerActivity(fired=np.ones((2, 5000), np.int64))
    activity = Activity(
        Fingerprint("s", "w"), layout, ("x", "y"), np.array([1, 1]), {"a": sums}, ("fired",)
    )
    assert repr(activity) == "<Activity of 5000 units in 1 layers for 2 labels over 2 samples>"
    assert repr(sums) == "<LayerActivity: fired of 5000 units>"
