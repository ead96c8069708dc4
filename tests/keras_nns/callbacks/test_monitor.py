"""ActivityMonitor: watching given data, gathering inside the training step, leaving no trace."""

from __future__ import annotations

from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import keras_nns as nns
from keras_nns.callbacks import live

SAMPLES = 200


@pytest.fixture
def data():
    random = np.random.default_rng(0)
    x = random.normal(size=(SAMPLES, 8)).astype("float32")
    return x, (x[:, 0] > 0) + 2 * (x[:, 1] > 0).astype("int64")


@pytest.fixture
def model():
    model = keras.Sequential(
        [
            keras.Input((8,)),
            layers.Dense(12, activation="relu", name="first"),
            layers.Dropout(0.5),
            layers.Dense(6, activation="tanh", name="second"),
            layers.Dense(4, activation="softmax", name="answer"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model


def fit(model, data, *callbacks, epochs=1, **settings):
    model.fit(*data, epochs=epochs, verbose=0, batch_size=32, callbacks=list(callbacks), **settings)


@pytest.mark.slow
def test_given_data_gives_what_observe_gives_after_training(model, data):
    monitor = nns.ActivityMonitor(data=data)
    fit(model, data, monitor, epochs=2)
    assert monitor.activity == nns.observe(model, data)


@pytest.mark.slow
def test_activity_is_of_the_final_weights_whatever_every_says(model, data):
    monitor = nns.ActivityMonitor(data=data, every=2, keep_history=True)
    fit(model, data, monitor, epochs=3)
    assert monitor.activity.fingerprint == nns.fingerprint(model)
    assert list(monitor.history) == [1, 2]
    assert monitor.history[1] != monitor.history[2]


@pytest.mark.slow
def test_restored_best_weights_are_watched_again(model, data):
    stop = keras.callbacks.EarlyStopping(monitor="loss", patience=0, restore_best_weights=True)
    monitor = nns.ActivityMonitor(data=data)
    model.optimizer.learning_rate = 5.0
    fit(model, data, stop, monitor, epochs=6)
    assert monitor.activity.fingerprint == nns.fingerprint(model)


@pytest.mark.slow
def test_training_is_the_same_with_and_without(data):
    def trained(*callbacks):
        keras.utils.set_random_seed(1)
        inputs = keras.Input((8,))
        x = layers.Dense(12, activation="relu")(inputs)
        x = layers.Dropout(0.3)(x)
        net = keras.Model(inputs, layers.Dense(4, activation="softmax")(x))
        net.compile("adam", "sparse_categorical_crossentropy")
        fit(net, data, *callbacks, epochs=2, shuffle=False)
        return net.get_weights()

    plain = trained()
    for monitor in (nns.ActivityMonitor(), nns.ActivityMonitor(data=data)):
        for one, other in zip(plain, trained(monitor), strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_gathering_sees_every_training_sample_once(model, data):
    monitor = nns.ActivityMonitor()
    fit(model, data, monitor, epochs=3)
    np.testing.assert_array_equal(monitor.activity.samples, np.bincount(data[1], minlength=4))


@pytest.mark.slow
@pytest.mark.parametrize("form", ["numbers", "one-hot"])
def test_samples_of_weight_0_are_not_gathered(model, data, form):
    x, y = data
    weights = np.where(np.arange(SAMPLES) % 3 == 0, 0.0, 1.0 + y)
    model.optimizer.learning_rate = 0.0
    if form == "one-hot":
        model.compile(keras.optimizers.SGD(0.0), "categorical_crossentropy")
    what = ("mean", "maximum")
    monitor = nns.ActivityMonitor(statistics=what)
    truth = np.eye(4, dtype="float32")[y] if form == "one-hot" else y
    fit(model, (x, truth), monitor, sample_weight=weights)
    np.testing.assert_array_equal(
        monitor.activity.samples, np.bincount(y[weights > 0], minlength=4)
    )
    used = weights > 0
    seen = nns.observe(model, (x[used], y[used]), statistics=what, verbose=False)
    ours, theirs = (one.layers["first"].maximum for one in (monitor.activity, seen))
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


@pytest.mark.slow
def test_gathering_equals_observing_when_nothing_moves(data):
    """Without dropout and with a learning rate of zero, training and inference are the same."""
    inputs = keras.Input((8, 1))
    x = layers.Conv1D(5, 3, name="conv")(inputs)
    x = layers.ReLU()(x)
    shared = layers.Dense(5, activation="gelu", name="shared")
    x = layers.Add()([shared(x), shared(layers.Identity()(x))])
    x = layers.GlobalAveragePooling1D()(x)
    net = keras.Model(inputs, layers.Dense(4)(x))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    net.compile(keras.optimizers.SGD(0.0), loss)
    monitor = nns.ActivityMonitor(statistics=("fired", "mean", "variance", "maximum"))
    x, y = data
    fit(net, (x[..., None], y), monitor)
    seen = nns.observe(net, (x[..., None], y), statistics=monitor.activity.statistics)
    assert set(seen.layers) == {"conv", "shared"}
    for name in seen.layers:
        for what in ("mean", "magnitude", "firing_rate", "variance", "maximum"):
            np.testing.assert_allclose(
                getattr(monitor.activity, what)(name),
                getattr(seen, what)(name),
                rtol=1e-4,
                atol=1e-6,
            )


@pytest.mark.slow
@pytest.mark.parametrize("form", ["one-hot", "column", "floats"])
def test_gathering_reads_labels_in_every_form(model, data, form):
    x, y = data
    if form == "one-hot":
        model.compile("adam", "categorical_crossentropy")
        targets = keras.utils.to_categorical(y, 4)
    else:
        targets = y[:, None] if form == "column" else y.astype("float32")
    monitor = nns.ActivityMonitor()
    fit(model, (x, targets), monitor)
    np.testing.assert_array_equal(monitor.activity.samples, np.bincount(y, minlength=4))


@pytest.mark.slow
def test_gathering_leaves_no_trace_in_the_model(model, data):
    before = {layer.name: set(vars(layer)) for layer in model.layers}
    nodes = {layer.name: len(layer._inbound_nodes) for layer in model.layers}
    monitor = nns.ActivityMonitor()
    fit(model, data, monitor)
    seen = monitor.activity.samples.copy()
    assert {layer.name: set(vars(layer)) for layer in model.layers} == before
    assert {layer.name: len(layer._inbound_nodes) for layer in model.layers} == nodes
    assert "train_step" not in vars(model)
    fit(model, data)
    np.testing.assert_array_equal(monitor.activity.samples, seen)


@pytest.mark.slow
def test_an_interrupted_training_step_puts_the_model_back(model, data):

    def interrupted(x, y):
        for _ in range(4):
            yield x[:32], y[:32]
        raise KeyboardInterrupt

    fit(model, data)
    plain = model.train_function
    with pytest.raises((KeyboardInterrupt, tf.errors.OpError)):
        model.fit(
            interrupted(*data),
            epochs=1,
            verbose=0,
            shuffle=False,
            steps_per_epoch=8,
            callbacks=[nns.ActivityMonitor()],
        )
    assert model.train_function is plain


@pytest.mark.slow
def test_tensorboard_gets_histograms_and_pictures(model, data, tmp_path):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    fit(model, data, nns.ActivityMonitor(data=data, log_dir=tmp_path), epochs=2)
    events = EventAccumulator(str(tmp_path), size_guidance={"tensors": 0})
    events.Reload()
    tags = events.Tags()["tensors"]
    assert {"first/mean activation", "first/firing rate", "first/label × unit"} <= set(tags)
    assert [e.step for e in events.Tensors("second/mean activation")] == [0, 1]


def test_a_generator_is_refused_before_training(model, data):
    generator = ((data[0][i : i + 20], data[1][i : i + 20]) for i in range(0, SAMPLES, 20))
    before = model.get_weights()
    with pytest.raises(nns.errors.DataError, match="only once"):
        fit(model, data, nns.ActivityMonitor(data=generator))
    for one, other in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def test_targets_without_labels_are_refused(data):
    net = keras.Sequential([keras.Input((8,)), layers.Dense(4, activation="relu"), layers.Dense(3)])
    net.compile("sgd", "mse")
    targets = np.zeros((SAMPLES, 3, 2), "float32")
    net2 = keras.Sequential([*net.layers, layers.Reshape((3, 1))])
    net2.build((None, 8))
    net2.compile("sgd", "mse")
    with pytest.raises(nns.errors.DataError, match="label"):
        fit(net2, (data[0], targets), nns.ActivityMonitor())


@pytest.mark.slow
def test_labels_the_model_does_not_have_are_refused(data):
    net = keras.Sequential([keras.Input((8,)), layers.Dense(4, activation="relu"), layers.Dense(3)])
    net.compile("sgd", lambda y, p: tf.reduce_mean(tf.square(p), axis=-1))
    with pytest.raises(nns.errors.DataError, match="do not have"):
        fit(net, data, nns.ActivityMonitor())


def test_every_below_one_is_refused():
    with pytest.raises(nns.errors.SelectionError, match="every"):
        nns.ActivityMonitor(every=0)


@pytest.mark.slow
def test_layers_by_name(model, data):
    monitor = nns.ActivityMonitor(layers=["second"])
    fit(model, data, monitor)
    assert list(monitor.activity.layers) == ["second"]
    with pytest.raises(nns.errors.SelectionError, match="first"):
        fit(model, data, nns.ActivityMonitor(layers=["nonsense"]))


@pytest.mark.slow
def test_mixed_precision_and_several_steps_per_execution(data):
    inputs = keras.Input((8,))
    x = layers.Dense(12, activation="relu", dtype="mixed_float16", name="half")(inputs)
    net = keras.Model(inputs, layers.Dense(4, activation="softmax", dtype="float32")(x))
    net.compile(keras.optimizers.SGD(0.0), "sparse_categorical_crossentropy", steps_per_execution=3)
    monitor = nns.ActivityMonitor()
    fit(net, data, monitor)
    seen = nns.observe(net, data)
    np.testing.assert_array_equal(monitor.activity.samples, seen.samples)
    np.testing.assert_allclose(monitor.activity.mean("half"), seen.mean("half"), rtol=2e-3)


def test_an_activity_that_is_not_there_yet_is_a_message():
    with pytest.raises(nns.errors.DataError, match=r"callbacks=\[monitor\]"):
        nns.ActivityMonitor().activity  # noqa: B018


def test_a_model_that_several_processes_train_is_refused(model, monkeypatch):
    """Keras 3.15.1 fails in such a `fit` before it calls anything; a later one may not."""
    several = SimpleNamespace(workers=2)
    monkeypatch.setattr("keras_nns.callbacks.gathering.replica_count", lambda _: 4)
    monkeypatch.setattr("keras_nns.callbacks.gathering.Replicas", lambda _: several)
    monitor = nns.ActivityMonitor()
    monitor.set_model(model)
    with pytest.raises(nns.errors.ModelError, match="one process trains, and 2 train this one"):
        monitor.on_train_begin()


class Notebook:
    """What is displayed, by number, and how often it was renewed."""

    def __init__(self):
        self.pictures, self.renewed = [], 0

    def get_ipython(self):
        return self

    def Image(self, data):
        return data

    def display(self, picture, display_id):
        assert display_id
        self.pictures.append(picture)
        place = len(self.pictures) - 1
        return SimpleNamespace(update=lambda new: self.renew(place, new))

    def renew(self, place, picture):
        self.pictures[place] = picture
        self.renewed += 1


@pytest.mark.slow
def test_a_notebook_shows_one_picture_a_layer_and_renews_it(model, data, monkeypatch):
    book = Notebook()
    monkeypatch.setattr(live, "import_module", lambda name: book)
    monitor = nns.ActivityMonitor(data=data, live="first")
    fit(model, data, monitor, epochs=3)
    assert (len(book.pictures), book.renewed) == (1, 2)
    assert book.pictures[0].startswith(b"\x89PNG")
    fit(model, data, monitor, epochs=1)
    assert len(book.pictures) == 2
    with pytest.raises(nns.errors.SelectionError, match="not watched"):
        fit(model, data, nns.ActivityMonitor(data=data, live=["hiden"]))


def test_live_pictures_want_a_notebook(monkeypatch):
    monkeypatch.setattr(
        live, "import_module", lambda name: SimpleNamespace(get_ipython=lambda: None)
    )
    with pytest.raises(nns.errors.SelectionError, match="notebook"):
        nns.ActivityMonitor(live="first")
