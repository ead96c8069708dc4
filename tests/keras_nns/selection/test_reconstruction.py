"""The loss of a unit whose readers are refitted, against networks in which that was done."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as L

import keras_nns as nns
from keras_nns.observation import input_moments as module


def data(count=240, features=6, labels=4, seed=0):
    random = np.random.default_rng(seed)
    y = np.arange(count) % labels
    x = random.normal(size=(count, features)) + 2 * random.normal(size=(labels, features))[y]
    return x.astype("float32"), y


def dense(softmax=True, units=7, seed=1):
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input((6,)),
            L.Dense(units, activation="relu", name="hidden", bias_initializer="normal"),
            L.Dense(4, activation="softmax" if softmax else None, name="out"),
        ]
    )


def losses(model, x, y, **options):
    """Return the loss of each unit of the layer `hidden`."""
    score = nns.scores.reconstruction(model, (x, y), **options)
    return score(nns.observe(model, (x, y)))["hidden"][0]


@pytest.mark.slow
@pytest.mark.parametrize("softmax", [True, False])
def test_the_loss_is_how_much_the_margin_changes_when_the_rest_is_refitted(softmax):
    model, (x, y) = dense(softmax), data()
    found = losses(model, x, y, labels=[1, 3], alone=True)
    own = np.isin(y, [1, 3])
    h = model.layers[0](x[own]).numpy().astype(float)
    kernel, bias = model.layers[1].get_weights()
    wanted = h @ kernel + bias
    after = {}
    for unit in range(7):
        design = np.c_[np.delete(h, unit, axis=1), np.ones(len(h))]
        off = design @ np.linalg.lstsq(design, wanted, rcond=None)[0] - wanted
        after[unit] = np.mean((off[:, 1] - off[:, 3]) ** 2)
    first = min(after, key=after.get)
    assert found.argmin() == first
    np.testing.assert_allclose(found[first], after[first], rtol=0.02)


@pytest.mark.slow
def test_both_halves_weigh_alike_and_the_margin_is_against_all_others():
    model, (x, y) = dense(), data()
    found = losses(model, x, y, labels=2)
    h = model.layers[0](x).numpy().astype(float)
    kernel, bias = model.layers[1].get_weights()
    z = h @ kernel + bias
    rest = np.delete(z, 2, axis=1)
    slope = np.zeros_like(z)
    slope[:, 2] = 1
    slope[:, [0, 1, 3]] = -np.exp(rest - rest.max(axis=1, keepdims=True))
    slope[:, [0, 1, 3]] /= -slope[:, [0, 1, 3]].sum(axis=1, keepdims=True)
    weight = np.where(y == 2, 0.5 / (y == 2).sum(), 0.5 / (y != 2).sum())
    importance = (slope * weight[:, None]).T @ slope
    root = np.sqrt(weight)[:, None]
    after = {}
    for unit in range(7):
        design = np.c_[np.delete(h, unit, axis=1), np.ones(len(h))]
        off = design @ np.linalg.lstsq(root * design, root * z, rcond=None)[0] - z
        after[unit] = np.trace((off * weight[:, None]).T @ off @ importance)
    first = min(after, key=after.get)
    assert found.argmin() == first
    np.testing.assert_allclose(found[first], after[first], rtol=0.02)


@pytest.mark.slow
def test_a_unit_that_never_fires_or_says_what_another_does_goes_first():
    model, (x, y) = dense(), data()
    kernel, bias = model.layers[0].get_weights()
    kernel[:, 2], bias[2] = kernel[:, 5], bias[5]
    kernel[:, 4], bias[4] = 0, -1
    model.layers[0].set_weights([kernel, bias])
    found = losses(model, x, y, labels=[0, 1])
    order = np.argsort(found, kind="stable")
    assert order[0] == 4 and order[1] in (2, 5)
    assert found[order[1]] < 0.02 * found[order[2]]
    # The other of the two is dear: nothing stands in for it any more.
    assert found[2 if order[1] == 5 else 5] > 10 * found[order[1]]


@pytest.mark.slow
def test_alone_other_samples_do_not_count():
    model, (x, y) = dense(), data()
    found = losses(model, x, y, labels=[0, 2], alone=True)
    moved = np.where(np.isin(y, [0, 2])[:, None], x, 3 * x + 1).astype("float32")
    np.testing.assert_array_equal(found, losses(model, moved, y, labels=[0, 2], alone=True))
    assert not np.allclose(losses(model, x, y, labels=[0, 2]), found)


@pytest.mark.slow
def test_a_convolution_over_the_whole_image_is_a_dense_layer():
    random = np.random.default_rng(0)
    x, y = random.normal(size=(120, 4, 3, 2)).astype("float32"), np.arange(120) % 3
    keras.utils.set_random_seed(0)

    def network(*last):
        return keras.Sequential(
            [
                keras.Input((4, 3, 2)),
                L.Conv2D(5, 2, padding="same", activation="relu", name="hidden"),
                *last,
            ]
        )

    one = network(L.Conv2D(3, (4, 3), name="out"), L.Flatten(), L.Softmax())
    two = network(L.Flatten(), L.Dense(3, activation="softmax", name="out"))
    weights = zip(one.get_weights(), two.get_weights(), strict=True)
    two.set_weights([w.reshape(v.shape) for w, v in weights])
    first, second = (losses(model, x, y, labels=[0, 2]) for model in (one, two))
    np.testing.assert_allclose(first, second, rtol=1e-4)
    assert first.min() > 0


@pytest.mark.slow
def test_layers_that_take_turns_give_the_same(monkeypatch):
    x, y = data()
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((6,)),
            L.Dense(5, activation="relu", name="first"),
            L.Dense(7, activation="tanh", name="hidden"),
            L.Dense(4, name="out"),
        ]
    )
    together = losses(model, x, y, labels=[0, 3])
    monkeypatch.setattr(module, "_MOST", 100)
    told = []
    monkeypatch.setattr(module, "reached", lambda done, total: told.append(done / total))
    np.testing.assert_array_equal(together, losses(model, x, y, labels=[0, 3]))
    told.clear()
    losses(model, x, y, labels=[0, 3], batch_size=120)
    # Two passes of two batches each.
    assert told == [0, 0.25, 0.5, 0.75]
    monkeypatch.setattr(module, "_VALUES", 30)
    np.testing.assert_allclose(together, losses(model, x, y, labels=[0, 3]), rtol=1e-6)
    monkeypatch.setattr(module, "_MOST", 70)
    with pytest.raises(nns.errors.SelectionError, match=r"74 numbers for layer 'hidden', above 70"):
        losses(model, x, y, labels=[0, 3])


@pytest.mark.slow
def test_steps_that_are_masked_do_not_count():
    random = np.random.default_rng(1)
    x = random.normal(size=(80, 3, 4)).astype("float32")
    padded = np.concatenate([x, np.zeros((80, 2, 4), "float32")], axis=1)
    y = np.arange(80) % 2
    found = []
    for given in (x, padded):
        keras.utils.set_random_seed(2)
        inputs = keras.Input((None, 4))
        h = L.Masking()(inputs)
        h = L.Dense(6, activation="relu", name="hidden", bias_initializer="normal")(h)
        h = L.Dense(5, activation="relu", name="next", bias_initializer="normal")(h)
        outputs = L.Dense(2, activation="softmax")(L.GlobalAveragePooling1D()(h))
        found.append(losses(keras.Model(inputs, outputs), given, y, labels=[0, 1]))
    np.testing.assert_allclose(*found, rtol=1e-4)


def residual(attention=False):
    keras.utils.set_random_seed(3)
    inputs = keras.Input((8, 6))
    h = L.Dense(8, name="stream")(inputs)
    b = L.Dense(12, activation="relu", name="hidden")(h)
    h = L.Add()([h, L.Dense(8, name="back")(b)])
    if attention:
        h = L.Add()([h, L.MultiHeadAttention(2, 4, name="heads")(h, h)])
        h = L.Concatenate()([L.LSTM(5, name="lstm")(h), L.GlobalMaxPooling1D()(h)])
    else:
        h = L.GlobalMaxPooling1D()(h)
    return keras.Model(inputs, L.Dense(3, activation="softmax")(h))


@pytest.mark.slow
def test_a_stream_is_read_by_all_behind_it():
    random = np.random.default_rng(1)
    x, y = random.normal(size=(90, 8, 6)).astype("float32"), np.arange(90) % 3
    model = residual()
    score = nns.scores.reconstruction(model, (x, y), labels=[0, 1, 2])
    whole = score(nns.observe(model, (x, y)))
    assert set(whole) == {"stream", "hidden"}
    assert all(
        (values > 0).all() and np.ptp(values, axis=0).max() == 0 for values in whole.values()
    )
    # Without what the branch reads of it, a stream is worth less.
    model.get_layer("hidden").kernel.assign(0 * model.get_layer("hidden").kernel)
    less = nns.scores.reconstruction(model, (x, y), labels=[0, 1, 2])(nns.observe(model, (x, y)))
    assert less["stream"][0].min() < whole["stream"][0].min()
    assert less["hidden"][0].max() <= 1e-6 * whole["hidden"][0].min()


@pytest.mark.slow
def test_what_cannot_be_refitted_has_the_square_of_its_effect():
    random = np.random.default_rng(1)
    x, y = random.normal(size=(60, 8, 6)).astype("float32"), np.arange(60) % 3
    model = residual(attention=True)
    activity = nns.observe(model, (x, y))
    found = nns.scores.reconstruction(model, (x, y), labels=[0, 2], alone=True)(activity)
    assert set(found) == set(nns.scores.contrast(activity))
    assert all(np.isfinite(values).all() and (values >= 0).all() for values in found.values())
    own = np.isin(y, [0, 2])

    def margin(targets, outputs):
        import tensorflow as tf

        return tf.abs(tf.math.log(outputs[:, 0]) - tf.math.log(outputs[:, 2]))

    seen = nns.observe_gradients(model, (x[own], y[own]), loss=margin, label_names=list("abc"))
    by_hand = seen.layers["lstm"].square.sum(axis=0) / own.sum()
    np.testing.assert_allclose(found["lstm"][0], by_hand, rtol=1e-3)


@pytest.mark.slow
def test_sigmoid_outputs_are_decided_one_by_one():
    x, y = data(labels=2)
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [keras.Input((6,)), L.Dense(7, activation="relu", name="hidden"),
         L.Dense(1, activation="sigmoid")]
    )  # fmt: skip
    found = losses(model, x, y, labels=1)
    assert found.shape == (7,) and (found >= 0).all() and found.max() > 0
    twice = keras.Sequential([*model.layers[:-1], L.Dense(2, activation="sigmoid")])
    twice.build((None, 6))
    kernel, bias = model.layers[-1].get_weights()
    twice.layers[-1].set_weights([np.repeat(kernel, 2, axis=1), np.repeat(bias, 2)])
    np.testing.assert_allclose(losses(twice, x, y, labels=1), found, rtol=1e-4)


@pytest.mark.slow
def test_nothing_of_the_users_changes_and_the_result_is_the_same_again():
    model, (x, y) = dense(), data()
    before, weights = x.copy(), [w.copy() for w in model.get_weights()]
    found = losses(model, x, y, labels=[0, 1], batch_size=50)
    np.testing.assert_allclose(found, losses(model, x, y, labels=[1, 0]), rtol=1e-6)
    np.testing.assert_array_equal(before, x)
    assert all((a == b).all() for a, b in zip(weights, model.get_weights(), strict=True))


@pytest.mark.slow
def test_a_model_that_answers_at_every_step_is_scored_too():
    """A unit that nothing reads loses nothing."""
    hidden = L.Dense(4, activation="relu", name="hidden")
    many = keras.Sequential([keras.Input((5, 6)), hidden, L.Dense(3)])
    random = np.random.default_rng(0)
    many.set_weights([random.normal(size=weight.shape) for weight in many.get_weights()])
    kernel = many.layers[-1].kernel.numpy()
    kernel[1] = 0
    many.layers[-1].kernel.assign(kernel)
    x, y = random.normal(size=(40, 5, 6)).astype("float32"), np.arange(40) % 3
    activity = nns.observe(many, (x, y), verbose=False)
    found = nns.scores.reconstruction(many, (x, y), labels=2)(activity)["hidden"][2]
    assert found[1] == pytest.approx(0, abs=1e-6 * found.max())
    assert (np.delete(found, 1) > 1e-3 * found.max()).all()


def test_wrong_use():
    model, (x, y) = dense(), data()
    with pytest.raises(nns.errors.SelectionError, match="No label 9"):
        nns.scores.reconstruction(model, (x, y), labels=[9])
    with pytest.raises(nns.errors.SelectionError, match="`labels` is empty"):
        nns.scores.reconstruction(model, (x, y), labels=[])
    some = y != 2
    with pytest.raises(nns.errors.DataError, match="no sample of the labels"):
        nns.scores.reconstruction(model, (x[some], y[some]), labels=2)
    with pytest.raises(nns.errors.SelectionError, match="the activity is of another"):
        score = nns.scores.reconstruction(model, (x, y), labels=2)
        score(nns.observe(dense(seed=5), (x, y)))
