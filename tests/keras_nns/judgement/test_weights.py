"""Samples that weigh differently: judged and repaired so, or refused by name."""

import keras
import numpy as np
import pytest
from keras import layers
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    brier_score_loss,
    precision_score,
    recall_score,
    roc_auc_score,
)
from sklearn.preprocessing import StandardScaler

import keras_nns as nns

RANDOM = np.random.default_rng(0)
Y = RANDOM.integers(0, 3, 400)
X = RANDOM.normal(size=(400, 5)).astype("float32")
X[np.arange(400), Y] += 1.5
W = RANDOM.integers(0, 4, 400).astype("float64")
USED = W > 0


@pytest.fixture(scope="module")
def parent():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((5,)),
            layers.Dense(8, activation="relu", name="hidden"),
            layers.Dense(3, activation="softmax", name="answer"),
        ]
    )
    model.compile(keras.optimizers.Adam(0.02), "sparse_categorical_crossentropy")
    model.fit(X, Y, epochs=6, verbose=0)
    return model


@pytest.mark.slow
def test_figures_weigh_samples_as_scikit_learn_does(parent):
    found = nns.evaluate(parent, (X, Y, W), confidence=0.9)
    p, w, y = parent.predict(X, verbose=0)[USED], W[USED], Y[USED]
    said = p.argmax(axis=1)
    assert found.samples == USED.sum()
    assert found.accuracy == pytest.approx(accuracy_score(y, said, sample_weight=w))
    squares = ((p.astype(float) - np.eye(3)[y]) ** 2).sum(axis=1)
    assert found.brier == pytest.approx(np.average(squares, weights=w))
    for row in found.rows:
        own, score = y == row.label, p[:, row.label].astype(float)
        given = said == row.label
        weigh = {"sample_weight": w}
        assert row.recall == pytest.approx(recall_score(own, given, **weigh))
        assert row.specificity == pytest.approx(recall_score(~own, ~given, **weigh))
        assert row.precision == pytest.approx(precision_score(own, given, **weigh))
        assert row.auc == pytest.approx(roc_auc_score(own, score, **weigh))
        assert row.average_precision == pytest.approx(average_precision_score(own, score, **weigh))
        assert row.brier == pytest.approx(brier_score_loss(own, score, **weigh))
        for name, (low, high) in row.intervals.items():
            assert low <= getattr(row, name) <= high or name == "calibration_error"
    again = np.repeat(np.arange(400), W.astype(int))
    repeated = nns.evaluate(parent, X[again], Y[again])
    for one, other in zip(found.rows, repeated.rows, strict=True):
        assert one.calibration_error == pytest.approx(other.calibration_error)


@pytest.fixture(scope="module")
def small(parent):
    activity = nns.observe(parent, (X, Y), verbose=False)
    return nns.cut(
        parent, nns.select(activity, 1, keep=nns.top(4), score="mean_activation"), head="binary"
    )


@pytest.mark.slow
def test_a_repair_weighs_samples_as_often_as_they_are_repeated(parent, small):
    again = np.repeat(np.arange(400), W.astype(int))
    for balance in (False, True):
        steps = nns.steps.least_squares(balance=balance)
        one = nns.repair(small, parent, (X, Y, W), steps=steps, held_out=0)
        other = nns.repair(small, parent, (X[again], Y[again]), steps=steps, held_out=0)
        for a, b in zip(one.model.get_weights(), other.model.get_weights(), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)
        for a, b in zip(one.gains, other.gains, strict=True):
            assert a.after == pytest.approx(b.after, rel=1e-3)


@pytest.mark.slow
def test_a_head_is_fitted_by_weight(parent, small):
    done = nns.repair(
        small, parent, (X, Y, W), steps=nns.steps.calibrate_head(balance=False), held_out=0
    )
    strength = float(done.gains[0].note.split("=")[1].split(",")[0])
    features = np.asarray(done.model.layers[0](X[USED]), dtype="float64")
    scaler = StandardScaler().fit(features, sample_weight=W[USED])
    wanted = LogisticRegression(C=strength, max_iter=1000)
    wanted.fit(scaler.transform(features), Y[USED] == 1, sample_weight=W[USED])
    kernel = wanted.coef_.T / scaler.scale_[:, None]
    np.testing.assert_allclose(done.model.layers[-1].kernel, kernel, rtol=1e-3, atol=1e-4)


def test_samples_of_weight_0_are_no_samples(parent):
    masked = nns.observe(parent, (X, Y, USED.astype("float32")), verbose=False)
    left = nns.observe(parent, (X[USED], Y[USED]), verbose=False)
    np.testing.assert_array_equal(masked.samples, left.samples)
    np.testing.assert_allclose(
        masked.layers["hidden"].total, left.layers["hidden"].total, rtol=1e-6
    )


COUNTING = {
    "observe": lambda model, data: nns.observe(model, data, verbose=False),
    "observe_gradients": lambda model, data: nns.observe_gradients(model, data, verbose=False),
    "forward_selection": nns.scores.forward_selection,
    "reconstruction": lambda model, data: nns.scores.reconstruction(model, data, labels=[1]),
    "modularity": nns.modularity,
    "features": lambda model, data: nns.features(nns.feature_extractor(model), data),
    "extract": lambda model, data: nns.extract(
        model, data, labels=1, budget=nns.Budget(parameters=40)
    ),
}


@pytest.mark.parametrize("verb", COUNTING)
def test_what_counts_every_sample_once_refuses_weights_by_name(parent, verb):
    named = "observe" if verb == "extract" else verb
    with pytest.raises(nns.NNSError, match=rf"{named} counts every sample once.*sample weights"):
        COUNTING[verb](parent, (X, Y, W))


@pytest.mark.parametrize(
    ("weights", "said"),
    [
        (np.where(Y == 0, -1.0, 1.0), "finite and 0 or more"),
        (np.where(Y == 0, np.nan, 1.0), "finite and 0 or more"),
        (W[:-1], "a weight for each sample"),
        (np.array(["heavy"] * 400), "one number for each"),
        (np.ones((400, 2)), "one number for each"),
    ],
)
def test_what_are_no_weights_is_refused(parent, weights, said):
    with pytest.raises(nns.NNSError, match=said):
        nns.evaluate(parent, (X, Y, weights))
