"""Splits have no sample in common, lose none, and give every label its share."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

import keras_nns as nns

PARTS = ("observe", "calibrate", "test")


def parts(split):
    return [getattr(split, part) for part in PARTS]


@settings(deadline=None, max_examples=30)
@given(
    st.integers(60, 300),
    st.integers(2, 4),
    st.floats(0.1, 0.4),
    st.floats(0.1, 0.4),
    st.integers(0, 2**31 - 1),
)
def test_arrays_are_split_by_label(count, labels, calibrate, test, seed):
    x, y = np.arange(count), np.arange(count) % labels
    found = nns.split(x, y, calibrate=calibrate, test=test, seed=seed)
    numbers = [part[0].tolist() for part in parts(found)]
    assert sorted(itertools.chain(*numbers)) == x.tolist()
    for (inputs, given_), share in zip(
        parts(found), (1 - calibrate - test, calibrate, test), strict=True
    ):
        assert (given_ == inputs % labels).all()
        assert abs(len(inputs) - share * count) <= 2
        counts = np.bincount(given_, minlength=labels)
        assert counts.max() - counts.min() <= 2
    again = nns.split((x, y), calibrate=calibrate, test=test, seed=seed)
    assert [part[0].tolist() for part in parts(again)] == numbers


def test_several_inputs_names_and_multi_hot_labels_are_split_alike():
    x = {"a": np.arange(60), "b": np.arange(60)[:, None] * 2}
    y = np.array(["cat", "dog", "eel"])[np.arange(60) % 3]
    found = nns.split(x, y, calibrate=0)
    assert len(found.calibrate[1]) == 0
    for inputs, labels in (found.observe, found.test):
        assert (inputs["b"][:, 0] == 2 * inputs["a"]).all()
        assert (labels == y[inputs["a"]]).all()
        assert len(set(np.unique(labels, return_counts=True)[1].tolist())) == 1
    table = np.eye(3, dtype=bool)[np.arange(60) % 3] | (np.arange(60) == 7)[:, None]
    found = nns.split(np.arange(60), table)
    for inputs, labels in parts(found):
        assert (labels == table[inputs]).all()
    assert "36 samples" in str(found)


def test_a_dataset_is_dealt_batch_by_batch():
    data = tf.data.Dataset.from_tensor_slices((tf.range(100), tf.range(100) % 4)).batch(5)
    found = nns.split(data, calibrate=0.1, test=0.3)
    seen = [np.concatenate([x.numpy() for x, _ in part]) for part in parts(found)]
    assert sorted(np.concatenate(seen).tolist()) == list(range(100))
    assert [int(part.cardinality()) for part in parts(found)] == [12, 2, 6]
    # From the whole of it, where it may be sorted.
    assert len({int(i) // 25 for i in seen[2]}) == 4
    assert str(found) == "Split into observe: 12 batches, calibrate: 2 batches, test: 6 batches"


def test_wrong_use():
    x, y = np.arange(30), np.arange(30) % 3
    for calibrate, test in ((0.5, 0.5), (-0.1, 0.2), (0.2, 0), (0.2, 1.5)):
        with pytest.raises(nns.errors.DataError, match="leave some to observe"):
            nns.split(x, y, calibrate=calibrate, test=test)
    with pytest.raises(nns.errors.DataError, match="as many samples"):
        nns.split(x[:20], y)
    with pytest.raises(nns.errors.DataError, match="Received: list"):
        nns.split([x, y])
    rare = y.copy()
    rare[rare == 2] = 1
    rare[0] = 2
    with pytest.raises(nns.errors.DataError, match="rarest has 1"):
        nns.split(x, rare)
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(15)
    with pytest.raises(nns.errors.DataError, match="too few"):
        nns.split(data)
    with pytest.raises(nns.errors.DataError, match="how many batches"):
        nns.split(data.filter(lambda *_: True))
    with pytest.raises(nns.errors.DataError, match="Leave y out"):
        nns.split(data, y)
