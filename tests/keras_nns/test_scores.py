"""Scores: one contract for all of them, and each by hand."""

from __future__ import annotations

from functools import partial

import keras
import numpy as np
import pytest
from keras import layers as L

import keras_nns as nns
from keras_nns.scores import name_of

SCORES = {
    "mean_activation": lambda case: nns.mean_activation,
    "firing_frequency": lambda case: nns.firing_frequency,
    "contrast": lambda case: nns.contrast,
    "signed contrast": lambda case: partial(nns.contrast, signed=True),
    "magnitude": lambda case: nns.magnitude(case.model),
    "L1 magnitude": lambda case: nns.magnitude(case.model, norm=1),
}


@pytest.fixture(scope="module")
def once():
    return {}


@pytest.fixture
def observed(case, once):
    """Observe every case once for all scores."""
    if id(case) not in once:
        once[id(case)] = nns.observe(case.model, case.x, case.y)
    return once[id(case)]


@pytest.mark.parametrize("name", SCORES)
@pytest.mark.parametrize("join", ["max", "mean", "sum"])
def test_contract(case, observed, name, join):
    """Every score: an array for every prunable group, finite for every label that was seen."""
    if "magnitude" in name:
        score = nns.magnitude(case.model, norm=1 if "L1" in name else 2, join=join)
    else:
        score = partial(SCORES[name](case), join=join)
    scores = score(observed)
    assert list(scores) == [g.name for g in observed.layout.prunable]
    for group, values in scores.items():
        assert values.shape == (4, observed.layout[group].size)
        assert values.dtype == np.float64
        assert np.isfinite(values[observed.samples > 0]).all()
        if "magnitude" not in name:
            assert np.isnan(values[observed.samples == 0]).all()
        if name != "signed contrast":
            assert (values[observed.samples > 0] >= 0).all()
    plan = nns.select(observed, [0, 1, 2], score=score)
    assert plan.choices[0].score == name_of(score)


def test_activity_scores_by_hand(plain):
    observed = nns.observe(plain.model, plain.x, plain.y)
    for layer, (signed, absolute) in plain.values().items():
        for label in range(3):
            own = plain.y == label
            close = {"rtol": 1e-5, "atol": 1e-6}
            np.testing.assert_allclose(
                nns.mean_activation(observed)[layer][label], absolute[own].mean(axis=0), **close
            )
            np.testing.assert_allclose(
                nns.firing_frequency(observed)[layer][label],
                (absolute[own] > 0).mean(axis=0),
                **close,
            )
            gap = signed[own].mean(axis=0) - signed[~own].mean(axis=0)
            np.testing.assert_allclose(
                nns.contrast(observed, signed=True)[layer][label], gap, **close
            )
            np.testing.assert_allclose(nns.contrast(observed)[layer][label], np.abs(gap), **close)


@pytest.mark.parametrize("norm", [1, 2, 3])
def test_magnitude_by_hand(cases, norm):
    """A unit's weights are those that compute it: its column of the kernel, without the bias."""
    for name, layers in [("dense", ["relu", "tanh", "linear"]), ("Conv2D", ["conv"])]:
        case = cases(name)
        observed = nns.observe(case.model, case.x, case.y)
        scores = nns.magnitude(case.model, norm=norm)(observed)
        for layer in layers:
            kernel = case.model.get_layer(layer).get_weights()[0].astype(np.float64)
            columns = kernel.reshape(-1, kernel.shape[-1])
            expected = np.linalg.norm(columns, ord=norm, axis=0)
            for label in range(4):
                np.testing.assert_allclose(scores[layer][label], expected, rtol=1e-6)


def test_layers_that_share_units_are_joined_relative_to_their_own_highest(cases):
    case = cases("residual")
    observed = nns.observe(case.model, case.x, case.y)
    (group,) = [g for g in observed.layout.prunable if len(g.members) > 1]
    parts = []
    for member in group.members:
        assert member.units == tuple(range(4))
        part = observed.magnitude(member.layer)
        parts.append(part / part.max(axis=1, keepdims=True))
    for join, how in (("max", np.max), ("mean", np.mean), ("sum", np.sum)):
        found = nns.mean_activation(observed, join=join)[group.name]
        np.testing.assert_allclose(found, how(parts, axis=0), rtol=1e-12)
    with pytest.raises(nns.SelectionError, match="join='median'"):
        nns.mean_activation(observed, join="median")


def test_a_layer_that_is_silent_does_not_divide_by_zero():
    inputs = keras.Input((3,))
    a = L.Dense(2, activation="relu", name="a", kernel_initializer="zeros")(inputs)
    b = L.Dense(2, activation="relu", name="b")(inputs)
    model = keras.Model(inputs, L.Dense(2, name="answer")(L.Add()([a, b])))
    observed = nns.observe(model, np.ones((4, 3)), [0, 1, 0, 1])
    assert np.isfinite(nns.mean_activation(observed)["a"]).all()


def test_contrast_needs_two_labels(plain):
    one = plain.y == 1
    observed = nns.observe(plain.model, plain.x[one], plain.y[one])
    with pytest.raises(nns.SelectionError, match="at least two"):
        nns.contrast(observed)


def test_what_was_not_watched_is_not_scored(plain):
    fired = nns.observe(plain.model, plain.x, plain.y, statistics=["fired"])
    for score in (nns.mean_activation, nns.contrast):
        with pytest.raises(nns.SelectionError, match="mean was not watched"):
            score(fired)
    spread = nns.observe(plain.model, plain.x, plain.y, statistics=["variance"])
    for score in (nns.mean_activation, nns.contrast):
        with pytest.raises(nns.SelectionError, match="mean was not watched"):
            score(spread)
    mean = nns.observe(plain.model, plain.x, plain.y, statistics=["mean"])
    with pytest.raises(nns.SelectionError, match="fired was not watched"):
        nns.firing_frequency(mean)


def test_magnitude_is_of_the_model_that_was_observed(plain, cases):
    observed = nns.observe(plain.model, plain.x, plain.y)
    with pytest.raises(nns.SelectionError, match="another model"):
        nns.magnitude(cases("Conv2D").model)(observed)
    for norm in (0, -1, float("nan"), float("inf")):
        with pytest.raises(nns.SelectionError, match="norm="):
            nns.magnitude(plain.model, norm=norm)


def test_names_say_what_was_asked_for(plain):
    assert name_of(nns.mean_activation) == "mean_activation"
    assert name_of(partial(nns.contrast, join="sum")) == "contrast(join='sum')"
    assert name_of(nns.magnitude(plain.model, norm=1)) == "magnitude(norm=1)"

    class Mine:
        def __call__(self, activity):
            return {}

    assert name_of(Mine()) == "Mine"
