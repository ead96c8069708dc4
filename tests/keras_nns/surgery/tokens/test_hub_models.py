"""Models of KerasHub with fewer tokens: their class, their answers, their files."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec

import keras
import numpy as np
import pytest
from contract import randomise

import keras_nns as nns
from keras_nns.errors import PlanError, ProofError, SurgeryError
from keras_nns.graph.tracing import trace

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_spec("keras_hub") is None, reason="needs KerasHub: pip install 'keras-nns[hub]'"
    ),
    pytest.mark.filterwarnings(
        "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning",
        # Keras says so of every task of KerasHub that it reads from a `.keras` file.
        "ignore:`compile\\(\\)` was not called as part of model loading",
        # KerasHub leaves files of SentencePiece open.
        "ignore:unclosed file:ResourceWarning",
    ),
]
LENGTH = 16
SIZES = {"num_layers": 2, "hidden_dim": 16, "intermediate_dim": 24}
GROUPED = {"num_query_heads": 4, "num_key_value_heads": 2}
MORE = {
    "Llama": ("llama", GROUPED),
    "Llama3": ("llama3", {**GROUPED, "tie_word_embeddings": True}),
    "Gemma": ("gemma", {**GROUPED, "head_dim": 4}),
    "GPT2": ("gpt2", {"num_heads": 4, "max_sequence_length": LENGTH}),
    # A cut of its units is no model of its class; of its tokens it is.
    "Qwen": ("gpt2", GROUPED),
}


@cache
def told():
    import hub_tokenizers

    return hub_tokenizers


@cache
def hub():
    import hub_backbones

    return hub_backbones.models


def tokenizer(name):
    made = told().ALL[MORE[name][0]]()
    kind = getattr(hub(), f"{name}Tokenizer")
    if isinstance(made, kind):
        return made
    return kind(made.proto) if hasattr(made, "proto") else kind(made.vocabulary, made.merges)


def backbone(name, words, spare=0):
    size = words.vocabulary_size() + spare
    return getattr(hub(), f"{name}Backbone")(vocabulary_size=size, **SIZES, **MORE[name][1])


def task(name, spare=3):
    """A task with some rows behind the last token of its tokenizer, as real ones have."""
    words = tokenizer(name)
    before = getattr(hub(), f"{name}CausalLMPreprocessor")(words, sequence_length=LENGTH)
    lm = getattr(hub(), f"{name}CausalLM")(backbone(name, words, spare), preprocessor=before)
    randomise(lm)
    optimizer = keras.optimizers.SGD(0.25)
    lm.compile(sampler="greedy", optimizer=optimizer, loss="mse", jit_compile=False)
    return lm


def answers(model, tokens, kept=None):
    ids = tokens if kept is None else np.asarray(kept)[tokens]
    return np.asarray(model({"token_ids": ids, "padding_mask": np.ones_like(ids)}))


def drawn(count, size=(3, 9)):
    return np.random.default_rng(0).integers(0, count, size)


@pytest.mark.parametrize("name", list(MORE))
def test_it_answers_generates_saves_and_loads_as_its_parent(name, tmp_path):
    parent = task(name)
    ids = drawn(20)
    before = answers(parent, ids)
    found = nns.cut_vocabulary(parent, told().CODE)
    small, kept = found.model, list(found.tokens)
    assert isinstance(small, type(parent)) and isinstance(small.backbone, type(parent.backbone))
    assert small.backbone.vocabulary_size == len(kept) < parent.backbone.vocabulary_size - 3
    assert small.preprocessor.tokenizer is found.tokenizer
    assert found.tokenizer.vocabulary_size() == len(kept)
    # Scores of kept tokens are the parent's.
    new = drawn(len(kept))
    expected = answers(parent, new, kept)[..., kept]
    np.testing.assert_allclose(answers(small, new), expected, rtol=0, atol=1e-5 * expected.max())
    # Settings.
    assert type(small.sampler).__name__ == "GreedySampler" and small.sampler is not parent.sampler
    assert type(small.optimizer).__name__ == "SGD"
    assert float(small.optimizer.learning_rate) == 0.25
    assert small.preprocessor.sequence_length == LENGTH
    # What it writes is greedy over kept tokens, and reads back the same from either file.
    written = small.generate("def add(", max_length=12)
    assert written == greedy(parent, kept, "def add(", 12, found.tokenizer)
    small.save_to_preset(str(tmp_path / "preset"))
    nns.save_model(small, tmp_path / "small.keras")
    for again in (
        type(parent).from_preset(str(tmp_path / "preset")),
        nns.load_model(tmp_path / "small.keras"),
    ):
        assert type(again) is type(small)
        np.testing.assert_array_equal(answers(again, new), answers(small, new))
        again.compile(sampler="greedy")
        assert again.generate("def add(", max_length=12) == written
    assert nns.lineage(again).tokens == found.tokens
    # The parent is as it was.
    np.testing.assert_array_equal(answers(parent, ids), before)
    assert parent.preprocessor.tokenizer.vocabulary_size() > len(kept)


def greedy(parent, kept, prompt, length, words):
    """Oracle: the whole parent without a cache, which may only write tokens that were kept."""
    packed = parent.preprocessor.generate_preprocess([prompt], sequence_length=length)
    ids, mask = (np.array(packed[key])[0] for key in ("token_ids", "padding_mask"))
    end = parent.preprocessor.tokenizer.end_token_id
    for place in range(int(mask.sum()), length):
        given = {"token_ids": ids[None], "padding_mask": np.ones_like(ids)[None]}
        scores = np.asarray(parent(given))[0, place - 1][kept]
        ids[place] = kept[scores.argmax()]
        mask[place] = 1
        if ids[place] == end:
            break
    place_of = {number: place for place, number in enumerate(kept)}
    new = np.array([place_of[number] for number in ids.tolist()], np.int32)
    special = words.special_token_ids
    stays = mask.astype(bool) & ~np.isin(new, special)
    return words.detokenize(new[stays])


def plan_of(model, **kept):
    graph = trace(model)
    sizes = {group.name: group.size for group in graph.layout.prunable}
    numbers = {n: kept.get(n.split(":")[-1], tuple(range(size))) for n, size in sizes.items()}
    return nns.Plan(graph.fingerprint, sizes, numbers)


@pytest.mark.parametrize("name", ["Llama3", "Gemma"])
@pytest.mark.filterwarnings("ignore:What is left of")
def test_with_units_in_either_order_it_is_the_same_model(name):
    parent = task(name)
    units = {"hidden": (0, 3, 5, 11), "heads": (1,)}
    first = nns.cut_vocabulary(nns.cut(parent, plan_of(parent, **units)), told().CODE)
    second = nns.cut_vocabulary(parent, told().CODE).model
    second = nns.cut(second, plan_of(second, **units), prove=True)
    assert isinstance(second, type(parent)) and isinstance(first.model, type(parent))
    ids = drawn(len(first.tokens))
    np.testing.assert_array_equal(answers(first.model, ids), answers(second, ids))
    # Both remember tokens and units.
    for model in (first.model, second):
        assert nns.lineage(model).tokens == first.tokens
        assert nns.lineage(model).plan.kept == plan_of(parent, **units).kept


def test_a_cut_of_a_cut_remembers_the_first_numbers():
    parent = task("GPT2")
    once = nns.cut_vocabulary(parent, told().TEXTS)
    twice = nns.cut_vocabulary(once.model, told().CODE)
    at_once = nns.cut_vocabulary(parent, told().CODE)
    assert nns.lineage(twice.model).tokens == at_once.tokens
    ids = drawn(len(at_once.tokens))
    np.testing.assert_array_equal(answers(twice.model, ids), answers(at_once.model, ids))
    assert nns.lineage(twice.model).labels == at_once.tokens


def test_a_plan_of_all_tokens_gives_an_equal_model():
    parent = task("Llama", spare=0)
    same = nns.cut_vocabulary(parent, range(parent.backbone.vocabulary_size))
    assert same.model.count_params() == parent.count_params()
    np.testing.assert_array_equal(answers(same.model, drawn(50)), answers(parent, drawn(50)))


@pytest.mark.parametrize("kind", ["BertTextClassifier", "BertMaskedLM"])
def test_encoders_and_their_heads(kind):
    words = told().bert()
    more = {"num_heads": 4, "max_sequence_length": LENGTH}
    sizes = {"vocabulary_size": words.vocabulary_size(), **SIZES, **more}
    before = getattr(hub(), f"{kind}Preprocessor")(words, sequence_length=LENGTH)
    classes = {"num_classes": 3} if "Classifier" in kind else {}
    parent = getattr(hub(), kind)(hub().BertBackbone(**sizes), preprocessor=before, **classes)
    randomise(parent)
    found = nns.cut_vocabulary(parent, told().CODE)
    kept = np.asarray(found.tokens)
    given = {
        "token_ids": drawn(len(kept)),
        "segment_ids": drawn(2),
        "padding_mask": np.ones((3, 9), int),
    }
    if not classes:
        given["mask_positions"] = drawn(9, (3, 2))
    expected = np.asarray(parent({**given, "token_ids": kept[given["token_ids"]]}))
    expected = expected if classes else expected[..., kept]
    scale = np.abs(expected).max()
    np.testing.assert_allclose(found.model(given), expected, rtol=0, atol=1e-5 * scale)
    assert type(found.model) is type(parent)
    assert type(found.model.loss) is type(parent.loss)


# KerasHub's T5 masks its tokens, and its layers do not hand masks on.
@pytest.mark.filterwarnings("ignore:Layer '.*attention' \\(of type T5MultiHeadAttention\\)")
def test_an_encoder_and_decoder_over_one_table():
    words = told().t5()
    sizes = {**SIZES, "num_heads": 4, "vocabulary_size": words.vocabulary_size() + 5}
    parent = randomise(hub().T5Backbone(**sizes))
    found = nns.cut_vocabulary(parent, told().CODE, tokenizer=words)
    assert type(found.model) is type(parent)
    assert found.tokenizer.vocabulary_size() == len(found.tokens)


def test_without_a_tokenizer_numbers_cut_the_model_alone():
    parent = task("Qwen").backbone
    found = nns.cut_vocabulary(parent, [7, 3, 50])
    assert found.tokens == (3, 7, 50) and found.tokenizer is None
    new = np.array([[0, 2, 1, 1]])
    np.testing.assert_allclose(
        answers(found.model, new), answers(parent, new, [3, 7, 50]), atol=1e-6
    )
    assert "number your tokens anew" in str(found)
    np.testing.assert_array_equal(found.renumbered([[50, 3], [7, 7]]), [[2, 0], [1, 1]])
    with pytest.raises(nns.errors.DataError, match=r"1 of these tokens did not stay.*\[8\]"):
        found.renumbered([3, 8])


def test_special_tokens_cannot_be_named_away():
    parent = task("Llama3")
    with pytest.raises(PlanError, match=r"special tokens.*<\|begin_of_text\|>.*Add them"):
        nns.cut_vocabulary(parent, range(1, 300))
    special = parent.preprocessor.tokenizer.special_token_ids
    named = nns.cut_vocabulary(parent, {*range(1, 300), *special, 0})
    assert set(special) <= set(named.tokens)


def test_tied_embeddings_stay_tied():
    parent = task("Llama3")
    small = nns.cut_vocabulary(parent, told().CODE).model
    assert small.backbone.token_embedding.tie_weights
    assert len(small.weights) == len(parent.weights)


def test_what_a_class_does_not_tell_is_refused():
    parent = task("Llama", spare=0)
    parent.backbone.enable_lora(2)
    with pytest.raises(SurgeryError, match="LoRA factors"):
        nns.cut_vocabulary(parent, told().CODE)
    image = hub().ViTBackbone(
        image_shape=(16, 16, 3), patch_size=8, num_layers=1, num_heads=2, hidden_dim=8, mlp_dim=16
    )
    with pytest.raises(SurgeryError, match="ViTBackbone is told the size of its vocabulary as"):
        nns.cut_vocabulary(image, [1, 2])


def test_a_class_whose_configuration_lies_is_found_out():
    @keras.saving.register_keras_serializable("tests")
    class Louder(hub().QwenBackbone):
        def __init__(self, *args, loud=1.0, **kwargs):
            super().__init__(*args, **kwargs)
            self.transformer_layers[0]._self_attention_layernorm.epsilon = loud

    words = tokenizer("Qwen")
    parent = randomise(Louder(words.vocabulary_size(), **SIZES, **GROUPED, loud=9.0))
    with pytest.raises(ProofError, match=r"answers something else: largest difference 0\.2"):
        nns.cut_vocabulary(parent, told().CODE, tokenizer=words)


def test_frozen_layers_stay_frozen():
    parent = task("Qwen")
    parent.backbone.transformer_layers[0].trainable = False
    small = nns.cut_vocabulary(parent, told().CODE).model
    assert not small.backbone.transformer_layers[0].trainable
    assert len(small.trainable_weights) == len(parent.trainable_weights)


@pytest.mark.filterwarnings("ignore:Layer .* was passed an input with a mask:UserWarning")
def test_every_family_that_reads_tokens():
    import hub_families

    read = []
    for name, family in hub_families.FAMILIES.items():
        parent = family.build()
        if "vocab" not in " ".join(parent.get_config()):
            continue
        # It is proven on texts of kept tokens, and raises where answers differ.
        found = nns.cut_vocabulary(randomise(parent), range(0, 30, 2))
        assert isinstance(found.model, type(parent)), name
        assert len(found.tokens) == 15 and found.model.count_params() < parent.count_params(), name
        assert nns.inspect(found.model).groups, name
        read.append(name)
    assert len(read) > 25 and {"Llama", "Gemma 3", "Mixtral", "OPT", "BERT", "T5"} <= set(read)


@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize` method")
def test_quantised_weights_lose_the_same_tokens():
    parent = task("Llama", spare=0).backbone
    parent.quantize("int8")
    found = nns.cut_vocabulary(parent, told().CODE, tokenizer=tokenizer("Llama"))
    new = drawn(len(found.tokens))
    np.testing.assert_array_equal(answers(found.model, new), answers(parent, new, found.tokens))
    table = found.model.token_embedding
    assert table.quantization_mode == "int8"
    assert table._embeddings.shape[0] == len(found.tokens)
