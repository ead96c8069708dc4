"""A graph done in parts gives what the model gives, and keeps no more than is read later."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as L

from keras_nns.graph.programs import Program, Slot


def nested():
    inner_start = keras.Input((4,))
    dense = L.Dense(4, activation="relu", name="dense")
    inner = keras.Model(inner_start, dense(inner_start), name="inner")
    start = keras.Input((4,))
    x = inner(inner(start))
    x = L.Dropout(0.5)(L.BatchNormalization(name="norm")(x))
    x = keras.ops.add(x, start)
    return keras.Model(start, [L.Dense(3, name="answer")(x), x])


def test_parts_give_what_the_whole_gives():
    keras.utils.set_random_seed(0)
    model = nested()
    program = Program(model)
    x = np.random.default_rng(0).normal(size=(5, 4)).astype("float32")
    end = len(program.instructions)
    assert program.places("inner/dense") == [0, 1]
    for stop in range(end + 1):
        known = program.run({program.inputs[0]: x}, 0, stop)
        # Only what is read later is known.
        later = {s for one in program.instructions[stop:] for s in one.reads} | set(program.outputs)
        assert set(known) <= later
        known = program.run(known, stop, end)
        for slot, expected in zip(program.outputs, model(x, training=False), strict=True):
            np.testing.assert_allclose(known[slot], expected, rtol=1e-5, atol=1e-6)


def test_an_input_that_is_an_output_stays_known():
    start = keras.Input((2,))
    program = Program(keras.Model(start, [start, L.Dense(1)(start)]))
    known = program.run({Slot((), 0): np.ones((1, 2), "float32")}, 0, 1)
    assert set(known) == set(program.outputs)


@pytest.mark.parametrize("name", ["norm", "answer"])
def test_a_copy_has_the_same_slots(name):
    program, other = (Program(model) for model in (nested(), nested()))
    assert program.places(name) == other.places(name)
    assert [one.reads for one in program.instructions] == [one.reads for one in other.instructions]
