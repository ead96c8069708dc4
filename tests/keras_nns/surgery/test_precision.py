"""Where float32 rounds by more than a proof allows, float64 tells rounding from a mistake."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as L
from keras.src import backend

import keras_nns as nns
from keras_nns.engine.double import in_double
from keras_nns.engine.tensors import dtype_of
from keras_nns.errors import ProofError
from keras_nns.graph.tracing import trace
from keras_nns.plans.kept_units import Plan
from keras_nns.surgery import precision, proving
from keras_nns.surgery.building import built
from keras_nns.surgery.heads import answer_of
from keras_nns.surgery.masking import masked
from keras_nns.surgery.precision import Side

WIDTH, HIDDEN, DEPTH = 16, 1024, 13


@keras.saving.register_keras_serializable("tests")
class Single(L.Layer):
    """Knows float32 alone, as one that adds its own tensor to what it is given."""

    def call(self, inputs):
        if keras.backend.standardize_dtype(inputs.dtype) != "float32":
            raise TypeError("float32 is added to float32")
        return inputs + keras.ops.zeros((1,), "float32")


@keras.saving.register_keras_serializable("tests")
class Narrow(L.Layer):
    """Casts to float32 by the backend itself."""

    def call(self, inputs):
        return backend.cast(inputs, "float32")


@keras.saving.register_keras_serializable("tests")
class AskedFor(L.Layer):
    """Casts to float32 as layers of KerasHub do, to compute in no less."""

    def call(self, inputs):
        return keras.ops.cast(keras.ops.cast(inputs, "float32"), self.compute_dtype)


def deep(*between, depth=DEPTH):
    """Residual blocks whose gain lets rounding grow from one to the next, each normalised.

    Sums over so many hidden units are taken in another order when half of them are gone.
    """
    keras.utils.set_random_seed(1)
    inputs = keras.Input((8,))
    x = L.Dense(WIDTH, name="first")(inputs)
    for number in range(depth):
        y = L.Dense(HIDDEN, activation="tanh", name=f"up_{number}", **wide(3, WIDTH))(x)
        y = L.Dense(WIDTH, name=f"down_{number}", **wide(6, HIDDEN))(y)
        x = L.LayerNormalization(name=f"norm_{number}")(L.Add(name=f"add_{number}")([x, y]))
    for layer in between:
        x = layer(x)
    return keras.Model(inputs, L.Dense(5, activation="softmax", name="answer")(x))


def wide(gain, terms):
    scale = gain / np.sqrt(terms)
    return {"kernel_initializer": keras.initializers.RandomNormal(stddev=scale)}


def half(model):
    graph = trace(model)
    sizes = {group.name: group.size for group in graph.layout.prunable}
    kept = {
        name: tuple(range(0, size, 2)) if name.startswith("up") else tuple(range(size))
        for name, size in sizes.items()
    }
    return Plan(graph.fingerprint, sizes, kept, labels=(1, 3))


def by_hand(model, x, kept):
    """Compute the answers in numpy's float64, with the hidden units `kept` alone."""
    weights = {
        layer.name: [np.asarray(w, np.float64) for w in layer.weights] for layer in model.layers
    }

    def dense(name, value, rows=slice(None), columns=slice(None)):
        kernel, bias = weights[name]
        return value @ kernel[rows][:, columns] + bias[columns]

    def norm(name, value):
        gamma, beta = weights[name]
        off = value - value.mean(-1, keepdims=True)
        return off / np.sqrt((off**2).mean(-1, keepdims=True) + 1e-3) * gamma + beta

    value = dense("first", np.asarray(x, np.float64))
    for number in range(DEPTH):
        hidden = np.tanh(dense(f"up_{number}", value, columns=kept))
        value = norm(f"norm_{number}", value + dense(f"down_{number}", hidden, rows=kept))
    scores = np.exp(dense("answer", value))
    return scores / scores.sum(-1, keepdims=True)


@pytest.fixture(scope="module")
def model():
    return deep()


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(0).normal(size=(16, 8)).astype("float32")


def test_a_deep_cut_is_proven_in_float64(model, x):
    plan = half(model)
    proof = nns.prove(model, plan, samples=x)
    right = by_hand(model, x, np.arange(0, HIDDEN, 2))
    rounded = np.asarray(nns.cut(model, plan)(x))
    assert np.abs(rounded - right).max() > proving.TOLERANCE * right.max()
    assert proof.exact and proof.dtype == "float64"
    assert proof.relative < 1e-11 < proving.TOLERANCE < proof.in_float32
    assert str(proof).startswith("equal to the masked parent on 16 samples in float64: ")
    assert f"in float32, which rounds, {proof.in_float32:.2g}" in str(proof)


def test_both_sides_are_what_numpy_computes(model, x):
    plan = half(model)
    right = by_hand(model, x, np.arange(0, HIDDEN, 2))
    with in_double():
        for made in (nns.cut(model, plan), nns.mask(model, plan)):
            (found,) = Side(made, x).in_double().answers()
            np.testing.assert_allclose(found, right, rtol=0, atol=1e-11)


@pytest.mark.parametrize("head", ["labels", "other", "binary"])
def test_heads_are_proven_in_float64_too(model, x, head):
    proof = nns.prove(model, half(model), samples=x, head=head)
    assert proof.exact and proof.dtype == "float64" and proof.relative < 1e-11


def test_cut_proves_what_is_deep(model):
    nns.cut(model, half(model), prove=True)


def off_by(share, name):
    """A fault of a cut: a weight that is off."""

    def plant(layer):
        kernel = np.asarray(layer.kernel).copy()
        kernel[0, 0] *= 1 + share
        layer.kernel.assign(kernel)

    return plant, name


def wrong_slice(layer):
    """A fault of a cut: a unit's weights where another's should be."""
    layer.kernel.assign(np.asarray(layer.kernel)[[1, *range(1, layer.kernel.shape[0])]])


@pytest.mark.parametrize(
    ("plant", "name"),
    [
        off_by(1e-4, "up_3"),
        off_by(1e-4, "down_12"),
        off_by(1e-6, "answer"),
        (wrong_slice, "down_9"),
    ],
    ids=["weight", "last weight", "below float32's noise", "slice"],
)
def test_a_mistake_no_larger_than_the_noise_is_refused(model, x, monkeypatch, plant, name):
    built = proving.built

    def mistaken(*args, **kwargs):
        new, held = built(*args, **kwargs)
        plant(new.get_layer(name))
        return new, held

    monkeypatch.setattr(proving, "built", mistaken)
    proof = nns.prove(model, half(model), samples=x)
    assert not proof.exact and proof.dtype == "float64"
    assert str(proof).startswith("NOT equal to the masked parent on 16 samples in float64")
    with pytest.raises(ProofError, match="NOT equal"):
        nns.cut(model, half(model), prove=True)


def test_what_rounds_little_is_not_made_in_float64(monkeypatch, x):
    monkeypatch.setattr(Side, "in_double", lambda _: pytest.fail("float64 is not needed"))
    shallow = deep(depth=1)
    proof = nns.prove(shallow, half(shallow), samples=x)
    assert proof.exact and proof.dtype == "float32" and proof.in_float32 is None


def test_where_float64_cannot_be_had_rounding_is_the_yardstick(x):
    model = deep(Single(name="single"))
    proof = nns.prove(model, half(model), samples=x)
    assert proof.exact and proof.dtype == "float32"
    assert proof.tolerance == pytest.approx(min(2 * proof.rounding, 1e-3))
    assert proving.TOLERANCE < proof.relative < 2 * proof.rounding < 1e-2
    assert str(proof).startswith("equal up to float32's rounding to the masked parent")
    assert "it cannot be told in float64" in str(proof)


def test_beside_the_yardstick_a_mistake_beyond_rounding_is_refused(x, monkeypatch):
    model = deep(Single(name="single"))
    built = proving.built
    plant, name = off_by(0.5, "down_9")

    def mistaken(*args, **kwargs):
        new, held = built(*args, **kwargs)
        plant(new.get_layer(name))
        return new, held

    monkeypatch.setattr(proving, "built", mistaken)
    proof = nns.prove(model, half(model), samples=x)
    assert not proof.exact and proof.rounding < proof.tolerance < proof.relative


def test_however_much_rounding_does_there_is_an_end(x, monkeypatch):
    monkeypatch.setattr(precision.Side, "moved_by_rounding", lambda _: 0.3)
    model = deep(Single(name="single"))
    assert nns.prove(model, half(model), samples=x).tolerance == 1e-3


def test_answers_of_float64_follow_small_changes_and_those_of_float32_do_not(x):
    small = deep(depth=2)
    with in_double():
        assert Side(small, x).in_double().is_smooth()
        assert Side(deep(AskedFor(), depth=2), x).in_double().is_smooth()
        assert not Side(deep(Narrow(), depth=2), x).in_double().is_smooth()
    assert not Side(small, x).is_smooth()


def test_a_cast_is_what_it_was_afterwards():
    cast, single = keras.ops.cast, np.float32(1)
    with in_double():
        assert dtype_of(keras.ops.cast(np.float64(1), "float32")) == "float64"
        assert dtype_of(keras.ops.cast(single, "float32")) == "float32"
        assert dtype_of(keras.ops.cast(np.float64(1), "float16")) == "float16"
        assert float(keras.ops.cast(0.1, "float64")) == 0.1
    assert keras.ops.cast is cast


def test_unfolding_a_deep_network_is_checked_in_float64(model, x):
    flat = nns.unfold(model, normalizations=True)
    answers = [np.asarray(one(x), np.float64) for one in (model, flat)]
    assert np.abs(np.subtract(*answers)).max() > proving.TOLERANCE * answers[0].max()


def test_simplifying_a_deep_network_is_compared_with_what_folding_rounds(x):
    keras.utils.set_random_seed(2)
    layers = [keras.Input((8,)), L.Dense(48)]
    for _ in range(30):
        layers += [
            L.BatchNormalization(gamma_initializer="random_uniform"),
            L.Activation("tanh"),
            L.Dense(48, **wide(2.5, 48)),
        ]
    model = keras.Sequential([*layers, L.Activation("tanh"), L.Dense(5)])
    done = nns.simplify(model, fold_batch_norm=True)
    assert done.proof.exact


def test_weights_that_a_cut_multiplies_are_not_rounded_in_float64(x):
    # Attention divides by the root of its dimensions, a root mean square by its features.
    inputs = keras.Input((6, 8))
    value = L.RMSNormalization()(L.Dense(16, name="stream")(inputs))
    value = L.MultiHeadAttention(2, 6, name="attention")(value, value)
    model = keras.Model(inputs, L.Dense(3)(value))
    graph = trace(model)
    sizes = {group.name: group.size for group in graph.layout.prunable}
    odd = {"stream": 11, "attention:key": 5, "attention:value": 5}
    assert set(odd) <= set(sizes)
    kept = {name: tuple(range(odd.get(name, size))) for name, size in sizes.items()}
    plan = Plan(graph.fingerprint, sizes, kept)
    answer = answer_of(graph, plan, "parent", None)
    steps = np.stack([x] * 6, axis=1) * np.arange(6)[:, None]
    with in_double():
        small = Side(model, steps, lambda kind: built(graph, plan, answer, "sliced", dtype=kind)[0])
        large = Side(model, steps, lambda kind: masked(graph, plan, answer, dtype=kind))
        (one,), (other,) = (side.in_double().answers() for side in (small, large))
    np.testing.assert_allclose(one, other, rtol=0, atol=1e-13 * np.abs(other).max())
