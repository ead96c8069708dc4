"""Repair of blocks that are one layer each: the ends of their branches, against numpy by hand."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest
from contract import randomise

import keras_nns as nns
from keras_nns.graph.tracing import trace

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_spec("keras_hub") is None, reason="needs KerasHub: pip install 'keras-nns[hub]'"
    ),
    pytest.mark.filterwarnings(
        "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning",
        "ignore:What is left of",
    ),
]
LEAST_SQUARES = nns.steps.least_squares(ridge=0)


@pytest.fixture(scope="module")
def model():
    from keras_hub import models

    made = models.LlamaBackbone(
        vocabulary_size=30,
        num_layers=3,
        hidden_dim=8,
        intermediate_dim=12,
        num_query_heads=4,
        num_key_value_heads=2,
    )
    return randomise(made)


def plan_of(model, **changes):
    graph = trace(model)
    sizes = {group.name: group.size for group in graph.layout.prunable}
    kept = {n: tuple(range(s)) for n, s in sizes.items()} | changes
    return nns.Plan(graph.fingerprint, sizes, kept)


def texts(count=24, steps=7, padded=False):
    rng = np.random.default_rng(0)
    mask = np.ones((count, steps), "int32")
    if padded:
        mask[::2, 4:] = 0
    return {"token_ids": rng.integers(1, 30, (count, steps)), "padding_mask": mask}


def blocks(model):
    return [layer for layer in model.layers if "transformer_layer" in layer.name]


def stream(model, x, count):
    """Return what goes into a block, or out of all of them."""
    hidden = model.token_embedding(x["token_ids"])
    for block in blocks(model)[:count]:
        hidden = block(hidden, decoder_padding_mask=x["padding_mask"])
    return hidden


def without(block, dense, hidden, x):
    """Return a block's answer with one of its projections giving nothing."""
    kernel = np.array(dense.kernel)
    dense.kernel.assign(np.zeros_like(kernel))
    found = np.array(block(hidden, decoder_padding_mask=x["padding_mask"]))
    dense.kernel.assign(kernel)
    return found


def hidden_units(block, h):
    """Compute the gated units of a block from the stream behind its attention, in numpy."""
    norm = block._feedforward_layernorm
    scaled = h / np.sqrt((h**2).mean(-1, keepdims=True) + norm.epsilon) * np.array(norm.scale)
    gate = scaled @ np.array(block._feedforward_gate_dense.kernel)
    up = scaled @ np.array(block._feedforward_intermediate_dense.kernel)
    return gate / (1 + np.exp(-gate)) * up


@pytest.mark.parametrize("padded", [False, True])
def test_the_end_of_a_branch_is_what_numpy_fits_to_the_parents_stream(model, padded):
    x = texts(padded=padded)
    plan = plan_of(
        model,
        **{
            "transformer_layer_0:heads": (1,),
            "transformer_layer_1:hidden": (0, 2, 3, 5, 8),
        },
    )
    small = nns.cut(model, plan)
    done = nns.repair(small, model, x, steps=LEAST_SQUARES, held_out=0)
    wanted = np.array(stream(model, x, 2), np.float64)
    block = blocks(done.model)[1]
    given = stream(done.model, x, 1)
    down = block._feedforward_output_dense
    h = without(block, down, given, x).astype(np.float64)
    counted = x["padding_mask"].astype(bool)
    features = hidden_units(block, h)[counted]
    right, *_ = np.linalg.lstsq(features, (wanted - h)[counted], rcond=None)
    np.testing.assert_allclose(np.array(down.kernel), right, rtol=2e-3, atol=2e-4)

    def away(network):
        apart = np.array(stream(network, x, 3)) - np.array(stream(model, x, 3))
        return (apart[counted] ** 2).mean()

    assert away(done.model) < 0.8 * away(small)


def test_blocks_behind_one_that_is_gone_are_fitted_to_their_own_counterparts(model):
    x = texts()
    small = nns.cut(model, plan_of(model, **{"transformer_layer_1:block": ()}))
    assert type(small) is type(model)
    done = nns.repair(small, model, x, steps=LEAST_SQUARES, held_out=0)
    fitted = [g.layer for g in done.gains if g.layer is not None and g.after is not None]
    assert [name.split(":")[0] for name in fitted] == ["transformer_layer_2"] * 2
    block = blocks(done.model)[1]
    given = stream(done.model, x, 1)
    down = block._feedforward_output_dense
    h = without(block, down, given, x).astype(np.float64)
    features = hidden_units(block, h).reshape(-1, 12)
    missing = (np.array(stream(model, x, 3), np.float64) - h).reshape(-1, 8)
    right, *_ = np.linalg.lstsq(features, missing, rcond=None)
    np.testing.assert_allclose(np.array(down.kernel), right, rtol=2e-3, atol=2e-4)


def test_nothing_lost_nothing_changed(model):
    small = nns.cut(model, plan_of(model))
    done = nns.repair(small, model, texts(), steps=nns.steps.least_squares())
    for before, after in zip(small.get_weights(), done.model.get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)
