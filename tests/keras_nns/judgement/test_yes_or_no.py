"""A yes/no network is judged, repaired and trained by the labels of ten and by yes and no."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import keras_nns as nns
from keras_nns.errors import DataError

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(200, 5)).astype("float32")
Y = RANDOM.integers(0, 6, 200)
NAMES = ["no", "yes"]


@pytest.fixture(scope="module")
def model():
    made = keras.Sequential(
        [keras.Input((5,)), layers.Dense(8, "relu", name="h"), layers.Dense(6, "softmax")]
    )
    random = np.random.default_rng(1)
    made.set_weights([random.normal(size=w.shape) for w in made.get_weights()])
    return made


@pytest.fixture(scope="module")
def small(model):
    activity = nns.observe(model, X, Y, verbose=False)
    return nns.cut(
        model, nns.select(activity, 4, keep=nns.top(5), score="mean_activation"), head="binary"
    )


def same(one, other):
    assert one.rows[0].to_json() == other.rows[0].to_json()
    assert (one.accuracy, one.samples) == (other.accuracy, other.samples)


@pytest.mark.parametrize("form", ["booleans", "names"])
def test_the_figures_are_those_of_the_parents_labels(model, small, form):
    y = Y == 4 if form == "booleans" else (Y == 4).astype(int)
    options = {"allow_overlap": True} | ({} if form == "booleans" else {"label_names": NAMES})
    same(nns.evaluate(small, X, y, **options), nns.evaluate(small, X, Y, allow_overlap=True))
    found = nns.compare(model, small, X, y, **options)
    expected = nns.compare(model, small, X, Y, allow_overlap=True)
    same(found.after, expected.after)
    same(found.before, expected.before)


def test_0_and_1_are_not_taken_for_the_first_two_labels(small):
    with pytest.raises(DataError, match=r"pass booleans, y == 1, or label_names"):
        nns.evaluate(small, X, (Y == 4).astype(int), allow_overlap=True)


def test_it_is_repaired_and_trained_by_yes_and_no(model, small):
    with_labels = nns.repair(small, model, (X, Y))
    with_truths = nns.repair(small, model, (X, Y == 4))
    for one, other in zip(
        with_labels.model.get_weights(), with_truths.model.get_weights(), strict=True
    ):
        np.testing.assert_allclose(one, other, atol=1e-6)
    measures = [gain.measure for gain in nns.fine_tune(small, (X, Y == 4)).gains]
    assert measures == ["loss", "balanced acc."]
    measures = [gain.measure for gain in nns.distill(small, model, (X, Y == 4)).gains]
    assert measures == ["loss", "distance", "balanced acc."]
