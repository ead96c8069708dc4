"""Staged tensors hold what the array held, whatever its memory looks like."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from keras_nns.engine.staging import Staging


def unaligned(shape, dtype):
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    memory = np.empty(size + 128, dtype=np.uint8)
    start = (8 - memory.ctypes.data) % 64
    return memory[start : start + size].view(dtype).reshape(shape)


@pytest.mark.parametrize("dtype", ["float32", "float16", "float64", "int64", "uint8"])
@pytest.mark.parametrize("rows", [1, 700])
def test_a_staged_tensor_is_the_array(dtype, rows):
    array = unaligned((rows, 9, 31), dtype)
    array[...] = np.random.default_rng(0).integers(0, 100, array.shape)
    tensor = Staging().tensors(array)
    np.testing.assert_array_equal(tensor.numpy(), array)
    assert tensor.dtype == dtype
    # A kernel that insists on aligned memory.
    product = tf.matmul(tf.cast(tf.reshape(tensor, (rows, -1)), tf.float32), tf.ones((279, 2)))
    np.testing.assert_allclose(
        product.numpy()[:, 0], array.reshape(rows, -1).astype("float64").sum(1), rtol=1e-5
    )


def test_batches_share_one_buffer_and_none_sees_another():
    staging = Staging()
    double = tf.function(lambda x: 2 * x)
    for rows in (600, 256, 700):
        array = np.random.default_rng(rows).random((rows, 200), dtype=np.float32)
        kept = array.copy()
        doubled = double(staging.tensors(array))
        np.testing.assert_array_equal(doubled.numpy(), 2 * array)
        np.testing.assert_array_equal(array, kept)
    assert len(staging._buffers) == 1


def test_inputs_of_one_batch_do_not_share():
    a = np.zeros((300, 100), dtype=np.float32)
    b = np.ones((300, 100), dtype=np.float32)
    staged = Staging().tensors({"a": a, "b": (b, b + 1)})
    assert staged["a"].numpy().max() == 0
    assert staged["b"][0].numpy().min() == 1
    assert staged["b"][1].numpy().min() == 2


@pytest.mark.parametrize(
    "array",
    [
        np.asfortranarray(np.arange(60_000.0).reshape(200, 300)),
        np.arange(120_000.0).reshape(200, 600)[:, ::2],
        np.arange(60_000).reshape(200, 300) % 2 == 0,
        np.array([["text"]] * 9000),
    ],
    ids=["fortran", "strided", "boolean", "text"],
)
def test_memory_of_any_order(array):
    tensor = Staging().tensors(array).numpy()
    expected = array.astype(bytes) if array.dtype.kind == "U" else array
    np.testing.assert_array_equal(tensor.astype(expected.dtype), expected)


def test_read_only_memory_and_tensors():
    array = np.ones((300, 100), dtype=np.float32)
    array.flags.writeable = False
    tensor = tf.ones((300, 100))
    staged = Staging().tensors([array, tensor])
    np.testing.assert_array_equal(staged[0].numpy(), array)
    assert staged[1] is tensor


def test_nothing_is_staged_where_steps_run_on():
    staging = Staging()
    staging._waits = False
    array = np.ones((300, 100), dtype=np.float32)
    tensor = staging.tensors(array)
    array[:] = 2
    np.testing.assert_array_equal(tensor.numpy(), 1)
    assert not staging._buffers
