"""Labels that are names are numbered as the model numbers them, or the user is asked."""

from __future__ import annotations

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from sklearn.preprocessing import LabelEncoder

import keras_nns as nns
from keras_nns.data.batches import as_batches
from keras_nns.data.named import load_dataset
from keras_nns.data.order import check_splits
from keras_nns.errors import DataError

SIZES = ["small", "medium", "large"]


def blobs(labels, size, seed=0):
    """Samples around one point for each label, and the label's number."""
    random = np.random.default_rng(seed)
    y = np.arange(size) % labels
    x = np.eye(labels)[y] * 4 + random.normal(0, 1, (size, labels))
    return x.astype("float32"), y


def trained(labels, *, bias=0.25, order=None):
    """A model that answers the label whose axis is longest, its outputs in an order."""
    model = keras.Sequential([keras.Input((labels,)), keras.layers.Dense(labels)])
    kernel = np.eye(labels)[:, range(labels) if order is None else order]
    model.set_weights([kernel, np.full(labels, bias)])
    return model


FORMS = {
    "Series": lambda names: pd.Series(pd.Categorical(names, SIZES, ordered=True)),
    "Categorical": lambda names: pd.Categorical(names, SIZES, ordered=True),
    "unordered": lambda names: pd.Categorical(names, SIZES),
    "index": lambda names: pd.CategoricalIndex(names, SIZES),
    "frame": lambda names: pd.DataFrame({"size": pd.Categorical(names, SIZES)}),
    "Series of another index": lambda names: pd.Series(
        pd.Categorical(names, SIZES), index=range(100, 100 + len(names))
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_categories_come_in_their_own_order(form):
    x, y = blobs(3, 90)
    data = FORMS[form](np.array(SIZES)[y])
    codes = pd.Series(pd.Categorical(np.array(SIZES)[y], SIZES)).cat.codes
    batches = as_batches((x, data), model=trained(3), batch_size=40)
    assert batches.label_names == ("small", "medium", "large")
    np.testing.assert_array_equal(np.concatenate([b.labels for b in batches]), codes)
    parts = nns.split(x, data)
    (part,) = read = as_batches(parts.test, model=trained(3))
    assert read.label_names == ("small", "medium", "large")
    places = [x.tolist().index(row) for row in part.inputs.tolist()]
    np.testing.assert_array_equal(part.labels, codes[places])


@pytest.mark.slow
def test_an_ordered_category_is_judged_as_keras_judges_its_codes():
    x, y = blobs(3, 300)
    model = trained(3)
    data = pd.Series(pd.Categorical(np.array(SIZES)[y], SIZES, ordered=True))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(loss=loss, metrics=["sparse_categorical_accuracy"])
    _, right = model.evaluate(x, data.cat.codes.to_numpy(), verbose=0)
    assert right > 0.9
    assert nns.evaluate(model, x, data).accuracy == pytest.approx(right)


def test_names_that_are_given_win_over_categories():
    x, y = blobs(3, 30)
    data = pd.Categorical(np.array(SIZES)[y], [*SIZES, "huge"], ordered=True)
    with pytest.raises(DataError, match="4 different labels"):
        as_batches((x, data), model=trained(3))
    batches = as_batches((x, data), model=trained(3), label_names=SIZES[::-1])
    np.testing.assert_array_equal(np.concatenate([b.labels for b in batches]), 2 - y)


def test_categories_that_are_numbers():
    x, y = blobs(3, 30)
    (batch,) = as_batches((x, pd.Categorical(y)), model=trained(3))
    np.testing.assert_array_equal(batch.labels, y)
    with pytest.raises(DataError, match="numbers in an order of their own"):
        as_batches((x, pd.Categorical(y, [2, 0, 1], ordered=True)), model=trained(3))


@pytest.mark.parametrize("labels", [2, 3, 10])
def test_strings_are_alphabetical_where_the_model_bears_it_out(labels):
    x, y = blobs(labels, 40 * labels)
    names = np.array([f"label {i}" for i in range(labels)])[y]
    batches = as_batches((x, names), model=trained(labels))
    read = np.concatenate([b.labels for b in batches])
    np.testing.assert_array_equal(read, LabelEncoder().fit_transform(names))


@pytest.mark.parametrize(
    "order", [[1, 0], [2, 0, 1], [0, 2, 1], [0, 1, 2, 3, 5, 4, 6], [2, 1, 0]], ids=str
)
def test_strings_in_another_order_are_asked_for(order):
    labels = len(order)
    x, y = blobs(labels, 40 * labels)
    alphabet = np.array([f"label {i}" for i in range(labels)])
    # Output k answers the label of axis order[k].
    model, right = trained(labels, order=order), [str(alphabet[i]) for i in order]
    with pytest.raises(DataError, match=r"read alphabetically.*Pass label_names") as error:
        as_batches(x, alphabet[y], model=model)
    assert f"in the order {right} on 9" in str(error.value) or "on 100%" in str(error.value)
    figures = nns.evaluate(model, x, alphabet[y], label_names=right)
    assert figures.accuracy > 0.9


def test_what_cannot_be_settled_is_asked_for():
    x, y = blobs(3, 90)
    names = np.array(SIZES)[y]
    untrained = keras.Sequential([keras.Input((3,)), keras.layers.Dense(3)])
    with pytest.raises(DataError, match="untrained"):
        as_batches((x, names), model=untrained)
    noise = np.random.default_rng(1).permutation(names)
    with pytest.raises(DataError, match="nothing tells in which order"):
        as_batches((x, noise), model=trained(3))
    # Eight samples of two labels are right by chance too often.
    with pytest.raises(DataError, match="nothing tells in which order"):
        as_batches((x[:6, :2], np.array(["a", "b"])[y[:6] % 2]), model=trained(2))
    # Labels of the data's own have no order to be wrong in.
    assert as_batches((x, names), model=trained(3), own_labels=True).label_names == (
        "large", "medium", "small"
    )  # fmt: skip


def test_to_settle_the_order_changes_nothing_of_the_model():
    x, y = blobs(3, 90)
    inputs = keras.Input((3,))
    hidden = keras.layers.Dense(3, activity_regularizer="l2")(inputs)
    model = keras.Model(inputs, hidden)
    model.set_weights([np.eye(3), np.full(3, 0.25)])
    model(x[:5])
    before = [float(loss) for loss in model.losses]
    as_batches((x, np.array(["a", "b", "c"])[y]), model=model)
    assert [float(loss) for loss in model.losses] == before


def test_strings_of_an_npz_are_settled_too(tmp_path):
    x, y = blobs(3, 120)
    path = tmp_path / "sizes.npz"
    np.savez(path, x=x, y=np.array(SIZES)[y])
    with pytest.raises(DataError, match=r"in the order \['small', 'medium', 'large'\]"):
        as_batches(path, model=trained(3))
    assert load_dataset(path).sorted_by == "strings"
    with pytest.raises(DataError, match=r"in the order \['small', 'medium', 'large'\]"):
        check_splits(trained(3), load_dataset(path))
    figures = nns.evaluate(trained(3), path, label_names=SIZES)
    assert figures.accuracy > 0.9
    np.savez(path, x=x, y=y, label_names=SIZES)
    assert as_batches(path, model=trained(3)).label_names == tuple(SIZES)
    assert load_dataset(path).sorted_by is None


KEPT = {
    "prefetch": lambda d: d.prefetch(2),
    "cache, shuffle": lambda d: d.cache().shuffle(3),
    "map of the inputs": lambda d: d.map(lambda x, y: (x / 2, y), num_parallel_calls=2),
    "one-hot": lambda d: d.map(lambda x, y: (x, tf.one_hot(y, 2))),
    "cast and weights": lambda d: d.map(lambda x, y: (x, tf.cast(y, tf.float32), y)),
    "batched anew": lambda d: d.unbatch().batch(4).prefetch(1),
    "some": lambda d: d.skip(1).take(2).filter(lambda x, y: True),
}
LOST = {
    "renumbered": lambda d: d.map(lambda x, y: (x, 1 - y)),
    "merged": lambda d: d.map(lambda x, y: (x, tf.minimum(y, 0))),
    "made of inputs": lambda d: d.map(lambda x, y: (x, tf.cast(x[:, 0] > 1, tf.int64))),
}


def dataset():
    x, y = blobs(2, 12)
    data = tf.data.Dataset.from_tensor_slices((x, y)).batch(3)
    data.class_names = ["zebra", "ant"]
    return data


@pytest.mark.slow
@pytest.mark.parametrize("way", KEPT)
def test_class_names_are_found_behind_what_leaves_labels_alone(way):
    batches = as_batches(KEPT[way](dataset()), model=trained(2))
    assert batches.label_names == ("zebra", "ant")
    given = as_batches(KEPT[way](dataset()), model=trained(2), label_names=["ant", "zebra"])
    for own, other in zip(batches, given, strict=True):
        if way != "cache, shuffle" and own.labels.ndim == 1:
            np.testing.assert_array_equal(other.labels, 1 - own.labels)


@pytest.mark.parametrize("way", LOST)
def test_class_names_are_lost_behind_what_changes_labels(way):
    assert as_batches(LOST[way](dataset()), model=trained(2)).label_names == ("0", "1")


def test_class_names_stay_through_a_split_and_a_folder(tmp_path):
    parts = nns.split(dataset(), calibrate=0, test=0.25)
    assert as_batches(parts.test, model=trained(2)).label_names == ("zebra", "ant")
    for name in ("owl", "cat"):
        (tmp_path / name).mkdir()
        for i in range(3):
            keras.utils.save_img(tmp_path / name / f"{i}.png", np.zeros((4, 4, 3)), scale=False)
    data = keras.utils.image_dataset_from_directory(tmp_path, image_size=(4, 4), verbose=False)
    model = keras.Sequential(
        [keras.Input((4, 4, 3)), keras.layers.Flatten(), keras.layers.Dense(2)]
    )
    ahead = data.map(lambda x, y: (x / 255, y)).cache().prefetch(tf.data.AUTOTUNE)
    assert as_batches(ahead, model=model).label_names == ("cat", "owl")


def folders(path, names, *, order, each=20):
    """Folders of grey images, and a model that tells them by brightness, `order[k]` at output k."""
    random = np.random.default_rng(0)
    for name in names:
        level = 30 + 200 * order.index(name) / (len(names) - 1)
        (path / name).mkdir()
        for i in range(each):
            image = np.clip(random.normal(level, 6, (4, 4, 1)), 0, 255).round()
            keras.utils.save_img(path / name / f"{i}.png", image, scale=False)
    centres = (30 + 200 * np.arange(len(names)) / (len(names) - 1)) / 255
    model = keras.Sequential(
        [
            keras.Input((4, 4, 1)),
            keras.layers.GlobalAveragePooling2D(),
            keras.layers.Dense(len(names)),
        ]
    )
    # The nearest centre: -(x - c)^2 without x^2.
    model.set_weights([2 * centres[None], -(centres**2) + 0.25])
    return model


@pytest.mark.parametrize("order", ["bac", "cab", "abcdefghji"])
def test_folders_that_a_model_numbers_otherwise_are_refused(tmp_path, order):
    names = list(order)
    model = folders(tmp_path, sorted(names), order=names)
    with pytest.raises(DataError, match="not in the order of the model's outputs") as error:
        as_batches(tmp_path, model=model)
    assert f"in the order {names} on " in str(error.value)
    assert load_dataset(tmp_path, label_names=names).sorted_by is None
    with pytest.raises(DataError, match="not in the order of the model's outputs"):
        check_splits(model, load_dataset(tmp_path))
    figures = nns.evaluate(model, tmp_path, label_names=names)
    # Read from the images themselves: whose mean is next to a label's centre.
    assert figures.accuracy > 0.95
    assert as_batches(tmp_path, model=model, own_labels=True).label_names == tuple(sorted(names))


@pytest.mark.parametrize("sure", [True, False], ids=["sure", "guessing"])
def test_folders_are_alphabetical_until_a_model_speaks_against_it(tmp_path, sure):
    names = list("abcd")
    model = folders(tmp_path, names, order=names)
    if not sure:
        kernel, bias = model.get_weights()
        model.set_weights([0 * kernel, bias[::-1].copy()])
    assert as_batches(tmp_path, model=model).label_names == tuple(names)
