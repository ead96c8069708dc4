"""Inputs changed at random in training: what networks see, by whose seed, and what is refused."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as L

import keras_nns as nns
from keras_nns.cli.extract import AUGMENTS, augmentation
from keras_nns.training.augmentation import Augmentation

RNG = np.random.default_rng(0)
X = RNG.normal(size=(120, 8, 8, 1)).astype("float32")
Y = (X.mean((1, 2, 3)) > 0).astype(int) + 2 * (X[:, :4].mean((1, 2, 3)) > 0)


@pytest.fixture(scope="module")
def pair():
    """A network of images and a cut of it."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            L.Conv2D(6, 3, activation="relu", name="conv"),
            L.GlobalAveragePooling2D(name="pool"),
            L.Dense(4, activation="softmax", name="answer"),
        ],
        name="images",
    )
    activity = nns.observe(model, (X, Y), verbose=False)
    return model, nns.cut(model, nns.select(activity, labels=[1], keep=nns.top(3)))


def distilled(pair, augment, *, x=X, seed=0, **options):
    options = {"epochs": 2, "held_out": 0, "optimizer": "sgd"} | options
    return nns.distill(pair[1], pair[0], (x, Y), augment=augment, seed=seed, **options).model


def same(one, other):
    pairs = zip(one.get_weights(), other.get_weights(), strict=True)
    return all(np.array_equal(a, b) for a, b in pairs)


def test_both_networks_see_what_a_function_makes(pair):
    """A fixed change of the inputs is training on inputs that were changed before."""
    ours = distilled(pair, lambda images: images[:, ::-1] + 1)
    assert same(ours, distilled(pair, None, x=X[:, ::-1] + 1))
    assert not same(ours, distilled(pair, None))


def test_what_is_held_out_is_not_changed(pair):
    seen = []

    def watched(images):
        seen.append(images.copy())
        return images

    options = {"epochs": 3, "held_out": 0.25, "batch_size": 30, "balance": False}
    options |= {"optimizer": "sgd"}
    ours = nns.distill(pair[1], pair[0], (X, Y), augment=watched, **options)
    assert same(ours.model, distilled(pair, None, **options))
    held = {image.tobytes() for image in X} - {image.tobytes() for image in np.concatenate(seen)}
    assert len(held) == ours.held_out == len(X) - ours.samples
    assert all(isinstance(batch, np.ndarray) for batch in seen)


def test_a_layer_draws_by_the_seed_and_stays_as_it_was(pair):
    layer = L.RandomFlip("vertical")
    before = [np.asarray(state) for state in layer.variables]
    ours = distilled(pair, layer)
    assert same(ours, distilled(pair, layer))
    assert same(ours, distilled(pair, L.RandomFlip("vertical", seed=7)))
    assert not same(ours, distilled(pair, None))
    assert not same(ours, distilled(pair, layer, seed=1))
    for state, was in zip(layer.variables, before, strict=True):
        np.testing.assert_array_equal(np.asarray(state), was)


def test_every_epoch_draws_anew_and_the_same_in_every_training():
    made = Augmentation(keras.Sequential([L.GaussianNoise(0.5), L.GaussianNoise(1.0)]), 5)
    again = Augmentation(keras.Sequential([L.GaussianNoise(0.5), L.GaussianNoise(1.0)]), 5)
    first, second = made.begun(0)(X), made(X)
    assert not np.array_equal(first, second)
    third = made.begun(1)(X)
    np.testing.assert_array_equal(third, again.begun(1)(X))
    np.testing.assert_array_equal(first, again.begun(0)(X))
    # The noise of two layers adds up: they do not draw the same.
    assert np.std(first - X) == pytest.approx(np.sqrt(1.25), rel=0.02)


def test_layers_with_weights_keep_them():
    layer = L.Normalization()
    layer.adapt(X)
    made = Augmentation(layer, 0).begun(0)(X)
    np.testing.assert_allclose(made, (X - X.mean()) / X.std(), atol=1e-5)


def test_whole_numbers_are_rounded():
    pixels = RNG.integers(0, 256, (40, 8, 8, 1)).astype("uint8")
    made = Augmentation(lambda images: images.astype("float32") * 1.5 - 20.4, 0)(pixels)
    assert made.dtype == np.uint8
    np.testing.assert_array_equal(made, np.clip(np.rint(pixels * 1.5 - 20.4), 0, 255))


def test_inputs_keep_their_structure():
    given = {"left": X, "right": X[:, 0, 0]}
    made = Augmentation(lambda inputs: inputs | {"right": inputs["right"] * 2}, 0)(given)
    np.testing.assert_array_equal(made["right"], X[:, 0, 0] * 2)
    with pytest.raises(nns.errors.SurgeryError, match="shape that it is given"):
        Augmentation(lambda inputs: inputs["left"], 0)(given)


@pytest.mark.parametrize(
    ("augment", "message"),
    [
        (3, "a Keras layer, such as"),
        (lambda images: images[:5], r"shape that it is given, \(.*It returned \(5, 8, 8, 1\)"),
        (lambda images: None, "shape that it is given"),
        (lambda images: [images], "shape that it is given"),
        (L.RandomCrop(4, 4), r"It returned \(\d+, 4, 4, 1\)"),
    ],
)
def test_what_is_no_augmentation_is_refused(pair, augment, message):
    with pytest.raises(nns.errors.SurgeryError, match=message):
        distilled(pair, augment)


def test_fine_tune_takes_it_too(pair):
    small, options = pair[1], {"held_out": 0, "seed": 3}
    ours = nns.fine_tune(small, X, Y, augment=lambda images: images * 2, **options).model
    assert same(ours, nns.fine_tune(small, X * 2, Y, **options).model)


def test_targets_of_pixels_need_the_parent_alone():
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            L.Conv2D(4, 3, padding="same", activation="relu", name="conv"),
            L.Conv2D(3, 1, activation="softmax", name="answer"),
        ]
    )
    y = RNG.integers(0, 3, (120, 8, 8))
    small = nns.cut(model, nns.select(nns.observe(model, (X, y), verbose=False), keep=nns.top(2)))
    flip = L.RandomFlip("horizontal")
    for call in (
        lambda: nns.distill(small, model, (X, y), augment=flip),
        lambda: nns.fine_tune(small, X, y, augment=flip),
    ):
        with pytest.raises(nns.errors.SurgeryError, match="would no longer lie where they belong"):
            call()
    assert nns.distill(small, model, (X, y), augment=flip, alpha=1.0).best_epoch >= 0


def test_extract_and_sweep_hand_it_on(pair):
    called = []

    def watched(images):
        called.append(len(images))
        return images

    options = {"labels": 1, "repair": False, "verbose": False}
    small = nns.extract(
        pair[0], (X, Y), budget="parameters=40", distill_epochs=1, augment=watched, **options
    )
    assert small.trained is not None
    assert called
    called.clear()
    nns.sweep(pair[0], (X, Y), sizes=[0.5], distill_epochs=1, augment=watched, **options)
    assert called
    for call in (nns.extract, nns.sweep):
        more = {"budget": "parameters=40"} if call is nns.extract else {"sizes": [0.5]}
        with pytest.raises(nns.errors.SurgeryError, match="Pass distill_epochs"):
            call(pair[0], (X, Y), augment=watched, **options, **more)


def test_names_of_the_shell_are_layers_that_keep_shapes():
    assert augmentation([]) is None
    for name in AUGMENTS:
        made = Augmentation(augmentation([name]), 0).begun(0)(X)
        assert made.shape == X.shape
        assert not np.array_equal(made, X)
    both = augmentation(["flip", "shift"])
    assert [type(layer).__name__ for layer in both.layers] == ["RandomFlip", "RandomTranslation"]
