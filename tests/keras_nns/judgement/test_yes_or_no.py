"""A yes/no network is judged, repaired and trained by the labels of ten and by yes and no."""

from __future__ import annotations

import warnings

import keras
import numpy as np
import pytest
from keras import layers

import keras_nns as nns
from keras_nns.errors import DataError, DataWarning

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


VERBS = {
    "evaluate": lambda model, small, data, **more: nns.evaluate(
        small, data, allow_overlap=True, **more
    ),
    "compare": lambda model, small, data, **more: nns.compare(
        model, small, data, allow_overlap=True, **more
    ),
    "repair": lambda model, small, data, **more: nns.repair(small, model, data, **more),
    "distill": lambda model, small, data, **more: nns.distill(small, model, data, **more),
    "fine_tune": lambda model, small, data, **more: nns.fine_tune(small, data, **more),
    "from_scratch": lambda model, small, data, **more: nns.from_scratch(
        small, data, rates=[0.01], **more
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("form", ["arrays", "batches"])
@pytest.mark.parametrize("verb", VERBS)
def test_0_and_1_are_not_taken_for_the_first_two_labels(model, small, verb, form):
    y = (Y == 4).astype(int)
    data = (X, y) if form == "arrays" else [(X[:100], y[:100]), (X[100:], y[100:])]
    said = r"0 for all others, pass (booleans, y == 1, or )?label_names=\['no', 'yes'\]"
    with pytest.raises(DataError, match=said) as caught:
        VERBS[verb](model, small, data)
    assert ("booleans" in str(caught.value)) == (form == "arrays")
    VERBS[verb](model, small, data, label_names=NAMES)


@pytest.fixture(scope="module")
def first(model):
    activity = nns.observe(model, X, Y, verbose=False)
    return nns.cut(
        model, nns.select(activity, 0, keep=nns.top(5), score="mean_activation"), head="binary"
    )


@pytest.mark.slow
@pytest.mark.parametrize("verb", VERBS)
def test_a_network_of_the_label_0_asks_what_0_and_1_mean(model, first, verb):
    some = Y < 2
    data = X[some], Y[some]
    with pytest.warns(DataWarning, match=r"the answer of .* should be yes.*\['no', 'yes'\]"):
        VERBS[verb](model, first, data)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "All labels are 0 or 1")
        VERBS[verb](model, first, data, label_names=list("012345"))
        VERBS[verb](model, first, (X, (Y == 0).astype(int)), label_names=NAMES)
        VERBS[verb](model, first, (X, Y))


def test_what_0_and_1_mean_decides_the_figures(first):
    """A label's own recall: the share of its samples to which the network says at least 0.5."""
    some = Y < 2
    yes = np.asarray(first(X))[:, 0] >= 0.5
    options = {"allow_overlap": True}
    as_parents = nns.evaluate(first, X[some], Y[some], label_names=list("012345"), **options)
    as_yes = nns.evaluate(first, X[some], Y[some], label_names=NAMES, **options)
    assert as_parents.rows[0].recall == yes[Y == 0].mean()
    assert as_yes.rows[0].recall == yes[Y == 1].mean()


def test_booleans_of_a_parent_with_two_labels_are_not_turned_in_silence():
    """The parent's one unit says how likely label 1 is; the network of label 0, how likely 0."""
    parent = keras.Sequential(
        [keras.Input((5,)), layers.Dense(8, "relu", name="h"), layers.Dense(1, "sigmoid")]
    )
    activity = nns.observe(parent, X, Y % 2, verbose=False)
    small = nns.cut(parent, nns.select(activity, 0, keep=nns.top(5)), head="binary")
    options = {"allow_overlap": True}
    with pytest.warns(DataWarning, match="False for '0', which the network answers with yes"):
        found = nns.evaluate(small, X, Y % 2 == 1, **options)
    with warnings.catch_warnings():
        warnings.simplefilter("error", DataWarning)
        same(found, nns.evaluate(small, X, np.where(Y % 2 == 0, 0, 1), **options))


@pytest.mark.slow
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
