"""Whole residual blocks leave: the cut model has fewer layers and answers as the mask does."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest
from contract import randomise

import keras_nns as nns
from keras_nns.graph.costs import parameters
from keras_nns.graph.estimates import Estimates
from keras_nns.graph.generated_inputs import sample_inputs
from keras_nns.graph.tracing import trace
from keras_nns.surgery.proving import TOLERANCE

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_spec("keras_hub") is None, reason="needs KerasHub: pip install 'keras-nns[hub]'"
    ),
    pytest.mark.filterwarnings(
        "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning",
        # Families without a row of their own; test_same_class.py asks for this warning.
        "ignore:What is left of",
    ),
]

BLOCKS = {
    **dict.fromkeys(("Llama", "Mistral", "Qwen 2.5", "Qwen 3", "Phi-3"), "transformer_layer_"),
    **dict.fromkeys(("GPT-2", "GPT-NeoX", "OPT", "Bloom", "Falcon"), "transformer_layer_"),
    **dict.fromkeys(("Gemma", "Gemma 2", "Gemma 3"), "decoder_block_"),
}


@pytest.fixture(scope="module")
def families():
    from hub_families import FAMILIES

    return FAMILIES


def plan_of(graph, **changes):
    sizes = {group.name: group.size for group in graph.layout.prunable}
    return nns.Plan(
        graph.fingerprint, sizes, {n: tuple(range(s)) for n, s in sizes.items()} | changes
    )


@pytest.mark.parametrize("name", list(BLOCKS))
def test_without_a_block_it_is_the_model_of_the_others(name, families):
    model = randomise(families[name].build())
    graph = trace(model)
    x = sample_inputs(graph, 2, seed=3)
    block = BLOCKS[name]
    plan = plan_of(graph, **{f"{block}0:block": (), f"{block}1:hidden": (0, 2, 5)})
    proof = nns.prove(model, plan, samples=x)
    assert proof.relative <= TOLERANCE
    assert proof.varied
    small = nns.cut(model, plan)
    assert [layer.name for layer in small.layers if block in layer.name] in (
        [f"{block}1"],
        [f"{block}0"],
    )
    assert small.count_params() < model.count_params()
    apart = np.abs(np.asarray(small(x)) - np.asarray(model(x))).max()
    assert apart > 0.01
    keep = graph.keep(plan)
    assert Estimates(graph).of("parameters", keep) == parameters(small)


def llama(models, layers=3, **more):
    sizes = {"vocabulary_size": 30, "num_layers": layers, "hidden_dim": 16, "intermediate_dim": 12}
    heads = {"num_query_heads": 4, "num_key_value_heads": 2}
    return randomise(models.LlamaBackbone(**sizes, **heads, **more))


@pytest.fixture(scope="module")
def models():
    import hub_backbones

    return hub_backbones.models


def test_a_stack_without_blocks_is_the_stock_class_with_fewer(models):
    model = llama(models)
    graph = trace(model)
    gone = {"transformer_layer_1:block": ()}
    small = nns.cut(model, plan_of(graph, **gone), prove=True)
    assert type(small) is type(model)
    assert small.num_layers == 2
    kept = [model.transformer_layers[i].get_weights() for i in (0, 2)]
    for layer, weights in zip(small.transformer_layers, kept, strict=True):
        for one, other in zip(layer.get_weights(), weights, strict=True):
            np.testing.assert_array_equal(one, other)


def test_cutting_twice_is_cutting_once(models):
    # A stock class would number its blocks anew; one that is told them keeps their names.
    model = llama(models, tie_word_embeddings=True)
    graph = trace(model)
    inside = {"transformer_layer_1:heads": (), "transformer_layer_1:hidden": ()}
    first = plan_of(graph, **{"transformer_layer_1:block": (), **inside})
    second = plan_of(
        graph, **{"transformer_layer_2:hidden": (1, 3), "transformer_layer_0:block": ()}
    )
    once = nns.cut(model, first & second)
    middle = nns.cut(model, first)
    assert nns.lineage(middle).plan.kept["transformer_layer_1:hidden"] == ()
    twice = nns.cut(middle, second.relative_to(first, nns.fingerprint(middle)))
    x = sample_inputs(graph, 2, seed=1)
    np.testing.assert_array_equal(np.asarray(once(x)), np.asarray(twice(x)))


def test_a_plan_for_a_block_that_leaves_need_not_say_what_is_in_it(models):
    model = llama(models)
    graph = trace(model)
    plan = plan_of(graph, **{"transformer_layer_1:block": ()})
    said = nns.lineage(nns.cut(model, plan)).plan
    assert said.kept["transformer_layer_1:heads"] == ()
    assert said.kept["transformer_layer_0:heads"] == (0, 1)
    with pytest.raises(nns.errors.PlanError, match="would empty 'transformer_layer_0:hidden'"):
        nns.cut(model, plan_of(graph, **{"transformer_layer_0:hidden": ()}))


def test_influence_is_one_minus_the_cosine_at_the_positions_that_count(models):
    model = llama(models)
    ids = np.random.default_rng(0).integers(0, 30, (4, 6))
    mask = (np.arange(6) < np.array([[6], [3], [5], [1]])).astype(int)
    activity = nns.observe(
        model,
        ({"token_ids": ids, "padding_mask": mask}, np.array([0, 1, 0, 1])),
        label_names=["code", "prose"],
        verbose=False,
    )
    x = model.token_embedding(ids)
    layer = model.transformer_layers[0]
    y = np.asarray(layer(x, decoder_padding_mask=mask), np.float64)
    x = np.asarray(x, np.float64)
    cosine = (x * y).sum(-1) / np.linalg.norm(x, axis=-1) / np.linalg.norm(y, axis=-1)
    each = ((1 - cosine) * mask).sum(1) / mask.sum(1)
    expected = [each[[0, 2]].mean(), each[[1, 3]].mean()]
    found = activity.layers["transformer_layer_0:block"].total[:, 0] / 2
    np.testing.assert_allclose(found, expected, rtol=1e-4)
    scores = nns.scores.block_influence(activity)
    assert set(scores) == {f"transformer_layer_{i}:block" for i in range(3)}
    keep = nns.top(2, scope="global")
    plan = nns.select(activity, "code", score=nns.scores.block_influence, keep=keep)
    least = min(scores, key=lambda name: scores[name][0, 0])
    assert plan.empty and least in plan.empty
    assert nns.cut(model, plan, prove=True).num_layers == 2
    # Rules that look at each layer by itself keep every block.
    assert not nns.select(activity, "code", keep=nns.fraction(0.5), score="mean_activation").empty
