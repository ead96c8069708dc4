"""choose_zeta: the largest share that costs little, found on the samples it is given."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score

import keras_nns as nns
from keras_nns.selection.tuning import LOSS, choose_zeta

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def trained():
    keras.utils.set_random_seed(0)
    random = np.random.default_rng(0)
    centres = random.normal(size=(4, 10)) * 2
    y = np.arange(600) % 4
    x = (centres[y] + random.normal(size=(600, 10))).astype("float32")
    model = keras.Sequential(
        [
            keras.Input((10,)),
            keras.layers.Dense(24, activation="relu", name="hidden"),
            keras.layers.Dense(4, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(x, y, epochs=15, verbose=0)
    return model, nns.observe(model, (x[:400], y[:400])), x[400:], y[400:]


def by_hand(model, activity, x, y, zeta):
    found = []
    for label in range(4):
        plan = nns.select(activity, label, score=nns.scores.contrast, keep=nns.above(zeta))
        answers = nns.mask(model, plan)(x).numpy().argmax(axis=1)
        found.append(balanced_accuracy_score(y == label, answers == label))
    return np.mean(found)


def test_every_trial_is_what_the_masked_parents_give(trained):
    model, activity, x, y = trained
    tuning = choose_zeta(model, activity, x, y, score=nns.scores.contrast, loss=-1.0)
    assert [trial.zeta for trial in tuning.trials] == [0.5, 0.4, 0.3, 0.2, 0.1]
    for trial in tuning.trials:
        assert trial.balanced_accuracy == pytest.approx(by_hand(*trained, trial.zeta))
    kept = [trial.kept for trial in tuning.trials]
    assert kept == sorted(kept)


def test_the_first_that_costs_little_is_taken(trained):
    model, activity, x, y = trained
    tuning = choose_zeta(model, activity, x, y, score=nns.scores.contrast)
    good = [t for t in tuning.trials if t.balanced_accuracy >= tuning.parent - LOSS]
    assert good in ([], [tuning.trials[-1]])
    if good:
        assert tuning.chosen == good[0].zeta
    everything = choose_zeta(model, activity, x, y, score=nns.scores.contrast, loss=1.0)
    assert everything.chosen == 0.5 and len(everything.trials) == 1


def test_where_nothing_is_good_enough_the_best_is_taken(trained):
    model, activity, x, y = trained
    tuning = choose_zeta(model, activity, x, y, score=nns.scores.contrast, loss=-1.0)
    best = max(trial.balanced_accuracy for trial in tuning.trials)
    (chosen,) = [t for t in tuning.trials if t.zeta == tuning.chosen]
    assert chosen.balanced_accuracy == best


def test_nothing_to_try_is_refused(trained):
    model, activity, x, y = trained
    with pytest.raises(nns.errors.SelectionError, match="empty"):
        choose_zeta(model, activity, x, y, score=nns.scores.contrast, zetas=())
