"""One trunk, a yes/no head for each label."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as L
from sklearn.linear_model import LogisticRegression

import keras_nns as nns
from keras_nns.errors import DataError, SelectionError, SurgeryError

RANDOM = np.random.default_rng(0)
CENTRES = RANDOM.normal(size=(4, 6)) * 2
Y = np.arange(600) % 4
X = (CENTRES[Y] + RANDOM.normal(size=(600, 6))).astype("float32")
NAMES = ["ant", "bee", "cat", "dog"]


@pytest.fixture(scope="module")
def parent():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input((6,)), L.Dense(24, "relu", name="h"), L.Dense(4, "softmax", name="o")]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(X[:400], Y[:400], epochs=20, verbose=0)
    return model


@pytest.fixture(scope="module")
def ones(parent):
    return nns.one_vs_rest(parent, X[:400], Y[:400], label_names=NAMES)


def test_networks_share_all_but_the_last_layer(parent, ones):
    assert list(ones) == NAMES
    for number, (name, one) in enumerate(ones.items()):
        record = nns.lineage(one)
        assert (record.head, record.plan.labels, record.plan.names) == (
            "binary",
            (number,),
            (name,),
        )
        assert one.output_shape == (None, 1)
        for ours, theirs in zip(
            one.get_layer("h").get_weights(), parent.get_layer("h").get_weights(), strict=True
        ):
            np.testing.assert_array_equal(ours, theirs)


def test_each_head_decides_as_well_as_a_logistic_regression_on_the_features(parent, ones):
    features = keras.Model(parent.inputs, parent.get_layer("h").output).predict(X, verbose=0)
    for number, one in enumerate(ones.values()):
        plain = LogisticRegression(class_weight="balanced", max_iter=2000)
        plain.fit(features[:400], Y[:400] == number)
        truth = Y[400:] == number
        theirs = plain.predict(features[400:])
        ours = one.predict(X[400:], verbose=0)[:, 0] > 0.5
        found = [
            (said[truth].mean() + (~said[~truth]).mean()) / 2
            for said in (ours, theirs.astype(bool))
        ]
        assert found[0] > max(found[1] - 0.03, 0.8)


def test_composed_they_hold_the_trunk_once(parent, ones):
    whole = nns.compose(ones, X[400:500], Y[400:500])
    trunk = 6 * 24 + 24
    assert whole.count_params() == trunk + 4 * (24 + 1) + 4 * 4 + 4
    assert len([layer for layer in whole.layers if layer.name == "h"]) == 1
    answers = whole.predict(X[500:], verbose=0).argmax(axis=1)
    theirs = parent.predict(X[500:], verbose=0).argmax(axis=1)
    assert (answers == Y[500:]).mean() > (theirs == Y[500:]).mean() - 0.03


def test_of_a_cut_network_that_remembers_its_names(parent):
    budget = nns.Budget(parameters=parent.count_params() // 2)
    small = nns.extract(
        parent, (X[:400], Y[:400]), budget=budget, label_names=NAMES, verbose=False
    ).model
    ones = nns.one_vs_rest(small, X[:400], Y[:400], labels=["dog", "bee"])
    assert list(ones) == ["bee", "dog"]
    whole = nns.compose(ones, X[400:], Y[400:], label_names=NAMES)
    assert whole.count_params() < 0.55 * parent.count_params()


def test_wrong_use_is_named(parent):
    with pytest.raises(SelectionError, match="'elk'"):
        nns.one_vs_rest(parent, X, Y, labels="elk", label_names=NAMES)
    with pytest.raises(DataError, match="needs labels"):
        nns.one_vs_rest(parent, X)
    with pytest.raises(DataError, match="outside the model's"):
        nns.one_vs_rest(parent, X, Y + 1)
    inputs = keras.Input((6,))
    other = keras.Model(inputs, L.Softmax()(L.LayerNormalization()(L.Dense(4)(L.Dense(5)(inputs)))))
    with pytest.raises(SurgeryError):
        nns.one_vs_rest(other, X, Y)
