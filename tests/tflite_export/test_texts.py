"""Language models of Keras's own layers: a length for what is open, files judged by perplexity."""

from __future__ import annotations

from dataclasses import replace

import keras
import numpy as np
import pytest

import tflite_export
from tflite_export import Tolerance
from tflite_export.keras_model.source import source
from tflite_export.running.interpreter import Runner
from tflite_export.running.texts import asked, costs

pytestmark = pytest.mark.slow

layers = keras.layers
TOKENS, LENGTH = 20, 9


def writer(*, softmax: bool = False, seed: int = 3) -> keras.Model:
    """A language model that takes texts of any length."""
    keras.utils.set_random_seed(seed)
    ids = keras.Input((None,), dtype="int32", name="token_ids")
    mask = keras.Input((None,), dtype="int32", name="padding_mask")
    steps = layers.Embedding(
        TOKENS, 32, embeddings_initializer=keras.initializers.RandomNormal(stddev=1.0)
    )(ids)
    steps = steps * keras.ops.cast(mask, "float32")[..., None]
    steps = layers.Dense(64, "relu", name="hidden")(steps)
    scores = layers.Dense(
        TOKENS, "softmax" if softmax else None, name="scores", kernel_initializer="he_normal"
    )(steps)
    return keras.Model([ids, mask], scores, name="writer")


@pytest.fixture(scope="module")
def lm() -> keras.Model:
    return writer()


@pytest.fixture(scope="module")
def flat(lm: keras.Model) -> bytes:
    return tflite_export.convert(lm, sequence_length=LENGTH)


@pytest.fixture(scope="module")
def texts() -> dict[str, np.ndarray]:
    ids = np.random.default_rng(0).integers(0, TOKENS, (6, LENGTH))
    mask = np.ones_like(ids)
    mask[0, 5:] = 0
    return {"token_ids": ids, "padding_mask": mask}


def by_hand(probabilities: np.ndarray, ids: np.ndarray, mask: np.ndarray) -> tuple[float, int]:
    """Perplexity by a loop over tokens, and how many there were."""
    losses = [
        -np.log(float(probabilities[text, step, ids[text, step + 1]]))
        for text in range(len(ids))
        for step in range(ids.shape[1] - 1)
        if mask[text, step] and mask[text, step + 1]
    ]
    return float(np.exp(np.mean(losses))), len(losses)


def test_a_length_is_given_to_what_is_open(lm: keras.Model, flat: bytes) -> None:
    told = tflite_export.anatomy(flat)
    assert told.inputs == {"token_ids": (1, LENGTH), "padding_mask": (1, LENGTH)}
    assert told.outputs == {"scores": (1, LENGTH, TOKENS)}
    assert lm.inputs[0].shape == (None, None)


@pytest.mark.parametrize("softmax", [False, True])
def test_perplexity_is_that_of_each_token_by_hand(
    softmax: bool, texts: dict[str, np.ndarray]
) -> None:
    model = writer(softmax=softmax)
    flat = tflite_export.convert(model, sequence_length=LENGTH)
    found = tflite_export.verify(flat, model, texts)
    given = np.asarray(model(texts), np.float64)
    probabilities = given if softmax else np.asarray(keras.ops.softmax(given))
    expected, count = by_hand(probabilities, texts["token_ids"], texts["padding_mask"])
    assert found.tokens is not None
    assert found.tokens.tokens == count
    assert found.tokens.model == pytest.approx(expected, rel=1e-4)
    assert found.tokens.ratio == pytest.approx(1, rel=1e-4)
    assert found.outputs[0].decisions == 6 * LENGTH
    assert "perplexity" in str(found)


def test_difference_and_decisions_are_those_of_all_texts_at_once(
    lm: keras.Model, flat: bytes, texts: dict[str, np.ndarray]
) -> None:
    small = tflite_export.convert(lm, sequence_length=LENGTH, quantize="dynamic")
    found = tflite_export.verify(small, lm, texts)
    left = np.asarray(lm(texts))
    runner = Runner(small)
    rows = [
        runner([texts[slot.name][at : at + 1].astype(slot.dtype) for slot in runner.inputs])[0]
        for at in range(len(left))
    ]
    apart = np.concatenate(rows) - left
    scale = np.abs(left).max()
    assert found.relative == pytest.approx(np.abs(apart).max() / scale, rel=1e-4)
    assert found.rms == pytest.approx(np.sqrt((apart**2).mean()) / scale, rel=1e-4)
    same = (np.concatenate(rows).argmax(-1) == left.argmax(-1)).mean()
    assert found.agreement == pytest.approx(same)


def test_a_file_that_foretells_worse_is_refused(
    flat: bytes, lm: keras.Model, texts: dict[str, np.ndarray]
) -> None:
    with pytest.raises(tflite_export.VerificationError, match="another model or other weights"):
        tflite_export.verify(flat, writer(seed=4), texts)
    small = tflite_export.convert(lm, sequence_length=LENGTH, quantize="dynamic")
    strict = Tolerance(perplexity=0.5)
    with pytest.raises(tflite_export.VerificationError, match=r"perplexity of .*Tolerance\(perp"):
        tflite_export.verify(small, lm, texts, tolerance=strict)


def test_texts_of_another_length_are_refused(
    flat: bytes, lm: keras.Model, texts: dict[str, np.ndarray]
) -> None:
    short = {name: array[:, :4] for name, array in texts.items()}
    with pytest.raises(tflite_export.VerificationError, match=r"expected \(samples, 9\)"):
        tflite_export.verify(flat, lm, short)


@pytest.mark.parametrize("length", [0, -3, 2.5])
def test_a_length_that_is_none_is_refused(lm: keras.Model, length: float) -> None:
    with pytest.raises(tflite_export.OptionError, match="sequence_length must be"):
        tflite_export.convert(lm, sequence_length=length)


def test_a_length_for_what_is_not_open_is_refused(cnn: keras.Model) -> None:
    with pytest.raises(tflite_export.OptionError, match="which no input of model 'digits_cnn' has"):
        tflite_export.convert(cnn, sequence_length=4)


def test_a_length_makes_a_recurrent_model_of_any_length_an_integer_one() -> None:
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((None, 3)), layers.GRU(4), layers.Dense(2)])
    samples = np.random.default_rng(0).normal(size=(100, 5, 3)).astype("float32")
    with pytest.raises(tflite_export.OptionError, match="Pass sequence_length="):
        tflite_export.convert(model, quantize="int8_float", samples=samples)
    flat = tflite_export.convert(model, sequence_length=5)
    assert tflite_export.verify(flat, model, samples[:4]).relative < 1e-5


def test_what_is_no_language_model_is_none(cnn: keras.Model, lm: keras.Model) -> None:
    assert asked(source(cnn)) is None
    told = asked(source(lm))
    assert told is not None
    assert (told.tokens, told.padding) == (0, 1)
    origin = source(lm)
    assert asked(replace(origin, tables=(TOKENS + 1,))) is None


def test_costs_of_large_scores_are_finite() -> None:
    scores = np.array([[[1e4, 0.0, -1e4]]], np.float32)
    np.testing.assert_allclose(costs(scores, np.array([[1]])), [[1e4]])


def test_a_model_that_does_not_generate_is_refused(lm: keras.Model, flat: bytes) -> None:
    with pytest.raises(tflite_export.OptionError, match="cannot be asked token by token"):
        tflite_export.convert_generative(lm, cache_length=8)
    with pytest.raises(tflite_export.FlatbufferError, match="does not generate"):
        tflite_export.Generator(flat)


def test_the_same_bytes_lie_in_a_file_once() -> None:
    ids = keras.Input((4,), dtype="int32")
    table = layers.Embedding(300, 16)
    steps = table(ids)
    table.embeddings.assign(np.random.default_rng(0).normal(size=(300, 16)))
    scores = keras.ops.matmul(steps, keras.ops.transpose(table.embeddings))
    flat = tflite_export.convert(keras.Model(ids, scores))
    assert len(flat) < 1.5 * 300 * 16 * 4


@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")
def test_the_command_line_says_perplexity(
    lm: keras.Model, texts: dict[str, np.ndarray], tmp_path, capsys
) -> None:
    from tflite_export.cli import main

    lm.save(tmp_path / "lm.keras")
    np.savez(tmp_path / "texts.npz", **texts)
    output = tmp_path / "lm.tflite"
    command = ["export", str(tmp_path / "lm.keras"), "-o", str(output), "--sequence-length", "9"]
    assert main([*command, "--samples", str(tmp_path / "texts.npz"), "--quantize", "dynamic"]) == 0
    assert "in Keras and" in capsys.readouterr().out
    # Without samples, on generated texts.
    assert main([*command, "--overwrite"]) == 0
    capsys.readouterr()
    strict = ["--overwrite", "--quantize", "dynamic", "--tolerance", "perplexity=0.1"]
    assert main([*command, *strict]) == 1
    assert "--tolerance perplexity=" in capsys.readouterr().err
