"""Data sets of the backend, described, read and made."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_nns.engine import datasets, images, tensors
from keras_nns.engine.datasets import Spec

ROWS = np.arange(12, dtype=np.float32).reshape(6, 2)


def values(data):
    return [np.asarray(element).tolist() for element in datasets.elements(data)]


def test_a_data_set_says_what_its_elements_look_like():
    data = tf.data.Dataset.from_tensor_slices(({"a": ROWS, "b": np.array(["x"] * 6)}, np.ones(6)))
    assert datasets.element_spec(data.batch(4)) == (
        {"a": Spec((None, 2)), "b": Spec((None,), "string")},
        Spec((None,), "float64"),
    )
    assert datasets.is_dataset(data)
    assert not datasets.is_dataset([ROWS])


def test_ragged_sparse_and_missing_entries_are_told_apart():
    ragged = tf.ragged.constant([[1, 2], [3]])
    sparse = tf.sparse.from_dense(ROWS)
    data = tf.data.Dataset.from_tensors((ragged, sparse)).map(lambda r, s: (r, s, None))
    spec = datasets.element_spec(data)
    assert [spec[0].kind, spec[1].kind, spec[2]] == ["ragged", "sparse", None]
    assert spec[1].shape == (6, 2)
    assert tensors.is_ragged(ragged) and tensors.is_sparse(sparse)
    assert not tensors.is_tensor(ragged) and tensors.is_tensor(tf.constant(1))
    windows = tf.data.Dataset.range(4).window(2)
    assert datasets.element_spec(windows).kind == "other"


def test_an_unknown_rank_is_none():
    data = tf.data.Dataset.from_generator(
        lambda: iter([ROWS]), output_signature=tf.TensorSpec(None, tf.float32)
    )
    assert datasets.element_spec(data) == Spec(None)


def test_how_many_elements():
    data = tf.data.Dataset.range(5)
    assert (datasets.cardinality(data), datasets.is_endless(data)) == (5, False)
    assert datasets.cardinality(data.filter(lambda i: i > 2)) is None
    assert not datasets.is_endless(data.filter(lambda i: i > 2))
    assert datasets.cardinality(data.repeat()) is None
    assert datasets.is_endless(data.repeat())


def test_some_of_the_elements():
    data = tf.data.Dataset.range(5)
    assert [int(i) for i in datasets.elements(data, first=3)] == [3, 4]
    some = datasets.only(data, np.array([True, False, False, True, True]))
    assert values(some) == [0, 3, 4]
    assert datasets.cardinality(some) == 3


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(None, 2), None], ids=["known", "unknown rank"])
def test_a_zero_for_every_sample(shape):
    data = tf.data.Dataset.from_generator(
        lambda: iter([ROWS, ROWS[:4]]), output_signature=tf.TensorSpec(shape, tf.float32)
    )
    for own in (data, data.map(lambda x: {"a": x, "b": x}), data.map(lambda x: (x, x))):
        found = list(datasets.elements(datasets.with_zeros(own)))
        assert [y.numpy().tolist() for _, y in found] == [[0] * 6, [0] * 4]
        firsts = [keras.tree.flatten(inputs)[0] for inputs, _ in found]
        assert [x.numpy().tolist() for x in firsts] == [ROWS.tolist(), ROWS[:4].tolist()]


def test_from_a_generator_every_pass_is_anew():
    passes = []

    def generator():
        passes.append(0)
        yield from ({"a": ROWS[:n]} for n in (4, 2))

    made = datasets.from_generator(generator, {"a": Spec((None, 2))}, cardinality=2)
    for _ in range(2):
        assert [element["a"].shape[0] for element in datasets.elements(made)] == [4, 2]
    assert len(passes) == 2
    assert datasets.cardinality(made) == 2
    assert datasets.cardinality(datasets.from_generator(generator, {"a": Spec((None, 2))})) is None


def test_repeated_and_cached(tmp_path):
    made = datasets.repeated((ROWS, np.ones(6)), 3)
    assert datasets.cardinality(made) == 3
    assert all((np.asarray(x) == ROWS).all() for x, _ in datasets.elements(made))
    reads = []

    def generator():
        reads.append(0)
        yield ROWS

    kept = datasets.cached(datasets.from_generator(generator, Spec((6, 2))), tmp_path / "rows")
    assert values(kept) == values(kept) == [ROWS.tolist()]
    assert len(reads) == 1


def test_images_are_decoded_and_resized(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)
    keras.utils.save_img(tmp_path / "a.png", pixels, scale=False)
    data = (tmp_path / "a.png").read_bytes()
    np.testing.assert_array_equal(images.decode(data), pixels)
    with pytest.raises(ValueError, match="image"):
        images.decode(b"no image")
    # Twice as large: pixels half way between two are their mean.
    row = np.array([0.0, 4.0, 8.0]).reshape(1, 1, 3, 1)
    resized = images.resize(row, (1, 6))
    np.testing.assert_allclose(resized.ravel(), [0, 1, 3, 5, 7, 8])
    many = np.ones((1025, 2, 2, 1), np.uint8)
    assert images.resize(many, (1, 1)).shape == (1025, 1, 1, 1)


def test_dtypes_by_name():
    assert tensors.dtype_of(tf.constant("a")) == "string"
    assert tensors.dtype_of(keras.Variable(1.0)) == "float32"
    assert tensors.is_floating(tf.constant(1, tf.bfloat16))
    assert not tensors.is_floating(tf.constant(1))
    assert tensors.as_tensor(["a", "b"]).shape == (2,)
