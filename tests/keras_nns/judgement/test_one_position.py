"""A model that answers at its only position is treated like one that answers once.

The right values are those of the same weights in a model without positions: a convolution of one
pixel is a Dense.
"""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers

import keras_nns as nns

RANDOM = np.random.default_rng(0)
CENTRES = RANDOM.normal(size=(6, 5))
Y = RANDOM.integers(0, 6, 400)
X = (CENTRES[Y] + 0.4 * RANDOM.normal(size=(400, 5))).astype("float32").reshape(-1, 1, 1, 5)
FITTED, HELD_OUT = slice(0, 250), slice(250, 400)
TARGETS = {
    "labels": (6, "softmax", Y, np.eye(6)[Y]),
    "yes or no": (1, "sigmoid", (Y < 3).astype(int), None),
    "numbers": (1, None, X[:, 0, 0, :1], None),
}


def net(kind, *, plain):
    """A hidden layer that knows the centres, and a head made by least squares: no training."""
    width, activation, y, rows = TARGETS[kind]
    x = start = keras.Input((1, 1, 5))
    x = layers.Conv2D(18, 1, activation="relu", name="hidden")(x)
    if plain:
        x = layers.Flatten()(x)
        x = layers.Dense(width, activation, name="answer")(x)
    else:
        x = layers.Conv2D(width, 1, activation=activation, name="answer")(x)
    model = keras.Model(start, x, name="net")
    kernel = np.random.default_rng(1).normal(size=(5, 18))
    features = np.maximum(X.reshape(-1, 5) @ kernel, 0)
    wanted = (rows if rows is not None else np.asarray(y).reshape(len(y), 1)) * 1.0
    wanted = wanted if activation is None else 8 * wanted - 4
    head = np.linalg.lstsq(features, wanted, rcond=None)[0]
    values = [kernel, np.zeros(18), head, np.zeros(width)]
    own = model.get_weights()
    model.set_weights([v.reshape(w.shape) for v, w in zip(values, own, strict=True)])
    loss = {"softmax": "sparse_categorical_crossentropy", "sigmoid": "binary_crossentropy"}
    model.compile(keras.optimizers.SGD(0.01), loss.get(activation, "mse"))
    return model


def forms(kind):
    """Targets in every form that has the positions."""
    _, _, y, rows = TARGETS[kind]
    numbers = np.asarray(y).reshape(-1, 1, 1, 1)
    found = [numbers, numbers[..., 0], np.asarray(y)]
    return found if rows is None else [*found, rows.reshape(-1, 1, 1, 6)]


def figures(one):
    found = one.to_json()
    del found["model"]
    return found


def alike(one, other):
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            alike(one[key], other[key])
    elif isinstance(one, list):
        for mine, theirs in zip(one, other, strict=True):
            alike(mine, theirs)
    elif isinstance(one, float):
        assert one == pytest.approx(other, abs=1e-4)
    else:
        assert one == other


@pytest.mark.parametrize("kind", TARGETS)
def test_it_is_judged_and_observed_alike_whatever_form_targets_have(kind):
    plain, model = net(kind, plain=True), net(kind, plain=False)
    y = TARGETS[kind][2]
    expected = figures(nns.evaluate(plain, X[HELD_OUT], y[HELD_OUT]))
    activity = nns.observe(plain, X[FITTED], y[FITTED], verbose=False)
    for targets in forms(kind):
        alike(figures(nns.evaluate(model, X[HELD_OUT], targets[HELD_OUT])), expected)
        seen = nns.observe(model, X[FITTED], targets[FITTED], verbose=False)
        assert seen.samples.tolist() == activity.samples.tolist()
        np.testing.assert_allclose(
            seen.layers["hidden"].total, activity.layers["hidden"].total, rtol=1e-5
        )
    batches = [
        (X[HELD_OUT][i : i + 50], forms(kind)[0][HELD_OUT][i : i + 50]) for i in (0, 50, 100)
    ]
    alike(figures(nns.evaluate(model, batches)), expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "head"),
    [
        *(("labels", head) for head in ("parent", "labels", "other", "binary")),
        ("yes or no", "parent"),
        ("numbers", "parent"),
    ],
)
def test_it_is_repaired_and_trained_alike(kind, head):
    """Numbers of shape `(n, 1)` against outputs `(n, 1, 1, 1)` would meet as n × n pairs."""
    y = TARGETS[kind][2]
    found = []
    for plain in (True, False):
        model = net(kind, plain=plain)
        targets = y if plain else forms(kind)[0]
        data, other = (X[FITTED], targets[FITTED]), (X[HELD_OUT], targets[HELD_OUT])
        activity = nns.observe(model, data, verbose=False)
        labels = "all" if head == "parent" else [1, 4] if head != "binary" else 1
        plan = nns.select(activity, labels, score="mean_activation", keep=nns.top(7))
        small = nns.cut(model, plan, head=head)
        made = {
            "repair": nns.repair(small, model, data).model,
            "distill": nns.distill(small, model, data, epochs=1).model,
            "fine_tune": nns.fine_tune(small, data, epochs=1).model,
        }
        assert all(len(m.output_shape) == (2 if plain else 4) for m in made.values())
        found.append({n: figures(nns.evaluate(m, other)) for n, m in made.items()})
    alike(found[1], found[0])


@pytest.mark.slow
def test_it_is_extracted_alike():
    """Also a network for one label, whose operating point is set by its new head."""
    y, asked = TARGETS["labels"][2], {"labels": 2, "budget": "parameters=60"}
    plain = nns.extract(net("labels", plain=True), (X, y), **asked)
    found = nns.extract(net("labels", plain=False), (X, y.reshape(-1, 1, 1, 1)), **asked)
    alike(figures(found.comparison.after), figures(plain.comparison.after))
    assert found.comparison.after.rows[0].recall > 0.8
