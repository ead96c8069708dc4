"""Segmentation, denoising and regression from data to a subnetwork of a budget."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import keras_nns as nns

RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(80, 4, 4, 1)).astype("float32")
Y = np.digitize(X[..., 0] + np.roll(X[..., 0], 1, axis=1), [-0.7, 0.7])
FLAT = X.reshape(80, 16)


def trained(kind):
    if kind == "regression":
        made = [keras.Input((16,)), layers.Dense(12, "relu", name="h"), layers.Dense(1)]
        loss, x, y = "mse", FLAT, FLAT[:, :4].sum(axis=1)
    else:
        outputs, activation = (3, "softmax") if kind == "segmentation" else (1, None)
        made = [
            keras.Input((4, 4, 1)),
            layers.Conv2D(8, 3, padding="same", activation="relu", name="a"),
            layers.Conv2D(8, 3, padding="same", activation="relu", name="b"),
            layers.Conv2D(outputs, 1, activation=activation),
        ]
        loss, x, y = ("sparse_categorical_crossentropy", X, Y)
        if kind == "denoiser":
            loss, x, y = "mse", (X + 0.5 * RANDOM.normal(size=X.shape)).astype("float32"), X
    model = keras.Sequential(made)
    keras.utils.set_random_seed(0)
    model.compile(keras.optimizers.Adam(0.01), loss)
    model.fit(x, y, epochs=20, verbose=0)
    return model, x, y


KINDS = {"segmentation": "IoU", "denoiser": "R²", "regression": "R²"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_from_data_to_a_subnetwork(kind):
    model, x, y = trained(kind)
    budget = nns.Budget(parameters=model.count_params() // 2)
    found = nns.extract(model, (x, y), budget=budget)
    assert found.model.count_params() <= budget.limit
    assert nns.lineage(found.model).head == "parent"
    assert found.model.output_shape == model.output_shape
    after = found.comparison.after
    assert after.measure == KINDS[kind]
    # Half of the units tell more than a constant would; units at random, unrepaired, less.
    drawn = nns.extract(model, (x, y), budget=budget, score=nns.scores.random_units(), repair=False)
    assert after.worth > drawn.comparison.after.worth
    assert found.comparison.drop < 0.2
    assert str(found)
    assert found.to_json()["comparison"]["after"]["kind"] == after.kind


@pytest.mark.parametrize("kind", ["segmentation", "denoiser"])
def test_targets_that_would_move_with_the_inputs_are_refused_before_anything_is_done(kind):
    outputs, y = (3, Y) if kind == "segmentation" else (1, X)
    model = keras.Sequential(
        [
            keras.Input((4, 4, 1)),
            layers.Conv2D(4, 3, padding="same", activation="relu"),
            layers.Conv2D(outputs, 1, activation="softmax" if outputs > 1 else None),
        ]
    )
    flip = layers.RandomFlip("horizontal")
    plan = nns.select(nns.observe(model, (X, y), verbose=False), keep=nns.top(2))
    small = nns.cut(model, plan)
    for call in (
        lambda: nns.extract(model, (X, y), budget="parameters=60", distill_epochs=1, augment=flip),
        lambda: nns.distill(small, model, (X, y), augment=flip),
        lambda: nns.fine_tune(small, (X, y), augment=flip, loss="mse"),
    ):
        with pytest.raises(nns.errors.SurgeryError, match="no longer lie where they belong"):
            call()
    assert nns.distill(small, model, (X, y), augment=flip, alpha=1.0).best_epoch >= 0


def test_the_score_is_what_the_outputs_lose():
    """Of a linear network the loss is exact: what a unit adds that others cannot stand in for."""
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(3, name="h"), layers.Dense(2, name="o")]
    )
    x = RANDOM.normal(size=(400, 4)).astype("float32")
    x -= x.mean(axis=0)
    first, second = np.eye(4, 3), np.array([[3.0, 0.0], [0.0, 0.5], [1.0, 1.0]])
    model.set_weights([first, np.zeros(3), second, np.zeros(2)])
    y = np.asarray(model(x))
    activity = nns.observe(model, (x, y), verbose=False)
    values = nns.scores.reconstruction(model, (x, y), labels="all")(activity)["h"][0]
    order = np.argsort((second**2).sum(axis=1))
    assert np.argsort(values).tolist() == order.tolist()
    # The first to go is lost but for what the two others tell of it.
    hidden = x.astype(float) @ first
    least, rest = order[0], order[1:]
    left = (
        hidden[:, least]
        - hidden[:, rest] @ np.linalg.lstsq(hidden[:, rest], hidden[:, least], rcond=None)[0]
    )
    expected = (left**2).mean() * (second[least] ** 2).sum()
    assert values[least] == pytest.approx(expected, rel=0.2)


@pytest.mark.slow
@pytest.mark.parametrize("labels", [[0, 2], [1]])
def test_a_subnetwork_of_some_labels_of_pixels(labels):
    model, x, y = trained("segmentation")
    found = nns.extract(model, (x, y), labels=labels, budget=nns.Budget(parameters=400))
    head = nns.lineage(found.model).head
    assert head == ("other" if len(labels) > 1 else "binary")
    assert [row.label for row in found.comparison.after.rows] == labels
    assert found.comparison.drop < 0.3


@pytest.mark.slow
def test_a_network_observed_by_labels_that_it_does_not_answer():
    model, x, _ = trained("denoiser")
    kinds = np.arange(80) % 3
    found = nns.extract(
        model, (x, kinds), labels=[1], budget=nns.Budget(parameters=400), distill_epochs=1
    )
    assert nns.lineage(found.model).head == "parent"
    assert found.comparison.before.errors[0].mae == 0
    assert 0.5 < found.comparison.after.worth <= 1
    with pytest.raises(nns.errors.SurgeryError, match="head='parent'"):
        nns.extract(model, (x, x), budget=nns.Budget(parameters=400), head="labels")
