"""A network from scratch has the shape and the answers of another, and nothing it learned."""

import random

import keras
import numpy as np
import pytest
from keras import layers
from sklearn.metrics import balanced_accuracy_score, roc_curve

import keras_nns as nns
from keras_nns.training.scratch import forgotten


@pytest.fixture(scope="module")
def data():
    draw = np.random.default_rng(0)
    y = np.arange(600) % 3
    x = draw.normal(size=(600, 8)).astype("float32")
    x[np.arange(600), y] += 3
    return x, y


@pytest.fixture(scope="module")
def parent(data):
    keras.utils.set_random_seed(0)
    adapted = layers.Normalization(name="normalization")
    adapted.adapt(data[0])
    model = keras.Sequential(
        [
            keras.Input((8,)),
            adapted,
            layers.Dense(10, activation="relu", name="hidden"),
            layers.BatchNormalization(),
            layers.Dropout(0.1),
            layers.Dense(3, activation="softmax", name="answer"),
        ]
    )
    model.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    model.fit(*data, epochs=3, verbose=0)
    return model


@pytest.fixture(scope="module")
def small(parent, data):
    activity = nns.observe(parent, data[0][:300], data[1][:300], verbose=False)
    return nns.cut(
        parent, nns.select(activity, 1, keep=nns.top(5), score="mean_activation"), head="binary"
    )


def weights(model):
    return {w.path.split("/", 1)[-1]: np.asarray(w) for w in model.weights}


@pytest.mark.slow
def test_what_was_learned_is_forgotten_and_what_was_given_kept(small):
    before = weights(small)
    states = random.getstate(), np.random.get_state()[1].copy()
    new, again, other = (forgotten(small, seed=seed) for seed in (0, 0, 1))
    assert random.getstate() == states[0] and (np.random.get_state()[1] == states[1]).all()
    ours, same, another = weights(new), weights(again), weights(other)
    assert list(map(np.shape, ours.values())) == list(map(np.shape, before.values()))
    for name, value in ours.items():
        assert (value == same[name]).all()
        kept = "normalization/mean" in name or "normalization/variance" in name
        kept |= name.startswith("binary_head") or name.endswith("normalization/count")
        if kept and not name.startswith("batch"):
            assert (value == before[name]).all(), name
        elif name.endswith("kernel"):
            assert not np.isclose(value, before[name]).any() and (value != another[name]).any()
            limit = np.sqrt(6 / sum(value.shape))
            assert np.abs(value).max() <= limit
        elif "moving_variance" in name or "gamma" in name:
            assert (value == 1).all()
        elif "seed" not in name:
            assert (value == 0).all(), name
    assert all((value == weights(small)[name]).all() for name, value in before.items())


@pytest.mark.slow
def test_it_learns_and_stands_beside(parent, small, data):
    x, y = data
    options = {"epochs": 8, "optimizer": keras.optimizers.Adam(0.03), "seed": 3}
    found = nns.from_scratch(small, x[:300], y[:300], **options)
    again = nns.from_scratch(small, x[:300], y[:300], **options)
    for one, other in zip(found.model.get_weights(), again.model.get_weights(), strict=True):
        assert one == pytest.approx(other, abs=1e-6)
    beside = {"from scratch": found.model}
    judged = nns.compare(parent, small, x[300:], y[300:], beside=beside)
    (fresh,) = judged.beside
    assert fresh.costs == judged.costs
    assert fresh.figures[1].balanced_accuracy > 0.6
    with pytest.raises(nns.errors.DataError, match="was observed, repaired or trained"):
        nns.evaluate(found.model, x[:300], y[:300])


def rare(seed, count=1500):
    """Give samples of which four in a hundred have the label that is asked for."""
    draw = np.random.default_rng(seed)
    y = draw.choice(3, count, p=(0.48, 0.04, 0.48))
    x = draw.normal(size=(count, 8)).astype("float32")
    x[np.arange(count), y] += 2
    return x, y


def by_hand(x, y, rate, epochs):
    """Train what a person would: weighted by class, deciding at the best point of the ROC curve."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((8,)),
            layers.Dense(5, activation="relu"),
            layers.Dense(1, activation="sigmoid"),
        ]
    )
    model.compile(keras.optimizers.Adam(rate), "binary_crossentropy")
    own = (y == 1).astype("float32")
    weigh = {0: 0.5 / (1 - own.mean()), 1: 0.5 / own.mean()}
    model.fit(x, own, epochs=epochs, batch_size=64, class_weight=weigh, verbose=0)
    scores = np.asarray(model(x))[:, 0]
    false, true, edges = roc_curve(own, scores)
    return lambda new: np.asarray(model(new))[:, 0] >= edges[1:][np.argmax((true - false)[1:])]


@pytest.mark.slow
def test_it_does_as_well_as_a_person_would(small):
    (x, y), test = rare(1), rare(2, 6000)
    options = {"epochs": 8, "batch_size": 64, "label_names": ["0", "1", "2"]}
    found = nns.from_scratch(small, x, y, **options)
    ours = nns.evaluate(found.model, *test)["1"].balanced_accuracy
    wanted = max(
        balanced_accuracy_score(test[1] == 1, by_hand(x, y, rate, 8)(test[0]))
        for rate in (0.001, 0.005, 0.025)
    )
    assert wanted > 0.8
    assert ours > wanted - 0.03
    # The best rate was taken, by the loss on what was held out.
    rates = {gain.measure: gain.after for gain in found.gains if "rate" in gain.measure}
    assert list(rates) == [f"loss at rate {rate}" for rate in ("0.001", "0.005", "0.025")]
    assert found.gains[0].after == min(rates.values())
    # Its decisions say that they were set, and on how many samples.
    assert nns.lineage(found.model).balanced.samples == found.samples
    assert nns.lineage(found.model).balanced.parent is None
    # Without all that it says no to nearly everything.
    plain = nns.from_scratch(small, x, y, balance=False, rates=[0.001], **options)
    assert nns.evaluate(plain.model, *test)["1"].balanced_accuracy < 0.6
    assert nns.lineage(plain.model).balanced is None
    # Fine-tuning balances as distillation does, with the optimizer that the model came with.
    tuned = nns.fine_tune(forgotten(small, seed=0), x, y, **options)
    assert nns.evaluate(tuned.model, *test)["1"].balanced_accuracy > wanted - 0.1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"rates": [], "held_out": 0.1}, "`rates` are numbers above 0"),
        ({"rates": [0.0]}, "`rates` are numbers above 0"),
        ({"rates": [1e-3], "optimizer": "adam"}, "a rate of its own"),
        ({"held_out": 0}, "chosen on samples held out"),
    ],
)
def test_rates_that_cannot_be_chosen_are_refused(small, data, options, said):
    with pytest.raises(nns.NNSError, match=said):
        nns.from_scratch(small, *data, **options)


def refuse(self, config):
    raise TypeError("not today")


def test_a_layer_that_cannot_be_built_anew_is_named(small, monkeypatch):
    monkeypatch.setattr(layers.Dense, "build_from_config", refuse)
    with pytest.raises(nns.errors.ModelError, match=r"Layer 'hidden' \(Dense\).*not today"):
        forgotten(small, seed=0)
