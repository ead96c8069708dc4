"""cut_vocabulary and count_tokens of models of Keras's own layers, and what is refused."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
from contract import randomise
from keras import layers as L

import keras_nns as nns
from keras_nns.errors import DataError, ModelError, PlanError, SurgeryError
from keras_nns.graph.tracing import trace

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)
KEPT = [1, 4, 5, 9]


def writer(*, tied=False, end="softmax", **embedding):
    """A model that answers a token at every step."""
    tokens = keras.Input((6,), dtype="int32", name="tokens")
    kind = L.ReversibleEmbedding if tied else L.Embedding
    table = kind(12, 5, name="words", **embedding)
    steps = L.Dense(8, "relu", name="hidden")(table(tokens))
    steps = L.Dense(5, name="back")(steps)
    answer = table(steps, reverse=True) if tied else L.Dense(12, end, name="next")(steps)
    return randomise(keras.Model(tokens, answer, name="writer"))


def reader():
    steps = [L.Embedding(12, 5, name="words"), L.LSTM(4), L.Dense(3, name="answer")]
    return randomise(keras.Sequential([keras.Input((6,), dtype="int32"), *steps], name="reader"))


def drawn(count, texts=4):
    return np.random.default_rng(0).integers(0, count, (texts, 6)).astype("int32")


@pytest.mark.parametrize("tied", [False, True])
def test_scores_of_kept_tokens_are_the_parents(tied):
    parent = writer(tied=tied, end="linear")
    found = nns.cut_vocabulary(parent, KEPT)
    new = drawn(4)
    expected = np.asarray(parent(np.asarray(KEPT)[new]))[..., KEPT]
    np.testing.assert_allclose(found.model(new), expected, rtol=0, atol=1e-6)
    assert found.tokens == tuple(KEPT) and found.model.output_shape == (None, 6, 4)
    lost = 8 * 5 if tied else 8 * 5 + 8 * 6
    assert parent.count_params() - found.model.count_params() == lost
    assert found.parameters == (parent.count_params(), found.model.count_params())


def test_probabilities_are_shared_among_kept_tokens():
    parent = writer()
    parent.compile("adam", "sparse_categorical_crossentropy")
    small = nns.cut_vocabulary(parent, KEPT).model
    new = drawn(4)
    expected = np.asarray(parent(np.asarray(KEPT)[new]))[..., KEPT]
    expected /= expected.sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(small(new), expected, rtol=0, atol=1e-6)
    assert small.compiled and nns.lineage(small).labels == tuple(KEPT)


def test_a_model_that_answers_no_tokens_keeps_its_answers():
    parent = reader()
    small = nns.cut_vocabulary(parent, KEPT).model
    np.testing.assert_allclose(small(drawn(4)), parent(np.asarray(KEPT)[drawn(4)]), atol=1e-6)
    assert isinstance(small, keras.Sequential)
    assert small.get_layer("words").input_dim == 4 and type(small.get_layer("words")) is L.Embedding


def test_untied_tables_lose_the_same_tokens():
    parent = writer(tied=True, tie_weights=False)
    small = nns.cut_vocabulary(parent, KEPT).model
    expected = np.asarray(parent(np.asarray(KEPT)[drawn(4)]))[..., KEPT]
    np.testing.assert_allclose(small(drawn(4)), expected, atol=1e-6)


@pytest.mark.parametrize("tied", [False, True])
def test_units_can_leave_before_or_after(tied, tmp_path):
    parent = writer(tied=tied, end="linear")
    graph = trace(parent)
    sizes = {group.name: group.size for group in graph.layout.prunable}
    kept = {name: tuple(range(size)) for name, size in sizes.items()} | {"hidden": (0, 2, 7)}
    first = nns.cut_vocabulary(nns.cut(parent, nns.Plan(graph.fingerprint, sizes, kept)), KEPT)
    second = nns.cut_vocabulary(parent, KEPT).model
    again = trace(second)
    second = nns.cut(second, nns.Plan(again.fingerprint, sizes, kept), prove=True)
    np.testing.assert_array_equal(first.model(drawn(4)), second(drawn(4)))
    nns.save_model(second, tmp_path / "small.keras")
    record = nns.lineage(nns.load_model(tmp_path / "small.keras"))
    assert record.tokens == nns.lineage(first.model).tokens == tuple(KEPT)
    assert record.plan.kept["hidden"] == (0, 2, 7)


def test_the_parent_is_not_changed():
    parent = writer()
    before = [np.array(w) for w in parent.weights]
    small = nns.cut_vocabulary(parent, KEPT).model
    small.set_weights([np.zeros(w.shape) for w in small.weights])
    for weight, was in zip(parent.weights, before, strict=True):
        np.testing.assert_array_equal(weight, was)


def test_counts_add_up_and_say_what_a_cut_leaves():
    parent = writer()
    texts = np.array([[1, 1, 4, 5, 9, 9], [1, 1, 1, 1, 4, 4]])
    counts = nns.count_tokens(parent, texts)
    np.testing.assert_array_equal(counts.counts, np.bincount(texts.ravel(), minlength=12))
    parts = nns.count_tokens(parent, texts[:1]) + nns.count_tokens(parent, iter(texts[1:]))
    np.testing.assert_array_equal(parts.counts, counts.counts)
    assert (counts.texts, parts.texts) == (2, 2)
    mask = np.array([[1, 1, 1, 1, 1, 0], [0, 0, 0, 0, 1, 1]])
    masked = nns.count_tokens(parent, {"token_ids": texts, "padding_mask": mask})
    np.testing.assert_array_equal(masked.counts, np.bincount([1, 1, 4, 5, 9, 4, 4], minlength=12))
    rows = [tuple(row) for row in counts.to_table().rows]
    assert rows[0] == ("1", "4", "4", "1.000")
    assert rows[2] == ("3", "2", "2", f"{9 / 12:.3f}")
    assert rows[-1][0] == "5"  # Nothing occurs 10 times.
    assert json.loads(json.dumps(counts.to_json()))["counts"] == {"1": 6, "4": 3, "5": 1, "9": 2}
    found = nns.cut_vocabulary(parent, counts, min_count=2)
    assert found.tokens == (1, 4, 9) and found.covered == pytest.approx(11 / 12)
    assert nns.cut_vocabulary(parent, texts, min_count=2).tokens == found.tokens
    assert "3 of 12 tokens stay: 3 asked for" in str(found) and "0.917 stays one token" in str(
        found
    )
    assert json.loads(json.dumps(found.to_json()))["tokens"] == [1, 4, 9]


def test_padding_that_a_table_masks_stays_token_0():
    parent = randomise(
        keras.Sequential(
            [keras.Input((6,), dtype="int32"), L.Embedding(12, 5, mask_zero=True), L.LSTM(3)]
        )
    )
    assert nns.cut_vocabulary(parent, drawn(12)[:1, :3] * 0 + 7).tokens == (0, 7)
    with pytest.raises(PlanError, match=r"special tokens.*'padding' \(0\)"):
        nns.cut_vocabulary(parent, KEPT)


def test_which_table_is_meant_has_to_be_said():
    tokens = keras.Input((6,), dtype="int32")
    steps = L.Embedding(12, 5, name="word")(tokens)
    parent = randomise(
        keras.Model(tokens, L.Add()([steps, L.Embedding(12, 5, name="form")(tokens)]))
    )
    with pytest.raises(PlanError, match=r"layer=.*'word', 'form'"):
        nns.count_tokens(parent, drawn(12))
    counts = nns.count_tokens(parent, drawn(12), layer="word")
    assert counts.counts.sum() == 24


@pytest.mark.parametrize(
    ("keep", "more", "error", "message"),
    [
        ([], {}, PlanError, "No token is left"),
        ([3, 12], {}, PlanError, r"12 tokens, and not \[12\]"),
        ([-1], {}, PlanError, r"not \[-1\]"),
        ([0.5], {}, PlanError, "numbers of the tokens to keep"),
        (KEPT, {"min_count": 2}, PlanError, "min_count= goes with texts or counts"),
        ([[1, 2]], {"min_count": 9}, PlanError, "none of the texts' occurs so often"),
        ("a text", {}, DataError, "one string; put it into a list"),
        (["a", "text"], {}, DataError, "strings, and the model has no tokenizer"),
        ([[1, 99]], {}, DataError, "Text 0 has token 99, and the vocabulary .* has 12"),
        ([[[1, 2]]], {}, DataError, "row of token numbers"),
        ([[1.5]], {}, DataError, "row of token numbers"),
        (iter(()), {}, DataError, "no text"),
        ({"ids": []}, {}, DataError, "under 'token_ids'"),
        (KEPT, {"tokenizer": "gpt2"}, SurgeryError, "how a str is cut"),
    ],
)
def test_wrong_uses_have_one_clear_error(keep, more, error, message):
    with pytest.raises(error, match=message):
        nns.cut_vocabulary(writer(), keep, **more)


def test_counts_of_another_vocabulary_are_refused():
    counts = nns.count_tokens(writer(), drawn(12))
    tokens = keras.Input((6,), dtype="int32")
    other = keras.Model(tokens, L.Embedding(20, 5)(tokens))
    with pytest.raises(PlanError, match="of 12 tokens, and the model knows 20"):
        nns.cut_vocabulary(other, counts)
    with pytest.raises(DataError, match="two vocabularies, of 12 and 20"):
        counts + nns.count_tokens(other, drawn(12))


def test_a_model_that_looks_no_tokens_up_is_refused():
    plain = keras.Sequential([keras.Input((4,)), L.Dense(2)])
    with pytest.raises(PlanError, match="Say which Embedding loses tokens"):
        nns.cut_vocabulary(plain, KEPT)
    with pytest.raises(ModelError, match="has not been built"):
        nns.count_tokens(keras.Sequential([L.Dense(2)]), drawn(12))
    quantised = writer()
    quantised.get_layer("words").quantize("int8")
    with pytest.raises(SurgeryError, match="quantised or carries LoRA"):
        nns.cut_vocabulary(quantised, KEPT)


def test_what_numbers_tokens_otherwise_is_no_partner_of_its_parent():
    parent = writer(end="linear")
    graph = trace(parent)
    sizes = {group.name: group.size for group in graph.layout.prunable}
    kept = {name: tuple(range(size)) for name, size in sizes.items()} | {"hidden": (0, 2, 7)}
    small = nns.cut_vocabulary(nns.cut(parent, nns.Plan(graph.fingerprint, sizes, kept)), KEPT)
    for use in (nns.repair, nns.distill):
        with pytest.raises(
            PlanError, match=r"number their tokens differently.*cut_vocabulary last"
        ):
            use(small.model, parent, drawn(4, 40))
    with pytest.raises(PlanError, match="number their tokens differently"):
        nns.write_back(small.model, parent)
