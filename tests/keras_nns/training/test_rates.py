"""The rate of a distillation: how it falls, how it is found, and on what."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from clouds import drawn

import keras_nns as nns
from keras_nns.errors import SurgeryError
from keras_nns.graph.tracing import weights_digest
from keras_nns.observation.holdout import Division
from keras_nns.training import rates
from keras_nns.training.optimizers import RATE, FallingAdam

CENTRES = np.random.default_rng(3).normal(size=(4, 6)) * 1.5


def samples(count, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 4, count)
    return (CENTRES[y] + rng.normal(size=(count, 6))).astype("float32"), y


X, Y = samples(400)


@pytest.fixture(scope="module")
def pair():
    """A small model, and a cut of it."""
    model, _ = drawn("clouds")
    for _ in range(8):
        for start in range(0, 400, 40):
            model.train_on_batch(X[start : start + 40], Y[start : start + 40])
    activity = nns.observe(model, (X, Y), verbose=False)
    plan = nns.select(activity, labels=1, score=nns.scores.contrast, keep=nns.top(4))
    return nns.cut(model, plan, head="binary"), model


def test_the_rate_falls_as_keras_lets_it_fall_and_begins_anew():
    """Beside Keras's own schedule, whose steps move a weight by just as much."""
    for rate, steps in ((0.01, 7), (0.3, 3)):
        theirs = keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(rate, steps))
        if rate == 0.01:
            ours, weight = FallingAdam(), keras.Variable(np.ones(3, "float32"))
            ours.build([weight])
        weight.assign(np.ones(3))
        other = keras.Variable(np.ones(3, "float32"))
        ours.begin(rate, steps)
        for step in range(steps + 1):
            assert float(ours.learning_rate) == pytest.approx(float(theirs.learning_rate), abs=1e-8)
            gradient = [np.array([1.0, -2.0, 0.1 * step], "float32")]
            ours.apply([keras.ops.convert_to_tensor(g) for g in gradient], [weight])
            theirs.apply([keras.ops.convert_to_tensor(g) for g in gradient], [other])
        np.testing.assert_allclose(weight.numpy(), other.numpy(), rtol=1e-6)
        assert float(ours.learning_rate) == 0


@pytest.mark.parametrize(
    ("losses", "wanted", "tries"),
    [
        ({2e-3: 1.0, 4e-3: 0.9, 8e-3: 0.8, 1.6e-2: 0.85}, 8e-3, 4),
        ({2e-3: 1.0, 4e-3: 1.1, 1e-3: 0.9, 5e-4: 0.95}, 1e-3, 4),
        # A lower rate has to be clearly better, a higher one better.
        ({2e-3: 1.0, 4e-3: 1.0, 1e-3: 0.985}, 2e-3, 3),
        ({2e-3: 1.0, 4e-3: 0.985, 8e-3: 1.0}, 4e-3, 3),
        # All of it diverged but the least.
        ({2e-3: np.inf, 4e-3: np.inf, 1e-3: 0.9, 5e-4: 2.0}, 1e-3, 4),
        # To the end, and no farther.
        ({rate: 1 / rate for rate in rates.RATES}, rates.RATES[-1], 6),
        ({rate: rate for rate in rates.RATES}, rates.RATES[0], 6),
    ],
)
def test_neighbours_are_tried_while_the_loss_falls(losses, wanted, tries):
    asked = []

    def loss(rate):
        asked.append(rate)
        return losses[rate]

    assert rates._least(loss) == wanted
    assert len(set(asked)) == tries


def test_what_is_dealt_again_is_of_what_is_fitted_to_alone(pair):
    division = Division(X, Y, model=pair[1], held_out=0.3, seed=0, batch_size=64, label_names=None)
    again = division.again(0.25)

    def rows(batches):
        return {tuple(row) for batch in batches for row in batch.inputs.tolist()}

    fit, held = rows(division.to_fit()), rows(division.held_out())
    inner, judge = rows(again.to_fit()), rows(again.held_out())
    assert inner | judge == fit
    assert not inner & judge
    assert not judge & held
    assert 0.15 < len(judge) / len(fit) < 0.35
    assert rows(division.again(0.25).held_out()) == judge
    assert rows(division.held_out()) == held
    assert again.asked == division.asked == "labels"


@pytest.mark.slow
def test_the_rate_is_told_and_a_seed_finds_the_same(pair):
    small, model = pair
    done, again = (nns.distill(small, model, (X, Y), batch_size=16) for _ in range(2))
    assert weights_digest(done.model) == weights_digest(again.model)
    assert done.note == again.note
    assert done.to_json() == again.to_json()
    found = float(done.note.split("rate ")[1].split(",")[0])
    assert found in rates.RATES
    assert "samples set aside for that" in done.note
    assert done.to_json()["note"] == done.note
    # It is the rate of the training: one that is given as an optimizer does the same.
    steps = -(-done.samples // 16)
    given = keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(found, steps))
    same = nns.distill(small, model, (X, Y), batch_size=16, optimizer=given)
    assert "rate" not in same.note
    assert same.history["val_loss"] == pytest.approx(done.history["val_loss"], rel=1e-4)


@pytest.mark.slow
def test_trials_leave_no_trace_and_no_word_to_callbacks(pair):
    """Callbacks see the training alone, and batch norms that are frozen stay as they are."""
    small, model = pair
    seen = []
    watch = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: seen.append(epoch))
    random = np.random.get_state()[1].tolist()
    nns.distill(small, model, (X, Y), epochs=2, callbacks=[watch])
    assert seen == [0, 1]
    assert np.random.get_state()[1].tolist() == random


@pytest.mark.slow
def test_too_few_samples_to_choose_on_are_said(pair):
    small, model = pair
    x, y = samples(70, seed=2)
    done = nns.distill(small, model, (x, y), batch_size=16)
    assert f"rate {RATE:g}, the usual one: too few samples" in done.note


def test_what_makes_no_sense_is_refused_before_anything_is_tried(pair, monkeypatch):
    small, model = pair
    monkeypatch.setattr(rates, "_least", lambda loss: pytest.fail("a rate was tried"))
    for wrong in ({"epochs": 0}, {"temperature": 0}, {"alpha": 2}, {"patience": 0}):
        with pytest.raises(SurgeryError, match=next(iter(wrong))):
            nns.distill(small, model, (X, Y), **wrong)
