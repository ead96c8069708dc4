"""Distillation of language models: its loss held to numpy, of logits and of probabilities."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from contract import randomise
from keras import layers

from keras_nns.data.texts import Texts
from keras_nns.errors import SurgeryError
from keras_nns.observation.next_token import NextToken
from keras_nns.training.next_tokens import Limits, distill_next_tokens

TOKENS, STEPS = 12, 6


def writer(width, seed, activation=None):
    """A model that foretells a token from the one before it."""
    ids = keras.Input((STEPS,), dtype="int32", name="token_ids")
    mask = keras.Input((STEPS,), dtype="int32", name="padding_mask")
    x = layers.Embedding(TOKENS, width, name="tokens")(ids)
    x = layers.Dense(width, "relu", name="hidden")(x)
    x = layers.Dense(TOKENS, activation, name="scores")(x)
    return randomise(keras.Model({"token_ids": ids, "padding_mask": mask}, x), seed)


@pytest.fixture(scope="module")
def texts():
    rng = np.random.default_rng(3)
    ids = rng.integers(1, TOKENS, (4, STEPS)).astype("int32")
    mask = (np.arange(STEPS) < np.array([[6], [4], [5], [6]])).astype("int32")
    return Texts(
        {"token_ids": ids * mask, "padding_mask": mask}, np.zeros(4, int), ("a",), np.arange(4)
    )


def expected(parent, small, texts, alpha):
    """The loss before any step, by its two sums."""
    ids, mask = texts.inputs["token_ids"], texts.inputs["padding_mask"]
    held = []
    for model in (parent, small):
        scores = np.asarray(model(texts.inputs), np.float64)
        held.append(scores - np.log(np.exp(scores).sum(-1, keepdims=True)))
    theirs, ours = held
    apart = (np.exp(theirs) * (theirs - ours)).sum(-1)
    apart = sum(apart[i, t] for i in range(4) for t in range(STEPS) if mask[i, t]) / mask.sum()
    both = [(i, t) for i in range(4) for t in range(STEPS - 1) if mask[i, t] and mask[i, t + 1]]
    missed = -np.mean([ours[i, t, ids[i, t + 1]] for i, t in both])
    return alpha * apart + (1 - alpha) * missed


def distilled(parent, small, texts, **options):
    asked = NextToken(parent)
    return distill_next_tokens(small, parent, texts, Limits(steps=2), asked=asked, **options)


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [0.0, 0.25, 1.0])
def test_the_first_loss_is_that_of_numpy(texts, alpha):
    parent, small = writer(8, 0), writer(5, 1)
    found = distilled(parent, small, texts, alpha=alpha)
    assert found.alpha == alpha and found.steps == 2
    assert found.loss[0] == pytest.approx(expected(parent, small, texts, alpha), rel=1e-5)
    assert found.loss[1] < found.loss[0]


@pytest.mark.slow
def test_probabilities_are_taken_as_such(texts):
    """A softmax of a softmax would be another distribution."""
    losses = []
    for activation in (None, "softmax"):
        parent, small = writer(8, 0, activation), writer(5, 1, activation)
        losses.append(distilled(parent, small, texts, optimizer="sgd").loss)
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


@pytest.mark.parametrize("alpha", [-0.1, 1.5, float("nan"), True])
def test_alpha_is_a_share(texts, alpha):
    with pytest.raises(SurgeryError, match="distill_alpha` is a share"):
        distilled(writer(8, 0), writer(5, 1), texts, alpha=alpha)
