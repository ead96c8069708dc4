"""Clean-ups and history hold for every layer type and setting of the contract table."""

from __future__ import annotations

import numpy as np
import pytest
from contract import randomise
from contract_plans import random_plan
from contract_table import ROWS
from seeding import seed_all

import keras_nns as nns
from keras_nns.graph.tracing import trace

pytestmark = [
    pytest.mark.slow,
    # TensorFlow's tensors under numpy 2, when Keras quantises weights.
    pytest.mark.filterwarnings(
        "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_a_cut_goes_back_and_what_is_constant_leaves(row):
    seed_all(0)
    model = randomise(row.build())
    plan = random_plan(trace(model), 0.5, 1)
    full = nns.write_back(nns.cut(model, plan), model, rest="parent")
    for one, other in zip(full.weights, model.weights, strict=True):
        # Weights that a cut rescales are scaled back: one rounding.
        np.testing.assert_allclose(one.numpy(), other.numpy(), rtol=1e-5, atol=1e-6)
    thin_out(model)
    done = nns.simplify(model, fold_batch_norm=True)
    assert done.proof.exact


def thin_out(model):
    """Make some units of every Dense and convolution constant, some of them zero."""
    random = np.random.default_rng(0)
    kinds = ("Dense", "Conv1D", "Conv2D", "Conv3D")
    for layer in model._flatten_layers():
        if type(layer).__name__ not in kinds or layer.quantization_mode or layer.bias is None:
            continue
        kernel, bias = layer._kernel.numpy(), layer.bias.numpy()
        units = np.flatnonzero(random.random(len(bias)) < 0.4)
        kernel[..., units] = 0
        bias[units] = random.choice([-1.0, 0.0, 0.5], len(units))
        layer._kernel.assign(kernel)
        layer.bias.assign(bias)
