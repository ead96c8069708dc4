"""The temperature is the one that scipy finds on the logits, and changes no decision."""

import keras
import numpy as np
import pytest
from keras import layers
from scipy.optimize import minimize_scalar
from scipy.special import expit, softmax

import keras_nns as nns
from keras_nns.plans.kept_units import Plan

NAMES = ("cat", "dog", "eel", "fox")
LABELS = {"labels": (1, 3), "parent": (0, 1, 2, 3), "other": (1, 3), "binary": (2,)}


@pytest.fixture(scope="module")
def data():
    random = np.random.default_rng(5)
    y = random.permutation(np.arange(900) % 4)
    x = random.normal(size=(900, 6)).astype("float32")
    x[np.arange(900), y] += 1.5
    return x, y


def parent_of(activation):
    """Build one that is about right, and far too sure."""
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(8, name="hidden"),
            layers.Dense(4, activation=activation, name="answer"),
        ]
    )
    hidden = np.zeros((6, 8))
    hidden[:4, :4], hidden[:4, 4:] = np.eye(4), np.eye(4)
    model.set_weights([hidden, np.zeros(8), 4 * np.tile(np.eye(4), (2, 1)), np.full(4, -6.0)])
    return model


def cut(model, head):
    plan = Plan(nns.fingerprint(model), {"hidden": 8}, {"hidden": range(6)}, LABELS[head], NAMES)
    return nns.cut(model, plan, head=head)


def mean_log_loss(truth, probabilities, weight=None):
    chosen = probabilities[np.arange(len(truth)), truth]
    return np.average(-np.log(chosen.clip(1e-7, 1)), weights=weight)


def tempered(small, parent, x, y, **options):
    step = nns.steps.calibrate_temperature(**options)
    return nns.repair(small, parent, x, y, steps=step, held_out=0)


def shares(head, logits, y):
    """Return probabilities at a temperature, and the number of the right answer, done by hand."""
    own = list(LABELS[head])
    if head in ("labels", "parent"):
        asked = np.isin(y, own)
        truth = np.searchsorted(own, y[asked])
        return lambda t: softmax(logits[asked] / t, axis=1), truth
    rest = np.setdiff1d(np.arange(4), own)

    def probabilities(t):
        every = softmax(logits / t, axis=1)
        other = every[:, rest].sum(axis=1, keepdims=True)
        return np.hstack([other, every[:, own]]) if head == "binary" else np.hstack(
            [every[:, own], other]
        )  # fmt: skip

    where = {label: i + (head == "binary") for i, label in enumerate(own)}
    none = 0 if head == "binary" else len(own)
    return probabilities, np.array([where.get(label, none) for label in y])


@pytest.mark.slow
@pytest.mark.parametrize("balance", [False, True])
@pytest.mark.parametrize("head", LABELS)
def test_the_temperature_minimises_the_log_loss(head, balance, data):
    x, y = data
    parent = parent_of("softmax")
    small = cut(parent, head)
    fixed = tempered(small, parent, x, y, balance=balance)
    old, new = (next(w for w in m.layers if w.name == "answer") for m in (small, fixed.model))
    ratio = np.asarray(old.kernel) / np.where(np.asarray(new.kernel), np.asarray(new.kernel), 1)
    found = float(ratio.max())
    hidden = x @ np.asarray(small.layers[0].kernel) + np.asarray(small.layers[0].bias)
    logits = hidden @ np.asarray(old.kernel) + np.asarray(old.bias)
    probabilities, truth = shares(head, logits.astype("float64"), y)
    count = np.bincount(truth)
    weight = 1 / count[truth] if balance else None

    def loss(t):
        return mean_log_loss(truth, probabilities(t), weight)

    best = minimize_scalar(lambda log: loss(np.exp(log)), bounds=(-4, 4), method="bounded")
    assert found == pytest.approx(np.exp(best.x), rel=0.01) and found > 1.2
    (gain,) = (g for g in fixed.gains if g.measure == "log loss")
    assert (gain.before, gain.after) == pytest.approx((loss(1), loss(found)), rel=1e-3)
    assert f"temperature {found:.3g}" in gain.note


@pytest.mark.slow
def test_no_decision_changes_and_what_was_too_sure_is_calibrated(data):
    x, y = data
    parent = parent_of("softmax")
    small = cut(parent, "parent")
    fixed = nns.repair(
        small, parent, x[:600], y[:600], steps=nns.steps.calibrate_temperature()
    ).model
    before, after = (nns.evaluate(m, x[600:], y[600:]) for m in (small, fixed))
    assert (before.confusion == after.confusion).all()
    assert after.calibration_error < before.calibration_error / 2
    again = tempered(fixed, parent, x[:600], y[:600])
    (gain,) = (g for g in again.gains if g.measure == "log loss")
    assert gain.after == pytest.approx(gain.before, rel=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["sigmoid", None])
def test_answers_that_stand_alone_and_logits(kind, data):
    x, y = data
    parent = parent_of(kind)
    small = cut(parent, "parent")
    fixed = tempered(small, parent, x, y).model
    ratio = float(np.asarray(small.layers[-1].kernel).max() / fixed.layers[-1].kernel.numpy().max())
    hidden = x @ np.asarray(small.layers[0].kernel)
    logits = hidden @ np.asarray(small.layers[-1].kernel) + np.asarray(small.layers[-1].bias)
    right = np.eye(4, dtype=bool)[y]

    def loss(log):
        z = logits.astype("float64") / np.exp(log)
        if kind is None:
            return mean_log_loss(y, softmax(z, axis=1))
        return -np.log(np.where(right, expit(z), 1 - expit(z)).clip(1e-7, 1)).sum()

    best = minimize_scalar(loss, bounds=(-4, 4), method="bounded")
    assert ratio == pytest.approx(np.exp(best.x), rel=0.01)


@pytest.mark.slow
def test_behind_a_calibrated_head_and_not_before_what_changes_features(data):
    x, y = data
    parent = parent_of("softmax")
    small = cut(parent, "binary")
    steps = (
        nns.steps.least_squares(),
        nns.steps.calibrate_head(),
        nns.steps.calibrate_temperature(),
    )
    fixed = nns.repair(small, parent, x, y, steps=steps)
    assert fixed.model.output_shape == (None, 1)
    assert [g.step for g in fixed.gains if g.measure == "log loss"] == ["calibrate_temperature()"]
    with pytest.raises(nns.errors.SurgeryError, match="Put it last"):
        nns.repair(small, parent, x, y, steps=steps[::-1])
    with pytest.raises(nns.errors.DataError, match="needs labels"):
        nns.repair(small, parent, x, steps=steps[-1])
    few = np.r_[np.flatnonzero(y == 2)[:4], np.flatnonzero(y != 2)[:80]]
    with pytest.raises(nns.errors.DataError, match="at least 10 samples"):
        nns.repair(small, parent, x[few], y[few], steps=steps[-1], held_out=0)


def test_balance_of_least_squares_needs_samples_of_the_label(data):
    x, y = data
    parent = parent_of("softmax")
    few = np.r_[np.flatnonzero(y == 2)[:1], np.flatnonzero(y != 2)[:80]]
    with pytest.raises(
        nns.errors.DataError, match=r"at least 2 samples of the plan's labels.* 0 in one"
    ):
        nns.repair(
            cut(parent, "binary"),
            parent,
            x[few],
            y[few],
            steps=nns.steps.least_squares(balance=True),
        )
