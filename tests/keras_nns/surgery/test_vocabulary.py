"""keep_tokens: the rows of tokens leave an embedding; what stays answers as before."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from architectures import random_plan
from contract import randomise
from keras import layers as L

import keras_nns as nns
from keras_nns.graph.tracing import trace

# TensorFlow's tensors under numpy 2, when Keras writes weights.
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)
KEPT = [9, 0, 3, 4]


def reader(**embedding):
    return randomise(
        keras.Sequential(
            [
                keras.Input((6,), dtype="int32"),
                L.Embedding(12, 5, name="words", **embedding),
                L.LSTM(4, name="cells"),
                L.Dense(3, name="answer"),
            ],
            name="reader",
        )
    )


def texts(tokens, count=8):
    return np.random.default_rng(0).choice(tokens, (count, 6)).astype("int32")


@pytest.mark.parametrize("mask_zero", [False, True])
def test_texts_of_the_tokens_that_stay_are_answered_as_before(mask_zero):
    model = reader(mask_zero=mask_zero)
    model.compile("adam", "mse")
    small = nns.keep_tokens(model, KEPT)
    x = texts(KEPT)
    np.testing.assert_allclose(small(x), model(x), rtol=1e-6, atol=1e-6)
    table = small.get_layer("words").get_weights()[0]
    np.testing.assert_array_equal(table, model.get_layer("words").get_weights()[0][sorted(KEPT)])
    assert isinstance(small, keras.Sequential) and small.compiled
    assert model.count_params() - small.count_params() == 8 * 5


@pytest.mark.slow
@pytest.mark.parametrize("mask_zero", [False, True])
def test_tokens_that_were_cut_read_as_zeros(mask_zero):
    """Oracle: the parent with those rows set to zero, on texts of the whole vocabulary."""
    model = reader(mask_zero=mask_zero)
    small = nns.keep_tokens(model, KEPT)
    table = model.get_layer("words").get_weights()[0]
    table[[token for token in range(12) if token not in KEPT]] = 0
    model.get_layer("words").set_weights([table])
    x = texts(range(12), 32)
    np.testing.assert_allclose(small(x), model(x), rtol=1e-6, atol=1e-6)


@pytest.mark.slow
def test_dimensions_and_tokens_leave_in_either_order(tmp_path):
    model = reader()
    plan = random_plan(trace(model), 0.5, 1)
    first = nns.keep_tokens(nns.cut(model, plan), KEPT)
    fewer = nns.keep_tokens(model, [*KEPT, 7])
    graph = trace(fewer)
    again = nns.Plan(graph.fingerprint, plan.sizes, plan.kept)
    second = nns.keep_tokens(nns.cut(fewer, again, prove=True), KEPT)
    x = texts(range(12))
    np.testing.assert_array_equal(first(x), second(x))
    assert nns.lineage(first).plan == plan
    nns.save_model(first, tmp_path / "first.keras")
    np.testing.assert_array_equal(nns.load_model(tmp_path / "first.keras")(x), first(x))


def test_one_of_several_embeddings_is_named():
    words, tags = (keras.Input((6,), dtype="int32", name=name) for name in ("words", "tags"))
    x = L.Add()([L.Embedding(12, 5, name="word")(words), L.Embedding(4, 5, name="tag")(tags)])
    model = randomise(keras.Model([words, tags], L.Dense(3)(L.Flatten()(x))))
    small = nns.keep_tokens(model, KEPT, layer="word")
    given = [texts(KEPT), texts(range(4))]
    np.testing.assert_allclose(small(given), model(given), rtol=1e-6, atol=1e-6)
    with pytest.raises(nns.errors.PlanError, match=r"one of \['word', 'tag'\]. Received: no layer"):
        nns.keep_tokens(model, KEPT)
    with pytest.raises(nns.errors.PlanError, match="Received: 'verb'"):
        nns.keep_tokens(model, KEPT, layer="verb")


@pytest.mark.parametrize("tokens", [[], [0.5], ["a"], [True, False], [12], [-1, 3]])
def test_what_is_no_token_is_refused(tokens):
    with pytest.raises(
        nns.errors.PlanError, match=r"numbers of the tokens|has no tokens \[(12|-1)\]"
    ):
        nns.keep_tokens(reader(), tokens)


def test_tokens_that_left_cannot_come_back():
    small = nns.keep_tokens(reader(), KEPT)
    with pytest.raises(nns.errors.PlanError, match=r"'words' has no tokens \[5\]"):
        nns.keep_tokens(small, [3, 5])


def test_lora_and_quantised_tables_are_refused():
    adapted = reader()
    adapted.get_layer("words").enable_lora(2)
    quantised = reader()
    quantised.get_layer("words").quantize("int8")
    for model in (adapted, quantised):
        with pytest.raises(nns.errors.SurgeryError, match="quantised or carries LoRA"):
            nns.keep_tokens(model, KEPT)
