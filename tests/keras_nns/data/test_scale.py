"""Wrong scaling is found by what the model answers, and never blamed without evidence."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from sklearn.datasets import load_digits

import keras_nns as nns
from keras_nns.data.batches import Batch
from keras_nns.data.named import load_dataset
from keras_nns.data.scale import check_scale
from keras_nns.errors import DataError


def blobs(rng, labels, size, width=20):
    """Samples 0..255, one cluster for each label, each brighter than the one before."""
    brightness = np.linspace(30, 220, labels)[:, None]
    centres = brightness + rng.uniform(-20, 20, (labels, width))
    y = np.sort(np.concatenate([np.arange(labels), rng.integers(0, labels, size - labels)]))
    return (centres[y] + rng.uniform(-5, 5, (size, width))).astype(np.float32), y


def nearest_centre_model(x, y, labels):
    """A model that is right on x: it chooses the label whose centre is nearest."""
    centres = np.stack([x[y == label].mean(axis=0) for label in range(labels)])
    model = keras.Sequential([keras.Input(x.shape[1:]), keras.layers.Dense(labels)])
    model.layers[0].set_weights([2 * centres.T, -(centres**2).sum(axis=1)])
    return model


SCALES = {
    "0..255": lambda x: x,
    "0..1": lambda x: x / 255,
    "-1..1": lambda x: x / 127.5 - 1,
}


@pytest.mark.parametrize(
    ("trained", "given", "words"),
    [
        ("0..1", "0..255", "divided by 255 on 100%. Pass x / 255,"),
        ("-1..1", "0..255", r"scaled to -1..1 on 100%. Pass x / 127.5 - 1,"),
        ("0..255", "0..1", r"multiplied by 255 on 100%. Pass x \* 255,"),
        ("0..1", "0..1", None),
        ("-1..1", "-1..1", None),
        ("0..255", "0..255", None),
    ],
)
@pytest.mark.parametrize("multi_hot", [False, True])
def test_the_scale_of_training_is_found(trained, given, words, multi_hot):
    x, y = blobs(np.random.default_rng(1), 8, 64)
    model = nearest_centre_model(SCALES[trained](x), y, 8)
    labels = np.eye(8, dtype=bool)[y] if multi_hot else y
    batch = Batch(SCALES[given](x).astype(np.float32), labels)
    if words is None:
        check_scale(model, batch.inputs, batch.labels)
        return
    with pytest.raises(DataError, match=rf"as given \(range .* of 64 samples, {words}"):
        check_scale(model, batch.inputs, batch.labels)


@pytest.mark.slow
def test_a_scale_that_leaves_a_model_half_right_is_found(tmp_path, monkeypatch):
    """A network of ReLU answers much the same on another scale, and worse."""
    pixels, y = load_digits(return_X_y=True)
    pixels = np.round(pixels * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Flatten(),
            keras.layers.Dense(
                48, activation="relu", bias_initializer=keras.initializers.RandomNormal(stddev=0.5)
            ),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    x = pixels.astype(np.float32)
    model.fit(x, y, epochs=8, verbose=0)
    right = model.evaluate(x, y, verbose=0)[1]
    divided = model.evaluate(x / 255, y, verbose=0)[1]
    assert 0.5 < divided < right - 0.2
    assert nns.evaluate(model, x, y).accuracy == pytest.approx(right)
    monkeypatch.chdir(tmp_path)
    np.savez("digits.npz", x=pixels, y=y)
    for data in ((x / 255, y), ("digits.npz",)):
        with pytest.raises(DataError, match="as it stores them"):
            nns.evaluate(model, *data)


@pytest.mark.slow
def test_a_model_that_scales_in_a_model_of_its_own_is_given_what_it_wants(tmp_path, monkeypatch):
    pixels, y = load_digits(return_X_y=True)
    pixels = np.round(pixels * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8, 1)
    inputs = keras.Input((8, 8, 1))
    prepare = keras.Sequential([keras.Input((8, 8, 1)), keras.layers.Rescaling(1 / 255)])
    hidden = keras.layers.Dense(48, activation="relu")(keras.layers.Flatten()(prepare(inputs)))
    model = keras.Model(inputs, keras.layers.Dense(10, activation="softmax")(hidden))
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    x = pixels.astype(np.float32)
    model.fit(x, y, epochs=6, verbose=0)
    monkeypatch.chdir(tmp_path)
    np.savez("digits.npz", x=pixels, y=y)
    found = nns.evaluate(model, "digits.npz").accuracy
    assert found == pytest.approx(model.evaluate(x, y, verbose=0)[1])


def test_the_user_s_own_wrong_labels_are_not_blamed_on_the_scale():
    rng = np.random.default_rng(2)
    x, y = blobs(rng, 8, 64)
    model = nearest_centre_model(x / 255, y, 8)
    check_scale(model, x, rng.permutation(y))


def test_too_little_evidence_says_nothing():
    x, y = blobs(np.random.default_rng(1), 8, 64)
    model = nearest_centre_model(x / 255, y, 8)
    sixteen = np.arange(0, 64, 4)
    with pytest.raises(DataError, match="of 16 samples"):
        check_scale(model, x[sixteen], y[sixteen])
    check_scale(model, x[sixteen[1:]], y[sixteen[1:]])
    few = np.flatnonzero(y < 4)
    assert len(few) >= 16
    check_scale(model, x[few], y[few])


@pytest.mark.slow
@pytest.mark.parametrize("bias", ["zeros", "random_normal"])
def test_an_untrained_model_is_never_refused(bias):
    rng = np.random.default_rng(3)
    for seed in range(40):
        keras.utils.set_random_seed(seed)
        labels = int(rng.choice([1, 2, 5, 10]))
        hidden = [
            keras.layers.Dense(
                int(rng.integers(8, 64)),
                rng.choice(["relu", "tanh", "sigmoid", "gelu"]).item(),
                bias_initializer=bias,
            )
            for _ in range(rng.integers(0, 3))
        ]
        norm = [keras.layers.BatchNormalization()] if seed % 3 == 0 else []
        head = keras.layers.Dense(labels, bias_initializer=bias)
        model = keras.Sequential([keras.Input((20,)), *hidden, *norm, head])
        x, y = blobs(rng, max(labels, 2), 64)
        for scaled in (x, x / 255):
            check_scale(model, scaled, y)


def test_a_trained_body_with_an_untrained_head_is_not_refused():
    x, y = blobs(np.random.default_rng(1), 8, 64)
    body = nearest_centre_model(x / 255, y, 8)
    model = keras.Sequential([keras.Input((20,)), body, keras.layers.Dense(8, use_bias=True)])
    model.layers[-1].set_weights([np.eye(8), np.zeros(8)])
    check_scale(model, x, y)
    model.layers[-1].set_weights([np.eye(8), np.full(8, 1e-3)])
    with pytest.raises(DataError, match="x / 255"):
        check_scale(model, x, y)


def _stateful():
    inputs = keras.Input(batch_shape=(64, 20))
    hidden = keras.layers.Reshape((20, 1))(inputs)
    return keras.Model(inputs, keras.layers.Dense(8)(keras.layers.GRU(4, stateful=True)(hidden)))


def _tokens():
    inputs = keras.Input((20,))
    hidden = keras.layers.Flatten()(keras.layers.Embedding(256, 4)(inputs))
    return keras.Model(inputs, keras.layers.Dense(8)(hidden))


def _two_inputs():
    inputs = [keras.Input((20,)), keras.Input((20,))]
    return keras.Model(inputs, keras.layers.Dense(8)(keras.layers.Concatenate()(inputs)))


def _sequence():
    inputs = keras.Input((5, 4))
    return keras.Model(inputs, keras.layers.Dense(8)(inputs))


@pytest.mark.parametrize("make", [_stateful, _tokens, _two_inputs, _sequence])
def test_models_whose_answers_show_no_scale_are_not_called(make, monkeypatch):
    model = make()
    for layer in model.layers:  # As after training.
        layer.set_weights([w + 0.1 for w in layer.get_weights()])
    x, y = blobs(np.random.default_rng(1), 8, 64)
    inputs = {2: [x, x]}.get(len(model.inputs), x.reshape(64, *model.inputs[0].shape[1:]))
    monkeypatch.setattr(model, "call", None)
    check_scale(model, inputs, y)


@pytest.mark.slow
def test_a_model_trained_by_others(shared_data):
    model = keras.models.load_model(
        shared_data / "models" / "cifar10_resnet8_mlperftiny.h5", compile=False
    )
    raw = load_dataset(shared_data / "cifar10" / "test200_lossless.npz", scale=False)
    batch = Batch(raw.x_train, raw.y_train)
    check_scale(model, batch.inputs, batch.labels)
    with pytest.raises(DataError, match=r"multiplied by 255 on \d\d%"):
        check_scale(model, batch.inputs / np.float32(255), batch.labels)
