"""Layers are reached from where the last pass ended, with the same answer, within the memory."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from contract import inputs_of, randomise
from keras import layers as L
from repair_models import convolutional, mlp, one_dimensional, plan_of, residual

import keras_nns as nns
from keras_nns.observation.holdout import Division
from keras_nns.observation.stages import Stages

RNG = np.random.default_rng(0)


def deep(depth=4):
    hidden = [L.Dense(8, activation="tanh", name=f"hidden{i}") for i in range(depth)]
    return randomise(keras.Sequential([keras.Input((6,)), *hidden, L.Dense(3, name="answer")]))


def masked():
    start = keras.Input((5,), dtype="int32")
    x = L.Embedding(9, 6, mask_zero=True, name="words")(start)
    x = L.Dense(8, activation="relu", name="one")(x)
    x = L.Dense(6, activation="tanh", name="two")(x)
    x = L.GlobalAveragePooling1D()(x)
    return randomise(keras.Model(start, L.Dense(3, name="answer")(x)))


def repaired(model, x, *, steps=None, memory, **options):
    small = nns.cut(model, plan_of(model))
    steps = nns.steps.least_squares(ridge=0) if steps is None else steps
    return nns.repair(small, model, x, steps=steps, memory=memory, **options).model


def assert_alike(one, other):
    for a, b in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("memory", [0, 3000, 2**30])
def test_layers_one_after_another_equal_numpy(memory):
    model = deep()
    plan = plan_of(model)
    x = RNG.normal(size=(300, 6)).astype("float32")
    fixed = repaired(model, x, memory=memory, held_out=0, batch_size=64)
    names = [f"hidden{i}" for i in range(4)] + ["answer"]
    theirs = ours = x.astype(np.float64)
    kept = None
    for name in names:
        kernel, bias = (np.asarray(w, np.float64) for w in model.get_layer(name).get_weights())
        units = list(plan.kept.get(name, range(3)))
        given = theirs @ kernel + bias
        if kept is None:
            # All of its inputs are there: it stays as it is.
            fitted = kernel[:, units], bias[units]
        else:
            design = np.c_[ours, np.ones(len(ours))]
            found = np.linalg.lstsq(design, given[:, units], rcond=None)[0]
            fitted = found[:-1], found[-1]
        for weight, expected in zip(fixed.get_layer(name).get_weights(), fitted, strict=True):
            np.testing.assert_allclose(weight, expected, rtol=1e-3, atol=1e-4)
        kept = units
        ours = np.tanh(ours @ fitted[0] + fitted[1])
        theirs = np.tanh(given)


@pytest.mark.slow
@pytest.mark.parametrize("make", [convolutional, residual, one_dimensional, masked])
def test_what_is_kept_changes_nothing(make):
    model = make()
    if make is masked:
        x = RNG.integers(0, 9, size=(120, 5)).astype("int32")
        x[:, 0] = 1
    else:
        x = inputs_of(model, 120)
    kept = repaired(model, x, memory=2**30, batch_size=50)
    assert_alike(kept, repaired(model, x, memory=0, batch_size=50))
    assert_alike(kept, repaired(model, x, memory=10_000, batch_size=50))


@pytest.mark.slow
def test_steps_that_begin_anew_see_the_layers_as_they_are_by_then():
    model, x = deep(), RNG.normal(size=(300, 6)).astype("float32")
    steps = [nns.steps.fold_means(), nns.steps.least_squares(ridge=1.0)]
    kept = repaired(model, x, steps=steps, memory=2**30)
    assert_alike(kept, repaired(model, x, steps=steps, memory=0))


@pytest.mark.parametrize("memory", [0, 5000, 2**30])
def test_the_memory_is_a_bound(memory):
    model = deep()
    small = nns.cut(model, plan_of(model))
    x = RNG.normal(size=(300, 6)).astype("float32")
    division = Division(
        x, None, model=model, held_out=0.2, seed=0, batch_size=32, label_names=None
    )  # fmt: skip
    stages = Stages(division, memory=memory)
    most, seen = 0, []

    def look(there, part, weight):
        return [values for _, values in there]

    for name in ("hidden1", "hidden2", "hidden3", "answer"):
        rows = 0
        for (theirs, ours), part in stages.run(
            [model, small], (name, name), look, lambda b, p: p * 0.0
        ):
            most = max(most, stages.held)
            ((_, x_theirs),), ((_, x_ours),) = theirs.items(), ours.items()
            assert (x_theirs.shape[1], x_ours.shape[1]) == (8, 4)
            rows += len(x_theirs)
            assert (np.diff(part) >= 0).all()
        seen.append(rows)
    assert seen == [300] * 4
    # 8 and 4 float32 of each sample are what a layer reads.
    assert most <= memory
    assert (most == 300 * 12 * 4) == (memory == 2**30)
    assert (most == 0) == (memory == 0)


def counted(x, *, shuffled):
    """Return data that is opened for every pass, and how often it was."""
    passes = []

    def batches():
        passes.append(1)
        order = RNG.permutation(len(x)) if shuffled else np.arange(len(x))
        labels = np.zeros(len(x), np.int64)
        labels[: len(x) // 2] = 1
        return ((x[order[i : i + 50]], labels[order[i : i + 50]]) for i in range(0, len(x), 50))

    return batches, passes


@pytest.mark.slow
def test_data_are_read_once_for_all_layers_where_memory_allows():
    read = {}
    for depth in (2, 5):
        for memory in (0, 2**30):
            model = deep(depth)
            data, passes = counted(RNG.normal(size=(200, 6)).astype("float32"), shuffled=False)
            names = ["a", "b", "c"]
            repaired(model, data, memory=memory, label_names=names)
            read[depth, memory] = len(passes)
    assert read[2, 2**30] == read[5, 2**30]
    assert read[5, 0] == read[2, 0] + 3


@pytest.mark.slow
@pytest.mark.parametrize("memory", [0, 4000, 2**30])
def test_data_in_another_order_in_every_pass(memory):
    model, x = deep(), RNG.normal(size=(300, 6)).astype("float32")
    data, _ = counted(x, shuffled=True)
    fixed = repaired(model, data, memory=memory, label_names=["a", "b", "c"])
    assert_alike(fixed, repaired(model, x, memory=0))


@pytest.mark.parametrize("memory", [-1, 1.5, True, "1GiB"])
def test_no_memory_is_refused(memory):
    model = mlp()
    with pytest.raises(nns.errors.SurgeryError, match=r"`memory` is a number of bytes"):
        repaired(model, inputs_of(model, 60), memory=memory)
