"""The reading of Keras's own graph, against the pinned Keras minor: re-running it is exact."""

from __future__ import annotations

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops, tree

from keras_nns.errors import ModelError
from keras_nns.graph.keras_internals import (
    accepts_training,
    calls,
    functional,
    inputs_of,
    is_graph,
    is_recurrent,
    model_of,
    output_names,
    standardise_inputs,
    structure,
    undisturbed,
    walk,
)

RANDOM = np.random.default_rng(0)


def normal(*shape):
    return RANDOM.normal(size=shape).astype("float32")


def sequential():
    return keras.Sequential(
        [keras.Input((6,)), L.Dense(5, "relu"), L.Dropout(0.5), L.BatchNormalization(), L.Dense(3)]
    ), normal(4, 6)


def late_sequential():
    """Built by its first call, without an Input."""
    model = keras.Sequential([L.Dense(5, "relu"), L.Dense(3)])
    model(normal(4, 6))
    return model, normal(4, 6)


def nested():
    """The same inner model called twice, a Sequential inside it, and an operation."""
    deep = keras.Sequential([keras.Input((5,)), L.Dense(5, "tanh")], name="deep")
    a = keras.Input((5,))
    inner = keras.Model(a, deep(a) * 2 + a, name="inner")
    b = keras.Input((5,))
    return keras.Model(b, L.Add()([inner(L.Dense(5)(b)), inner(b)])), normal(4, 5)


def shared():
    """A layer called twice, which also has a node in another model."""
    layer = L.Dense(4, "relu")
    elsewhere = keras.Input((4,))
    keras.Model(elsewhere, layer(elsewhere))
    a = keras.Input((4,))
    return keras.Model(a, layer(layer(a))), normal(4, 4)


def several():
    """Inputs and outputs as dictionaries, whose order is not that of their names."""
    inputs = {"z": keras.Input((3,), name="z"), "a": keras.Input((4,), name="a")}
    one = L.Dense(5)(inputs["z"])
    two = L.Dense(5)(inputs["a"])
    outputs = {"sum": one + two, "pair": [one, ops.split(two, 5, axis=-1)[0]]}
    return keras.Model(inputs, outputs), {"z": normal(4, 3), "a": normal(4, 4)}


def inner_with_names():
    """A nested model that takes a dictionary, and one that takes a list."""
    pair = {"y": keras.Input((3,), name="y"), "b": keras.Input((3,), name="b")}
    inner = keras.Model(pair, pair["y"] - 2 * pair["b"], name="inner")
    both = [keras.Input((3,)), keras.Input((3,))]
    other = keras.Model(both, both[0] * both[1], name="other")
    a = keras.Input((3,))
    left = inner({"b": a, "y": L.Dense(3)(a)})
    return keras.Model(a, other([left, a])), normal(4, 3)


def masked():
    inputs = keras.Input((6,), dtype="int32")
    x = L.Embedding(7, 4, mask_zero=True)(inputs)
    x = L.Bidirectional(L.LSTM(3, return_sequences=True))(x)
    x = L.MultiHeadAttention(2, 3)(x, x)
    x = L.LSTM(3)(x)
    return keras.Model(inputs, x), np.array([[1, 2, 3, 0, 0, 0], [4, 5, 6, 1, 2, 0]], "int32")


def recurrent_with_state():
    inputs = keras.Input((5, 2))
    whole, h, c = L.LSTM(3, return_sequences=True, return_state=True)(inputs)
    return keras.Model(inputs, [L.LSTM(3)(whole, initial_state=[h, c]), h]), normal(4, 5, 2)


MODELS = [
    sequential,
    late_sequential,
    nested,
    shared,
    several,
    inner_with_names,
    masked,
    recurrent_with_state,
]


def run(call, args, kwargs):
    if accepts_training(call.operation):
        kwargs = {**kwargs, "training": False}
    return call.operation(*args, **kwargs)


@pytest.mark.slow
@pytest.mark.parametrize("build", MODELS, ids=lambda build: build.__name__)
def test_walking_a_model_is_running_it(build):
    model, x = build()
    nodes = [len(layer._inbound_nodes) for layer in model._flatten_layers()]
    found = walk(model, standardise_inputs(model, x), run)
    expected = tree.flatten(model(x, training=False))
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    assert [len(layer._inbound_nodes) for layer in model._flatten_layers()] == nodes
    _, outputs = structure(model)
    tree.assert_same_structure(outputs, model(x, training=False))


@pytest.mark.slow
@pytest.mark.parametrize("build", MODELS, ids=lambda build: build.__name__)
def test_every_call_has_its_own_key_and_the_path_of_its_layer(build):
    model, x = build()
    seen = []

    def visit(call, args, kwargs):
        seen.append((call.key, call.path))
        outputs = run(call, args, kwargs)
        shapes = [tuple(t.shape)[1:] for t in tree.flatten(outputs)]
        assert shapes == [shape[1:] for shape in call.shapes]
        return outputs

    walk(model, standardise_inputs(model, x), visit)
    keys = [key for key, _ in seen]
    assert len(set(keys)) == len(keys)
    names = {layer.name for layer in model._flatten_layers(include_self=False)}
    for _, path in seen:
        assert set(path.split("/")[:-1]) <= names


def test_paths_and_keys_of_a_nested_model_called_twice():
    model, x = nested()
    seen: dict[str, int] = {}
    entered = []

    def visit(call, args, kwargs):
        seen[call.path] = seen.get(call.path, 0) + 1
        return run(call, args, kwargs)

    def enter(call, inputs):
        entered.append((call.path, len(inputs)))

    walk(model, standardise_inputs(model, x), visit, enter=enter)
    deep = [path for path in seen if path.startswith("inner/deep/")]
    assert len(deep) == 1
    assert seen[deep[0]] == 2
    assert sorted(entered) == [("inner", 1)] * 2 + [("inner/deep", 1)] * 2


def test_inputs_of_a_nested_model_come_in_its_own_order():
    model, x = inner_with_names()
    found = {}

    def enter(call, inputs):
        found[call.path] = [np.asarray(value) for value in inputs]

    walk(model, standardise_inputs(model, x), run, enter=enter)
    (inner,) = [layer for layer in model.layers if layer.name == "inner"]
    order = [tensor.name for tensor in functional(inner).inputs]
    np.testing.assert_array_equal(found["inner"][order.index("b")], x)
    expected = [tensor.name for tensor in functional(inner).inputs]
    assert inputs_of(inner, (), {"inputs": {n: n for n in order}}) == expected


def test_names_of_outputs_are_those_of_their_layers():
    a = keras.Input((3,))
    model = keras.Model(a, [L.Dense(2, name="one")(a), L.Dense(2, name="two")(a)])
    assert output_names(model) == ["one", "two"]


def test_what_has_a_graph():
    class Own(keras.Model):
        def call(self, x):
            return x

    class Subclass(keras.Sequential):
        pass

    model, _ = sequential()
    assert is_graph(model)
    assert is_graph(Subclass([keras.Input((2,)), L.Dense(2)]))
    assert not is_graph(L.Dense(2))
    assert not is_graph(Own())
    for wrong, word in [(Own(), "Own"), (keras.Sequential(), "built"), (None, "NoneType")]:
        with pytest.raises(ModelError, match=word):
            functional(wrong)


def test_inputs_are_read_as_the_model_reads_them():
    model, x = several()
    flat = standardise_inputs(model, {"a": x["a"].astype("float64"), "z": x["z"]})
    assert [tensor.shape[1] for tensor in flat] == [t.shape[1] for t in functional(model).inputs]
    assert {keras.backend.standardize_dtype(tensor.dtype) for tensor in flat} == {"float32"}


@pytest.mark.slow
def test_calls_come_before_those_that_read_them():
    for build in MODELS:
        model, _ = build()
        known = {id(tensor) for tensor in functional(model).inputs}
        for call, fill in calls(model):
            fill({**dict.fromkeys(known, 0)})
            known |= {id(tensor) for tensor in call.outputs}
        assert {id(tensor) for tensor in functional(model).outputs} <= known


def test_undisturbed_puts_back_states_and_losses_also_after_an_error():
    inputs = keras.Input(batch_shape=(2, 3, 4))
    lstm = L.LSTM(3, stateful=True, activity_regularizer="l2")
    model = keras.Model(inputs, lstm(inputs))
    model(normal(2, 3, 4))
    states, losses = [s.numpy() for s in lstm.states], [float(loss) for loss in model.losses]
    assert len(losses) == 1
    with pytest.raises(RuntimeError), undisturbed(model):
        model(normal(2, 3, 4))
        assert [float(loss) for loss in model.losses] != losses
        raise RuntimeError
    assert [float(loss) for loss in model.losses] == losses
    for one, other in zip(states, lstm.states, strict=True):
        np.testing.assert_array_equal(one, other.numpy())


@pytest.mark.parametrize(
    ("layer", "loops"),
    [
        (L.Dense(2), False),
        (L.GRU(2), True),
        (L.Bidirectional(L.LSTM(2)), True),
        (L.TimeDistributed(L.Dense(2)), False),
        (L.RNN(L.StackedRNNCells([L.GRUCell(2)])), True),
        (keras.Sequential([L.GRU(2)]), True),
        (ops.add, False),
    ],
    ids=["dense", "gru", "bidirectional", "every step alike", "cells", "nested", "no layer"],
)
def test_what_goes_step_by_step(layer, loops):
    assert is_recurrent(layer) is loops


def test_an_operation_finds_a_name_that_nothing_in_the_model_has():
    start = keras.Input((6,))
    inside = L.Dense(6, name="taken")(start)
    further = L.Dense(6, name="taken_1")(inside)
    model = keras.Model(start, ops.sum(further, axis=-1, keepdims=True))
    model.operations[-1].name = "mine"
    behind = ops.take(ops.add(model.outputs[0], inside), [0, 2], axis=-1)
    (mine, took, added) = (
        tensor._keras_history.operation
        for tensor in (
            model.outputs[0],
            behind,
            behind._keras_history.operation._inbound_nodes[0].input_tensors[0],
        )
    )
    took.name, added.name = "taken", "mine"
    with pytest.raises(ValueError, match="is used 2 times"):
        keras.Model(start, behind)
    found = model_of(start, {"a": behind}, name="both")
    # What is nearer to the outputs gives way; layers keep their names.
    assert (took.name, added.name, mine.name) == ("taken_2", "mine_1", "mine")
    assert [layer.name for layer in found.layers if layer.weights] == ["taken", "taken_1"]
    assert found.name == "both" and list(found.output) == ["a"]
    x = normal(4, 6)
    first = model.get_layer("taken")(x)
    right = np.asarray(model(x)) + np.asarray(first)
    np.testing.assert_allclose(found(x)["a"], right[:, [0, 2]], rtol=1e-5)
    again = keras.Model.from_config(found.get_config())
    assert [one.name for one in again.operations] == [one.name for one in found.operations]
