"""Layers are built anew from their configuration, whatever their users put into it."""

from __future__ import annotations

import keras
import numpy as np
import pytest
import tensorflow as tf
from architectures import random_plan
from backends import on_tensorflow
from contract import chain, inputs_of, randomise
from keras import layers as L
from keras import ops

import keras_nns as nns
from keras_nns.graph.tracing import trace


def half(model):
    graph = trace(model)
    return random_plan(graph, 0.5, 0)


def shifted(shape, dtype=None):
    return ops.full(shape, 0.3, dtype=dtype)


def bent(x):
    return x * ops.sigmoid(x)


VECTORS = np.random.default_rng(0).normal(size=(5, 6)).astype("float32")


@pytest.mark.parametrize(
    "start",
    [
        keras.initializers.Constant(VECTORS),
        keras.initializers.Constant(VECTORS.tolist()),
        pytest.param(tf.constant(VECTORS), marks=on_tensorflow("its tensor")),
        VECTORS,
    ],
    ids=["constant array", "constant lists", "tensor", "array"],
)
def test_a_table_that_is_given_loses_dimensions(start):
    model = chain(
        (7,),
        L.Embedding(5, 6, embeddings_initializer=start, trainable=False, name="table"),
        L.GlobalAveragePooling1D(),
        L.Dense(3),
        dtype="int32",
    )
    plan = nns.Plan(nns.fingerprint(model), {"table": 6}, {"table": (0, 2, 3)})
    small = nns.cut(model, plan, prove=True)
    table = small.get_layer("table")
    np.testing.assert_array_equal(table.embeddings, VECTORS[:, [0, 2, 3]])
    assert not table.trainable


def test_functions_of_the_users_own_go_along():
    """None of them is registered with Keras, so none could be read back from a configuration."""

    # Before 3.15 Keras takes no plain function for a regularizer.
    plain = tuple(map(int, keras.__version__.split(".")[:2])) >= (3, 15)
    penalty = (lambda w: 0.1 * ops.sum(w)) if plain else keras.regularizers.L1(0.1)
    model = chain(
        (4,),
        L.Dense(6, activation="relu", name="one", bias_initializer=shifted),
        L.Dense(5, activation=lambda x: ops.cos(x) + x, name="two"),
        L.Dense(4, activation=bent, kernel_regularizer=penalty, name="three"),
        L.Dense(3),
    )
    randomise(model)
    plan = half(model)
    assert list(plan.kept) == ["one"]  # what a function of one's own does to units is not known
    small = nns.cut(model, plan, prove=True)
    for name in ("two", "three"):
        old, new = model.get_layer(name), small.get_layer(name)
        assert new is not old and new.activation is old.activation
    old, new = (one.get_layer("three").kernel_regularizer for one in (model, small))
    assert new is old or not plain


def test_objects_of_the_users_own_classes_go_along():
    """Written by a class that is known only here, none of them could be read back either."""

    class Plain:
        def get_config(self):
            return {}

    class Total(Plain, keras.regularizers.Regularizer):
        def __call__(self, x):
            return 0.1 * ops.sum(x)

    class Half(Plain, keras.constraints.Constraint):
        def __call__(self, w):
            return w / 2

    class Ramp(Plain, keras.initializers.Initializer):
        def __call__(self, shape, dtype=None):
            return ops.reshape(ops.arange(np.prod(shape), dtype=dtype) / 9, shape)

    model = chain(
        (4,),
        L.Dense(6, activation="relu", name="one", kernel_initializer=Ramp()),
        L.Dense(
            5, activation="relu", kernel_regularizer=Total(), bias_constraint=Half(), name="two"
        ),
        L.Dense(3),
    )
    small = nns.cut(model, half(model), prove=True)
    old, new = model.get_layer("two"), small.get_layer("two")
    assert new is not old and new.kernel_regularizer is old.kernel_regularizer
    assert new.bias_constraint is old.bias_constraint


@pytest.mark.slow
def test_functions_inside_a_wrapper_go_along():
    model = chain(
        (5, 4),
        L.Dense(6, activation="relu", name="one"),
        L.TimeDistributed(L.Dense(3, activation=bent), name="each"),
        L.LSTM(4, activation=bent, name="cells"),
        L.Dense(2),
    )
    small = nns.cut(randomise(model), half(model), prove=True)
    assert small.get_layer("each").layer.activation is bent
    assert small.get_layer("cells").activation is bent


@pytest.mark.slow
@pytest.mark.parametrize("module", [tf.nn, ops, keras.activations], ids=["tf.nn", "ops", "keras"])
def test_the_same_activation_by_any_name(module):
    model = chain(
        (4,),
        *(
            L.Dense(6, activation=getattr(module, name), name=name)
            for name in ("relu", "tanh", "sigmoid", "gelu", "leaky_relu", "elu", "silu")
        ),
        L.Dense(3, activation=module.softmax, name="answer"),
    )
    randomise(model)
    graph = trace(model)
    assert [group.size for group in graph.layout.prunable] == [6] * 7
    assert graph.output().kind == "softmax"
    plan = half(model)
    assert nns.prove(model, plan, samples=inputs_of(model)).exact
    two = nns.Plan(plan.fingerprint, plan.sizes, plan.kept, (0, 2))
    small = nns.cut(model, two, head="labels", prove=True)
    np.testing.assert_allclose(np.sum(small(inputs_of(model)), axis=1), 1, rtol=1e-5)


@pytest.mark.slow
def test_generated_inputs_fit_what_models_join():
    """Sides of a picture that is pooled and enlarged, a mask, words beside numbers."""
    picture = keras.Input((None, None, 1))
    one = L.Conv2D(4, 3, padding="same", activation="relu")(picture)
    two = L.Conv2D(6, 3, padding="same", activation="relu")(L.MaxPooling2D(4)(one))
    joined = L.Concatenate()([L.UpSampling2D(4)(two), one])
    x = L.GlobalAveragePooling2D()(L.Conv2D(3, 1, activation="relu")(joined))
    steps, mask = keras.Input((4, 3)), keras.Input((4,), dtype="bool")
    word = keras.Input((1,), dtype="string")
    y = L.GlobalAveragePooling1D()(L.Dense(5, activation="relu")(steps), mask=mask)
    z = L.Flatten()(L.Embedding(4, 3)(L.StringLookup(vocabulary=["a", "b", "one"])(word)))
    inputs = [picture, steps, mask, word]
    model = randomise(keras.Model(inputs, L.Dense(2)(L.Concatenate()([x, y, z]))))
    nns.cut(model, half(model), prove=True)


def adapted(mode):
    start = keras.Input((6,), dtype="int32")
    x = L.Embedding(9, 8, name="table")(start)
    x = x + L.MultiHeadAttention(2, 4, name="attention")(x, x)
    x = L.Dense(5, activation="relu", name="one")(L.GlobalAveragePooling1D()(x))
    model = randomise(keras.Model(start, L.Dense(3)(L.Dense(7, activation="relu", name="two")(x))))
    query = model.get_layer("attention").query_dense
    if mode == "lora":
        query.enable_lora(2)
        query.lora_kernel_b.assign(np.full(query.lora_kernel_b.shape, 0.1))
    else:
        query.quantize(mode)
    return model


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword")
@pytest.mark.parametrize("mode", ["lora", "int8", "int4"])
def test_what_was_done_to_a_projection_of_an_attention_is_done_to_its_copy(mode):
    """The attention's own configuration says nothing of it, and nothing of it can be cut."""
    model = adapted(mode)
    graph = trace(model)
    assert {group.name for group in graph.layout.prunable} == {"one", "two"}
    assert "LoRA or quantised" in graph.layout["attention:heads"].reasons[0]
    small = nns.cut(model, half(model), prove=True)
    old, new = (m.get_layer("attention").query_dense for m in (model, small))
    for one, other in zip(old.variables, new.variables, strict=True):
        np.testing.assert_array_equal(one, other)


class Net(keras.Model):
    """A functional model with a method of its own."""

    def decide(self, x):
        return self(x)


def test_a_class_of_the_users_own_is_said_to_be_lost():
    inputs = keras.Input((4,))
    hidden = keras.layers.Dense(5, activation="relu", name="hidden")(inputs)
    model = Net(inputs, keras.layers.Dense(2)(hidden))
    graph = trace(model)
    plan = nns.Plan(graph.fingerprint, {"hidden": 5}, {"hidden": (0, 3)})
    with pytest.warns(UserWarning, match="no Net: nothing is known"):
        small = nns.cut(model, plan)
    assert type(small).__module__.startswith("keras.src.")
