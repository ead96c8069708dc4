"""Sample weights count as in Keras's own fit, in every training, and class weights too."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_nns as nns
from keras_nns.data.batches import Batch
from keras_nns.training.sampling import Feed

RATE = 0.02


def blobs(count=480, seed=0):
    random = np.random.default_rng(seed)
    y = np.arange(count) % 3
    x = random.normal(size=(count, 6)).astype("float32")
    x[np.arange(count), y] += 4
    return x, y


def network(outputs=3, units=8):
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(units, activation="relu", name="hidden"),
            layers.Dense(outputs, activation="softmax", name="answer"),
        ]
    )
    model.compile(keras.optimizers.Adam(RATE), "sparse_categorical_crossentropy")
    return model


X, Y = blobs()
TEST = blobs(300, seed=1)
WRONG = np.random.default_rng(2).random(len(Y)) < 0.6
NOISY = np.where(WRONG, (Y + 1) % 3, Y)
"""Labels of which more are wrong than right."""
MASK, FEW = np.where(WRONG, 0.0, 1.0), np.where(WRONG, 0.05, 1.0)


def right(model):
    return (np.asarray(model(TEST[0])).argmax(axis=1) == TEST[1]).mean()


@pytest.fixture(scope="module")
def trained():
    model = network()
    model.fit(X, Y, epochs=8, verbose=0)
    return model


@pytest.fixture(scope="module")
def whole(trained):
    activity = nns.observe(trained, (X, Y), verbose=False)
    small = nns.cut(trained, nns.select(activity, "all", keep=nns.top(8)))
    # It has forgotten what the parent knew, so that labels alone can teach it.
    random = np.random.default_rng(3)
    small.set_weights([random.normal(size=w.shape) / 4 for w in small.get_weights()])
    return small


VERBS = {
    "fine_tune": lambda small, parent, data: nns.fine_tune(small, data, epochs=8).model,
    "from_scratch": lambda small, parent, data: (
        nns.from_scratch(small, data, epochs=8, rates=[RATE]).model
    ),
    "distill": lambda small, parent, data: (
        nns.distill(
            small, parent, data, epochs=8, alpha=0.0, optimizer=keras.optimizers.Adam(RATE)
        ).model
    ),
    "transfer": lambda small, parent, data: (
        nns.transfer(small, data, rates=(RATE,), epochs=8).model
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("verb", VERBS)
def test_wrong_labels_of_little_weight_teach_nothing(trained, whole, verb):
    assert right(VERBS[verb](whole, trained, (X, NOISY, FEW))) > 0.9


@pytest.mark.slow
def test_wrong_labels_of_no_weight_teach_nothing_as_in_keras(trained, whole):
    by_keras = network()
    by_keras.fit(X, NOISY, sample_weight=MASK, epochs=8, verbose=0)
    assert right(by_keras) > 0.9
    tune = VERBS["fine_tune"]
    assert right(tune(whole, trained, (X, NOISY, MASK))) > 0.9
    assert right(tune(whole, trained, (X, NOISY))) < 0.5


@pytest.mark.slow
def test_a_new_label_is_learned_by_weight():
    known, parent = Y < 2, network(outputs=2)
    parent.fit(X[known], Y[known], epochs=8, verbose=0)
    data = (X, NOISY, FEW)
    grown = nns.add_label(parent, data, name="third", label_names=["first", "second"], epochs=8)
    figures = nns.evaluate(grown.model, *TEST)
    assert figures["third"].balanced_accuracy > 0.85


@pytest.mark.slow
def test_class_weights_are_sample_weights_and_what_keras_does(whole):
    given = {"2": 0.0, 1: 3.0}
    done = nns.fine_tune(whole, (X, Y), epochs=4, class_weight=given)
    each = np.array([1.0, 3.0, 0.0])[Y]
    same = nns.fine_tune(whole, (X, Y, each), epochs=4)
    for one, other in zip(done.model.get_weights(), same.model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    by_keras = network()
    by_keras.fit(X, Y, class_weight={0: 1.0, 1: 3.0, 2: 0.0}, epochs=4, verbose=0)
    # What never counts is never said.
    for model in (by_keras, done.model):
        said = np.asarray(model(TEST[0])).argmax(axis=1)
        assert (said[TEST[1] < 2] == TEST[1][TEST[1] < 2]).mean() > 0.9
    known = TEST[1] < 2
    assert (np.asarray(done.model(TEST[0][known]))[:, 2]).mean() < 0.2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"horse": 1.0}, r"names the label 'horse', which the data does not have"),
        ({5: 1.0}, r"names the label 5"),
        ({0: -1.0}, r"finite numbers, 0 or more"),
        ({0: np.nan}, r"finite numbers, 0 or more"),
        ({0: 0, 1: 0, 2: 0}, r"not all 0"),
    ],
)
def test_class_weights_that_make_no_sense_are_refused(whole, given, said):
    with pytest.raises(nns.NNSError, match=said):
        nns.fine_tune(whole, (X, Y), class_weight=given)


def feed(y, weights, **options):
    how = {"batch_size": 50, "seed": 0, "shuffle": False, "balance": False, "constant": True}
    x = np.arange(len(y), dtype="float32")[:, None]
    batch = Batch(x, y, None if weights is None else np.asarray(weights, dtype="float64"))
    used = np.ones(len(y), dtype=bool)
    return Feed(lambda: [batch], lambda batch: (used, batch.labels), **{**how, **options})


def drawn(made):
    return np.concatenate([np.asarray(rows[0])[:, 0] for rows in made.dataset()]).astype(int)


@pytest.mark.slow
def test_what_is_drawn_is_drawn_by_weight():
    y = np.repeat([0, 1], [40, 10])
    weights = np.tile([1.0, 3.0], 25)
    plain = feed(y, weights)
    (rows,) = list(plain.dataset())
    np.testing.assert_allclose(rows[2], weights)
    for shuffle in (False, True):
        some = drawn(feed(np.tile(y, 20), np.tile(weights, 20), draw=True, shuffle=shuffle))
        assert (some % 2).mean() == pytest.approx(0.75, abs=0.02 if not shuffle else 0.05)
        both = feed(np.tile(y, 20), np.tile(weights, 20), balance=True, shuffle=shuffle)
        some = drawn(both)
        rare = np.tile(y, 20)[some] == 1
        assert rare.mean() == pytest.approx(0.5, abs=0.001 if not shuffle else 0.06)
        assert (some[rare] % 2).mean() == pytest.approx(0.75, abs=0.05 if not shuffle else 0.08)
        # Where a weight is how often it is drawn, the loss gets none.
        assert all(len(rows) == 2 for rows in both.dataset())
    assert all(len(rows) == 2 for rows in feed(y, None).dataset())


def test_answers_in_one_hot_rows_are_balanced_too():
    rows = np.eye(2, dtype="float32")[np.repeat([0, 1], [40, 10])]
    some = drawn(feed(rows, None, balance=True))
    assert (some >= 40).mean() == pytest.approx(0.5, abs=0.02)
    with pytest.raises(nns.NNSError, match="of which each sample has one"):
        drawn(feed(np.ones((10, 2)), None, balance=True))
