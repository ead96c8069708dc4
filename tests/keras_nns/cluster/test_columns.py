"""Which columns are what, by names or by what the user says; rows as arrays."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from keras_nns.cluster.columns import Columns, batches, choose
from keras_nns.errors import DataError


@pytest.mark.parametrize(
    ("x", "y", "there", "inputs", "expected"),
    [
        (None, None, ["image", "label"], ["pixels"], Columns("image", "label")),
        (None, None, ["id", "pixels", "y"], ["pixels"], Columns("pixels", "y")),
        (None, "kind", ["kind", "image"], ["pixels"], Columns("image", "kind")),
        ("image", "id", ["id", "image", "y"], ["pixels"], Columns("image", "id")),
        (["a", "b"], None, ["a", "b", "y"], ["in"], Columns(["a", "b"], "y")),
        (None, None, ["b", "a", "y"], ["a", "b"], Columns({"a": "a", "b": "b"}, "y")),
        ({"a": "p", "b": ["q", "r"]}, None, ["p", "q", "r", "y"], ["a", "b"],
         Columns({"a": "p", "b": ["q", "r"]}, "y")),
        ({"a": "p"}, None, ["p", "y"], ["a"], Columns("p", "y")),
    ],
)  # fmt: skip
def test_columns_are_found(x, y, there, inputs, expected):
    assert choose(x, y, there, inputs) == expected


@pytest.mark.parametrize(
    ("x", "y", "there", "inputs", "said"),
    [
        ("imaeg", "y", ["image", "y"], ["in"], "no column 'imaeg'. Its columns: image, y"),
        (None, None, ["image", "kind"], ["in"], "Which column has the labels"),
        (None, None, ["y", "label", "x"], ["in"], "Which column has the labels"),
        (None, None, ["p", "q", "y"], ["in"], "Which columns have the inputs"),
        (None, None, ["p", "q", "y"], ["a", "b"], "the model's inputs: a, b"),
        ("p", None, ["p", "y"], ["a", "b"], "The model has 2 inputs"),
        ({"a": "p"}, None, ["p", "y"], ["a", "b"], "for each of the model's inputs, a, b"),
    ],
)
def test_columns_that_do_not_fit_are_named(x, y, there, inputs, said):
    with pytest.raises(DataError, match=said.replace(".", r"\.")):
        choose(x, y, there, inputs)


def objects(values):
    found = np.empty(len(values), object)
    found[:] = values
    return found


def test_rows_become_arrays():
    table = {
        "image": objects([np.ones((2, 3)), np.zeros((2, 3))]),
        "list": objects([[1.0, 2.0], [3.0, 4.0]]),
        "nested": objects([objects([np.arange(2), np.arange(2)]) for _ in range(2)]),
        "a": np.array([1, 2]),
        "b": np.array([0.5, 1.5]),
        "name": objects(["cat", "dog"]),
    }
    x, y = Columns("image", "name").of(table)
    assert x.shape == (2, 2, 3) and list(y) == ["cat", "dog"]
    x, _ = Columns({"one": "list", "two": ["a", "b"], "three": "nested"}, "name").of(table)
    np.testing.assert_array_equal(x["one"], [[1, 2], [3, 4]])
    np.testing.assert_array_equal(x["two"], [[1, 0.5], [2, 1.5]])
    assert x["three"].shape == (2, 2, 2)


@pytest.mark.parametrize("sizes", [[7], [1, 1, 5], [4, 3], [3, 4], [2, 2, 2, 1]])
@pytest.mark.parametrize("size", [1, 2, 3, 10])
def test_batches_run_across_tables(sizes, size):
    y = np.arange(7)
    bounds = np.cumsum([0, *sizes])
    tables = [{"x": y[a:b] * 1.5, "y": y[a:b]} for a, b in itertools.pairwise(bounds)]
    found = list(batches(iter(tables), Columns("x", "y"), size))
    assert [len(labels) for _, labels in found[:-1]] == [size] * (len(found) - 1)
    np.testing.assert_array_equal(np.concatenate([labels for _, labels in found]), y)
    np.testing.assert_array_equal(np.concatenate([x for x, _ in found]), y * 1.5)


def test_shapes_that_differ_are_named():
    odd = {"x": objects([np.ones(2), np.ones(3)]), "y": np.arange(2)}
    with pytest.raises(DataError, match=r"column 'x' have different shapes, such as \(2,\) and"):
        list(batches(iter([odd]), Columns("x", "y"), 4))
    tables = [{"x": np.ones((1, n)), "y": np.arange(1)} for n in (2, 3)]
    with pytest.raises(DataError, match=r"column 'x' have different shapes, such as \(2,\) and"):
        list(batches(iter(tables), Columns("x", "y"), 4))
