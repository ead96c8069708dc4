"""Labels that are missing, ragged or masked are refused, and what the message says works."""

from __future__ import annotations

import re

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras_nns as nns
from keras_nns.data.batches import as_batches
from keras_nns.errors import DataError

X = np.random.default_rng(0).normal(size=(30, 4)).astype("float32")
Y = np.arange(30) % 3
GONE = Y == 2
pandas = pytest.importorskip("pandas")


def model(labels=3):
    return keras.Sequential([keras.Input((4,)), layers.Dense(labels, "softmax")])


CASES = {
    "NaN": lambda: np.where(GONE, np.nan, Y),
    "a series with NaN": lambda: pandas.Series(np.where(GONE, np.nan, Y)),
    "NA": lambda: pandas.Series(np.where(GONE, None, Y), dtype="Int64"),
    "None": lambda: np.where(GONE, None, Y),
    "names and None": lambda: np.where(GONE, None, np.array(["a", "b", "c"])[Y]),
    "names and NaN": lambda: pandas.Series(["a", "b", np.nan] * 10),
    "names and NA": lambda: pandas.Series(["a", "b", pandas.NA] * 10, dtype="string"),
    "rows with NaN": lambda: np.where(GONE[:, None], np.nan, np.eye(3)[Y]),
    "rows with None": lambda: np.where(GONE[:, None], None, np.eye(3)[Y]),
    "-1": lambda: np.where(GONE, -1, Y),
    "masked": lambda: np.ma.masked_array(Y, GONE),
}


@pytest.mark.parametrize("case", CASES)
def test_missing_labels_are_named_and_left_out_as_the_message_says(case):
    y = CASES[case]()
    options = {"label_names": ["a", "b", "c"]} if "names" in case else {}
    with pytest.raises(DataError, match=r"known = ") as caught:
        list(as_batches((X, y), model=model(), **options))
    said = re.search(r"known = (.*?), then x\[known\]", str(caught.value))
    assert said is not None
    known = np.asarray(eval(said[1], {"np": np, "pandas": pandas, "y": y}))
    np.testing.assert_array_equal(known, ~GONE)
    (batch,) = as_batches((X[known], y[known]), model=model(), **options)
    labels = batch.labels if batch.labels.ndim == 1 else batch.labels.argmax(axis=1)
    assert labels.tolist() == Y[~GONE].tolist()


COUNTED = {
    "None": lambda: np.where(GONE, None, Y).tolist(),
    "names and None": lambda: np.where(GONE, None, np.array(["a", "b", "c"])[Y]),
    "rows with None": lambda: np.where(GONE[:, None], None, np.eye(3)[Y]),
    "NaN": lambda: np.where(GONE, np.nan, Y),
}


@pytest.mark.parametrize("first", [0, 1, 2])
@pytest.mark.parametrize("case", COUNTED)
def test_missing_labels_are_counted_over_all_data(case, first):
    """Also where the first is missing, and where labels are looked through in pieces."""
    y = np.asarray(COUNTED[case]()[first:])
    y = np.concatenate([y] * 3000)  # More than one piece.
    x = np.zeros((len(y), 4), "float32")
    gone = int((Y[first:] == 2).sum()) * 3000
    said = rf"^{gone:,} of {len(y):,} labels .*sample {2 - first}\."
    options = {"label_names": ["a", "b", "c"]} if "names" in case else {}
    with pytest.raises(DataError, match=said):
        as_batches((x, y), model=model(), **options)


@pytest.mark.parametrize("labels", [1, 3])
def test_missing_labels_of_a_stream_are_counted_in_their_batch(labels):
    y = np.where(Y == 1, 1, 0) if labels == 1 else Y
    y = np.where(GONE, None, y)
    batches = [(X[i : i + 10], y[i : i + 10]) for i in range(2, 30, 10)]
    with pytest.raises(DataError, match=r"^Batch 0: 4 of 10 labels are .*first that of sample 0"):
        list(as_batches(batches, model=keras.Sequential([keras.Input((4,)), layers.Dense(labels)])))


def test_no_and_yes_as_minus_one_and_one():
    binary = keras.Sequential([keras.Input((4,)), layers.Dense(1, "sigmoid")])
    y = np.where(Y == 1, 1, -1)
    with pytest.raises(DataError, match=r"pass y > 0"):
        as_batches((X, y), model=binary)
    (batch,) = as_batches((X, y > 0), model=binary)
    assert batch.labels.tolist() == (Y == 1).tolist()


SEVERAL = [[1], [0, 2], [1]] * 10


@pytest.mark.parametrize("form", ["lists", "tensor", "dataset"])
def test_ragged_labels(form):
    y = SEVERAL if form == "lists" else tf.ragged.constant(SEVERAL)
    data = tf.data.Dataset.from_tensor_slices((X, y)).batch(8) if form == "dataset" else (X, y)
    with pytest.raises(DataError, match=r"np\.isin"):
        as_batches(data, model=model())
    count = 3
    rows = np.stack([np.isin(range(count), some) for some in y])
    (batch,) = as_batches((X, rows), model=model())
    assert batch.labels[1].tolist() == [True, False, True]


def test_ragged_and_sparse_inputs():
    reader = keras.Sequential(
        [
            keras.Input((None,)),
            layers.Embedding(9, 4),
            layers.GlobalAveragePooling1D(),
            layers.Dense(3),
        ]
    )
    x = tf.ragged.constant([[1, 2, 3], [4], [5, 6]] * 10)
    pairs = tf.data.Dataset.from_tensor_slices((x, Y)).batch(8)
    for data in ((x, Y), pairs):
        with pytest.raises(DataError, match=r"Pad it with \.to_tensor\(\)"):
            list(as_batches(data, model=reader))
    for data in ((x.to_tensor(), Y), pairs.map(lambda x, y: (x.to_tensor(), y))):
        assert sum(batch.size for batch in as_batches(data, model=reader)) == 30
    with pytest.raises(DataError, match="is sparse"):
        as_batches((tf.sparse.from_dense(X), Y), model=model())


def test_numbers_of_a_regression_are_split():
    parts = nns.split(X, X[:, 0])
    assert [len(part[1]) for part in (parts.observe, parts.calibrate, parts.test)] == [18, 6, 6]
    with pytest.raises(DataError, match="stratify=False"):
        nns.split(X, np.arange(30))
    parts = nns.split(X, np.arange(30), stratify=False)
    assert sorted(np.concatenate([p[1] for p in vars(parts).values()])) == list(range(30))
    with pytest.raises(DataError, match="missing"):
        nns.split(X, CASES["NaN"]())
