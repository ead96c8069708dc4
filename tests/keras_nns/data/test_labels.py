"""Every way to write the same labels is read as the same labels."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st

from keras_nns.data.labels import LabelReader, label_reader, output_label_count
from keras_nns.errors import DataError

NAMES = ("dog", "cat", "émeu", "ant", "bee", "cow", "elk", "fox", "gnu", "hen", "ibis", "jay")


def one_hot(y, count):
    return np.eye(count, dtype=np.int64)[y]


# Each writes label numbers in another way; each must be read as the same labels.
NUMBERS = {
    "uint8": lambda y: y.astype(np.uint8),
    "int16": lambda y: y.astype(np.int16),
    "uint64": lambda y: y.astype(np.uint64),
    "float32": lambda y: y.astype(np.float32),
    "float64 column": lambda y: y.astype(np.float64)[:, None],
    "column": lambda y: y[:, None],
    "list": lambda y: y.tolist(),
    "object": lambda y: y.astype(object),
    "object of floats": lambda y: y.astype(float).astype(object),
    "tensor": lambda y: tf.constant(y, tf.int32),
}
STRINGS = {
    "str": np.array,
    "list": list,
    "object": lambda names: np.array(names, dtype=object),
    "bytes": lambda names: np.array([name.encode() for name in names]),
    "StringDType": lambda names: np.array(names, dtype=np.dtypes.StringDType()),
    "column": lambda names: np.array(names)[:, None],
    "tf.string": tf.constant,
}
ROWS = {
    "int": lambda rows: rows,
    "bool": lambda rows: rows.astype(bool),
    "float32": lambda rows: rows.astype(np.float32),
    "list": lambda rows: rows.tolist(),
    "tensor": lambda rows: tf.constant(rows, tf.float32),
}


@st.composite
def numbered(draw):
    count = draw(st.integers(2, len(NAMES)))
    y = draw(st.lists(st.integers(0, count - 1), min_size=1, max_size=40))
    return np.array(y), count


@pytest.mark.slow
@given(numbered())
def test_every_encoding_of_the_same_labels_is_read_alike(labels):
    y, count = labels
    names = NAMES[:count]
    reader = LabelReader(names)
    for name, write in NUMBERS.items():
        read = reader.read(write(y))
        assert read.dtype == np.int64, name
        np.testing.assert_array_equal(read, y, err_msg=name)
    for name, write in STRINGS.items():
        read = reader.read(write([names[i] for i in y]))
        assert read.dtype == np.int64, name
        np.testing.assert_array_equal(read, y, err_msg=name)
    for name, write in ROWS.items():
        read = reader.read(write(one_hot(y, count)))
        assert read.dtype == np.bool_, name
        np.testing.assert_array_equal(read, one_hot(y, count).astype(bool), err_msg=name)


@given(st.integers(1, 20), st.integers(2, 6), st.randoms(use_true_random=False))
def test_multi_hot_rows_are_read_as_they_are(size, count, random):
    rows = np.array([[random.random() < 0.5 for _ in range(count)] for _ in range(size)])
    reader = LabelReader([str(i) for i in range(count)], named=False)
    np.testing.assert_array_equal(reader.read(rows.astype(np.float32)), rows)


@given(numbered(), st.randoms(use_true_random=False))
def test_a_container_with_an_order_of_its_own_is_renumbered(labels, random):
    y, count = labels
    names = list(NAMES[:count])
    own = sorted(names)[: random.randint(2, count)]
    reader = LabelReader(names, coded=own)
    y = y % len(own)
    expected = [names.index(own[i]) for i in y]
    np.testing.assert_array_equal(reader.read(y), expected)
    rows = reader.read(one_hot(y, len(own)))
    np.testing.assert_array_equal(rows, one_hot(expected, count).astype(bool))


def test_bool_labels_are_two_labels():
    read = LabelReader(("no", "yes")).read(np.array([True, False, True]))
    np.testing.assert_array_equal(read, [1, 0, 1])
    assert read.dtype == np.int64


def test_an_empty_batch_has_no_labels():
    assert LabelReader(("a", "b")).read(np.zeros(0, int)).shape == (0,)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (None, "no labels"),
        ([0, 3], r"Labels 3 are outside the model's 3 labels \(0 to 2\)"),
        ([1, 2, 3], "subtract 1"),
        ([-1, 0], "Labels -1 are outside"),
        ([0.5, 1.0], "must be whole. Received: 0.5"),
        ([np.nan, 1.0], "1 of 2 labels or targets are missing .*sample 0"),
        ([np.inf, 1.0], "missing .NaN or infinite., first that of sample 0"),
        ([1 + 2j], "complex"),
        ([[0, 1]], r"must have 3 columns.*shape \(1, 2\)"),
        ([[0, 1, 2]], "must be 0 or 1. Received: 2"),
        ([[0.2, 0.8, 0.0]], "Soft labels name no label"),
        ([[0.0, np.nan, 0.0]], "1 of 1 labels or targets are missing"),
        (np.zeros((2, 3, 3)), r"Received: shape \(2, 3, 3\)"),
        (np.array([["a", "b"]]), r"Received: shape \(1, 2\)"),
        (["a", "wolf"], "'wolf' are none of the label names"),
        (np.array(["a", None], dtype=object), r"1 of 2 labels are missing \(None.*pandas.notna"),
        (np.array(["a", 1], dtype=object), "all be whole numbers. Received: int, str"),
        (np.array([b"\xff"]), "UTF-8"),
        ([[1], [1, 2]], "ragged"),
        ({"out": [0, 1]}, "several outputs"),
        (np.array(["2020-01-01"], dtype="M8[D]"), "datetime64"),
    ],
)
def test_wrong_labels_are_refused(y, message):
    with pytest.raises(DataError, match=message):
        LabelReader(("a", "b", "c")).read(y)


def test_strings_need_names_to_be_looked_up():
    with pytest.raises(DataError, match="pass label_names, in the order"):
        label_reader(outputs=3).read(["a", "b"])


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"outputs": 3}, ("0", "1", "2")),
        ({"outputs": None, "count": 2}, ("0", "1")),
        ({"outputs": 5, "count": 2}, ("0", "1")),
        ({"outputs": 2, "names": ["b", "a"]}, ("b", "a")),
        ({"outputs": None, "names": range(3)}, ("0", "1", "2")),
        ({"outputs": 2, "found": ["a", "b"]}, ("a", "b")),
        ({"outputs": 3, "names": ["c", "b", "a"], "found": ["a", "b"]}, ("c", "b", "a")),
        ({"outputs": 2, "y": np.array(["b", "a", "b"])}, ("a", "b")),
        ({"outputs": None, "y": np.array([0, 4, 2])}, ("0", "1", "2", "3", "4")),
        ({"outputs": None, "y": np.array([0.0, 1.0])}, ("0", "1")),
        ({"outputs": None, "y": np.zeros((2, 4))}, ("0", "1", "2", "3")),
    ],
)
def test_names_come_from_the_most_certain_source(options, names):
    assert label_reader(**options).names == names


def test_display_names_leave_the_data_s_numbers_alone():
    reader = label_reader(outputs=2, names=["zero", "one"], found=["0", "1"])
    np.testing.assert_array_equal(reader.read([0, 1, 1]), [0, 1, 1])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"outputs": None}, "Pass label_names or label_count"),
        ({"outputs": 3, "names": ["a", "b"]}, "label_names has 2 names .* tells 3"),
        ({"outputs": 2, "names": ["a", "a"]}, "every label once"),
        ({"outputs": None, "names": []}, "every label once"),
        ({"outputs": 2, "names": "ab"}, "must be a list"),
        ({"outputs": 2, "count": 0}, "label_count=0"),
        ({"outputs": 3, "y": np.array(["a", "b"])}, "order is unknown. Pass label_names"),
        ({"outputs": 3, "found": ["a", "b"]}, "order is unknown. Pass label_names"),
        ({"outputs": 2, "names": ["a", "b"], "found": ["b", "c"]}, "does not name: 'c'"),
    ],
)
def test_names_that_do_not_fit_are_refused(options, message):
    with pytest.raises(DataError, match=message):
        label_reader(**options)


def test_outputs_tell_how_many_labels_there_are():
    x = keras.Input((6,))
    outputs = {1: 2, 2: 2, 7: 7}
    for width, labels in outputs.items():
        assert output_label_count(keras.Model(x, keras.layers.Dense(width)(x))) == labels
    two = keras.Model(x, [keras.layers.Dense(2)(x), keras.layers.Dense(3)(x)])
    assert output_label_count(two) is None
    steps = keras.Input((5, 6))
    assert output_label_count(keras.Model(steps, keras.layers.Dense(3)(steps))) is None
    free = keras.Input((None,))
    assert output_label_count(keras.Model(free, keras.layers.Activation("relu")(free))) is None
