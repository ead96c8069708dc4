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
from keras_nns.graph.generated_inputs import sample_inputs
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
    if "Gemma3" in type(model).__name__:  # Its `generate` needs a preprocessor.
        return ids, np.asarray(model.generate_step(prompt, stop_token_ids=None)["token_ids"])
    return ids, model.generate(prompt, stop_token_ids=None)["token_ids"]


def check(small, parent, folder, models, *, caches=True):
    """What holds for every cut of a task: class, settings, generation, files.

    Args:
        caches: Whether the parent's class scores the same with its cache: KerasHub's GPT-NeoX
            does not turn what it asks its cache with (0.32).
    """
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
    if caches:
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


LANGUAGE = {
    "SmolLM 3": "SmolLM3",
    "Mistral": "Mistral",
    "Qwen 2.5": "Qwen",
    "Qwen 3": "Qwen3",
    "Phi-3": "Phi3",
    "Gemma": "Gemma",
    "Gemma 2": "Gemma",
    "Gemma 3": "Gemma3",
    "GPT-2": "GPT2",
    "GPT-NeoX": "GPTNeoX",
    "OPT": "OPT",
    "Bloom": "Bloom",
    "Falcon": "Falcon",
    "Mixtral": "Mixtral",
    "Qwen MoE": "QwenMoe",
    "Qwen 3 MoE": "Qwen3Moe",
    "GPT-OSS": "GptOss",
}


def family_task(models, family, kind):
    from hub_families import FAMILIES

    backbone = FAMILIES[family].build()
    task = randomise(getattr(models, kind)(backbone=backbone, preprocessor=None))
    task.compile(
        sampler="greedy", optimizer=keras.optimizers.SGD(0.25), loss="mse", jit_compile=False
    )
    return task


@pytest.mark.parametrize("family", list(LANGUAGE))
def test_every_language_model_is_of_its_class_whatever_leaves(family, models, tmp_path):
    parent = family_task(models, family, f"{LANGUAGE[family]}CausalLM")
    small = nns.cut(parent, random_plan(trace(parent), 0.5, 1), prove=True)
    check(small, parent, tmp_path, models, caches=family != "GPT-NeoX")
    half = models.CausalLM.from_preset(str(tmp_path / "preset"), dtype="bfloat16")
    assert all(block.compute_dtype == "bfloat16" for block in half.backbone.transformer_layers)
    # What was read is written again.
    half.save_to_preset(str(tmp_path / "again"))


@pytest.mark.parametrize("family", list(LANGUAGE))
def test_every_language_model_is_of_the_stock_class_where_blocks_are_alike(family, models):
    parent = family_task(models, family, f"{LANGUAGE[family]}CausalLM").backbone
    small = nns.cut(parent, plan_of(parent, hidden=(0, 3, 5)), prove=True)
    assert type(small) is type(parent)
    moe = "moe_intermediate_dim"
    key = moe if moe in parent.get_config() else "intermediate_dim"
    told = small.get_config()[key]
    assert told == (6 if family in ("Gemma", "Gemma 2") else 3)


def test_blocks_of_other_sizes_say_them(models):
    parent = family_task(models, "Qwen 2.5", "QwenCausalLM").backbone
    plan = plan_of(parent, heads=(1,))
    kept = {**plan.kept, "transformer_layer_1:hidden": (0, 1), "transformer_layer_1:heads": (0, 1)}
    small = nns.cut(parent, replace(plan, kept=kept))
    assert small.num_query_heads == [2, 4] and small.num_key_value_heads == [1, 2]
    assert small.intermediate_dim == [12, 2] and small.num_layers == 2
    away = replace(plan, kept={**plan.kept, "transformer_layer_0:block": ()})
    small = nns.cut(parent, away)
    assert small.num_layers == len(small.transformer_layers) == 1
    assert small.num_query_heads == 2


@pytest.mark.parametrize(
    ("family", "kind", "keys"),
    [
        ("BERT", "BertTextClassifier", ("segment_ids",)),
        ("RoBERTa", "RobertaTextClassifier", ()),
        ("DistilBERT", "DistilBertTextClassifier", ()),
        ("ALBERT", "AlbertTextClassifier", ("segment_ids",)),
        ("DeBERTa", "DebertaV3TextClassifier", ()),
        ("ViT", "ViTImageClassifier", None),
    ],
)
def test_a_classifier_is_of_its_class(family, kind, keys, models, tmp_path):
    from hub_families import FAMILIES

    kind = getattr(models, kind)
    task = kind(backbone=FAMILIES[family].build(), preprocessor=None, num_classes=3)
    parent = randomise(task)
    x = {**inputs(), **{key: np.zeros((3, LENGTH), "int32") for key in keys or ()}}
    if keys is None:
        x = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype("float32")
    plan = replace(random_plan(trace(parent), 0.5, 1), labels=(0, 2))
    small = nns.cut(parent, plan, head="labels", prove=True)
    assert isinstance(small, kind) and small.output_shape == (None, 2)
    whole = nns.cut(parent, plan, prove=True)
    whole.save_to_preset(str(tmp_path / "preset"))
    again = kind.from_preset(str(tmp_path / "preset"))
    assert type(again) is type(whole)
    np.testing.assert_array_equal(again(x), whole(x))
    nns.save_model(small, tmp_path / "small.keras")
    again = nns.load_model(tmp_path / "small.keras")
    assert isinstance(again, keras.Model)
    np.testing.assert_array_equal(again(x), small(x))


def test_an_image_classifier_keeps_what_its_backbone_gives_inside_its_graph(models, tmp_path):
    from hub_backbones import resnet

    task = models.ResNetImageClassifier(backbone=resnet(), num_classes=3, preprocessor=None)
    parent = randomise(task)
    plan = random_plan(trace(parent), 0.5, 1)
    small = nns.cut(parent, plan, prove=True)
    assert isinstance(small, models.ResNetImageClassifier)
    assert isinstance(small.backbone, models.ResNetBackbone)
    x = np.random.default_rng(0).normal(size=(2, 32, 32, 3)).astype("float32")

    def levels(model):
        backbone = model.backbone
        found = keras.Model(backbone.inputs, backbone.pyramid_outputs)([x])
        return {name: np.asarray(level) for name, level in found.items()}

    # The last level is the masked parent's for the channels that stay: the others are zeros there.
    whole, found = levels(parent), levels(small)
    assert found.keys() == whole.keys() == {"P2", "P3"}
    masked = nns.mask(parent, plan)
    inner = next(layer for layer in masked.layers if layer.name == parent.backbone.name)
    last = np.asarray(keras.Model(inner.inputs, inner.outputs[0])([x]))
    assert found["P3"].shape[-1] == 256 < last.shape[-1]
    left, right = (level[..., level.any(axis=(0, 1, 2))] for level in (found["P3"], last))
    np.testing.assert_allclose(left, right, rtol=0, atol=1e-5 * last.max())
    small.save_to_preset(str(tmp_path / "preset"))
    again = models.ImageClassifier.from_preset(str(tmp_path / "preset"))
    assert type(again) is type(small)
    for name, level in levels(again).items():
        np.testing.assert_array_equal(level, found[name])


@pytest.mark.parametrize("name", ["CLIP", "SigLIP"])
def test_towers_of_images_and_texts_are_of_their_class(name, models, tmp_path):
    import hub_families

    made = {
        "CLIP": lambda: models.CLIPBackbone(
            hub_families.clip_image(), hub_families.clip_text(), projection_dim=16
        ),
        "SigLIP": lambda: models.SigLIPBackbone(
            hub_families.siglip_image(), hub_families.siglip_text()
        ),
    }
    parent = randomise(made[name]())
    graph = trace(parent)
    small = nns.cut(parent, random_plan(graph, 0.5, 1), prove=True)
    assert isinstance(small, type(parent))
    assert isinstance(small.vision_encoder, type(parent.vision_encoder))
    x = sample_inputs(graph, 2, seed=3)

    def scores(model):
        return [np.asarray(y) for y in keras.tree.flatten(model(x, training=False))]

    nns.save_model(small, tmp_path / "small.keras")
    small.save_to_preset(str(tmp_path / "preset"))
    for again in (
        nns.load_model(tmp_path / "small.keras"),
        type(parent).from_preset(str(tmp_path / "preset")),
    ):
        assert type(again) is type(small)
        for one, other in zip(scores(again), scores(small), strict=True):
            np.testing.assert_array_equal(one, other)


def test_what_writes_from_what_it_reads_is_of_its_class(models):
    parent = family_task(models, "Bart", "BartSeq2SeqLM")
    small = nns.cut(parent, random_plan(trace(parent), 0.5, 1), prove=True)
    assert isinstance(small, models.BartSeq2SeqLM)
    ids = inputs()["token_ids"]
    given = {"encoder_token_ids": ids, "encoder_padding_mask": np.ones_like(ids)}

    def scores(written):
        whole = {"decoder_token_ids": written, "decoder_padding_mask": np.ones_like(ids)}
        return np.asarray(small({**given, **whole}))

    start = 3
    mask = (np.arange(LENGTH) < start).astype(int) * np.ones_like(ids)
    prompt = {"decoder_token_ids": ids * mask, "decoder_padding_mask": mask}
    found = small.generate({**given, **prompt}, stop_token_ids=None)["decoder_token_ids"]
    expected = ids * mask
    for place in range(start, LENGTH):
        expected[:, place] = scores(expected)[:, place - 1].argmax(axis=-1)
    np.testing.assert_array_equal(found, expected)


def test_tokens_leave_a_model_of_any_sizes(models, tmp_path):
    parent = family_task(models, "OPT", "OPTCausalLM")
    small = nns.cut(parent, random_plan(trace(parent), 0.5, 1))
    kept = [*range(0, TOKENS, 2)]
    fewer = nns.cut_vocabulary(small, kept).model
    assert type(fewer) is type(small) and fewer.backbone.vocabulary_size == len(kept)
    ids = np.random.default_rng(3).integers(1, len(kept), (3, LENGTH))
    mask = np.ones_like(ids)
    whole = np.asarray(small({"token_ids": np.asarray(kept)[ids], "padding_mask": mask}))
    found = np.asarray(fewer({"token_ids": ids, "padding_mask": mask}))
    np.testing.assert_allclose(found, whole[..., kept], rtol=0, atol=1e-5)
    fewer.save_to_preset(str(tmp_path / "preset"))
    again = models.OPTCausalLM.from_preset(str(tmp_path / "preset"))
    np.testing.assert_array_equal(again({"token_ids": ids, "padding_mask": mask}), found)


def test_what_cannot_be_of_its_class_is_said(models):
    parent = models.OPTBackbone(**SIZES, num_heads=4, max_sequence_length=LENGTH)
    parent.table = np.zeros(3)
    with pytest.warns(UserWarning, match="no OPTBackbone: its attribute 'table' cannot be written"):
        nns.cut(parent, plan_of(parent, heads=(2, 3)))


def test_a_setting_that_a_class_forgets_is_not_lost(models):
    """KerasHub makes it of its default: what is left is given its layers instead."""
    parent = models.OPTBackbone(**SIZES, num_heads=4, max_sequence_length=LENGTH)
    for block in parent.transformer_layers:
        block._self_attention_layer_norm.epsilon = 0.5
        block.normalize_first = True
        block.layer_norm_epsilon = 0.25
    small = nns.cut(parent, plan_of(parent, hidden=(2, 3)))
    assert isinstance(small, models.OPTBackbone) and type(small) is not models.OPTBackbone


def test_a_backbone_alone_comes_back_too_and_the_parent_stays(models):
    parent = task(models, "Llama", tie_word_embeddings=True).backbone
    before = answers(parent)
    small = nns.cut(parent, plan_of(parent, hidden=(2, 3)), prove=True)
    assert isinstance(small, type(parent))
    small.set_weights([np.zeros(w.shape) for w in small.weights])
    np.testing.assert_array_equal(answers(parent), before)
