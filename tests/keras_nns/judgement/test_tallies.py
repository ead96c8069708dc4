"""Figures of labels at positions and of numbers, by Keras's metrics and scikit-learn."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers
from sklearn.metrics import (
    confusion_matrix,
    jaccard_score,
    mean_absolute_error,
    precision_score,
    r2_score,
    recall_score,
)

import keras_nns as nns
from keras_nns.errors import DataError, SelectionError

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(40, 5, 4, 2)).astype("float32")
NOISY = X[..., :1] + RANDOM.normal(size=(40, 5, 4, 1))
Y = np.digitize(NOISY[..., 0], [-0.7, 0.7])


def segmenter(labels=3, activation="softmax", **options):
    inputs = keras.Input((5, 4, 2))
    hidden = layers.Conv2D(6, 1, activation="relu", name="hidden")(inputs)
    outputs = layers.Conv2D(labels, 1, activation=activation, name="answer")(hidden)
    model = keras.Model(inputs, outputs, name="segmenter")
    random = np.random.default_rng(3)
    model.set_weights([random.normal(size=w.shape) for w in model.get_weights()])
    if options:
        model.compile("sgd", **options)
    return model


def given_by(model):
    return np.asarray(model(X)).argmax(axis=-1).ravel()


@pytest.mark.parametrize("form", ["numbers", "column", "one-hot"])
def test_figures_of_every_label_are_those_of_scikit_learn(form):
    model = segmenter()
    y = {"numbers": Y, "column": Y[..., None], "one-hot": np.eye(3)[Y]}[form]
    found = nns.evaluate(model, X, y, batch_size=16)
    truth, given = Y.ravel(), given_by(model)
    assert (found.kind, found.samples, found.positions) == ("positions", 40, 800)
    assert found.accuracy == pytest.approx((truth == given).mean())
    np.testing.assert_array_equal(found.confusion, confusion_matrix(truth, given))
    np.testing.assert_allclose(
        [r.iou for r in found.rows], jaccard_score(truth, given, average=None)
    )
    recalls = recall_score(truth, given, average=None)
    np.testing.assert_allclose([r.recall for r in found.rows], recalls)
    precisions = precision_score(truth, given, average=None)
    np.testing.assert_allclose([r.precision for r in found.rows], precisions)
    for label, row in enumerate(found.rows):
        away = (given != label)[truth != label].mean()
        assert row.specificity == pytest.approx(away)
        assert row.samples == (truth == label).sum()
    metric = keras.metrics.MeanIoU(num_classes=3)
    metric.update_state(truth, given)
    assert found.mean_iou == pytest.approx(float(metric.result()), abs=1e-6)
    assert "IoU" in str(found)
    assert "over 800 positions of 40 samples" in str(found)


def test_positions_that_the_loss_leaves_out_count_nowhere():
    void = RANDOM.random(Y.shape) < 0.3
    loss = keras.losses.SparseCategoricalCrossentropy(ignore_class=9)
    model = segmenter(loss=loss)
    found = nns.evaluate(model, X, np.where(void, 9, Y))
    truth, given = Y.ravel()[~void.ravel()], given_by(model)[~void.ravel()]
    assert found.positions == (~void).sum()
    np.testing.assert_allclose(
        [r.iou for r in found.rows], jaccard_score(truth, given, average=None)
    )


def test_weights_of_samples_weigh_their_positions():
    model = segmenter()
    weights = RANDOM.integers(1, 4, 40)
    found = nns.evaluate(model, (X, Y, weights.astype(float)))
    each = np.repeat(weights, 20)
    expected = jaccard_score(Y.ravel(), given_by(model), average=None, sample_weight=each)
    np.testing.assert_allclose([row.iou for row in found.rows], expected)


def test_one_yes_or_no_at_every_position():
    model = segmenter(1, "sigmoid")
    y = (NOISY[..., 0] > 0).astype(int)
    found = nns.evaluate(model, X, y)
    given = np.asarray(model(X)).ravel() >= 0.5
    assert found["1"].iou == pytest.approx(jaccard_score(y.ravel(), given))
    logits = segmenter(1, None)
    with pytest.raises(DataError, match=r"Pass threshold=0\.0"):
        nns.evaluate(logits, X, y)
    found = nns.evaluate(logits, X, y, threshold=0.0)
    assert found["1"].iou == pytest.approx(jaccard_score(y.ravel(), given))


def test_several_labels_at_a_position():
    model = segmenter(3, "sigmoid")
    y = np.stack([NOISY[..., 0] > edge for edge in (-1, 0, 1)], axis=-1)
    found = nns.evaluate(model, X, y)
    given = np.asarray(model(X)).reshape(-1, 3) >= 0.5
    expected = jaccard_score(y.reshape(-1, 3), given, average=None)
    np.testing.assert_allclose([row.iou for row in found.rows], expected)
    assert found.multi_label
    assert found.accuracy == pytest.approx((y.reshape(-1, 3) == given).all(axis=1).mean())
    with pytest.raises(DataError, match="argmax"):
        nns.evaluate(segmenter(), X, y)


def test_intervals_draw_whole_samples():
    model = segmenter()
    found = nns.evaluate(model, X, Y, confidence=0.9)
    low, high = found.rows[0].intervals["iou"]
    assert low < found.rows[0].iou < high
    # Samples repeated ten times over are ten times as many to draw from.
    many = nns.evaluate(model, np.repeat(X, 10, axis=0), np.repeat(Y, 10, axis=0), confidence=0.9)
    narrow = np.subtract(*many.rows[0].intervals["iou"][::-1])
    assert narrow == pytest.approx((high - low) / np.sqrt(10), rel=0.3)


@pytest.mark.parametrize("head", ["labels", "other", "binary"])
def test_subnetworks_answer_at_positions(head):
    model = segmenter()
    activity = nns.observe(model, X, Y, verbose=False)
    labels = [1] if head == "binary" else [0, 2]
    plan = nns.select(activity, labels=labels, keep=nns.fraction(1.0), score="mean_activation")
    small = nns.cut(model, plan, head=head)
    found = nns.compare(model, small, X, Y, allow_overlap=True)
    # The whole parent asked the same differs by rounding alone.
    assert found.drop == pytest.approx(0, abs=1e-3)
    truth, p = Y.ravel(), np.asarray(model(X)).reshape(-1, 3)
    if head == "labels":
        own = truth != 1
        given = np.where(p[:, 0] >= p[:, 2], 0, 2)[own]
        expected = jaccard_score(truth[own], given, average=None)
        assert found.after.left_out == (truth == 1).sum()
    elif head == "other":
        given = np.where(p[:, 1] >= np.maximum(p[:, 0], p[:, 2]), 1, p[:, [0, 2]].argmax(1) * 2)
        expected = jaccard_score(truth, given, average=None)[[0, 2]]
    else:
        expected = [jaccard_score(truth == 1, p[:, 1] >= 0.5)]
    np.testing.assert_allclose([r.iou for r in found.after.rows], expected, atol=0.01)
    with pytest.raises(SelectionError, match="Leave it out"):
        nns.compare(model, small, X, Y, calibrate=(X, Y), allow_overlap=True)


def regressor(outputs=1, activation=None):
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(6, "relu", name="hidden"),
            layers.Dense(outputs, activation),
        ]
    )
    random = np.random.default_rng(3)
    model.set_weights([random.normal(size=w.shape) for w in model.get_weights()])
    return model


@pytest.mark.parametrize("outputs", [1, 3])
@pytest.mark.parametrize("weighted", [False, True])
def test_errors_of_numbers_are_those_of_scikit_learn(outputs, weighted):
    model = regressor(outputs)
    x = RANDOM.normal(size=(50, 4)).astype("float32")
    given = np.asarray(model(x))
    y = given + RANDOM.normal(size=given.shape) * [0.3, 1, 3][:outputs]
    w = RANDOM.random(50) + 0.1 if weighted else None
    data = (x, y, w) if weighted else (x, y)
    found = nns.evaluate(model, data, batch_size=20, confidence=0.9)
    expected = y.astype("float32")
    whole = found.errors[0]
    assert whole.mae == pytest.approx(mean_absolute_error(expected, given, sample_weight=w), 1e-5)
    squared = np.average(((expected - given) ** 2).mean(axis=1), weights=w)
    assert whole.rmse == pytest.approx(np.sqrt(squared), 1e-5)
    r2 = r2_score(expected, given, sample_weight=w, multioutput="variance_weighted")
    assert whole.r2 == pytest.approx(r2, abs=1e-5)
    assert found.worth == whole.r2
    if outputs == 3:
        each = r2_score(expected, given, sample_weight=w, multioutput="raw_values")
        np.testing.assert_allclose([row.r2 for row in found.errors[1:]], each, atol=1e-5)
    low, high = whole.intervals["mae"]
    assert low < whole.mae < high
    assert "mean absolute error" in found.caption
    assert found.to_json()["errors"][0]["mae"] == whole.mae


def test_targets_that_do_not_vary_have_no_r2():
    found = nns.evaluate(regressor(), np.ones((9, 4), "float32"), np.full(9, 0.1))
    assert np.isnan(found.errors[0].r2)
    assert found.to_json()["errors"][0]["r2"] is None


def test_pictures_are_held_against_pictures():
    model = segmenter(1, "sigmoid")
    y = 1 / (1 + np.exp(-NOISY))
    found = nns.evaluate(model, X, y)
    expected = np.abs(np.asarray(model(X)) - y).mean()
    assert found.errors[0].mae == pytest.approx(expected, rel=1e-5)


def test_a_subnetwork_for_labels_that_nothing_answers_is_held_against_its_parent():
    model = segmenter(1, "sigmoid")
    kinds = np.arange(40) % 2
    activity = nns.observe(model, X, kinds, verbose=False)
    small = nns.cut(
        model,
        nns.select(activity, labels=1, keep=nns.top(3), score="mean_activation"),
        head="parent",
    )
    found = nns.compare(model, small, X, kinds, allow_overlap=True)
    expected = np.abs(np.asarray(model(X)) - np.asarray(small(X))).mean()
    assert found.after.errors[0].mae == pytest.approx(expected, rel=1e-4)
    assert found.before.errors[0].mae == 0
    assert "held against the parent's answers" in str(found)
