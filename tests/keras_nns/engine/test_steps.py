"""Compiled steps, the sums they keep, and the gradients they take, against numpy."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from keras_nns.engine import operations
from keras_nns.engine.accumulators import Accumulator
from keras_nns.engine.derivatives import differentiated
from keras_nns.engine.failures import EndOfData, InvalidValues, reason
from keras_nns.engine.functions import functions_named
from keras_nns.engine.steps import Stepper

RANDOM = np.random.default_rng(0)


def test_a_step_is_traced_for_every_kind_of_batch_and_not_for_every_size():
    traced = []

    def double(batch):
        traced.append(batch["x"].dtype)
        return 2 * batch["x"]

    step = Stepper(double)
    for rows in (4, 3, 4):
        x = RANDOM.random((rows, 2), dtype=np.float32)
        np.testing.assert_array_equal(step({"x": x}), 2 * x)
    assert traced == ["float32"]
    np.testing.assert_array_equal(step({"x": np.ones((2, 2))}), np.full((2, 2), 2.0))
    np.testing.assert_array_equal(step({"x": np.ones((2, 3))}), np.full((2, 3), 2.0))
    assert traced == ["float32", "float64", "float64"]


def test_the_first_batches_of_a_kind_may_be_run_as_they_come():
    eager = []

    def double(x):
        eager.append(tf.executing_eagerly())
        return 2 * x

    step = Stepper(double, uncompiled=2)
    for rows in (4, 3, 5, 1):
        x = RANDOM.random((rows, 2), dtype=np.float32)
        np.testing.assert_array_equal(step(x), 2 * x)
    assert eager == [True, True, False]
    np.testing.assert_array_equal(step(np.ones((2, 3), np.float32)), np.full((2, 3), 2.0))
    assert eager == [True, True, False, True]


def test_what_is_added_takes_effect_in_order():
    total, last = Accumulator((2,)), Accumulator((), "int32")

    def add(x):
        total.add(ops.cast(ops.sum(x, axis=0), "float64"))
        seen = total.value
        total.add(ops.ones((2,), "float64"))
        last.assign(ops.shape(x)[0])
        return seen

    step = Stepper(add)
    rows = RANDOM.random((5, 2), dtype=np.float32)
    np.testing.assert_allclose(step(rows), rows.sum(axis=0), rtol=1e-6)
    np.testing.assert_allclose(step(rows[:2]), rows.sum(0) + 1 + rows[:2].sum(0), rtol=1e-6)
    np.testing.assert_allclose(total.numpy(), rows.sum(0) + rows[:2].sum(0) + 2, rtol=1e-6)
    assert last.numpy() == 2
    total.reset()
    assert total.numpy().tolist() == [0, 0]


def test_sums_count_far():
    count, total = Accumulator((), "int64"), Accumulator((), "float64")
    step = Stepper(lambda x: (count.add(x[0]), total.add(ops.cast(x[0], "float64")))[0])
    for number in (2**40, 1):
        step(np.array([number]))
    assert count.numpy() == 2**40 + 1
    assert total.numpy() == 2.0**40 + 1


@pytest.mark.parametrize("start", [0, -np.inf, 3])
def test_an_accumulator_starts_and_starts_again(start):
    held = Accumulator((2, 1), "float32", start=start)
    assert held.numpy().tolist() == [[start], [start]]
    held.assign(np.array([[1.0], [2.0]], np.float32))
    before = held.numpy()
    held.reset()
    assert before.tolist() == [[1], [2]]
    assert held.numpy().tolist() == [[start], [start]]
    assert Accumulator((), "bool", start=True).numpy()


def test_gradients_are_those_of_calculus():
    x = RANDOM.random((4, 3), dtype=np.float32)

    def value(watch, x):
        y = watch("y", ops.square(watch("x", x)))
        watch("apart", ops.ones_like(x))
        watch("whole", ops.ones((2,), "int32"))
        return ops.sum(ops.exp(y)), [y]

    found, (y,) = Stepper(lambda x: differentiated(lambda watch: value(watch, x)))(x)
    assert set(found) == {"x", "y", "apart"}
    np.testing.assert_allclose(y, x**2, rtol=1e-6)
    np.testing.assert_allclose(found["y"], np.exp(x**2), rtol=1e-5)
    np.testing.assert_allclose(found["x"], 2 * x * np.exp(x**2), rtol=1e-5)
    np.testing.assert_array_equal(found["apart"], np.zeros((4, 3)))


def test_a_gradient_of_looked_up_rows_is_a_whole_table():
    table = ops.convert_to_tensor(RANDOM.random((5, 2)).astype("float32"))

    def value(watch):
        return ops.sum(operations.gather(watch("table", table), [1, 3, 1], axis=0)), []

    found, _ = differentiated(value)
    expected = [[0, 0], [2, 2], [0, 0], [1, 1], [0, 0]]
    assert np.asarray(found["table"]).tolist() == expected


def test_operations_are_those_of_numpy():
    a, b = RANDOM.random((6, 2)), RANDOM.random((6, 3))
    np.testing.assert_allclose(operations.columns_product(a, b), a.T @ b)
    np.testing.assert_allclose(operations.squared_difference(a, a[0]), (a - a[0]) ** 2)
    np.testing.assert_allclose(operations.total([a, 2 * a, a]), 4 * a)
    np.testing.assert_array_equal(operations.gather(b, [2, 0], axis=1), b[:, [2, 0]])


def test_the_backends_functions_are_found_by_name():
    assert tf.nn.relu in functions_named("relu")
    assert tf.square in functions_named("square")
    assert tf.exp in functions_named("exp")
    assert not functions_named("no such function")


def test_failures_are_caught_by_name():
    with pytest.raises(InvalidValues) as caught:
        tf.linalg.matmul(tf.ones((2, 3)), tf.ones((2, 3)))
    assert "Matrix size-incompatible" in reason(caught.value)
    with pytest.raises(EndOfData):
        tf.raw_ops.IteratorGetNext(
            iterator=iter(tf.data.Dataset.range(0))._iterator_resource,
            output_types=[tf.int64],
            output_shapes=[()],
        )
    assert reason(ValueError("said")) == "said"


def test_a_variable_is_read_as_an_array():
    from keras_nns.engine.tensors import as_array

    for dtype in ("float32", "bfloat16", "int8"):
        variable = keras.Variable([[1, 2], [3, 4]], dtype=dtype)
        found = as_array(variable)
        assert found.dtype.name == dtype
        assert found.astype("float32").tolist() == [[1, 2], [3, 4]]
