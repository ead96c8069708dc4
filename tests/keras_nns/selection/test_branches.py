"""Scores of what lies inside residual blocks, against numpy over the block's own layers."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest
from contract import randomise

import keras_nns as nns
from keras_nns.graph.tracing import trace
from keras_nns.selection.elimination import Reader, eliminate

needs_hub = pytest.mark.skipif(
    find_spec("keras_hub") is None, reason="needs KerasHub: pip install 'keras-nns[hub]'"
)
pytestmark = [
    pytest.mark.filterwarnings(
        "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning",
        "ignore:What is left of",
    ),
]
KINDS = ("code", "prose")
FREE = "transformer_layer_1:hidden"
HEADS = "transformer_layer_1:heads"


@pytest.fixture(scope="module")
def lm():
    from keras_hub import models

    backbone = models.LlamaBackbone(
        vocabulary_size=40,
        num_layers=2,
        hidden_dim=16,
        intermediate_dim=24,
        num_query_heads=4,
        num_key_value_heads=2,
    )
    return randomise(models.LlamaCausalLM(backbone, preprocessor=None, name="writer"))


@pytest.fixture(scope="module")
def texts():
    rng = np.random.default_rng(0)
    mask = np.ones((24, 9), "int32")
    mask[::3, 6:] = 0
    tokens = {"token_ids": rng.integers(1, 40, (24, 9)) * mask, "padding_mask": mask}
    return tokens, np.arange(24) % 2


@pytest.fixture(scope="module")
def activity(lm, texts):
    return nns.observe(lm, texts, label_names=KINDS)


def name_in(lm, ending):
    return next(g.name for g in trace(lm).layout.prunable if g.name.endswith(ending))


def read_by_ends(lm, texts, label):
    """Return what the two ends of the second block read of a kind of text."""
    tokens, kinds = texts
    own = {key: value[kinds == label] for key, value in tokens.items()}
    first, block = lm.backbone.transformer_layers
    stream = lm.backbone.token_embedding(own["token_ids"])
    stream = first(stream, decoder_padding_mask=own["padding_mask"])
    heard = {}
    for key, dense in (
        ("heads", block._self_attention_layer._output_dense),
        ("hidden", block._feedforward_output_dense),
    ):
        call = dense.call

        def hear(x, *rest, call=call, key=key, **more):
            heard[key] = np.array(x, np.float64)
            return call(x, *rest, **more)

        dense.call = hear
    block(stream, decoder_padding_mask=own["padding_mask"])
    for dense in (block._self_attention_layer._output_dense, block._feedforward_output_dense):
        del dense.call
    counted = own["padding_mask"].astype(bool)
    rows = {key: value.reshape(*counted.shape, -1)[counted] for key, value in heard.items()}
    return rows, block, own


@needs_hub
@pytest.mark.slow
def test_fluctuation_is_the_variance_of_what_is_read_times_the_squared_weights(lm, texts, activity):
    score = nns.scores.fluctuation(lm, texts, labels="code", label_names=KINDS, batch_size=5)
    found = score(activity)
    rows, block, _ = read_by_ends(lm, texts, 0)
    down = np.array(block._feedforward_output_dense.kernel, np.float64)
    wanted = rows["hidden"].var(axis=0) * (down**2).sum(axis=1)
    hidden = name_in(lm, FREE)
    np.testing.assert_allclose(found[hidden][1], wanted, rtol=1e-4)
    np.testing.assert_array_equal(found[hidden][0], found[hidden][1])
    out = np.array(block._self_attention_layer._output_dense.kernel, np.float64).reshape(16, -1)
    each = rows["heads"].var(axis=0) * (out**2).sum(axis=1)
    # Two query heads of four features leave with one key and value head.
    heads = name_in(lm, HEADS)
    np.testing.assert_allclose(found[heads][0], each.reshape(2, 8).sum(axis=1), rtol=1e-4)
    assert not any(name.endswith(":block") for name in found)


def losses(lm, own, scale, place):
    """Return how the summed loss of texts changes by what one end of the second block gives."""
    import keras
    import tensorflow as tf

    block = lm.backbone.transformer_layers[1]
    dense = (block._self_attention_layer._output_dense, block._feedforward_output_dense)[place]
    call = dense.call
    given = []

    def add(x, *rest, **more):
        answer = call(x, *rest, **more)
        given.append(tf.Variable(tf.zeros_like(answer)))
        return answer + given[0]

    dense.call = add
    try:
        with tf.GradientTape() as tape:
            outputs = lm(own)
            wanted = own["token_ids"][:, 1:]
            counted = own["padding_mask"][:, 1:] * own["padding_mask"][:, :-1]
            each = keras.losses.sparse_categorical_crossentropy(
                wanted, outputs[:, :-1], from_logits=True
            )
            value = tf.reduce_sum(each * counted)
        gradient = tape.gradient(value, given[0])
    finally:
        del dense.call
    return np.array(gradient, np.float64), counted.sum()


@needs_hub
@pytest.mark.slow
def test_the_first_unit_to_go_is_the_one_that_costs_least_when_the_end_is_refitted(
    lm, texts, activity
):
    score = nns.scores.branch_reconstruction(
        lm, texts, labels="code", label_names=KINDS, batch_size=5
    )
    found = score(activity)[name_in(lm, FREE)][0]
    rows, block, own = read_by_ends(lm, texts, 0)
    gradient, count = losses(lm, own, 1.0, 1)
    minded = (gradient**2).sum(axis=(0, 1)) / count
    x = rows["hidden"] - rows["hidden"].mean(axis=0)
    y = x @ np.array(block._feedforward_output_dense.kernel, np.float64)
    std = x.std(axis=0)
    ridge = 1e-3 * len(x)
    costs = []
    for unit in range(x.shape[1]):
        rest = np.delete(x / std, unit, axis=1)
        # The penalty draws to the weights that are there, as the elimination does.
        kernel = np.delete(std[:, None] * np.array(block._feedforward_output_dense.kernel), unit, 0)
        gone = y - rest @ kernel
        change = np.linalg.solve(rest.T @ rest + ridge * np.eye(rest.shape[1]), rest.T @ gone)
        off = ((gone - rest @ change) ** 2).mean(axis=0) + ridge / len(x) * (change**2).sum(axis=0)
        own_kernel = (std[unit] * np.array(block._feedforward_output_dense.kernel)[unit]) ** 2
        costs.append((minded * (off + ridge / len(x) * own_kernel)).sum())
    assert found.argmin() == np.argmin(costs)
    np.testing.assert_allclose(found.min(), min(costs), rtol=2e-3)


@needs_hub
@pytest.mark.slow
def test_what_the_score_keeps_is_refitted_better_than_what_it_drops(lm, texts, activity):
    score = nns.scores.branch_reconstruction(lm, texts, labels="all", label_names=KINDS)

    def against(activity):
        return {name: -values for name, values in score(activity).items()}

    off = []
    for one in (score, against):
        plan = nns.select(activity, "code", score=one, keep=0.5, groups="*:hidden")
        plan = nns.select(activity, "code", score=one, keep=nns.fraction(0.5), groups="*:hidden")
        small = nns.cut(lm, plan)
        fixed = nns.repair(small, lm, texts[0], steps=nns.steps.least_squares(), held_out=0)
        theirs, ours = (np.array(m(texts[0])) for m in (lm, fixed.model))
        off.append(((theirs - ours)[texts[0]["padding_mask"].astype(bool)] ** 2).mean())
    assert off[0] < 0.8 * off[1]


@needs_hub
def test_a_model_without_blocks_or_without_a_vocabulary_is_refused(lm, texts):
    import keras

    plain = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.Dense(2)])
    with pytest.raises(nns.errors.ModelError, match="watched inside"):
        nns.scores.fluctuation(plain, np.ones((4, 4)), np.zeros(4, int))
    with pytest.raises(nns.errors.ModelError, match="backbone without a head"):
        nns.scores.branch_reconstruction(lm.backbone, texts, label_names=KINDS)


def test_units_that_leave_several_at_a_time_are_refitted_as_one_by_one():
    rng = np.random.default_rng(0)
    rows = rng.normal(size=(200, 12)) @ rng.normal(size=(12, 12))
    reader = Reader(
        np.cov(rows.T), rng.normal(size=(12, 5)), np.eye(5), np.arange(12), np.arange(12)[:, None]
    )
    order, losses = eliminate([reader], range(12))
    together, others = eliminate([reader], range(12), at_once=3)
    assert order[0] == together[0]
    assert sorted(order) == sorted(together)
    assert losses[0] == pytest.approx(others[0])
    # What is lost in the end is all there was, in whatever order: with nothing left, all is off.
    assert losses.sum() == pytest.approx(
        np.trace(reader.kernel.T @ _ridged(reader) @ reader.kernel)
    )


def _ridged(reader):
    return reader.covariance + 1e-3 * np.diag(np.diag(reader.covariance))


@needs_hub
@pytest.mark.slow
def test_taylor_of_the_next_token_is_what_scaling_a_unit_does_to_the_loss(lm, texts):
    tokens, kinds = texts
    gradients = nns.observe_gradients(
        lm, tokens, kinds, loss="next_token", label_names=KINDS, batch_size=7, verbose=False
    )
    name = next(layer for layer in gradients.layers if layer.endswith(FREE))
    found = gradients.per_sample(name, "effect")[0]
    own = {key: value[kinds == 0] for key, value in tokens.items()}
    down = lm.backbone.transformer_layers[1]._feedforward_output_dense
    kernel = np.array(down.kernel)

    def loss():
        scores = np.array(lm(own), np.float64)[:, :-1]
        scores -= scores.max(-1, keepdims=True)
        wanted = own["token_ids"][:, 1:]
        chosen = np.take_along_axis(scores, wanted[..., None], -1)[..., 0]
        each = np.log(np.exp(scores).sum(-1)) - chosen
        counted = own["padding_mask"][:, 1:] * own["padding_mask"][:, :-1]
        return (each * counted).sum() / len(wanted)

    for unit in np.argsort(-np.abs(found))[:2]:
        ends = []
        for scale in (0.95, 1.05):
            scaled = kernel.copy()
            scaled[unit] *= scale
            down.kernel.assign(scaled)
            ends.append(loss())
        down.kernel.assign(kernel)
        assert found[unit] == pytest.approx(-(ends[1] - ends[0]) / 0.1, rel=0.02)
