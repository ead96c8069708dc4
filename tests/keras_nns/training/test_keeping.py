"""Which weights a distillation leaves, and that it never makes worse what it is judged on."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from clouds import drawn
from keras import layers as L

import keras_nns as nns
from keras_nns.graph.tracing import weights_digest
from keras_nns.judgement.question import Question
from keras_nns.training.keeping import halfway
from keras_nns.training.logits import answering
from keras_nns.training.targets import Pupil

CENTRES = np.random.default_rng(3).normal(size=(4, 6)) * 0.6
RARE = (0.04, 0.32, 0.32, 0.32)


def samples(count, seed=0):
    """Four clouds that overlap, the first of them rare."""
    rng = np.random.default_rng(seed)
    y = rng.choice(4, count, p=RARE)
    return (CENTRES[y] + rng.normal(size=(count, 6))).astype("float32"), y


X, Y = samples(1500)


@pytest.fixture(scope="module")
def rare():
    """A model that is right by the shares of the data: it seldom says the rare label."""
    model, rng = drawn("rare")
    for _ in range(10):
        order = rng.permutation(len(X))
        for start in range(0, 1500, 50):
            model.train_on_batch(X[order[start : start + 50]], Y[order[start : start + 50]])
    return model


@pytest.fixture(scope="module")
def repaired(rare):
    """A yes/no network for the rare label, its point set for balanced accuracy."""
    activity = nns.observe(rare, (X, Y), verbose=False)
    plan = nns.select(activity, labels=0, score=nns.scores.contrast, keep=nns.top(6))
    small = nns.cut(rare, plan, head="binary")
    return nns.repair(small, rare, (X, Y), held_out=0.3).model


def figures(done):
    return {gain.measure: (gain.before, gain.after) for gain in done.gains}


@pytest.mark.slow
def test_a_point_that_would_be_lost_is_not_taken_away(rare, repaired):
    """Drawn as often as the data has them, answers are taught at the parent's point: the loss
    falls on what is held out, and so would the balanced accuracy."""
    how = {"balance": False, "alpha": 1.0, "held_out": 0.3, "epochs": 3, "batch_size": 32}
    done = nns.distill(repaired, rare, (X, Y), optimizer=keras.optimizers.Adam(0.005), **how)
    found = figures(done)
    assert min(done.history["val_loss"]) < found["loss"][0]
    assert found["balanced acc."][0] == found["balanced acc."][1] > 0.8
    assert found["loss"][0] == found["loss"][1]
    assert done.best_epoch == 0
    assert weights_digest(done.model) == weights_digest(repaired)
    assert nns.lineage(done.model).balanced == nns.lineage(repaired).balanced
    assert "old weights are kept: balanced acc. would be" in done.note
    assert done.note in {gain.note for gain in done.gains}
    assert "The old weights are kept" in str(done)
    # What it would have been: nothing is judged where nothing is held out.
    lost = nns.distill(
        repaired, rare, (X, Y), optimizer=keras.optimizers.Adam(0.005), **{**how, "held_out": 0}
    )
    assert figures(lost)["balanced acc."][1] < found["balanced acc."][0] - 0.05


@pytest.mark.slow
def test_the_parent_teaches_the_point_of_what_is_drawn(rare, repaired):
    """By default answers are drawn equally often, and the point stays where the fit had set it."""
    fresh = samples(4000, seed=1)
    before = nns.evaluate(repaired, fresh).mean_balanced_accuracy
    done = nns.distill(repaired, rare, (X, Y), held_out=0, alpha=1.0, epochs=3, batch_size=32)
    after = nns.evaluate(done.model, fresh).mean_balanced_accuracy
    assert after > before - 0.01
    assert nns.lineage(done.model).balanced is not None


def test_logits_as_if_all_answers_were_right_equally_often(rare):
    """Bayes: probabilities over their shares in the data, made to sum to 1."""
    question = Question("other", ("0", "other"), ((0,), None))
    pupil = Pupil(question, "softmax", 0, False, "labels", False, 0, True)
    shares = np.array([0.08, 0.92])
    with answering(
        keras.models.clone_model(rare), pupil, own=False, shares=shares
    ).open() as taught:
        taught.set_weights(rare.get_weights())
        logits = np.asarray(taught(X), np.float64)
    found = np.exp(logits - logits.max(axis=1, keepdims=True))
    p = np.asarray(rare(X), np.float64)
    wanted = np.stack([p[:, 0] / 0.08, p[:, 1:].sum(axis=1) / 0.92], axis=1)
    np.testing.assert_allclose(
        found / found.sum(axis=1, keepdims=True),
        wanted / wanted.sum(axis=1, keepdims=True),
        atol=1e-5,
    )


def test_halfway_is_the_mean_of_what_are_numbers():
    model = keras.Sequential([keras.Input((3,)), L.Dense(2), L.Dropout(0.5, seed=1)])
    one = [np.array(v.numpy()) for v in model.variables]
    other = [value + 2 for value in one]
    found = halfway(model.variables, one, other)
    for variable, a, b, c in zip(model.variables, one, other, found, strict=True):
        assert c.dtype == a.dtype
        drawn = "seed" in variable.path
        np.testing.assert_allclose(c, b if drawn else a + 1, rtol=1e-6)


@pytest.mark.slow
def test_the_least_loss_of_what_made_nothing_worse_is_kept(rare):
    """Behind a plain cut both the epochs and the mean are better; the loss tells which is kept."""
    activity = nns.observe(rare, (X, Y), verbose=False)
    plan = nns.select(activity, labels=[1, 2], score=nns.scores.contrast, keep=nns.top(5))
    small = nns.cut(rare, plan, head="other")
    done = nns.distill(small, rare, (X, Y), epochs=2, held_out=0.3, batch_size=32)
    found = figures(done)
    assert done.best_epoch >= 1
    assert found["loss"][1] < found["loss"][0]
    assert found["balanced acc."][1] >= found["balanced acc."][0]
    assert found["loss"][1] <= min(done.history["val_loss"]) + 1e-6
