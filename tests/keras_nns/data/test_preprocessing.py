"""Pictures are scaled where the model does not do it itself."""

from __future__ import annotations

import json

import keras
import numpy as np
import pytest
from keras import layers

import keras_nns as nns
from keras_nns.cli import main
from keras_nns.data.batches import as_batches
from keras_nns.data.named import load_dataset
from keras_nns.data.preprocessing import rescaled_by
from keras_nns.errors import DataWarning
from keras_nns.shipping.tflite_files import labelled_samples

SIDE = 32

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning",
    # Elsewhere in the tests models of random weights are not named; here it is what is tested.
    "error:Model '.*' answers this data as by chance",
)


def behind(*first):
    return keras.Sequential(
        [keras.Input((SIDE, SIDE, 3)), *first, layers.Conv2D(2, 3), layers.Flatten()]
    )


def by_function(name):
    inputs = keras.Input((SIDE, SIDE, 3))
    scaled = getattr(keras.applications, name).preprocess_input(inputs)
    return keras.Model(inputs, layers.Conv2D(2, 3)(scaled))


def application(name):
    return getattr(keras.applications, name)(weights=None, input_shape=(SIDE, SIDE, 3), classes=3)


# Whether a model takes pixels of 0..255; Keras's documentation says so of its applications.
TAKES_WHOLE = {
    "nothing": (behind, False),
    "flip alone": (lambda: behind(layers.RandomFlip(seed=1)), False),
    "1 / 255": (lambda: behind(layers.Rescaling(1 / 255)), True),
    "behind others": (
        lambda: behind(
            layers.RandomFlip(seed=1), layers.ZeroPadding2D(), layers.Rescaling(1 / 127.5, -1)
        ),
        True,
    ),
    "0..1 to -1..1": (lambda: behind(layers.Rescaling(2, -1)), False),
    "normalised 0..255": (
        lambda: behind(layers.Normalization(mean=[120.0] * 3, variance=[4e3] * 3)), True
    ),
    "normalised 0..1": (
        lambda: behind(layers.Normalization(mean=[0.5] * 3, variance=[0.08] * 3)), False
    ),
    "vgg16.preprocess_input": (lambda: by_function("vgg16"), True),
    "mobilenet_v2.preprocess_input": (lambda: by_function("mobilenet_v2"), True),
    "densenet.preprocess_input": (lambda: by_function("densenet"), True),
    "EfficientNetB0": (lambda: application("EfficientNetB0"), True),
    "MobileNetV3Small": (lambda: application("MobileNetV3Small"), True),
    "MobileNetV2": (lambda: application("MobileNetV2"), False),
    "inside a Sequential": (
        lambda: keras.Sequential(
            [
                keras.Input((SIDE, SIDE, 3)),
                layers.RandomFlip(seed=1),
                application("MobileNetV3Small"),
            ]
        ),
        True,
    ),
    "whole numbers": (
        lambda: keras.Sequential(
            [keras.Input((SIDE, SIDE, 3), dtype="uint8"), layers.Rescaling(1), layers.Flatten()]
        ),
        True,
    ),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("case", TAKES_WHOLE)
def test_what_stands_behind_the_input_is_found(case):
    make, expected = TAKES_WHOLE[case]
    model = make()
    before = [variable.numpy() for variable in model.variables]
    assert (rescaled_by(model, 255.0) is not None) is expected
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)


def test_whole_numbers_up_to_something_else():
    digits = keras.Sequential(
        [keras.Input((8, 8, 1)), layers.Rescaling(1 / 16), layers.Flatten(), layers.Dense(3)]
    )
    assert "'rescaling" in str(rescaled_by(digits, 16.0))
    two = [keras.Input((8, 8, 1)), keras.Input((8, 8, 1))]
    both = keras.Model(two, layers.Add()([layers.Rescaling(1 / 255)(x) for x in two]))
    assert rescaled_by(both, 255.0) is None


@pytest.fixture(scope="module")
def colours():
    """Pictures 0..255 of three colours, and which."""
    random = np.random.default_rng(4)
    y = np.arange(240) % 3
    x = random.integers(0, 120, (240, 8, 8, 3))
    x[np.arange(240), :, :, y] += 100
    return x.astype("uint8"), y


def trained(colours, *first):
    keras.utils.set_random_seed(2)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            *first,
            layers.Conv2D(6, 3, activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(3, activation="softmax"),
        ]
    )
    loss = "sparse_categorical_crossentropy"
    model.compile(keras.optimizers.Adam(0.02), loss, metrics=["accuracy"])
    x = colours[0].astype("float32")
    model.fit(x if first else x / 255, colours[1], epochs=12, verbose=0)
    return model


@pytest.fixture(scope="module")
def rescaling(colours):
    return trained(colours, layers.Rescaling(1 / 255))


@pytest.fixture(scope="module")
def plain(colours):
    return trained(colours)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["npz", "folder", "parts"])
@pytest.mark.parametrize("which", ["rescaling", "plain"])
def test_a_file_is_judged_as_keras_judges_it(form, which, colours, request, tmp_path, capsys):
    model, (x, y) = request.getfixturevalue(which), colours
    given = x.astype("float32") / (1 if which == "rescaling" else 255)
    _, right = model.evaluate(given, y, verbose=0)
    assert right > 0.9
    if form == "folder":
        path = tmp_path / "pictures"
        for name, label in (("blue", 2), ("green", 1), ("red", 0)):
            (path / name).mkdir(parents=True)
            for i in np.flatnonzero(y == label):
                keras.utils.save_img(path / name / f"{i:03d}.png", x[i], scale=False)
        names = ["red", "green", "blue"]
    else:
        path, names = tmp_path / "pictures.npz", ["0", "1", "2"]
        parts = {"x_train": x, "y_train": y, "x_test": x, "y_test": y}
        np.savez(path, **({"x": x, "y": y} if form == "npz" else parts))
    part = "test" if form == "parts" else None
    batches = as_batches(path, model=model, label_names=names, part=part)
    found = np.concatenate([np.asarray(batch.inputs) for batch in batches])
    assert found.max() == (x.max() if which == "rescaling" else pytest.approx(x.max() / 255))
    (note,) = batches.notes
    assert ("left in 0..255" in note) is (which == "rescaling")
    assert ("'rescaling" in note) is (which == "rescaling")
    if form != "parts":
        assert nns.evaluate(model, path, label_names=names).accuracy == pytest.approx(right)
    nns.save_model(model, tmp_path / "model.keras")
    capsys.readouterr()
    arguments = ["evaluate", str(tmp_path / "model.keras"), str(path), "--json"]
    arguments += ["--label-names", ",".join(names)] if form == "folder" else []
    assert main(arguments) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["accuracy"] == pytest.approx(right)
    assert (shown.err.count("left in 0..255") == 1) is (which == "rescaling")
    if which == "rescaling":  # Told so by hand, the command did it before.
        assert main([*arguments, "--no-scale"]) == 0
        assert json.loads(capsys.readouterr().out)["accuracy"] == pytest.approx(right)


@pytest.mark.slow
@pytest.mark.parametrize("verb", [nns.observe, nns.evaluate])
def test_a_model_that_answers_by_chance_is_named(verb, rescaling, plain, colours):
    x, y = colours
    with pytest.warns(DataWarning, match=r"multiplied by 255 .* on \d+%\. Pass x \* 255"):
        verb(rescaling, x / np.float32(255), y)
    order = np.random.default_rng(0).permutation(len(y))
    with pytest.warns(DataWarning, match=r"as by chance.*label numbers are those of its outputs"):
        verb(plain, x / np.float32(255), y[order])
    # No word where it knows its labels, in a sorted set neither.
    verb(plain, x / np.float32(255), y)
    place = np.argsort(y)
    verb(plain, x[place] / np.float32(255), y[place])


@pytest.mark.slow
def test_the_way_to_warn_of_chance_in_other_verbs(rescaling, colours):
    x, y = colours[0] / np.float32(255), colours[1]
    with pytest.warns(DataWarning, match="as by chance"):
        nns.extract(rescaling, (x, y), labels=[1], budget=nns.Budget(parameters=60))
    activity = nns.observe(rescaling, colours[0].astype("float32"), y, verbose=False)
    small = nns.cut(rescaling, nns.select(activity, 1, keep=nns.top(3), score="mean_activation"))
    with pytest.warns(DataWarning, match="as by chance"):
        nns.compare(rescaling, small, x, y, allow_overlap=True)
    with pytest.warns(DataWarning, match="as by chance"):
        labelled_samples(rescaling, (x, y), 100)  # As an export takes them.


def test_digits_stay_as_before():
    assert load_dataset("digits").x_train.max() == 1
    assert load_dataset("digits", scale=lambda white: white != 16).x_train.max() == 16
