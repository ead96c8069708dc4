"""Merging: plans become their union, models one model, and nothing is mixed in silence."""

from __future__ import annotations

import numpy as np
import pytest
from contract import chain, inputs_of, randomise
from keras import layers as L

import keras_nns as nns


@pytest.fixture(scope="module")
def model():
    return randomise(
        chain((4,), L.Dense(6, activation="relu", name="one"), L.Dense(3, name="answer"))
    )


def plan(model, *units, label=0):
    return nns.Plan(nns.fingerprint(model), {"one": 6}, {"one": units}, (label,))


def test_plans_become_the_plan_of_their_union(model):
    parts = [plan(model, 0, 2), plan(model, 2, 5, label=1), plan(model, 4, label=2)]
    merged = nns.merge(iter(parts))
    assert merged == parts[0] | parts[1] | parts[2]
    assert merged.kept["one"] == (0, 2, 4, 5) and merged.labels == (0, 1, 2)


def test_models_become_a_model_of_the_union(model):
    parts = [plan(model, 0, 2), plan(model, 2, 5, label=1)]
    merged = nns.merge([nns.cut(model, one) for one in parts], model)
    x, (one, answer) = inputs_of(model), model.layers[-2:]
    hidden = np.maximum(x @ one.kernel.numpy() + one.bias.numpy(), 0)
    hidden[:, [1, 3, 4]] = 0
    expected = hidden @ answer.kernel.numpy() + answer.bias.numpy()
    np.testing.assert_allclose(merged(x), expected, rtol=1e-5, atol=1e-6)
    assert merged.get_layer("one").units == 3


def test_wrong_use_says_what_to_do(model):
    one, two = plan(model, 0, 2), plan(model, 1)
    small = nns.cut(model, one)
    with pytest.raises(nns.errors.SelectionError, match=r"cut\(model, merge\(plans\)\)"):
        nns.merge([one, two], model)
    with pytest.raises(nns.errors.SelectionError, match=r"merge\(models, parent\)"):
        nns.merge([small])
    with pytest.raises(nns.errors.SelectionError, match=r"not both\. Received: 1 plans among 2"):
        nns.merge([one, small], model)
    with pytest.raises(nns.errors.SelectionError, match=r"no subnetwork\. Pass at least one"):
        nns.merge([])
