"""A pass through a compiled step sees every sample once and leaves models as they were."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import ops

from keras_nns.engine.accumulators import Accumulator
from keras_nns.observation.passes import run_compiled


@pytest.mark.parametrize("at_once", [None, 1, 3, 4, 100])
def test_every_sample_is_seen_once_in_its_order(at_once):
    x = np.random.default_rng(0).normal(size=(10, 2)).astype("float32")
    total, steps, most = Accumulator((2,)), Accumulator((), "int64"), Accumulator((), "int32")

    def add(inputs, number):
        steps.add(1)
        most.assign(ops.maximum(most.value, ops.shape(number)[0]))
        # The order shows: what comes later counts less.
        share = 1 / (1 + ops.cast(number, "float64"))
        total.add(ops.sum(ops.cast(inputs["a"], "float64") * share[:, None], axis=0))

    parts = [slice(0, 4), slice(4, 5), slice(5, 10)]
    run_compiled(add, (({"a": x[p]}, np.arange(10)[p]) for p in parts), models=[], at_once=at_once)
    expected = (x.astype("float64") / (1 + np.arange(10))[:, None]).sum(axis=0)
    np.testing.assert_allclose(total.numpy(), expected, rtol=1e-12)
    sizes = [4, 1, 5]
    assert most.numpy() == min(at_once or 5, 5)
    assert steps.numpy() == sum(-(-size // (at_once or size)) for size in sizes)


@pytest.mark.slow
def test_models_are_as_before_also_when_a_batch_fails():
    recurrent = keras.layers.GRU(2, stateful=True)
    model = keras.Sequential([keras.Input((3, 2), batch_size=4), recurrent])
    x = np.random.default_rng(0).normal(size=(4, 3, 2)).astype("float32")
    model(x)
    before = [np.asarray(state) for state in recurrent.states]
    seen = Accumulator((4, 2), "float32")

    def batches():
        yield (x,)
        yield (x,)
        raise KeyError("no more")

    with pytest.raises(KeyError, match="no more"):
        run_compiled(lambda inputs: seen.assign(model(inputs)), batches(), models=[model])
    for was, state in zip(before, recurrent.states, strict=True):
        np.testing.assert_array_equal(was, state)
    model(x)
    # States went on from one batch to the next while it ran.
    np.testing.assert_allclose(seen.numpy(), model(x), rtol=1e-5)
