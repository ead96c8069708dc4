"""Every container gives the batches that plain slices give, and wrong data is named."""

from __future__ import annotations

import math
import tracemalloc
from functools import cache, partial

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from keras_nns.data.batches import as_batches
from keras_nns.errors import DataError, ModelError


class Sequence(keras.utils.PyDataset):
    def __init__(self, x, y, batch_size, **options):
        super().__init__(**options)
        self.x, self.y, self.batch_size = x, y, batch_size
        self.asked = []

    def __len__(self):
        return math.ceil(len(self.x) / self.batch_size)

    def __getitem__(self, i):
        self.asked.append(i)
        part = slice(i * self.batch_size, (i + 1) * self.batch_size)
        return self.x[part], self.y[part]


def pieces(x, y, batch_size):
    return [(x[i : i + batch_size], y[i : i + batch_size]) for i in range(0, len(x), batch_size)]


# How each container holds x and y in batches, and what it knows beforehand.
CONTAINERS = {
    "arrays": lambda x, y, b: (x, y),
    "arrays and weights": lambda x, y, b: (x, y, np.ones(len(x))),
    "lists": lambda x, y, b: (x.tolist(), y.tolist()),
    "tensors": lambda x, y, b: (tf.constant(x), tf.constant(y)),
    "tf.data": lambda x, y, b: tf.data.Dataset.from_tensor_slices((x, y)).batch(b),
    "tf.data and weights": lambda x, y, b: (
        # Above 0: a sample of weight 0 is left out.
        tf.data.Dataset.from_tensor_slices((x, y, y + 1)).batch(b)
    ),
    "tf.data of unknown length": lambda x, y, b: (
        tf.data.Dataset.from_tensor_slices((x, y)).filter(lambda *_: True).batch(b)
    ),
    "PyDataset": Sequence,
    "PyDataset with workers": lambda x, y, b: Sequence(x, y, b, workers=3),
    "list of batches": pieces,
    "generator": lambda x, y, b: (pair for pair in pieces(x, y, b)),
    "function": lambda x, y, b: partial(pieces, x, y, b),
}
ONCE = {"generator"}


@cache
def model_of(shape=(3,), labels=4):
    return keras.Sequential(
        [keras.Input(shape), keras.layers.Flatten(), keras.layers.Dense(labels)]
    )


def samples(size, shape=(3,), labels=4):
    rng = np.random.default_rng(size)
    return rng.random((size, *shape), dtype=np.float32), rng.integers(0, labels, size)


@pytest.mark.slow
@pytest.mark.parametrize("container", CONTAINERS)
@settings(max_examples=25, deadline=None)
@given(size=st.integers(1, 30), batch_size=st.integers(1, 12), skipped=st.integers(0, 5))
def test_every_container_gives_the_same_batches(container, size, batch_size, skipped):
    x, y = samples(size)
    batches = as_batches(
        CONTAINERS[container](x, y, batch_size), model=model_of(), batch_size=batch_size
    )
    expected = pieces(x, y, batch_size)
    assert batches.label_names == ("0", "1", "2", "3")
    assert batches.size in (size, None)
    assert batches.batches in (len(expected), None)
    assert batches.repeatable is (container not in ONCE)
    rest = batches.skip(skipped)
    if batches.size is not None:
        assert rest.size == max(size - skipped * batch_size, 0)
    for found, wanted in (
        [(rest, expected[skipped:])]
        if container in ONCE
        else [(batches, expected), (batches, expected), (rest, expected[skipped:])]
    ):
        read = list(found)
        assert [batch.size for batch in read] == [len(labels) for _, labels in wanted]
        for batch, (inputs, labels) in zip(read, wanted, strict=True):
            np.testing.assert_allclose(batch.inputs, inputs, rtol=1e-7)
            np.testing.assert_array_equal(batch.labels, labels)


def test_y_may_stand_beside_x():
    x, y = samples(5)
    (batch,) = as_batches(x, y, model=model_of())
    np.testing.assert_array_equal(batch.labels, y)
    assert np.shares_memory(batch.inputs, x)


def test_skips_add_up():
    x, y = samples(10)
    rest = as_batches((x, y), model=model_of(), batch_size=2).skip(1).skip(2)
    assert (rest.size, rest.batches) == (4, 2)
    np.testing.assert_array_equal(np.concatenate([b.labels for b in rest]), y[6:])
    assert list(rest.skip(2)) == []
    with pytest.raises(DataError, match="-1"):
        rest.skip(-1)


def test_skipped_batches_of_a_py_dataset_are_not_made():
    data = Sequence(*samples(10), 2)
    list(as_batches(data, model=model_of(), label_count=4).skip(3))
    assert data.asked == [3, 4]


def test_an_abandoned_pass_leaves_no_work_behind():
    data = Sequence(*samples(100), 1, workers=2)
    stream = iter(as_batches(data, model=model_of()))
    next(stream)
    stream.close()
    assert len(data.asked) <= 5


def test_a_generator_is_read_once():
    x, y = samples(4)
    batches = as_batches(iter([(x, y)]), model=model_of())
    assert not batches.repeatable
    list(batches)
    with pytest.raises(DataError, match="without calling it"):
        list(batches)


def test_a_dataset_s_class_names_are_taken():
    x, y = samples(8, labels=2)
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(3)
    data.class_names = ["cat", "dog"]
    assert as_batches(data, model=model_of(labels=2)).label_names == ("cat", "dog")
    batches = as_batches(data, model=model_of(labels=3), label_names=["dog", "elk", "cat"])
    np.testing.assert_array_equal(
        np.concatenate([batch.labels for batch in batches]), np.array([2, 0])[y]
    )


def test_strings_in_arrays_name_the_labels():
    x, y = samples(50)
    names = np.array(["d", "a", "c", "b"])
    batches = as_batches((x, names[y]), model=model_of(), batch_size=7, own_labels=True)
    assert batches.label_names == ("a", "b", "c", "d")
    read = np.concatenate([batch.labels for batch in batches])
    np.testing.assert_array_equal(np.array(batches.label_names)[read], names[y])


def test_strings_in_a_stream_need_names():
    x, y = samples(6)
    data = [(x, np.array(list("abcd"))[y])]
    with pytest.raises(DataError, match=r"Batch 0: .*label_names"):
        list(as_batches(data, model=model_of()))
    (batch,) = as_batches(data, model=model_of(), label_names=list("abcd"))
    np.testing.assert_array_equal(batch.labels, y)


def test_one_output_tells_two_labels_apart():
    x, _ = samples(4)
    batches = as_batches(x, [0, 1, 1, 0], model=model_of(labels=1))
    assert batches.label_names == ("0", "1")


@pytest.mark.parametrize(
    ("wanted", "given_"),
    [((28, 28, 1), (28, 28)), ((28, 28), (28, 28, 1)), ((1,), ()), ((), (1,)), ((3,), (3, 1))],
)
@pytest.mark.parametrize("tensor", [False, True])
def test_a_last_axis_of_one_comes_and_goes_as_in_keras(wanted, given_, tensor):
    x = keras.Input(wanted)
    flat = keras.layers.Reshape((int(np.prod(wanted)),))(x)
    model = keras.Model(x, keras.layers.Dense(2)(flat))
    data, y = samples(5, given_, labels=2)
    source = tf.data.Dataset.from_tensor_slices((data, y)).batch(5) if tensor else (data, y)
    (batch,) = as_batches(source, model=model)
    assert tuple(batch.inputs.shape) == (5, *wanted)
    assert model(keras.ops.convert_to_tensor(batch.inputs)).shape == (5, 2)
    np.testing.assert_array_equal(np.ravel(batch.inputs), data.ravel())


def multi_input(kind):
    a, b = keras.Input((3,), name="zeta"), keras.Input((2,), name="alpha")
    joined = keras.layers.Concatenate()([a, b])
    structure = {"list": [a, b], "tuple": (a, b), "dict": {"zeta": a, "alpha": b}}[kind]
    return keras.Model(structure, keras.layers.Dense(2)(joined))


@pytest.mark.parametrize("kind", ["list", "tuple", "dict"])
@pytest.mark.parametrize("stream", [False, True])
def test_several_inputs_come_in_the_model_s_structure(kind, stream):
    model = multi_input(kind)
    (a, y), (b, _) = samples(7, labels=2), samples(7, (2,))
    forms = (
        [{"alpha": b, "zeta": a, "unused": y}]
        if kind == "dict"
        else [[a, b], (a, b), {"alpha": b, "zeta": a}]
    )
    expected = model({"alpha": b, "zeta": a} if kind == "dict" else [a, b])
    for x in forms:
        if stream and isinstance(x, list):
            continue  # A list of arrays is one tensor to tf.data.
        data = tf.data.Dataset.from_tensor_slices((x, y)).batch(4) if stream else (x, y)
        batches = list(as_batches(data, model=model, batch_size=4))
        assert [batch.size for batch in batches] == [4, 3]
        assert type(batches[0].inputs) is type(model.input)
        found = [model(batch.inputs) for batch in batches]
        # Rows of another batch are summed up in another order on some processors.
        np.testing.assert_allclose(np.concatenate(found), expected, rtol=1e-6)


def test_a_model_of_one_named_input_takes_a_dict():
    x = keras.Input((3,), name="image")
    model = keras.Model(x, keras.layers.Dense(4)(x))
    data, y = samples(3)
    (batch,) = as_batches({"image": data}, y, model=model)
    assert batch.inputs is not None
    np.testing.assert_array_equal(batch.inputs, data)


def test_text_goes_to_a_model_that_takes_text():
    text = keras.layers.TextVectorization(vocabulary=["a", "b"], output_mode="multi_hot")
    model = keras.Sequential([keras.Input((), dtype="string"), text, keras.layers.Dense(2)])
    (batch,) = as_batches((np.array(["a b", "b"]), [0, 1]), model=model)
    assert batch.size == 2
    with pytest.raises(DataError, match=r"must hold strings.*float64"):
        as_batches((np.ones(2), [0, 1]), model=model)


def test_nothing_is_kept_of_a_stream():
    size, width = 200, 10_000

    def stream():
        for _ in range(size):
            yield np.ones((50, width), np.float32), np.zeros(50, int)

    model = model_of((width,))
    list(zip(range(3), as_batches(stream, model=model), strict=False))
    tracemalloc.start()
    seen = sum(batch.size for batch in as_batches(stream, model=model))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seen == 50 * size
    assert peak < 4 * 50 * width * 4


def test_arrays_on_disk_stay_there(tmp_path):
    x = np.memmap(tmp_path / "x", np.float32, "w+", shape=(60_000, 1_000))
    y = np.memmap(tmp_path / "y", np.float32, "w+", shape=(60_000, 4))
    model = model_of((1_000,))
    tracemalloc.start()
    batches = as_batches((x, y), model=model, batch_size=500, check_finite=False)
    count = sum(batch.size for batch in batches if np.shares_memory(batch.inputs, x))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert count == 60_000
    assert peak < 4 * 2**20


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("tensor", [False, True])
def test_nan_and_infinity_are_found(dtype, value, tensor):
    x, y = samples(9)
    x = x.astype(dtype)
    x[7, 1] = value
    data = (tf.constant(x), y) if tensor else (x, y)
    with pytest.raises(DataError, match=r"Batch 1: .*NaN or infinity, first in sample 3 of"):
        list(as_batches(data, model=model_of(), batch_size=4))
    assert len(list(as_batches(data, model=model_of(), batch_size=4, check_finite=False))) == 3


def test_large_values_are_not_taken_for_infinity():
    x, y = samples(4)
    big = np.full_like(x, np.finfo(np.float32).max)
    assert len(list(as_batches((big, y), model=model_of()))) == 1
    assert len(list(as_batches((big[:, ::-1], y), model=model_of()))) == 1


X, Y = samples(6)
DATASET = tf.data.Dataset.from_tensor_slices((X, Y))
WRONG = {
    "dataset without batches": (DATASET, r"\(3,\): a single sample.*\.batch\(32\)"),
    "endless dataset": (DATASET.batch(2).repeat(), r"never ends.*take\(100\)"),
    "empty dataset": (DATASET.batch(2).take(0), "empty"),
    "dataset empty after all": (DATASET.filter(lambda *_: False).batch(2), "empty"),
    "dataset without labels": (DATASET.map(lambda x, y: x).batch(2), "with their labels"),
    "dataset of several outputs": (DATASET.map(lambda x, y: (x, (y, y))).batch(2), r"\(x, y\[0\]"),
    "ragged dataset": (
        tf.data.Dataset.from_tensors((tf.ragged.constant([[1.0], [1.0, 2.0]]), [0, 1])),
        r"ragged.*to_tensor",
    ),
    "ragged labels": (
        tf.data.Dataset.from_tensors((X[:2], tf.ragged.constant([[1], [1, 2]]))),
        "The labels are ragged",
    ),
    "sparse dataset": (
        tf.data.Dataset.from_tensors((tf.sparse.from_dense(X), Y)),
        "sparse.*to_dense",
    ),
    "dataset of another shape": (
        DATASET.map(lambda x, y: (x[:2], y)).batch(2),
        r"Expected \(None, 3\). Received: \(None, 2\)",
    ),
    "x alone": (X, "no labels"),
    "dict alone": ({"x": X}, "no labels"),
    "y is None": ((X, None), "y is None"),
    "lengths": ((X, Y[:4]), "6.*4 labels"),
    "lengths in a stream": ([(X, Y[:4])], "Batch 0: .*6 samples and there are 4 labels"),
    "no samples": ((X[:0], Y[:0]), "empty"),
    "no batches": ([], "empty"),
    "labels outside": ((X, Y + 2), r"Labels 4, 5 are outside the model's 4 labels"),
    "labels outside in a stream": ([(X, Y), (X, Y + 2)], "Batch 1: Labels 4"),
    "shape": ((X[:, :2], Y), r"Expected \(None, 3\). Received: \(6, 2\)"),
    "shape in a stream": ([(X[:, :2], Y)], "Batch 0: .*wrong shape"),
    "one sample": ((X[0], Y[:3]), r"\(3,\): a single sample"),
    "objects": ((X.astype(object), Y), "dtype object"),
    "text": ((X.astype(str), Y), "must hold numbers"),
    "dates": ((X.astype("M8[s]"), Y), "datetime64"),
    "samples of several lengths": (([[1.0], [1.0, 2.0]], [0, 1]), "Pad them"),
    "several lengths in a stream": ([([[1.0], [1.0, 2.0]], [0, 1])], "pad_sequences"),
    "several inputs": (([X, X], Y), "takes 1 input.*Received: 2.*np.stack"),
    "wrong name": (({"image": X}, Y), r"missing.*Received: \['image'\]"),
    "labels of several outputs": ((X, {"a": Y, "b": Y}), "one output"),
    "tuple of four": ((X, Y, Y, Y), "4 of them"),
    "stream of x alone": (lambda: iter([X]), "ndarray"),
    "list of arrays": ([X, Y], r"tuple \(x, y\)"),
    "function of nothing": (lambda: None, "NoneType"),
    "function of a dataset": (lambda: DATASET.batch(2), "must return an iterable"),
    "endless PyDataset": (
        type("Endless", (keras.utils.PyDataset,), {"num_batches": None})(),
        "never ends",
    ),
    "empty PyDataset": (Sequence(X[:0], Y[:0], 2), "empty"),
    "unknown": (3, "type int cannot be read"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_data_is_named(case):
    data, message = WRONG[case]
    with pytest.raises(DataError, match=message):
        list(as_batches(data, model=model_of()))


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (DATASET.batch(2), {"y": Y}, "must bring its own labels"),
        (iter([]), {"y": Y}, "must bring its own labels"),
        (lambda: [], {"y": Y}, "must bring its own labels"),
        ((X, Y), {"batch_size": 0}, "batch_size=0"),
        ((X, Y), {"part": "test"}, "part is for a path"),
        ((X, Y), {"label_names": ["a"]}, "tells 4 labels apart"),
    ],
)
def test_wrong_options_are_named(data, options, message):
    with pytest.raises(DataError, match=message):
        as_batches(data, model=model_of(), **options)


def test_shapes_that_would_fit_are_shown():
    image = model_of((4, 6, 1))
    with pytest.raises(DataError, match=r"x.reshape\(\(-1, 4, 6, 1\)\)"):
        as_batches((np.ones((2, 24)), [0, 1]), model=image)
    with pytest.raises(DataError, match=r"resize\(x, \(4, 6\)\)"):
        as_batches((np.ones((2, 8, 8, 1)), [0, 1]), model=image)
    with pytest.raises(DataError, match=r"\(4, 6, 1\): a single sample"):
        data = tf.data.Dataset.from_tensor_slices((np.ones((3, 4, 6, 1)), [0, 1, 2]))
        as_batches(data, model=image)


def test_wrong_inputs_of_a_model_of_several():
    (a, y), (b, _) = samples(4, labels=2), samples(4, (2,))
    with pytest.raises(DataError, match=r"takes 2 input.*'zeta', 'alpha'.*Received: 1"):
        as_batches((a, y), model=multi_input("list"))
    with pytest.raises(DataError, match=r"'alpha'\] are missing"):
        as_batches(({"zeta": a}, y), model=multi_input("list"))
    with pytest.raises(DataError, match=r"keys .'alpha', 'zeta'"):
        as_batches(([a, b], y), model=multi_input("dict"))


def test_a_model_without_inputs_is_refused():
    class Subclassed(keras.Model):
        def call(self, x):
            return x

    for model in (keras.Sequential([keras.layers.Dense(3)]), Subclassed()):
        with pytest.raises(ModelError, match="no known inputs"):
            as_batches((X, Y), model=model)


def test_a_model_of_several_outputs_needs_names():
    x = keras.Input((3,))
    model = keras.Model(x, [keras.layers.Dense(2)(x), keras.layers.Dense(4)(x)])
    with pytest.raises(DataError, match="Pass label_names or label_count"):
        as_batches(DATASET.batch(2), model=model)
    assert len(as_batches(DATASET.batch(2), model=model, label_count=4).label_names) == 4
    assert as_batches((X, Y), model=model).label_names == tuple(str(i) for i in range(Y.max() + 1))
