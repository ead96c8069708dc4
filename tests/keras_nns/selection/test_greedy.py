"""Forward selection against fits of every next unit, one by one."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as L

import keras_nns as nns


def model_and_data():
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [keras.Input((5,)), L.Dense(7, activation="relu", name="hidden"), L.Dense(3, name="out")]
    )
    random = np.random.default_rng(0)
    x = random.normal(size=(150, 5)).astype("float32")
    return model, x, random.integers(0, 3, 150)


def by_hand(values, own, count):
    """Fit a weighted line for every candidate and take the best, `count` times."""
    weight = np.sqrt((own / own.sum(axis=0)).sum(axis=1))
    chosen = []
    for _ in range(count):
        errors = {}
        for unit in set(range(values.shape[1])) - set(chosen):
            design = np.c_[values[:, [*chosen, unit]], np.ones(len(values))] * weight[:, None]
            target = own * weight[:, None]
            fit = np.linalg.lstsq(design, target, rcond=None)[0]
            errors[unit] = ((design @ fit - target) ** 2).sum()
        chosen.append(min(errors, key=errors.get))
    return chosen


@pytest.mark.slow
def test_each_next_unit_is_the_one_that_helps_most():
    model, x, y = model_and_data()
    score = nns.scores.forward_selection(model, (x, y), batch_size=40)
    activity = nns.observe(model, (x, y))
    ranks = score(activity)["hidden"]
    assert ranks.shape == (3, 7)
    values = model.layers[0](x).numpy().astype(np.float64)
    for label in range(3):
        wanted = by_hand(values, np.stack([y == label, y != label], axis=1), 5)
        assert np.argsort(-ranks[label])[:5].tolist() == wanted


def test_jointly_it_is_all_labels_that_are_fitted():
    model, x, y = model_and_data()
    y = np.r_[np.zeros(100, int), y[100:]]
    score = nns.scores.forward_selection(model, (x, y), jointly=True)
    ranks = score(nns.observe(model, (x, y)))["hidden"]
    values = model.layers[0](x).numpy().astype(np.float64)
    wanted = by_hand(values, y[:, None] == np.arange(3), 5)
    for row in ranks:
        assert np.argsort(-row)[:5].tolist() == wanted


def test_a_copy_of_a_chosen_unit_comes_last():
    model, x, y = model_and_data()
    kernel, bias = model.layers[0].get_weights()
    kernel[:, 1], bias[1] = kernel[:, 0], bias[0]
    model.layers[0].set_weights([kernel, bias])
    ranks = nns.scores.forward_selection(model, (x, y))(nns.observe(model, (x, y)))["hidden"]
    assert (ranks[:, :2].min(axis=1) <= 2 / 7).all()


@pytest.mark.slow
def test_the_score_names_itself_and_its_model():
    model, x, y = model_and_data()
    score = nns.scores.forward_selection(model, (x, y))
    plan = nns.select(nns.observe(model, (x, y)), 1, score=score, keep=nns.top(3))
    assert plan.choices[0].score == "forward_selection"
    other = keras.Sequential([keras.Input((5,)), L.Dense(4), L.Dense(3)])
    with pytest.raises(nns.errors.SelectionError, match="is of another"):
        score(nns.observe(other, (x, y)))


def test_moments_too_large_to_hold_are_refused():
    model = keras.Sequential([keras.Input((2,)), L.Dense(6000, name="wide"), L.Dense(4)])
    with pytest.raises(nns.errors.SelectionError, match=r"'wide'.*Use contrast"):
        nns.scores.forward_selection(model, (np.zeros((4, 2)), [0, 1, 2, 3]))
