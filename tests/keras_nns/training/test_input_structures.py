"""Models that take a list, a tuple or a dict of inputs are trained alike by every verb."""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import pytest
from keras import layers

import keras_nns as nns

PACKED = {
    "list": lambda a, b: [a, b],
    "tuple": lambda a, b: (a, b),
    "dict": lambda a, b: {"a": a, "b": b},
}
RANDOM = np.random.default_rng(0)
A = RANDOM.normal(size=(120, 5)).astype("float32")
B = RANDOM.normal(size=(120, 3)).astype("float32")
Y = (A[:, 0] > 0).astype(int) + (B[:, 0] > 0)


def network(structure: str) -> keras.Model:
    a, b = keras.Input((5,), name="a"), keras.Input((3,), name="b")
    joined = layers.Concatenate()([layers.Dense(6, activation="relu", name="h")(a), b])
    answer = layers.Dense(3, activation="softmax", name="answer")(joined)
    model = keras.Model(PACKED[structure](a, b), answer, name="net")
    # Weights that do not depend on what was drawn before.
    random = np.random.default_rng(1)
    model.set_weights([random.normal(size=w.shape) for w in model.get_weights()])
    model.compile("sgd", "sparse_categorical_crossentropy")
    return model


def small_of(model: keras.Model, x: Any) -> keras.Model:
    activity = nns.observe(model, x, Y, verbose=False)
    score = nns.scores.mean_activation
    plan = nns.select(activity, labels=[0, 2], keep=nns.top(3), score=score)
    return nns.cut(model, plan, head="labels")


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["distill", "fine_tune"])
def test_every_structure_of_inputs_ends_in_the_same_answers(verb):
    ended = {}
    for structure in ("dict", "list", "tuple")[: 2 if verb == "distill" else 3]:
        model, x = network(structure), PACKED[structure](A, B)
        parents = (model,) if verb == "distill" else ()
        done = getattr(nns, verb)(small_of(model, x), *parents, (x, Y))
        ended[structure] = np.asarray(done.model(x))
        np.testing.assert_allclose(ended[structure], ended["dict"], atol=1e-5)


@pytest.mark.slow
def test_a_tuple_of_inputs_without_labels_is_told_from_inputs_and_labels():
    model = network("tuple")
    small = small_of(model, (A, B))
    with pytest.raises(nns.errors.DataError, match="Pass them as one list or dict"):
        nns.repair(small, model, (A, B))
    assert nns.repair(small, model, [A, B]).samples > 50


@pytest.mark.slow
def test_a_list_of_one_input_is_trained():
    a = keras.Input((5,), name="a")
    hidden = layers.Dense(6, activation="relu", name="h")(a)
    model = keras.Model([a], layers.Dense(3, activation="softmax", name="answer")(hidden))
    assert nns.fine_tune(model, ([A], Y)).samples > 50


def test_features_are_kept_of_a_list_of_inputs(tmp_path):
    model = network("list")
    extractor = nns.feature_extractor(model)
    made = nns.feature_dataset(extractor, ([A, B], Y), cache=tmp_path / "kept")
    rows = np.concatenate([np.asarray(x) for x, _ in made])
    np.testing.assert_allclose(rows, np.asarray(extractor([A, B])), atol=1e-5)
