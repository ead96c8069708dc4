"""A cut of a model of KerasHub is of its class: it generates, saves and loads as its parent."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec

import keras
import numpy as np
import pytest
from architectures import random_plan
from contract import randomise

import keras_nns as nns
from keras_nns.graph.tracing import trace
from keras_nns.surgery.copying import copied

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_spec("keras_hub") is None, reason="needs KerasHub: pip install 'keras-nns[hub]'"
    ),
    pytest.mark.filterwarnings(
        "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning",
        # Keras says so of every task of KerasHub that it reads from a `.keras` file.
        "ignore:`compile\\(\\)` was not called as part of model loading",
    ),
]

TOKENS, LENGTH = 30, 8
SIZES = {"vocabulary_size": TOKENS, "num_layers": 2, "hidden_dim": 16, "intermediate_dim": 24}
GROUPED = {"num_query_heads": 4, "num_key_value_heads": 2}
MORE = {
    "Llama": GROUPED,
    "Llama3": GROUPED,
    "Gemma": {**GROUPED, "head_dim": 4},
    "GPT2": {"num_heads": 4, "max_sequence_length": LENGTH},
}


@pytest.fixture(scope="module")
def models():
    import hub_backbones

    return hub_backbones.models


def task(models, name, **more):
    backbone = getattr(models, f"{name}Backbone")(**SIZES, **MORE[name], **more)
    lm = randomise(getattr(models, f"{name}CausalLM")(backbone, preprocessor=None))
    optimizer = keras.optimizers.SGD(0.25)
    lm.compile(sampler="greedy", optimizer=optimizer, loss="mse", jit_compile=False)
    return lm


def plan_of(model, **kept):
    """Keep some units of each kind, the same in every block, and all of the others."""
    graph = trace(model)
    sizes = {group.name: group.size for group in graph.layout.prunable}
    numbers = {n: kept.get(n.split(":")[-1], tuple(range(size))) for n, size in sizes.items()}
    return nns.Plan(graph.fingerprint, sizes, numbers)


def inputs(seed=0):
    ids = np.random.default_rng(seed).integers(1, TOKENS, (3, LENGTH))
    return {"token_ids": ids, "padding_mask": np.ones_like(ids)}


def answers(model):
    return np.asarray(model(inputs()))


def greedy(model, ids, start):
    """Decode without a cache, one whole forward pass for each token."""
    ids = ids.copy()
    for place in range(start, ids.shape[1]):
        logits = np.asarray(model({"token_ids": ids, "padding_mask": np.ones_like(ids)}))
        ids[:, place] = logits[:, place - 1].argmax(axis=-1)
    return ids


def generated(model, start):
    ids = inputs()["token_ids"].copy()
    ids[:, start:] = 0
    mask = (np.arange(LENGTH) < start).astype(int) * np.ones_like(ids)
    prompt = {"token_ids": ids, "padding_mask": mask}
    return ids, model.generate(prompt, stop_token_ids=None)["token_ids"]


def check(small, parent, folder, models):
    """What holds for every cut of a task: class, settings, generation, files."""
    assert isinstance(small, type(parent))
    assert isinstance(small.backbone, type(parent.backbone))
    assert small.count_params() < parent.count_params()
    assert np.abs(answers(small) - answers(parent)).max() > 1e-3
    assert type(small.sampler).__name__ == "GreedySampler"
    assert small.sampler is not parent.sampler
    assert type(small.optimizer).__name__ == "SGD"
    assert float(small.optimizer.learning_rate) == 0.25
    prompt, found = generated(small, 3)
    assert found[:, 3:].any()
    np.testing.assert_array_equal(found, greedy(small, prompt, 3))

    small.save_to_preset(str(folder / "preset"))
    for kind in (type(parent), models.CausalLM):
        again = kind.from_preset(str(folder / "preset"))
        assert type(again) is type(small)
        np.testing.assert_array_equal(answers(again), answers(small))
    nns.save_model(small, folder / "small.keras")
    again = nns.load_model(folder / "small.keras")
    assert type(again) is type(small)
    np.testing.assert_array_equal(answers(again), answers(small))
    assert nns.lineage(again).plan == nns.lineage(small).plan
    # What was cut can be cut again.
    assert isinstance(nns.cut(again, plan_of(again, hidden=(1,)), prove=True), type(parent))


@pytest.mark.parametrize("name", list(MORE))
def test_the_same_number_in_every_block_gives_the_stock_class(name, models, tmp_path):
    parent = task(models, name)
    small = nns.cut(parent, plan_of(parent, hidden=(0, 3, 5, 6, 11)), prove=True)
    assert type(small) is type(parent)
    assert type(small.backbone) is type(parent.backbone)
    assert small.backbone.get_config()["intermediate_dim"] == (10 if name == "Gemma" else 5)
    check(small, parent, tmp_path, models)


def test_heads_leave_where_their_size_is_told(models, tmp_path):
    parent = task(models, "Gemma")
    small = nns.cut(parent, plan_of(parent, heads=(1,)), prove=True)
    assert type(small.backbone) is type(parent.backbone)
    assert small.backbone.num_query_heads == 2
    assert small.backbone.head_dim == 4
    check(small, parent, tmp_path, models)


@pytest.mark.parametrize(
    ("name", "tied", "kept"),
    [("Llama", False, "ragged"), ("Llama", True, "heads"), ("Llama3", True, "ragged")],
)
def test_llama_of_any_sizes_is_a_llama(name, tied, kept, models, tmp_path):
    parent = task(models, name, tie_word_embeddings=tied)
    plan = plan_of(parent, heads=(1,)) if kept == "heads" else random_plan(trace(parent), 0.5, 1)
    small = nns.cut(parent, plan, prove=True)
    assert small.backbone.head_dim == 4
    check(small, parent, tmp_path, models)


def test_what_came_to_one_key_head_is_copied_and_cut_again(models):
    """Its class was made with two: a copy of a copy has to know of one still."""
    parent = task(models, "Llama", tie_word_embeddings=True)
    small = nns.cut(parent, plan_of(parent, heads=(1,)))
    again = copied(copied(small))
    for block in again.backbone.transformer_layers:
        assert block._self_attention_layer.num_key_value_heads == 1
    x = {"token_ids": np.arange(1, 9)[None], "padding_mask": np.ones((1, 8), "int32")}
    np.testing.assert_array_equal(again(x), small(x))
    # What is left are its query heads, of which each leaves by itself.
    smaller = nns.cut(again, plan_of(again, heads=(0,)), prove=True)
    assert smaller.backbone.transformer_layers[0]._self_attention_layer.num_query_heads == 1
    np.testing.assert_array_equal(copied(copied(smaller))(x), smaller(x))


def test_samplers_that_reorder_the_cache_work_on_blocks_of_any_sizes(models):
    import keras_hub

    parent = task(models, "Llama")
    small = nns.cut(parent, random_plan(trace(parent), 0.5, 1))
    small.compile(sampler=keras_hub.samplers.BeamSampler(num_beams=1))
    prompt, found = generated(small, 3)
    np.testing.assert_array_equal(found, greedy(small, prompt, 3))


@pytest.mark.parametrize(
    ("kept", "why"),
    [
        ("ragged", "intermediate_dim is 24 in .* and 2 in .*nns.uniform"),
        ("heads", "2 heads of 4 do not fill its width of 16"),
    ],
)
def test_what_a_class_cannot_say_is_told(kept, why, models):
    parent = task(models, "GPT2").backbone
    plan = plan_of(parent, heads=(1, 2)) if kept == "heads" else plan_of(parent)
    if kept == "ragged":
        plan = replace(plan, kept={**plan.kept, "transformer_layer_1:hidden": (0, 1)})
    with pytest.warns(UserWarning, match=f"no GPT2Backbone: .*{why}"):
        small = nns.cut(parent, plan)
    assert type(small) is not type(parent)


def test_a_class_that_nobody_knows_is_said_to_be_lost(models):
    parent = models.OPTBackbone(**SIZES, num_heads=4, max_sequence_length=LENGTH)
    with pytest.warns(UserWarning, match="no OPTBackbone: nothing is known"):
        nns.cut(parent, plan_of(parent, hidden=(2, 3)))


def test_a_backbone_alone_comes_back_too_and_the_parent_stays(models):
    parent = task(models, "Llama", tie_word_embeddings=True).backbone
    before = answers(parent)
    small = nns.cut(parent, plan_of(parent, hidden=(2, 3)), prove=True)
    assert isinstance(small, type(parent))
    small.set_weights([np.zeros(w.shape) for w in small.weights])
    np.testing.assert_array_equal(answers(parent), before)
