"""Trainings by labels at positions and by numbers: what is minimised is what numpy says."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers
from scipy.special import expit, log_softmax, softmax

import keras_nns as nns
from keras_nns.errors import DataError
from keras_nns.observation.holdout import Division

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(64, 4, 3, 2)).astype("float32")
NOISY = X[..., :1] + 0.3 * RANDOM.normal(size=(64, 4, 3, 1))
Y = np.digitize(NOISY[..., 0], [-0.7, 0.7])
PICTURES = expit(2 * NOISY).astype("float32")
KINDS = np.arange(64) % 4


def network(outputs=3, activation="softmax", loss=None):
    inputs = keras.Input((4, 3, 2))
    hidden = layers.Conv2D(6, 1, activation="relu", name="hidden")(inputs)
    answer = layers.Conv2D(outputs, 1, activation=activation, name="answer")(hidden)
    model = keras.Model(inputs, answer, name="net")
    random = np.random.default_rng(3)
    model.set_weights([random.normal(size=w.shape) for w in model.get_weights()])
    if loss is not None:
        model.compile(keras.optimizers.SGD(0.1), loss)
    return model


def small_of(model, y=Y, head="parent", labels="all", keep=4):
    activity = nns.observe(model, X, y, verbose=False)
    score = nns.scores.mean_activation
    return nns.cut(model, nns.select(activity, labels, keep=nns.top(keep), score=score), head=head)


def held_out(y, model, seed=0):
    division = Division(
        X, y, model=model, held_out=0.3, seed=seed, batch_size=256, label_names=None
    )
    (batch,) = division.held_out()
    return batch


def logits(p):
    return np.log(np.asarray(p, np.float64))


def divergence(theirs, ours, temperature=2.0):
    p, q = theirs / temperature, ours / temperature
    rows = (softmax(p, -1) * (log_softmax(p, -1) - log_softmax(q, -1))).sum(-1)
    return temperature**2 * rows.mean()


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [0.25])
def test_distillation_at_positions_minimises_what_it_says(alpha):
    model = network()
    small = small_of(model)
    done = nns.distill(small, model, (X, Y), alpha=alpha, held_out=0.3, epochs=2)
    batch = held_out(Y, model)
    theirs, truth = logits(model(batch.inputs)), batch.targets[..., None]
    for network_, gain in ((small, done.gains[0].before), (done.model, done.gains[0].after)):
        ours = logits(network_(batch.inputs))
        crossed = -np.take_along_axis(log_softmax(ours, -1), truth, -1).mean()
        expected = alpha * divergence(theirs, ours) + (1 - alpha) * crossed
        assert gain == pytest.approx(expected, rel=1e-3)
    assert done.gains[0].after < done.gains[0].before
    assert [gain.measure for gain in done.gains] == ["loss", "distance", "IoU"]
    judged = nns.evaluate(done.model, batch.inputs, batch.targets, allow_overlap=True)
    assert done.gains[2].after == pytest.approx(judged.mean_iou)


@pytest.mark.slow
def test_a_subnetwork_of_some_labels_is_distilled_at_their_positions():
    model = network()
    small = small_of(model, head="labels", labels=[0, 2])
    done = nns.distill(small, model, (X, Y), alpha=0.0, held_out=0.3)
    batch = held_out(Y, model)
    own = batch.targets != 1
    rows = log_softmax(logits(small(batch.inputs)), -1)[own]
    expected = -rows[np.arange(own.sum()), batch.targets[own] // 2]
    assert done.gains[0].before == pytest.approx(expected.mean(), rel=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["distill", "fine_tune"])
def test_numbers_are_learnt_by_their_squared_error(verb):
    model = network(1, "sigmoid", "mse")
    small = small_of(model, PICTURES)
    given = (model, (X, PICTURES)) if verb == "distill" else ((X, PICTURES),)
    options = {"alpha": 0.25} if verb == "distill" else {}
    done = getattr(nns, verb)(small, *given, held_out=0.3, epochs=2, **options)
    batch = held_out(PICTURES, model)
    ours = np.asarray(small(batch.inputs))
    expected = ((ours - batch.targets) ** 2).mean()
    if verb == "distill":
        apart = ((ours - np.asarray(model(batch.inputs))) ** 2).mean()
        expected = 0.25 * apart + 0.75 * expected
    assert done.gains[0].before == pytest.approx(expected, rel=1e-4)
    assert done.gains[0].after < done.gains[0].before
    assert done.gains[-1].measure == "R²"


LOSSES = {
    "sparse": ("sparse_categorical_crossentropy", 3, "softmax"),
    "categorical": ("categorical_crossentropy", 3, "softmax"),
    "none": (None, 3, "softmax"),
    "binary": ("binary_crossentropy", 1, "sigmoid"),
    "several": ("binary_crossentropy", 3, "sigmoid"),
}


@pytest.mark.slow
@pytest.mark.parametrize("case", LOSSES)
def test_fine_tuning_at_positions_has_the_loss_that_keras_has(case):
    loss, outputs, activation = LOSSES[case]
    model = network(outputs, activation, loss)
    y = {1: (Y > 0).astype(int), 3: Y}[outputs]
    if case == "several":
        y = np.stack([NOISY[..., 0] > edge for edge in (-1, 0, 1)], axis=-1)
    done = nns.fine_tune(model, (X, y), held_out=0.3, epochs=2)
    batch = held_out(y, model)
    targets = np.eye(3)[batch.targets] if case == "categorical" else batch.targets
    if case == "binary":
        targets = targets[..., None]
    model.compile("sgd", loss or "sparse_categorical_crossentropy")
    before = model.evaluate(batch.inputs, targets.astype("float32"), verbose=0)
    assert done.gains[0].before == pytest.approx(before, rel=1e-4)
    assert done.gains[0].after < before


@pytest.mark.slow
def test_positions_without_an_answer_are_left_out_where_the_loss_can():
    model = network(loss="sparse_categorical_crossentropy")
    small = small_of(model, head="labels", labels=[0, 2])
    with pytest.raises(DataError, match=r"ignore_class=-1"):
        nns.fine_tune(small, (X, Y))
    loss = keras.losses.SparseCategoricalCrossentropy(ignore_class=-1)
    done = nns.fine_tune(small, (X, Y), loss=loss, held_out=0.3)
    assert done.gains[0].after < done.gains[0].before


@pytest.mark.slow
def test_labels_that_the_parent_does_not_answer_are_no_targets():
    model = network(1, "sigmoid")
    small = small_of(model, KINDS, labels=[1])
    with_them = nns.distill(small, model, (X, KINDS), epochs=1)
    without = nns.distill(small, model, X, epochs=1)
    for one, other in zip(with_them.model.get_weights(), without.model.get_weights(), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    assert [gain.measure for gain in with_them.gains] == ["loss", "distance"]
    fixed = nns.repair(small, model, (X, KINDS))
    assert {gain.measure for gain in fixed.gains} == {"unexplained", "distance"}
    with pytest.raises(DataError, match="Leave it out"):
        nns.repair(small, model, (X, KINDS), steps=nns.steps.calibrate_head())
    with pytest.raises(DataError, match="what it is to answer in their place"):
        nns.fine_tune(model, (X, KINDS))


@pytest.mark.slow
def test_a_model_of_one_position_is_trained_by_labels_of_samples():
    x, y = X.reshape(64, -1), KINDS
    inputs = keras.Input((24,))
    hidden = layers.Dense(6, "relu", name="hidden")(inputs)
    answer = layers.Reshape((1, 1, 4))(layers.Dense(4, name="answer")(hidden))
    model = keras.Model(inputs, layers.Softmax()(answer))
    model.compile("sgd", "sparse_categorical_crossentropy")
    activity = nns.observe(model, x, y, verbose=False)
    small = nns.cut(
        model, nns.select(activity, "all", keep=nns.top(4), score="mean_activation"), head="parent"
    )
    for done in (nns.distill(small, model, (x, y)), nns.fine_tune(small, (x, y))):
        assert np.isfinite(done.gains[0].after)
        assert done.gains[-1].measure == "balanced acc."
