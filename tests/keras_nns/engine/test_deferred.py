"""Variables without memory give what they are told to, and others are left as they are."""

from __future__ import annotations

import threading

import keras
import numpy as np

from keras_nns.engine.deferred import fill, has_value, read_from, reader_of, without_values


def test_variables_made_in_the_block_take_no_memory_and_those_outside_do():
    with without_values():
        layer = keras.layers.Dense(3)
        layer.build((None, 4))
    other = keras.layers.Dense(3)
    other.build((None, 4))
    assert not any(map(has_value, layer.variables))
    assert all(map(has_value, other.variables))
    assert layer.kernel.shape == (4, 3)


def test_one_made_of_a_value_has_it():
    with without_values():
        variable = keras.Variable(np.arange(3.0))
    assert has_value(variable)
    np.testing.assert_array_equal(variable.numpy(), np.arange(3.0))


def test_it_gives_what_is_read_each_time():
    with without_values():
        variable = keras.Variable(initializer="zeros", shape=(2,), dtype="float32")
    times = []

    def read():
        times.append(1)
        return np.full(2, len(times), "float32")

    read_from(variable, read)
    assert [variable.numpy().tolist() for _ in range(2)] == [[1, 1], [2, 2]]
    assert reader_of(variable)().tolist() == [3, 3]
    assert not has_value(variable)


def test_filled_it_is_like_any_other():
    with without_values():
        variable = keras.Variable(initializer="ones", shape=(2,), dtype="float32")
    fill(variable)
    variable.assign_add([1.0, 2.0])
    assert variable.numpy().tolist() == [2, 3]


def test_assignments_are_told_of():
    told = []
    with without_values():
        variable = keras.Variable(initializer="ones", shape=(2,), dtype="float32")
    with without_values(lambda one, value: told.append((one is variable, np.asarray(value)))):
        variable.assign([5.0, 6.0])
    assert [(mine, value.tolist()) for mine, value in told] == [(True, [5, 6])]
    with without_values():
        variable.assign([5.0, 6.0])
    assert variable.numpy().tolist() == [5, 6]


def test_other_threads_are_not_concerned():
    made = []
    with without_values():
        thread = threading.Thread(
            target=lambda: made.append(keras.Variable(initializer="ones", shape=(2,)))
        )
        thread.start()
        thread.join()
    assert has_value(made[0])


def test_layers_that_are_built_by_their_first_call_too():
    class Late(keras.layers.Layer):
        def __init__(self):
            super().__init__()
            self.inner = keras.layers.Dense(2)

        def call(self, x):
            return self.inner(x)

    with without_values():
        layer = Late()
        layer(keras.Input((3,)))
    (kernel, _) = layer.variables
    assert not has_value(kernel)
    assert np.abs(kernel.numpy()).max() > 0
