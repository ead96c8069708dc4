"""Perplexity of language models, beside Keras's own loss and numpy."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as L

import keras_nns as nns

VOCABULARY = 7


def language_model(*, softmax=False, masked=False, steps=None, named=False):
    keras.utils.set_random_seed(1)
    tokens = keras.Input((steps,), dtype="int32", name="token_ids")
    inputs = [tokens]
    x = L.Embedding(VOCABULARY, 5, mask_zero=masked)(tokens)
    if named:
        inputs.append(keras.Input((steps,), dtype="int32", name="padding_mask"))
        x = L.Multiply()([x, L.Reshape((-1, 1))(L.Rescaling(1.0)(inputs[1]))])
    x = L.GRU(6, return_sequences=True)(x)
    x = L.Dense(VOCABULARY, activation="softmax" if softmax else None)(x)
    return keras.Model(inputs if named else tokens, x, name="lm")


def texts(count=12, steps=9, lowest=1):
    rng = np.random.default_rng(2)
    return rng.integers(lowest, VOCABULARY, (count, steps)), np.arange(count) % 2


def nats(model, x):
    """Return the negative log likelihood of every token but the first, in numpy."""
    given = np.asarray(model.predict(x, verbose=0), np.float64)
    if not np.allclose(given.sum(-1), 1):
        given = np.exp(given) / np.exp(given).sum(-1, keepdims=True)
    ids = x["token_ids"] if isinstance(x, dict) else x
    return -np.log(np.take_along_axis(given[:, :-1], ids[:, 1:, None], axis=2)[..., 0]), given


@pytest.mark.slow
@pytest.mark.parametrize("softmax", [False, True])
def test_it_is_the_exponential_of_keras_own_loss(softmax):
    model = language_model(softmax=softmax)
    x, kinds = texts()
    found = nns.perplexity(model, x, kinds, label_names=("code", "prose"), batch_size=5)
    loss, given = nats(model, x)
    for label, own in (("code", kinds == 0), ("prose", kinds == 1), (None, kinds >= 0)):
        one = found["lm", label]
        assert (one.texts, one.tokens) == (own.sum(), own.sum() * 8)
        assert one.perplexity == pytest.approx(np.exp(loss[own].mean()), rel=1e-5)
        right = given[own, :-1].argmax(-1) == x[own, 1:]
        assert one.next_token == pytest.approx(right.mean())
        low, high = one.interval
        assert low < one.perplexity < high
    cut_short = keras.Model(model.inputs, model.output[:, :-1])
    cut_short.compile(loss=keras.losses.SparseCategoricalCrossentropy(from_logits=not softmax))
    keras_loss = cut_short.evaluate(x, x[:, 1:], verbose=0)
    assert found["lm", None].perplexity == pytest.approx(np.exp(keras_loss), rel=1e-4)


@pytest.mark.parametrize("named", [False, True])
def test_padding_does_not_count(named):
    model = language_model(masked=not named, named=named)
    x, kinds = texts()
    long = np.where(np.arange(12) % 3 == 0, 4, 9)
    mask = np.arange(9) < long[:, None]
    x = np.where(mask, x, 0)
    given = {"token_ids": x, "padding_mask": mask.astype("int32")} if named else x
    one = nns.perplexity(model, given, kinds, label_names=("a", "b"), confidence=None)["lm", None]
    loss, _ = nats(model, given)
    counted = mask[:, 1:]
    assert one.tokens == counted.sum()
    assert one.perplexity == pytest.approx(np.exp(loss[counted].mean()), rel=1e-5)
    assert one.interval is None


def test_weights_count_texts_as_often():
    model = language_model()
    x, kinds = texts()
    weights = np.where(np.arange(12) < 4, 3.0, 1.0)
    weighted = nns.perplexity(model, (x, kinds, weights), label_names=("a", "b"), confidence=None)
    again = np.r_[0:12, 0:4, 0:4]
    repeated = nns.perplexity(
        model, x[again], kinds[again], label_names=("a", "b"), confidence=None
    )
    for label in ("a", "b", None):
        one, other = weighted["lm", label], repeated["lm", label]
        assert one.perplexity == pytest.approx(other.perplexity, rel=1e-6)
        assert one.next_token == pytest.approx(other.next_token)


def test_several_models_stand_side_by_side():
    whole, other = language_model(), language_model(softmax=True)
    x, kinds = texts()
    found = nns.perplexity({"whole": whole, "other": other}, x, kinds, label_names=("a", "b"))
    assert [(row.model, row.label) for row in found.rows] == [
        (m, k) for m in ("whole", "other") for k in ("a", "b", None)
    ]
    assert found.sizes["whole"].parameters == whole.count_params()
    assert found.sizes["whole"].without_embeddings == whole.count_params() - VOCABULARY * 5
    text = str(found)
    assert "whole" in text
    assert "95%" in text
    assert found.to_json()["rows"][0]["label"] == "a"
    assert "<table>" in found._repr_html_()
    with pytest.raises(KeyError, match="is none of"):
        found["whole", "c"]


@pytest.mark.slow
def test_texts_that_a_network_was_made_from_are_refused():
    model = language_model()
    x, kinds = texts(64)
    activity = nns.observe(model, x, kinds, label_names=("a", "b"))
    small = nns.cut(
        model, nns.select(activity, "a", keep=nns.fraction(0.5), score="mean_activation")
    )
    with pytest.raises(nns.errors.DataError, match="allow_overlap"):
        nns.perplexity(small, x, kinds, label_names=("a", "b"))
    nns.perplexity(small, x, kinds, label_names=("a", "b"), allow_overlap=True)


def test_wrong_use_is_refused_with_the_way_on():
    x, kinds = texts()
    model = language_model()
    classifier = keras.Sequential([keras.Input((9,)), L.Dense(3)])
    with pytest.raises(nns.errors.ModelError, match="at every step"):
        nns.perplexity(classifier, x, kinds)
    with pytest.raises(nns.errors.DataError, match="one at every step"):
        nns.perplexity(model, x, x)
    named = language_model(named=True)
    given = {"token_ids": x, "padding_mask": np.ones_like(x)}
    with pytest.raises(nns.errors.DataError, match="tokens="):
        nns.perplexity(named, given, kinds, label_names=("a", "b"), tokens="ids")
    with pytest.raises(nns.errors.DataError, match="two that count"):
        nns.perplexity(language_model(masked=True), x * 0, kinds, label_names=("a", "b"))
    with pytest.raises(nns.errors.ModelError, match="no model"):
        nns.perplexity({}, x, kinds)
    with pytest.raises(nns.errors.DataError, match="confidence"):
        nns.perplexity(model, x, kinds, confidence=2)


def test_tokens_that_a_model_does_not_know_are_refused():
    x, kinds = texts()
    x[3, 4] = VOCABULARY
    with pytest.raises(nns.errors.DataError, match=r"knows 7 tokens.* 1 to 7"):
        nns.perplexity(language_model(), x, kinds)


@pytest.mark.slow
def test_models_of_different_tokens_do_not_stand_beside_each_other():
    model = language_model()
    kept = [1, 2, 4, 6]
    cut = nns.cut_vocabulary(model, kept)
    x, kinds = texts()
    x = np.asarray(kept)[x % 4]
    with pytest.raises(nns.errors.ModelError, match=r"number tokens differently.*small"):
        nns.perplexity({"whole": model, "small": cut.model}, x, kinds)
    with pytest.raises(nns.errors.DataError, match="renumbered"):
        nns.perplexity(cut.model, x, kinds)
    found = nns.perplexity(cut.model, cut.renumbered(x), kinds, confidence=None)
    given = np.asarray(model.predict(x, verbose=0), np.float64)[..., kept]
    share = np.exp(given) / np.exp(given).sum(-1, keepdims=True)
    loss = -np.log(np.take_along_axis(share[:, :-1], cut.renumbered(x)[:, 1:, None], axis=2))
    assert found["lm", None].perplexity == pytest.approx(np.exp(loss.mean()), rel=1e-4)
