"""Networks beside the paper's are as large as they are said to be."""

from __future__ import annotations

import keras
import numpy as np
import pytest

import keras_nns as nns
from keras_nns.reporting.side_by_side import MERGED, PAPER, SAME, TENTH, contest

layers = keras.layers
pytestmark = pytest.mark.slow
LABELS = 30


def parts(samples):
    """Samples of clusters, so many of each label."""
    random = np.random.default_rng(0)
    y = np.repeat(np.arange(LABELS), samples)
    return random.normal(size=(LABELS, 12))[y] + 0.3 * random.normal(size=(len(y), 12)), y


@pytest.fixture(scope="module")
def parent():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((12,)),
            layers.Dense(24, activation="relu", name="one"),
            layers.Dense(24, activation="relu", name="two"),
            layers.Dense(LABELS, activation="softmax", name="answer"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(*parts(20), epochs=8, batch_size=16, verbose=0)
    return model


def made(parent, samples):
    x, y = parts(samples)
    activity = nns.observe(parent, x.astype("float32"), y, verbose=False)
    plan = nns.select(activity, 3, score="mean_activation", keep=nns.above(0.4))
    names = [str(number) for number in range(LABELS)]
    return contest(parent, [plan], (x.astype("float32"), y), label_names=names)


@pytest.mark.parametrize(
    ("samples", "outputs"), [(20, 1), (3, LABELS)], ids=["head refitted", "too few samples"]
)
def test_ours_are_as_large_as_the_papers(parent, samples, outputs):
    found = made(parent, samples)
    (paper,), (same,), (tenth,) = (list(found.of(way).values()) for way in (PAPER, SAME, TENTH))
    size = paper.model.count_params()
    kept = [len(units) for units in same.plan.kept.values()]
    # What one unit more would cost in either layer.
    one_more = max(12 + 1 + kept[1], kept[0] + 1 + outputs)
    assert size - one_more < same.model.count_params() <= size
    assert tenth.model.count_params() < same.model.count_params()
    merged = next(iter(found.of(MERGED).values())).model.count_params()
    assert 0.4 * parent.count_params() < merged <= 0.5 * parent.count_params()
    assert any("Heads were left" in note for note in found.notes) == (outputs == LABELS)
