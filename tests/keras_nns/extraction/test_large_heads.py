"""Extraction from a parent whose head, for many labels, is most of it, and stays behind."""

from __future__ import annotations

import dataclasses

import keras
import numpy as np
import pytest
from clouds import clouds
from keras import layers as L

import keras_nns as nns
from keras_nns.extraction import tasks
from keras_nns.extraction.tasks import set_task

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings(
        "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
    ),
]
X, Y = clouds()


def counted(model):
    """Parameters and multiply-adds of Dense layers, by hand."""
    kernels = [
        int(np.prod(layer.kernel.shape)) for layer in model.layers if hasattr(layer, "kernel")
    ]
    biases = [layer.kernel.shape[-1] for layer in model.layers if hasattr(layer, "kernel")]
    return {"parameters": sum(kernels) + sum(biases), "macs": sum(kernels)}


@pytest.fixture(scope="module")
def wide():
    """A head of 400 labels, of which four are there: most of the weights, and none of the cut's."""
    keras.utils.set_random_seed(3)
    body = [L.Dense(96, activation="relu", name="one"), L.Dense(64, activation="relu", name="two")]
    built = keras.Sequential(
        [keras.Input(X.shape[1:]), *body, L.Dense(400, activation="softmax", name="answer")]
    )
    built.compile("adam", "sparse_categorical_crossentropy")
    built.fit(X, Y, epochs=10, verbose=0)
    return built


@pytest.mark.parametrize(
    ("limit", "quantize"), [(20_000, None), (26_000, None), (14_000, "int8"), (16_000, "float16")]
)
def test_a_budget_is_filled_where_the_parents_head_is_most_of_it(wide, limit, quantize):
    found = nns.extract(
        wide, (X, Y), labels=[0, 2], budget=nns.Budget(bytes=limit), quantize=quantize,
        score="magnitude",
    )  # fmt: skip
    assert found.model.output_shape == (None, 3)
    assert 0.97 * limit <= found.cost <= limit
    assert found.exports <= 6


def test_a_unit_is_priced_with_the_head_that_networks_get(wide):
    task = set_task(wide, [0, 2], label_names=[str(i) for i in range(400)], head=None, output=None)
    recipe = tasks.write_recipe(task, repair=True, epochs=0)
    estimates = tasks.estimates_of(task, recipe)
    everything = task.everything()
    kept = {**everything.kept, "two": everything.kept["two"][1:]}
    fewer = dataclasses.replace(everything, kept=kept)
    for unit in ("parameters", "macs"):
        for plan in (everything, fewer):
            network = tasks.skeleton(task, recipe, plan)
            assert network.output_shape == (None, 3)
            assert estimates.of(unit, task.keep(plan)) == counted(network)[unit]
