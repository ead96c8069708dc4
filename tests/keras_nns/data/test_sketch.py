"""A model is not judged on what it was made from: sketches are held against sets of samples."""

import json

import keras
import ml_dtypes
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

import keras_nns as nns
from keras_nns.data.batches import Batch
from keras_nns.data.sketch import _PEEK, SIZE, Seen, Sketcher, _unscaled, sample_hashes
from keras_nns.judgement.leakage import Guard
from keras_nns.surgery.lineage import seen_by

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)


@pytest.fixture(scope="module")
def data():
    random = np.random.default_rng(5)
    y = np.arange(900) % 3
    x = random.normal(size=(900, 6)).astype("float32")
    x[np.arange(900), y] += 3
    return x, y


@pytest.fixture(scope="module")
def parent(data):
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [keras.Input((6,)), layers.Dense(8, activation="relu"), layers.Dense(3)], name="parent"
    )
    model.layers[-1].activation = keras.activations.softmax
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(*data, epochs=2, verbose=0)
    return model


@pytest.fixture(scope="module")
def small(parent, data):
    activity = nns.observe(parent, data[0][:600], data[1][:600], verbose=False)
    return nns.cut(
        parent, nns.select(activity, 1, keep=nns.top(3), score="mean_activation"), head="binary"
    )


def batch(x):
    return Batch(x, np.zeros(len(x), np.int64))


def sketch(x, size=100, *, everything=True):
    sketcher = Sketcher(everything=everything)
    for start in range(0, len(x), size):
        sketcher.add(x[start : start + size], len(x[start : start + size]))
    return sketcher.seen()


def test_equal_samples_have_equal_hashes_and_others_not(data):
    x = data[0]
    hashes = sample_hashes(x)
    assert len(set(hashes.tolist())) == 900
    shuffled = np.random.default_rng(0).permutation(900)
    assert (sample_hashes(x[shuffled]) == hashes[shuffled]).all()
    # As a model reads them: in float32, from tensors, with one sign of zero.
    assert (sample_hashes(x.astype("float64")) == hashes).all()
    assert (sample_hashes(tf.constant(x)) == hashes).all()
    assert (sample_hashes(-np.zeros((2, 6))) == sample_hashes(np.zeros((2, 6), "int64"))).all()
    changed = x.copy()
    changed[:, 3] += 1e-6
    moved = (changed != x).any(axis=1)
    assert moved.any() and ((sample_hashes(changed) != hashes) == moved).all()
    assert (sample_hashes({"b": x, "a": x[:, ::-1]}) == sample_hashes([x[:, ::-1], x])).all()
    assert (sample_hashes([x, x[:, ::-1]]) != sample_hashes([x[:, ::-1], x])).all()
    words = np.array([["a"], ["b"], ["a"]])
    first, second, third = sample_hashes(words).tolist()
    assert first == third != second
    assert len(sample_hashes(np.zeros((2, 200_001)))) == 2 and len(sample_hashes(x[:0])) == 0


def test_a_sketch_is_the_smallest_hashes_with_their_counts():
    random = np.random.default_rng(2)
    numbers = random.integers(0, 1500, 6000)
    found = sketch(numbers[:, None], 700)
    hashes, counts = np.unique(sample_hashes(numbers[:, None]), return_counts=True)
    assert (found.hashes == hashes[:SIZE]).all()
    assert (found.counts == counts[:SIZE]).all()
    assert found.limit == int(hashes[SIZE - 1])
    assert (found.hashed, found.samples, found.coverage) == (6000, 6000, 1.0)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 3000), max_size=1200), st.lists(st.integers(0, 3000), max_size=900))
def test_sketches_unite_as_sets_do(one, other):
    a, b = (np.array(v, dtype=np.int64).reshape(-1, 1) for v in (one, other))
    both = sketch(a) | sketch(b)
    expected = np.unique(sample_hashes(np.concatenate([a, b])))
    assert (both.hashes == expected[: len(both.hashes)]).all()
    assert len(both.hashes) <= SIZE
    assert (expected[len(both.hashes) :] > both.limit).all()
    again = (sketch(b) | sketch(a)) | sketch(a)
    assert (again.hashes == both.hashes).all() and again.limit == both.limit
    assert (again.counts == both.counts).all()


def test_little_is_hashed_of_much_data(data):
    x = np.tile(data[0], (20, 1))
    found = sketch(x, 200, everything=False)
    assert found.hashed == 128 + 15 * 32 + 19 * 32 and found.samples == 18_000
    assert sketch(data[0][:150], 40, everything=False).hashed == 40 + 32 + 32 + 30


@pytest.mark.slow
def test_a_sketch_survives_files(parent, data, small, tmp_path):
    activity = nns.observe(parent, *data, verbose=False)
    activity.save(tmp_path / "a.npz")
    back = nns.Activity.load(tmp_path / "a.npz")
    assert back == activity and (back.seen.hashes == activity.seen.hashes).all()
    plan = nns.select(back, 1, score="mean_activation")
    plan.save(tmp_path / "p.json")
    read = nns.Plan.load(tmp_path / "p.json")
    for kept in (read.seen, (plan | read).seen, (plan & read).seen, (activity + back).seen):
        assert (kept.hashes == activity.seen.hashes).all()
        assert (kept.limit, kept.hashed, kept.samples) == (2**64 - 1, 128 + 3 * 32, 900)
    nns.save_model(small, tmp_path / "s.keras")
    assert seen_by(nns.load_model(tmp_path / "s.keras")).to_json() == seen_by(small).to_json()
    repeated = sketch(np.ones((5, 2)))
    assert Seen.from_json(json.loads(json.dumps(repeated.to_json()))).counts.tolist() == [5]
    for damage in ({"hashes": "§"}, {"counts": [[9999, 2]]}, {"limit": "x"}, {"samples": None}):
        text = json.dumps({**plan.to_json(), "seen": {**plan.to_json()["seen"], **damage}})
        (tmp_path / "d.json").write_text(text)
        with pytest.raises(nns.errors.FileError, match="damaged"):
            nns.Plan.load(tmp_path / "d.json")


@pytest.mark.slow
def test_the_samples_observed_are_no_samples_to_judge_on(parent, small, data):
    x, y = data
    honest = (x[600:], y[600:])
    nns.evaluate(small, honest)
    nns.compare(parent, small, honest)
    for ours in ((x[:600], y[:600]), (x[100:400], y[100:400]), (x[:300][::-1], y[:300][::-1])):
        with pytest.raises(nns.errors.DataError, match=r"samples that 'parent'.*nns\.split"):
            nns.evaluate(small, ours)
        with pytest.raises(nns.errors.DataError, match="allow_overlap=True"):
            nns.compare(parent, small, ours)
        nns.evaluate(small, ours, allow_overlap=True)
        nns.compare(parent, small, ours, allow_overlap=True)
    stream = tf.data.Dataset.from_tensor_slices((x, y)).batch(64)
    with pytest.raises(nns.errors.DataError, match=r"About [5-8][0-9]% of the evaluation data"):
        nns.evaluate(small, stream)
    # A parent does not know what it was observed with.
    nns.evaluate(parent, x[:600], y[:600])


@pytest.mark.slow
def test_what_a_repair_saw_counts_too(parent, small, data):
    x, y = data
    fixed = nns.repair(small, parent, x[600:800], y[600:800], steps=nns.steps.fold_means()).model
    with pytest.raises(nns.errors.DataError, match="was observed, repaired or trained"):
        nns.evaluate(fixed, x[600:800], y[600:800])
    with pytest.raises(nns.errors.DataError, match="was observed, repaired or trained"):
        nns.evaluate(fixed, x[:300], y[:300])
    nns.evaluate(fixed, x[800:], y[800:])
    nns.evaluate(small, x[600:800], y[600:800])


@pytest.mark.parametrize("seed", range(5))
def test_data_that_repeats_itself_is_not_refused(small, seed):
    random = np.random.default_rng(seed)
    drawn = random.integers(0, 400, (2000, 1)).astype("float32")
    guard = Guard([])
    guard._known = [("net", sketch(drawn))]
    fresh = random.integers(0, 400, (700, 1)).astype("float32")
    # Most of them are known, and yet they are fresh draws.
    assert np.isin(fresh, drawn).sum() > 300
    assert len(list(guard.watch([batch(fresh)]))) == 1
    # The very samples that were seen are more than that, and refused.
    unlike = random.permutation(100_000)[:2000, None].astype("float32")
    guard._known = [("net", sketch(unlike))]
    with pytest.raises(nns.errors.DataError, match="were recognised"):
        list(guard.watch([batch(unlike[:700])]))


WORDS = [["good", "été"], ["bad", ""], ["good", "été"]]
TEXTS = {
    "str": np.array(WORDS),
    "bytes": np.array([[word.encode() for word in row] for row in WORDS]),
    "object of str": np.array(WORDS, dtype=object),
    "object of bytes": np.array([[word.encode() for word in row] for row in WORDS], dtype=object),
    "StringDType": np.array(WORDS, dtype=np.dtypes.StringDType()),
    "tensor": tf.constant(WORDS),
}


@pytest.mark.parametrize("form", TEXTS)
@pytest.mark.parametrize("other", TEXTS)
def test_text_is_known_again_however_it_is_stored(form, other):
    first, second, third = sample_hashes(TEXTS[form]).tolist()
    assert first == third != second
    assert sample_hashes(TEXTS[other]).tolist() == [first, second, third]


def test_text_is_no_other_text():
    rows = np.array([["a", "b"], ["b", "a"], ["ab", ""], ["a", "b "], ["b'a'", "b"]])
    assert len(set(sample_hashes(rows).tolist())) == 5


def pictures(size, low=0, high=256, top=None, seed=0):
    random = np.random.default_rng(seed)
    x = random.integers(low, high, (size, 5, 4, 3))
    x[:, 0, 0, 0] = low if top is None else top
    return x.astype("uint8")


SCALED = {
    "float32": lambda x: x.astype("float32"),
    "int64": lambda x: x.astype("int64"),
    "float64 / 255": lambda x: x / 255,
    "float32 / 255": lambda x: x.astype("float32") / np.float32(255),
    "times 1 / 255": lambda x: x.astype("float32") * np.float32(1 / 255),
    "float16 / 255": lambda x: (x / 255).astype("float16"),
    "bfloat16 / 255": lambda x: (x / 255).astype("float32").astype(ml_dtypes.bfloat16),
    "bfloat16 / 127.5 - 1": lambda x: (x / 127.5 - 1).astype("float32").astype(ml_dtypes.bfloat16),
    "bfloat16": lambda x: x.astype(ml_dtypes.bfloat16),
    "/ 127.5 - 1": lambda x: x.astype("float32") / np.float32(127.5) - np.float32(1),
    "keras Rescaling": lambda x: layers.Rescaling(1 / 127.5, -1)(x.astype("float32")),
    "keras applications": lambda x: keras.applications.mobilenet_v2.preprocess_input(
        x.astype("float32")
    ),
}


@pytest.mark.parametrize("way", SCALED)
@pytest.mark.parametrize(("low", "high"), [(0, 256), (0, 3), (140, 256), (254, 256)])
def test_a_picture_is_known_again_however_it_is_scaled(way, low, high):
    x = pictures(20, low, high)
    hashes = sample_hashes(x)
    assert len(set(hashes.tolist())) == 20
    np.testing.assert_array_equal(sample_hashes(SCALED[way](x)), hashes)


def test_the_digits_are_known_again_in_sixteenths():
    random = np.random.default_rng(0)
    x = random.integers(0, 17, (30, 8, 8)).astype("float64")
    np.testing.assert_array_equal(sample_hashes(x / 16), sample_hashes(x))


def test_what_no_picture_was_stays_as_it_is():
    random = np.random.default_rng(3)
    x = random.uniform(0, 1, (200, 40)).astype("float32")
    near = x + np.float32(1e-4)
    assert not (sample_hashes(x) == sample_hashes(near)).any()
    half = x.astype("float16")
    assert not (sample_hashes(half) == sample_hashes(np.rint(half * 255))).any()
    assert len(set(sample_hashes(x[:, :1]).tolist())) == 200


@pytest.mark.slow
@pytest.mark.parametrize("way", SCALED)
def test_pictures_observed_in_another_scale_are_no_samples_to_judge_on(way):
    x, y = pictures(90), np.arange(90) % 3
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((5, 4, 3)),
            layers.Flatten(),
            layers.Dense(4, activation="relu"),
            layers.Dense(3, activation="softmax"),
        ]
    )
    activity = nns.observe(model, x.astype("float32"), y, verbose=False)
    small = nns.cut(
        model, nns.select(activity, 1, keep=nns.top(2), score="mean_activation"), head="binary"
    )
    with pytest.raises(nns.errors.DataError, match="was observed, repaired or trained"):
        nns.evaluate(small, np.asarray(SCALED[way](x)), y)
    nns.evaluate(small, np.asarray(SCALED[way](pictures(90, seed=1))), y)


@pytest.mark.parametrize("dtype", ["float16", ml_dtypes.bfloat16])
def test_other_numbers_that_are_rounded_are_not_known_again(dtype):
    """As docs/judgement.md says; numbers that the type holds are known."""
    x = np.random.default_rng(0).normal(size=(50, 40)).astype("float32")
    rounded = x.astype(dtype)
    assert not (sample_hashes(rounded) == sample_hashes(x)).any()
    assert (sample_hashes(rounded) == sample_hashes(rounded.astype("float32"))).all()


def test_whole_values_where_one_looks_first_do_not_make_a_picture():
    random = np.random.default_rng(3)
    values = random.random((5, 320), dtype=np.float32)
    pictures = random.integers(0, 256, (5, 320)).astype(np.float32)
    # Every place that is looked at first is whole in all; in the third all others are too.
    step = 320 // _PEEK
    values[:, ::step] = pictures[:, ::step] / 255
    values[2] = pictures[2] / 255
    found = _unscaled(values, half=None)
    np.testing.assert_array_equal(found[2], pictures[2])
    np.testing.assert_array_equal(np.delete(found, 2, axis=0), np.delete(values, 2, axis=0))
