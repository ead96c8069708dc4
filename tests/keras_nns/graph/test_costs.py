"""Costs are held against figures worked out by hand and against TensorFlow's own profiler."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from backends import on_tensorflow
from keras import layers

from keras_nns.errors import DataError, ModelError
from keras_nns.graph import costs


def sequential(shape, *stack):
    return keras.Sequential([keras.Input(shape), *stack])


HAND = {
    "dense": ((5,), layers.Dense(3), 5 * 3),
    "dense over steps": ((7, 5), layers.Dense(3), 7 * 5 * 3),
    "einsum": ((7, 5), layers.EinsumDense("abc,cde->abde", (7, 2, 3)), 7 * 5 * 2 * 3),
    "einsum over two axes": ((7, 5), layers.EinsumDense("abc,bcd->ad", (4,)), 7 * 5 * 4),
    "einsum ellipsis": ((2, 7, 5), layers.EinsumDense("...c,cd->...d", 3), 14 * 15),
    "conv1d": ((10, 3), layers.Conv1D(4, 3), 8 * 4 * 3 * 3),
    "conv2d same": ((8, 6, 3), layers.Conv2D(4, (3, 5), padding="same"), 8 * 6 * 4 * 3 * 15),
    "conv2d strides": ((9, 9, 2), layers.Conv2D(4, 3, strides=2), 4 * 4 * 4 * 2 * 9),
    "conv2d groups": ((8, 8, 4), layers.Conv2D(6, 3, groups=2), 36 * 6 * 2 * 9),
    "conv3d": ((4, 4, 4, 2), layers.Conv3D(3, 2), 27 * 3 * 2 * 8),
    "depthwise1d": ((8, 3), layers.DepthwiseConv1D(3, depth_multiplier=2), 6 * 6 * 3),
    "depthwise2d": ((8, 8, 3), layers.DepthwiseConv2D(3, depth_multiplier=2), 36 * 6 * 9),
    "separable": (
        (8, 8, 3),
        layers.SeparableConv2D(5, 3, depth_multiplier=2),
        36 * 6 * 9 + 36 * 6 * 5,
    ),
    "transpose": ((4, 4, 3), layers.Conv2DTranspose(5, 3, strides=2), 16 * 3 * 9 * 5),
    "simple rnn": ((6, 3), layers.SimpleRNN(4), 6 * (3 * 4 + 4 * 4)),
    "lstm": ((6, 3), layers.LSTM(4, return_sequences=True), 6 * 4 * (3 * 4 + 4 * 4)),
    "gru": ((6, 3), layers.GRU(4), 6 * 3 * (3 * 4 + 4 * 4)),
    "bidirectional": ((6, 3), layers.Bidirectional(layers.GRU(4)), 2 * 6 * 3 * (12 + 16)),
    "rnn of cells": (
        (6, 3),
        layers.RNN([layers.LSTMCell(4), layers.GRUCell(2)]),
        6 * (4 * (12 + 16) + 3 * (8 + 4)),
    ),
    "conv lstm": (
        (5, 8, 8, 2),
        layers.ConvLSTM2D(3, 3, padding="same"),
        5 * 64 * (9 * 2 * 12 + 9 * 3 * 12),
    ),
    "time distributed": ((5, 8, 8, 2), layers.TimeDistributed(layers.Conv2D(3, 3)), 5 * 36 * 54),
    "batch norm": ((5,), layers.BatchNormalization(), 0),
    "pooling": ((8, 8, 2), layers.GlobalAveragePooling2D(), 0),
    "dropout": ((5,), layers.Dropout(0.5), 0),
    "embedding": ((5,), layers.Embedding(10, 4), 0),
}


@pytest.mark.parametrize("case", HAND)
def test_multiply_adds_of_one_layer_are_those_worked_out_by_hand(case):
    shape, layer, expected = HAND[case]
    model = sequential(shape, layer)
    assert costs.count_macs(model) == expected
    assert costs.macs_unknown(model) == ()


def test_attention_counts_projections_scores_and_mixing():
    query, value = keras.Input((5, 6)), keras.Input((7, 8))
    attention = layers.MultiHeadAttention(num_heads=2, key_dim=3, value_dim=4)
    model = keras.Model([query, value], attention(query, value))
    projections = 5 * 6 * 2 * 3 + 7 * 8 * 2 * 3 + 7 * 8 * 2 * 4 + 5 * 2 * 4 * 6
    assert costs.count_macs(model) == projections + 2 * 5 * 7 * (3 + 4)


def test_attention_over_one_of_two_axes_multiplies_along_that_axis_only():
    x = keras.Input((4, 5, 6))
    model = keras.Model(x, layers.MultiHeadAttention(2, 3, attention_axes=2)(x, x))
    assert costs.count_macs(model) == 4 * 20 * 6 * 6 + 4 * 2 * 5 * 5 * (3 + 3)


def test_grouped_query_attention_shares_keys_and_values():
    x = keras.Input((5, 6))
    attention = layers.GroupQueryAttention(head_dim=3, num_query_heads=4, num_key_value_heads=2)
    model = keras.Model(x, attention(x, x))
    projections = 5 * 6 * 12 + 2 * 5 * 6 * 6 + 5 * 12 * 6
    assert costs.count_macs(model) == projections + 4 * 5 * 5 * (3 + 3)


def test_products_without_weights_count():
    a, b = keras.Input((5, 6)), keras.Input((7, 6))
    scores = keras.ops.matmul(a, keras.ops.transpose(b, (0, 2, 1)))
    mixed = keras.ops.einsum("bts,bsd->btd", scores, b)
    dotted = layers.Dot(axes=(2, 2))([mixed, b])
    attended = layers.Attention()([a, b])
    model = keras.Model([a, b], [dotted, attended])
    assert costs.count_macs(model) == 5 * 6 * 7 + 5 * 7 * 6 + 5 * 6 * 7 + 5 * 7 * (6 + 6)
    assert costs.macs_unknown(model) == ()


def test_einsum_with_broadcast_axes():
    a, b = keras.Input((3, 5, 6)), keras.Input((3, 7, 6))
    model = keras.Model([a, b], keras.ops.einsum("...td,...sd->...ts", a, b))
    assert costs.count_macs(model) == 3 * 5 * 6 * 7


def test_nested_and_shared_models_count_once_per_call():
    inner = sequential((5,), layers.Dense(4), layers.Dense(5))
    x = keras.Input((5,))
    model = keras.Model(x, inner(inner(x)))
    assert costs.count_macs(model) == 2 * costs.count_macs(inner) == 2 * 40
    assert costs.parameters(model) == 5 * 4 + 4 + 4 * 5 + 5


def test_a_nested_model_is_counted_at_the_shape_it_is_called_with():
    inner = sequential((None, None, 2), layers.Conv2D(3, 3))
    x = keras.Input((8, 6, 2))
    assert costs.count_macs(keras.Model(x, inner(x))) == 6 * 4 * 3 * 2 * 9


def test_a_fixed_batch_is_counted_per_sample():
    x = keras.Input(batch_shape=(4, 6))
    y = layers.Dense(3)(keras.ops.reshape(x, (8, 3)))
    model = keras.Model(x, keras.ops.reshape(y, (4, 6)))
    assert costs.count_macs(model) == 2 * 3 * 3


def test_open_dimensions_are_read_from_a_batch():
    model = sequential((None, 3), layers.LSTM(4))
    with pytest.raises(ModelError, match="inputs="):
        costs.count_macs(model)
    batch = np.zeros((9, 6, 3))
    assert costs.count_macs(model, inputs=batch) == 6 * 4 * (12 + 16)
    with pytest.raises(DataError, match="Received"):
        costs.count_macs(model, inputs=np.zeros((9, 3)))


@pytest.mark.slow
def test_several_inputs_are_taken_by_name():
    a, b = keras.Input((None, 3), name="first"), keras.Input((None, 2), name="a_second")
    pool = layers.GlobalAveragePooling1D()
    model = keras.Model([a, b], [pool(layers.Dense(5)(a)), pool(layers.Dense(5)(b))])
    batch = {"first": np.zeros((1, 4, 3)), "a_second": np.zeros((1, 7, 2))}
    assert costs.count_macs(model, inputs=batch) == 4 * 15 + 7 * 10


class Doubled(layers.Dense):
    def call(self, inputs):
        return super().call(super().call(inputs))


def test_what_cannot_be_counted_is_named():
    inner = keras.Sequential([keras.Input((5,)), Doubled(5, name="doubled")], name="inner")
    x = keras.Input((5,))
    model = keras.Model(x, layers.Dense(2)(inner(x)))
    assert costs.macs_unknown(model) == ("inner/doubled",)
    assert costs.count_macs(model) == 5 * 2
    tower = sequential((4, 5), layers.TimeDistributed(Doubled(5, name="twice"), name="steps"))
    assert costs.macs_unknown(tower) == ("steps/twice",)


def test_a_subclassed_model_is_named_whole():
    class Subclassed(keras.Model):
        def __init__(self):
            super().__init__(name="subclassed")
            self.dense = layers.Dense(3)

        def call(self, inputs):
            return self.dense(inputs)

    model = Subclassed()
    with pytest.raises(ModelError, match="not built"):
        costs.measure(model)
    model(np.zeros((1, 4)))
    assert costs.measure(model) == costs.Costs(15, 0, 60, None, ("subclassed",))


def test_counting_leaves_the_model_as_it_was():
    inner = sequential((5,), layers.Dense(5))
    x = keras.Input((5,))
    model = keras.Model(x, layers.Dense(2)(inner(x)))
    every = [*model.layers, *inner.layers]
    before = [(len(o._inbound_nodes), len(o._outbound_nodes)) for o in every]
    costs.measure(model)
    assert before == [(len(o._inbound_nodes), len(o._outbound_nodes)) for o in every]
    assert model.predict_function is None


@on_tensorflow("its profiler")
def test_tensorflows_profiler_agrees():
    x = keras.Input((12, 12, 3))
    y = layers.Conv2D(4, 3, padding="same")(x)
    y = layers.BatchNormalization()(y)
    y = layers.Add()([y, layers.Conv2D(4, 1, use_bias=False)(x)])
    y = layers.DepthwiseConv2D(3, strides=2)(y)
    y = layers.Flatten()(layers.SeparableConv2D(5, 3)(y))
    model = keras.Model(x, layers.Dense(7)(layers.Dense(9, activation="relu")(y)))

    step = tf.function(lambda inputs: model(inputs, training=False))
    graph = step.get_concrete_function(tf.TensorSpec((1, 12, 12, 3))).graph
    options = tf.compat.v1.profiler.ProfileOptionBuilder.float_operation()
    profile = tf.compat.v1.profiler.profile(graph, cmd="op", options=options | {"output": "none"})
    flops = {"Conv2D": 0, "DepthwiseConv2dNative": 0, "MatMul": 0}
    for node in operations(profile):
        flops[node.name] = flops.get(node.name, 0) + node.float_ops
    products = flops["Conv2D"] + flops["DepthwiseConv2dNative"] + flops["MatMul"]
    assert 2 * costs.count_macs(model) == products


def operations(profile):
    """Walk a profile ordered by operation type, in which every type nests in the one before."""
    for child in profile.children:
        yield child
        yield from operations(child)


@pytest.mark.parametrize(
    ("side", "samples"), [(8, 256), (64, 2**24 // (64 * 64 * (3 + 61))), (512, 8)]
)
def test_a_batch_is_smaller_where_a_layer_is_large(side, samples):
    """The convolution reads three numbers at each place and writes 61; inside another model."""
    inner = keras.Sequential([keras.Input((side, side, 3)), layers.Conv2D(61, 3, padding="same")])
    x = keras.Input((side, side, 3))
    model = keras.Model(x, layers.GlobalAveragePooling2D()(inner(x)))
    assert costs.usual_batch_size(model) == samples


def test_lengths_that_are_open_leave_the_usual_batch():
    model = keras.Sequential([keras.Input((None, 12)), layers.LSTM(8), layers.Dense(3)])
    assert costs.usual_batch_size(model) == 256
