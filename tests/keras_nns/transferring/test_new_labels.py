"""One label more and one label less: what is frozen stays, bit for bit, and what is said is so."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as L

import keras_nns as nns
from keras_nns.graph.tracing import trace, weights_digest

pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)
CENTRES = np.random.default_rng(3).normal(size=(4, 6)) * 1.5


def samples(count=400, seed=0):
    """Four clouds."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 4, count)
    return (CENTRES[y] + rng.normal(size=(count, 6))).astype("float32"), y


X, Y = samples()


def network(ending="softmax", *, bias=True):
    """Tells the first three clouds apart."""
    answer = L.Dense(3, activation=ending, use_bias=bias, name="answer")
    layers = [L.Dense(12, activation="relu", name="one"), L.Dense(8, name="two"), L.ReLU(), answer]
    model = keras.Sequential([keras.Input((6,)), *layers], name="clouds")
    rng = np.random.default_rng(7)
    for variable in model.variables:
        variable.assign(rng.normal(0, 0.4, variable.shape))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=ending == "linear")
    model.compile(keras.optimizers.Adam(0.02), loss)
    for start in range(0, 2400, 48):
        rows = np.arange(start, start + 48) % len(X)
        rows = rows[Y[rows] < 3]
        model.train_on_batch(X[rows], Y[rows])
    return model


@pytest.fixture(scope="module")
def host():
    return network()


@pytest.fixture(scope="module")
def grown(host):
    how = {"units": 6, "epochs": 50, "optimizer": keras.optimizers.Adam(0.02)}
    return nns.add_label(host, X, Y, name="d", label_names=["a", "b", "c"], **how)


def logits(model, x):
    """By numpy, weight by weight."""
    h = {"x": x.astype(np.float64)}
    for name, source in (("one", "x"), ("two", "one"), ("d_units", "one")):
        if any(layer.name == name for layer in model.layers):
            layer = model.get_layer(name)
            z = h[source] @ np.asarray(layer.kernel, np.float64) + np.asarray(layer.bias)
            h[name] = np.maximum(z, 0)
    seen = np.concatenate([h[n] for n in ("two", "d_units") if n in h], axis=1)
    answer = model.get_layer("answer")
    return seen @ np.asarray(answer.kernel, np.float64) + np.asarray(answer.bias)


@pytest.mark.slow
def test_the_old_is_kept_bit_for_bit_and_the_new_is_learnt(host, grown):
    new, digest = grown.model, weights_digest(host)
    for name in ("one", "two"):
        for old, now in zip(host.get_layer(name).weights, new.get_layer(name).weights, strict=True):
            np.testing.assert_array_equal(old, now)
    kernel, bias = new.get_layer("answer").get_weights()
    np.testing.assert_array_equal(kernel[:8, :3], host.get_layer("answer").kernel)
    np.testing.assert_array_equal(bias[:3], host.get_layer("answer").bias)
    assert not kernel[8:, :3].any()  # The old outputs do not read the new units.
    x, y = samples(300, seed=8)
    np.testing.assert_allclose(logits(new, x)[:, :3], logits(host, x), rtol=1e-12)
    z = np.exp(logits(new, x))
    np.testing.assert_allclose(new(x), z / z.sum(axis=1, keepdims=True), atol=1e-5)
    figures = nns.evaluate(new, x, y)
    assert figures["d"].balanced_accuracy > 0.9
    before = nns.evaluate(host, x[y < 3], y[y < 3])
    for name, number in (("a", 0), ("b", 1), ("c", 2)):
        assert figures[name].recall > before[number].recall - 0.08
    assert grown.logits.exact
    assert grown.added == 6 * 13 + 6 * 3 + 14 + 1 == new.count_params() - host.count_params()
    assert weights_digest(host) == digest
    assert "Added 'd' with 111 parameters" in str(grown)
    assert [row.name for row in grown.after.rows] == ["a", "b", "c", "d"]
    assert new.get_compile_config()["loss"] == host.get_compile_config()["loss"]


@pytest.mark.slow
def test_a_grown_network_saves_grows_again_cuts_and_shrinks(host, grown, tmp_path):
    nns.save_model(grown.model, tmp_path / "grown.keras")
    again = nns.load_model(tmp_path / "grown.keras")
    assert nns.lineage(again) == nns.lineage(grown.model)
    assert nns.lineage(again).label_names == ("a", "b", "c", "d")
    # Cut, and one label more: half of the third cloud, by another name.
    plan = nns.select(
        nns.observe(again, X, Y, verbose=False),
        [0, 3],
        keep=nns.fraction(0.7),
        score="mean_activation",
    )
    assert nns.prove(again, plan, samples=X[:9]).exact
    x, y = X.copy(), Y.copy()
    y[(Y == 2) & (X[:, 0] > np.median(X[Y == 2, 0]))] = 4
    names = np.array(["a", "b", "c", "d", "more"])
    two = nns.add_label(again, x, names[y], name="more", units=3, epochs=2)
    assert two.model.output_shape == (None, 5)
    assert nns.lineage(two.model).label_names == tuple(names)
    back = nns.remove_label(nns.remove_label(two.model, "more").model, "d").model
    assert back.count_params() == host.count_params()
    np.testing.assert_allclose(back(X), host(X), atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("label", [0, "b", 3])
def test_what_is_left_answers_as_before(grown, label):
    done = nns.remove_label(grown.model, label, samples=X[:50])
    number = label if isinstance(label, int) else 1
    left = [i for i in range(4) if i != number]
    wanted = np.asarray(grown.model(X), np.float64)[:, left]
    np.testing.assert_allclose(done.model(X), wanted / wanted.sum(1, keepdims=True), atol=1e-6)
    assert done.logits.exact
    assert done.logits.samples == 50
    assert f"Removed {'abcd'[number]!r}" in str(done)
    # Only what nothing else reads has left with it.
    assert done.removed == (111 if number == 3 else 15)
    figures = nns.evaluate(done.model, *samples(200, seed=8))
    assert [row.name for row in figures.rows] == [
        name for i, name in enumerate("abcd") if i in left
    ]
    assert figures.left_out > 0


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["linear", "layer"])
def test_other_endings(ending):
    model = network("linear", bias=ending == "linear")
    if ending == "layer":
        model = keras.Sequential([keras.Input((6,)), *model.layers, L.Softmax(name="softmax")])
    grown = nns.add_label(model, X, Y, name="new label!", units=0, epochs=2, up_to=None)
    assert grown.logits.exact
    assert grown.added == (9 if ending == "linear" else 8 + 4)
    assert trace(grown.model).outputs[0].kind == ("linear" if ending == "linear" else "softmax")


@pytest.mark.slow
def test_a_convolutional_network_gets_units_on_its_features():
    inputs = keras.Input((5, 5, 1))
    x = L.Flatten(name="flat")(L.Conv2D(3, 3, activation="relu", name="conv")(inputs))
    model = keras.Model(inputs, L.Dense(2, activation="softmax", name="answer")(x))
    x = np.random.default_rng(0).normal(size=(90, 5, 5, 1)).astype("float32")
    y = np.arange(90) % 3
    x += y[:, None, None, None]
    for up_to, width in ((None, 27), ("conv", 27)):
        grown = nns.add_label(model, x, y, name="2", units=4, epochs=1, up_to=up_to)
        assert grown.model.get_layer("2_units").kernel.shape == (width, 4)
        kernel = grown.model.get_layer("conv").kernel
        np.testing.assert_array_equal(kernel, model.get_layer("conv").kernel)


@pytest.mark.parametrize(
    ("wrong", "error", "words"),
    [
        ({"name": "2"}, nns.errors.DataError, "has a label '2' already"),
        ({"name": "d", "units": -1}, nns.errors.SurgeryError, "`units` must be a whole number"),
        ({"name": "d", "held_out": 0}, nns.errors.DataError, "`held_out` must be above 0"),
        ({"name": "d", "up_to": "none"}, nns.errors.SurgeryError, "No layer is named 'none'"),
        (
            {"name": "d", "label_names": ["a"]},
            nns.errors.DataError,
            "1 names and the model 3 outputs",
        ),
    ],
)
def test_adding_refuses(host, wrong, error, words):
    with pytest.raises(error, match=words):
        nns.add_label(host, X, Y, **wrong)


@pytest.mark.slow
def test_adding_refuses_data_and_heads(host):
    old, new = Y < 3, Y == 3
    with pytest.raises(nns.errors.DataError, match=r"0 of 'd' beside what is held out"):
        nns.add_label(host, X[old], Y[old], name="d")
    with pytest.raises(nns.errors.DataError, match=r"0 of '0', 0 of '1', 0 of '2' beside"):
        nns.add_label(host, X[new], Y[new], name="d")
    with pytest.raises(nns.errors.DataError, match=r"\(None, 6\)|6"):
        nns.add_label(host, X[:, :5], Y, name="d")
    with pytest.raises(nns.errors.DataError, match="outside the model's 4 labels"):
        nns.add_label(host, X, Y + 1, name="d")
    plan = nns.select(nns.observe(host, X[old], Y[old], verbose=False), 1, score="mean_activation")
    with pytest.raises(nns.errors.SurgeryError, match="head='labels' or 'parent'"):
        nns.add_label(nns.cut(host, plan, head="binary"), X, Y, name="d")
    sigmoid = network("sigmoid")
    with pytest.raises(nns.errors.SurgeryError, match="must end in one Dense"):
        nns.add_label(sigmoid, X, Y, name="d")


def test_removing_refuses(host):
    with pytest.raises(nns.errors.SelectionError, match="no label 'x'"):
        nns.remove_label(host, "x")
    with pytest.raises(nns.errors.SelectionError, match="no label 3"):
        nns.remove_label(host, 3)
    two = nns.remove_label(host, 1).model
    with pytest.raises(nns.errors.SurgeryError, match="Keep two at least"):
        nns.remove_label(two, "0")
