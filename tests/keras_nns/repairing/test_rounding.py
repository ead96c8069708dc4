"""Repairs that reckon with int8: the penalty is that of noise, and weights stay in a range."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as L
from scipy.optimize import minimize
from scipy.special import expit

import keras_nns as nns
import tflite_export
from keras_nns.observation.moments import MomentSums, rounding_noise
from keras_nns.observation.ridge import fit_ridge
from keras_nns.repairing.regression import logistic
from keras_nns.shipping.tflite_files import to_variant

RANDOM = np.random.default_rng(0)


def by_hand(squares):
    """Steps of s are noise of s² / 12: of inputs within eight rms, and of weights up to 127."""
    inputs = (8 / 255) ** 2 / 12
    weights = 2 * np.log(len(squares)) / 127**2 / 12
    return np.mean(squares) * (inputs + weights)


def test_the_noise_is_that_of_steps_of_int8():
    squares = RANDOM.uniform(0, 4, 20)
    assert rounding_noise(squares) == pytest.approx(by_hand(squares))
    x = RANDOM.normal(size=(4000, 20)).astype("float32")
    w = RANDOM.normal(size=(20, 50))
    step = 8 * np.sqrt(np.mean(x**2)) / 255
    steps = np.abs(w).max(axis=0) / 127
    given = np.round(x / step) * step @ (np.round(w / steps) * steps)
    error = ((given - x @ w) ** 2).mean()
    assert error == pytest.approx(by_hand((x**2).mean(axis=0)) * (w**2).sum() / 50, rel=0.4)


def system(rows=400, noise=0.0, seed=1):
    random = np.random.default_rng(seed)
    x = random.normal(size=(rows, 6)) * [1, 1, 1, 0.01, 0.003, 1] + 1
    x[:, 5] = x[:, 0] + 0.002 * random.normal(size=rows)
    t = x @ random.normal(size=(6, 3)) + 0.3 * random.normal(size=(rows, 3))
    sums = MomentSums(6, 3)
    part = np.sort(np.arange(rows) % 2).astype(np.int32)
    sums.update(x, t, part, np.ones(rows))
    return x, t, sums, random.normal(size=(6, 3))


@pytest.mark.parametrize("biased", [True, False])
@pytest.mark.parametrize("ridge", [0.0, 1e-3, 0.5])
def test_the_ridge_of_rounding_is_that_of_numpy(ridge, biased):
    x, t, sums, kernel = system()
    v = by_hand((x**2).mean(axis=0))
    a = x - x.mean(axis=0) if biased else x
    b = t - t.mean(axis=0) if biased else t
    own = a.T @ a / len(x)
    noisy = own + v * np.eye(6)
    rest = a.T @ b / len(x) - own @ kernel
    wanted = kernel + np.linalg.solve(noisy + ridge * np.diag(np.diag(noisy)), rest)
    found = fit_ridge(sums, kernel, ridge, biased=biased, rounded=True)
    np.testing.assert_allclose(found.kernel, wanted, rtol=1e-6, atol=1e-8)
    bias = t.mean(axis=0) - x.mean(axis=0) @ wanted if biased else 0
    np.testing.assert_allclose(found.bias, np.broadcast_to(bias, 3), rtol=1e-6, atol=1e-8)
    plain = fit_ridge(sums, kernel, ridge, biased=biased)
    assert plain.rank == found.rank
    assert np.linalg.norm(found.kernel - kernel) <= np.linalg.norm(plain.kernel - kernel)


@pytest.mark.slow
def test_it_is_least_squares_on_inputs_with_noise():
    """Bishop 1995: of many noisy copies of the data plain least squares finds the same change."""
    x, t, sums, kernel = system()
    v = by_hand((x**2).mean(axis=0))
    random = np.random.default_rng(2)
    many = np.concatenate([x + random.normal(size=x.shape) * np.sqrt(v) for _ in range(2000)])
    design = np.c_[many, np.ones(len(many))]
    left = np.tile(t - x @ kernel, (2000, 1))
    wanted = kernel + np.linalg.lstsq(design, left, rcond=None)[0][:-1]
    found = fit_ridge(sums, kernel, 0.0, rounded=True)
    np.testing.assert_allclose(found.kernel, wanted, rtol=0.02, atol=0.02)


def test_what_does_not_vary_keeps_its_weights():
    x, t, _, kernel = system()
    x[:, 2] = 1.5
    sums = MomentSums(6, 3)
    sums.update(x, t, np.sort(np.arange(len(x)) % 2).astype(np.int32), np.ones(len(x)))
    found = fit_ridge(sums, kernel, None, rounded=True)
    np.testing.assert_array_equal(found.kernel[2], kernel[2])
    assert found.rank == 5 and found.singular


@pytest.mark.slow
@pytest.mark.parametrize("balance", [False, True])
def test_the_regression_is_that_of_scipy_with_the_same_penalty(balance):
    x = RANDOM.normal(size=(300, 4)) * [1, 2, 0.01, 0.002] + 0.5
    truth = (x - 0.5) @ [1, -0.5, 30, 100] + RANDOM.normal(size=300) > 0.4
    found = logistic(x, truth, balance, rounded=True)
    each = np.ones(300)
    if balance:
        each = np.where(truth, 150 / truth.sum(), 150 / (~truth).sum())
    mean = x.mean(axis=0)
    variance = x.var(axis=0)
    v = by_hand((x**2).mean(axis=0))

    def fitted(doubt):
        """The least log loss with scikit-learn's ridge and that of the noise."""

        def loss(both):
            w, b = both[:-1], both[-1]
            z = (x - mean) @ w + b
            p = expit(z)
            cost = each @ np.where(truth, np.logaddexp(0, -z), np.logaddexp(0, z))
            ridge = variance / found.strength + v * doubt
            slope = each * (p - truth)
            gradient = np.append((x - mean).T @ slope + ridge * w, slope.sum())
            return cost + (ridge * w**2).sum() / 2, gradient

        best = minimize(loss, np.zeros(5), jac=True, method="BFGS", options={"gtol": 1e-7})
        return best, loss, expit((x - mean) @ best.x[:-1] + best.x[-1])

    share = each[truth].sum() / each.sum()
    _, _, p = fitted(each.sum() * share * (1 - share))
    best, loss, _ = fitted(each @ (p * (1 - p)))
    kernel = found.kernel[:, 0]
    worth, _ = loss(np.append(kernel, found.bias[0] + mean @ kernel))
    assert worth == pytest.approx(best.fun, rel=1e-4)
    # The penalty is what tells it from plain regression, whose answer is worse by this measure.
    plain = logistic(x, truth, balance).kernel[:, 0]
    assert np.abs(kernel).max() < np.abs(plain).max() / 2


@pytest.fixture(scope="module")
def flat_feature():
    """A network that is asked for what a hidden unit of next to no spread says."""
    keras.utils.set_random_seed(0)
    x = RANDOM.normal(size=(1200, 6)).astype("float32")
    model = keras.Sequential(
        [keras.Input((6,)), L.Dense(6, name="hidden"), L.Dense(2, activation="softmax", name="a")]
    )
    kernel = np.diag([1, 1, 1, 1, 1, 4e-4])
    model.layers[0].set_weights([kernel, np.ones(6)])
    y = (x[:, 0] + 0.7 * x[:, 5] > 0).astype(int)
    plan = nns.select(nns.observe(model, (x, y), verbose=False), "all", keep=nns.top(6))
    return model, nns.cut(model, plan), x, y


@pytest.mark.slow
def test_a_refitted_head_survives_int8(flat_feature):
    model, small, x, y = flat_feature
    apart, largest = {}, {}
    for rounding in (None, "int8"):
        step = nns.steps.calibrate_head(rounding=rounding)
        fixed = nns.repair(small, model, (x, y), steps=step, held_out=0).model
        flat = to_variant(fixed, "int8", (x, y, ("0", "1")))
        loose = tflite_export.Tolerance()
        apart[rounding] = tflite_export.verify(flat, fixed, x, tolerance=loose).rms
        largest[rounding] = np.abs(fixed.layers[-1].get_weights()[0]).max()
    tolerance = tflite_export.VARIANTS["int8"].tolerance.rms
    assert apart["int8"] <= tolerance < apart[None]
    assert largest["int8"] < largest[None] / 10


def test_words_and_wrong_use():
    assert nns.steps.calibrate_head(rounding=None).name == "calibrate_head(rounding=None)"
    assert nns.steps.least_squares(rounding=None).name == "least_squares(rounding=None)"
    for step in (nns.steps.calibrate_head, nns.steps.least_squares):
        with pytest.raises(nns.errors.SurgeryError, match="'int8' or None"):
            step(rounding="int4")
