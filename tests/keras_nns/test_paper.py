"""The paper's own network and rows: its table, recomputed by this library."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
from keras import layers as L

import keras_nns as nns

# Kept parameters of the first layer, recall % and specificity %, for each digit.
TABLE = {
    0.4: [
        (6272, 100.0, 12.0),
        (5488, 88.5, 61.1),
        (9408, 91.9, 66.6),
        (9408, 96.7, 75.4),
        (3136, 0.0, 100.0),
        (10976, 55.1, 94.1),
        (7056, 93.8, 62.0),
        (2352, 56.2, 70.5),
        (8624, 77.4, 81.6),
        (2352, 100.0, 3.7),
    ],
    0.5: [
        (3136, 100.0, 26.1),
        (3920, 99.0, 36.9),
        (6272, 94.4, 59.5),
        (8624, 100.0, 54.9),
        (1568, 0.0, 100.0),
        (9408, 88.8, 61.7),
        (5488, 85.6, 81.2),
        (1568, 77.1, 47.7),
        (4704, 77.4, 70.0),
        (2352, 100.0, 3.7),
    ],
}
MERGED = {0.4: (22, 0.692), 0.5: (20, 0.686)}


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


def test_the_base_model(paper):
    model, x, y, _ = paper
    right = answers(model, x) == y
    assert round(right.mean(), 3) == 0.835
    per_label = [round(100 * right[y == label].mean(), 1) for label in range(10)]
    assert per_label == [94.4, 92.7, 79.8, 88.9, 78.4, 71.9, 87.6, 87.6, 73.1, 79.4]


@pytest.mark.parametrize("operate", [nns.mask, nns.cut], ids=["mask", "cut"])
@pytest.mark.parametrize("zeta", TABLE)
def test_one_network_for_each_label(paper, zeta, operate):
    model, x, y, activity = paper
    found = []
    for label, plan in enumerate(nns.select(activity, "each", keep=nns.above(zeta))):
        yes = answers(operate(model, plan), x) == label
        recall, specificity = yes[y == label].mean(), 1 - yes[y != label].mean()
        kept = 784 * len(plan.kept["hidden"])
        found.append((kept, round(100 * recall, 1), round(100 * specificity, 1)))
    assert found == TABLE[zeta]


@pytest.mark.parametrize("zeta", TABLE)
def test_a_cut_network_holds_the_kept_parameters(paper, zeta):
    model, _, _, activity = paper
    for plan in nns.select(activity, "each", keep=nns.above(zeta)):
        kernel = nns.cut(model, plan).get_layer("hidden").kernel
        assert int(np.prod(kernel.shape)) == TABLE[zeta][plan.labels[0]][0]


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
