"""The paper's own network and rows: its table, recomputed by this library."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
from keras import layers as L
from paper_figures import BASE, MERGED, TABLE_5

import keras_nns as nns


@pytest.fixture(scope="module")
def paper(shared_data):
    folder = shared_data / "nns_paper"
    weights = json.loads((folder / "simpleMLPWghts.json").read_text())
    w1, b1, w2, b2 = (np.array(weights[name], np.float32) for name in ("w1", "b1", "w2", "b2"))
    model = keras.Sequential(
        [
            keras.Input((784,)),
            L.Dense(100, activation="relu", name="hidden"),
            L.Dense(10, activation="softmax", name="digit"),
        ]
    )
    model.set_weights([w1.T, b1.ravel(), w2.T, b2.ravel()])
    rows = np.loadtxt(folder / "train_first1000.csv", delimiter=",", skiprows=1)
    x, y = (rows[:, 1:] / 255).astype(np.float32), rows[:, 0].astype(int)
    return model, x, y, nns.observe(model, x, y)


def answers(model, x):
    return np.asarray(model(x)).argmax(axis=1)


@pytest.mark.slow
def test_the_base_model(paper):
    model, x, y, _ = paper
    right = answers(model, x) == y
    assert round(right.mean(), 3) == 0.835
    per_label = [round(100 * right[y == label].mean(), 1) for label in range(10)]
    assert per_label == list(BASE)


@pytest.mark.slow
@pytest.mark.parametrize("operate", [nns.mask, nns.cut], ids=["mask", "cut"])
@pytest.mark.parametrize("zeta", TABLE_5)
def test_one_network_for_each_label(paper, zeta, operate):
    model, x, y, activity = paper
    found = []
    for label, plan in enumerate(nns.select(activity, "each", keep=nns.above(zeta))):
        yes = answers(operate(model, plan), x) == label
        recall, specificity = yes[y == label].mean(), 1 - yes[y != label].mean()
        kept = 784 * len(plan.kept["hidden"])
        found.append((kept, round(100 * recall, 1), round(100 * specificity, 1)))
    assert found == list(TABLE_5[zeta])


@pytest.mark.slow
@pytest.mark.parametrize("zeta", TABLE_5)
def test_a_cut_network_holds_the_kept_parameters(paper, zeta):
    model, _, _, activity = paper
    for plan in nns.select(activity, "each", keep=nns.above(zeta)):
        kernel = nns.cut(model, plan).get_layer("hidden").kernel
        assert int(np.prod(kernel.shape)) == TABLE_5[zeta][plan.labels[0]][0]


@pytest.mark.parametrize("operate", [nns.mask, nns.cut], ids=["mask", "cut"])
@pytest.mark.parametrize("zeta", MERGED)
def test_the_merged_network(paper, zeta, operate):
    model, x, y, activity = paper
    plan = nns.merge(nns.select(activity, "each", keep=nns.above(zeta)))
    assert plan == nns.select(activity, "all", keep=nns.above(zeta))
    accuracy = (answers(operate(model, plan), x) == y).mean()
    assert (len(plan.kept["hidden"]), round(accuracy, 3)) == MERGED[zeta]


def test_the_mask_is_the_papers_own_operation(paper):
    """Zero the rows of w1 and nothing else; the biases of removed units stay."""
    model, x, _, activity = paper
    plan = nns.select(activity, 3, keep=nns.above(0.4))
    w1, b1, w2, b2 = (w.astype(np.float64) for w in model.get_weights())
    assert b1.max() < 0, "behind the ReLU a unit without weights is silent, as a masked one is"
    keep = np.isin(np.arange(100), plan.kept["hidden"])
    logits = np.maximum(x @ (w1 * keep) + b1, 0) @ w2 + b2
    expected = np.exp(logits - logits.max(axis=1, keepdims=True))
    expected /= expected.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(nns.mask(model, plan)(x), expected, atol=1e-5)
