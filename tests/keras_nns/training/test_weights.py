"""Sample weights count as in Keras's own fit, in every training, and class weights too."""

import keras
import numpy as np
import pytest
from keras import layers

import keras_nns as nns
from keras_nns.data.batches import Batch, as_batches
from keras_nns.observation.holdout import Division
from keras_nns.training.sampling import Feed
from keras_nns.transferring import growing

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
    small = nns.cut(trained, nns.select(activity, "all", keep=nns.top(8), score="mean_activation"))
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


WEIGH = {0: 1.0, 1: 3.0, 2: 0.25}
ALL = {"epochs": 1, "batch_size": len(Y), "held_out": 0.0}
"""One step, of all samples."""


def weights_close(one, other):
    for found, wanted in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)


def one_step_of_keras(model, loss, x=X, y=Y):
    """A copy after one step of Keras's own fit, with its own class weights."""
    twin = keras.models.clone_model(model)
    twin.set_weights(model.get_weights())
    twin.compile(keras.optimizers.SGD(0.5), loss)
    twin.fit(x, y, batch_size=len(y), shuffle=False, class_weight=WEIGH, verbose=0)
    return twin


@pytest.mark.slow
def test_class_weights_of_distill_are_those_of_keras_fit(trained, whole):
    how = {**ALL, "alpha": 0.0, "optimizer": keras.optimizers.SGD(0.5)}
    found = nns.distill(whole, trained, (X, Y), class_weight=WEIGH, **how).model
    weights_close(found, one_step_of_keras(whole, "sparse_categorical_crossentropy"))
    # As sample weights are, which weigh what the parent says too.
    each = np.vectorize(WEIGH.get)(Y)
    how["alpha"] = 0.7
    found = nns.distill(whole, trained, (X, Y), class_weight=WEIGH, **how).model
    weights_close(found, nns.distill(whole, trained, (X, Y, each), **how).model)


@pytest.mark.slow
def test_weights_of_distill_multiply_what_the_parent_says(trained, whole):
    """Against the gradient of Hinton's loss by hand: KL of the softened answers, times T²."""
    each = np.random.default_rng(4).uniform(0.1, 3, len(Y))
    how = {**ALL, "alpha": 1.0, "temperature": 3.0, "optimizer": keras.optimizers.SGD(0.5)}
    found = nns.distill(whole, trained, (X, Y, each), **how).model

    def softened(model):
        p = np.asarray(model(X), np.float64)
        e = p ** (1 / 3.0)
        return e / e.sum(axis=1, keepdims=True)

    # Of the last layer alone it is short: d/dz = T (softmax(z/T) - parent's), weighed.
    change = 3.0 * (softened(whole) - softened(trained)) * each[:, None] / len(Y)
    hidden = keras.Model(whole.inputs[0], whole.layers[-1].input)(X)
    kernel, bias = whole.layers[-1].get_weights()
    new_kernel, new_bias = found.layers[-1].get_weights()
    wanted = kernel - 0.5 * np.asarray(hidden).T @ change
    np.testing.assert_allclose(new_kernel, wanted, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(new_bias, bias - 0.5 * change.sum(axis=0), rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_class_weights_of_transfer_are_those_of_keras_fit(trained):
    head = keras.Sequential([keras.Input((8,)), layers.Dense(3, activation="softmax")])
    extractor = nns.feature_extractor(trained)
    features = np.asarray(extractor(X))
    wanted = one_step_of_keras(head, "sparse_categorical_crossentropy", features)
    how = {"rates": (0.5,), "optimizer": "sgd", "class_weight": WEIGH, "head": head}
    done = nns.transfer(trained, (X, Y), **how, **ALL)
    kernel, bias = done.model.get_weights()[-2:]
    np.testing.assert_allclose(kernel, wanted.get_weights()[0], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(bias, wanted.get_weights()[1], rtol=1e-4, atol=1e-6)


@pytest.mark.slow
def test_class_weights_of_add_label_are_those_of_keras_fit(monkeypatch):
    monkeypatch.setattr(growing, "_DROPOUT", 0.0)
    known, parent = Y < 2, network(outputs=2)
    parent.fit(X[known], Y[known], epochs=2, verbose=0)
    names = ["first", "second", "third"]
    batches = as_batches((X, Y), model=parent, label_names=names, own_labels=True)
    how = {"held_out": 0.1, "seed": 0, "batch_size": 256, "label_names": None}
    fitted = list(Division(batches, None, model=parent, **how).to_fit())
    x, y = (np.concatenate([getattr(b, part) for b in fitted]) for part in ("inputs", "labels"))
    hidden = keras.Model(parent.inputs[0], parent.layers[-1].input)(x)
    # The new part reads the last hidden layer, and what that is called on.
    features = np.concatenate([hidden, x], axis=1)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    class Twin(keras.callbacks.Callback):
        """Lets Keras's own fit take the same step from the same weights."""

        def on_train_begin(self, logs=None):
            self.wanted = one_step_of_keras(self.model, loss, features, y)

        def on_train_end(self, logs=None):
            weights_close(self.model, self.wanted)

    own = {"units": 4, "optimizer": keras.optimizers.SGD(0.5), "class_weight": WEIGH}
    own |= {"epochs": 1, "batch_size": len(y), "held_out": 0.1, "callbacks": [Twin()]}
    nns.add_label(parent, (X, Y), name="third", label_names=names[:2], **own)


@pytest.mark.slow
def test_class_weights_beside_balanced_answers_are_refused(trained, whole):
    how = {"class_weight": WEIGH, "balance": True}
    for verb in (
        lambda: nns.fine_tune(whole, (X, Y), **how),
        lambda: nns.distill(whole, trained, (X, Y), **how),
        lambda: nns.transfer(whole, (X, Y), **how),
    ):
        with pytest.raises(nns.NNSError, match="Pass one of the two"):
            verb()
    with pytest.raises(nns.NNSError, match="Leave class_weight out"):
        nns.distill(whole, trained, X, class_weight=WEIGH)


@pytest.mark.slow
def test_what_is_drawn_is_drawn_by_weight():
    y = np.repeat([0, 1], [40, 10])
    weights = np.tile([1.0, 3.0], 25)
    plain = feed(y, weights)
    (rows,) = list(plain.dataset())
    np.testing.assert_allclose(rows[2], weights)
    for shuffle in (False, True):
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
