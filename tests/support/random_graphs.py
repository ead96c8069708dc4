"""Random graphs: recipes that hypothesis draws, and the models they describe."""

from __future__ import annotations

import os

import keras
import numpy as np
from contract import randomise
from hypothesis import HealthCheck
from hypothesis import strategies as st
from keras import layers, ops

L = layers
STEPS = 4

# Every part takes one or two tensors `(batch, STEPS, features)` and a small number, and gives one.


def _same_width(x, y):
    """Project the second tensor to the width of the first where they differ."""
    return y if x.shape[-1] == y.shape[-1] else L.Dense(x.shape[-1])(y)


def _shuffle(x, n):
    width = x.shape[-1]
    if width % 2:
        return x
    x = ops.reshape(x, (-1, STEPS, 2, width // 2))
    return ops.reshape(ops.transpose(x, (0, 1, 3, 2)), (-1, STEPS, width))


def _split(x, n):
    if x.shape[-1] < 3:
        return x
    one, two, three = ops.split(x, [1, x.shape[-1] - 1], axis=-1)
    return ops.concatenate([three, ops.relu(two), one], axis=-1)


def _shared(x, n):
    layer = L.Dense(x.shape[-1], activation="tanh")
    return layer(layer(x))


def _nested(x, n):
    inside = keras.Input((STEPS, x.shape[-1]))
    hidden = L.Dense(n + 2, activation="relu", name="hidden")(inside)
    model = keras.Model(inside, L.Add()([inside, L.Dense(x.shape[-1], name="out")(hidden)]))
    return model(model(x))


def _squeeze(x, n):
    gate = L.Dense(n + 1, activation="relu")(L.GlobalAveragePooling1D(keepdims=True)(x))
    return L.Multiply()([x, L.Dense(x.shape[-1], activation="sigmoid")(gate)])


def _attention_by_hand(x, y, n):
    q, k, v = L.Dense(4)(x), L.Dense(4)(y), L.Dense(n + 2)(y)
    return ops.matmul(ops.softmax(ops.matmul(q, ops.swapaxes(k, 1, 2))), v)


def _halves(x, n):
    """One layer reads the first part, as in a unit that is shuffled afterwards."""
    if x.shape[-1] < 2:
        return x
    one, two = ops.split(x, [x.shape[-1] // 2], axis=-1)
    return ops.concatenate([L.Conv1D(n + 1, 1, activation="relu")(one), two], axis=-1)


def _windows(x, n):
    """Steps two by two, as so many samples."""
    pairs = ops.reshape(x, (-1, 2, x.shape[-1]))
    return ops.reshape(L.Dense(n + 2, activation="tanh")(pairs), (-1, STEPS, n + 2))


def _attention_operation(x, n):
    q, k, v = (ops.reshape(L.Dense(2 * n + 2)(x), (-1, STEPS, 2, n + 1)) for _ in range(3))
    return ops.reshape(ops.dot_product_attention(q, k, v), (-1, STEPS, 2 * n + 2))


def _constant(x, n):
    numbers = np.linspace(-1, 1, x.shape[-1]).astype("float32")
    return x * numbers + ops.cast(x > 0.1, "float32")


ONE = {
    "dense": lambda x, n: L.Dense(n + 3, activation="relu")(x),
    "conv": lambda x, n: L.Conv1D(n + 2, 2, padding="same", activation="elu")(x),
    "depthwise": lambda x, n: L.DepthwiseConv1D(2, padding="same", depth_multiplier=n % 2 + 1)(x),
    "separable": lambda x, n: L.SeparableConv1D(n + 2, 2, padding="same")(x),
    "batch_norm": lambda x, n: L.ReLU()(L.BatchNormalization()(x)),
    "group_norm": lambda x, n: L.GroupNormalization(groups=2 if x.shape[-1] % 2 == 0 else -1)(x),
    "rms_norm": lambda x, n: L.RMSNormalization(epsilon=0.1)(x),
    "layer_norm": lambda x, n: L.LayerNormalization()(x),
    "lstm": lambda x, n: L.LSTM(n + 2, return_sequences=True)(x),
    "gru": lambda x, n: L.GRU(n + 2, return_sequences=True, reset_after=bool(n % 2))(x),
    "both_ways": lambda x, n: L.Bidirectional(L.SimpleRNN(n + 2, return_sequences=True))(x),
    "self_attention": lambda x, n: L.MultiHeadAttention(2, n + 2)(x, x, use_causal_mask=True),
    "per_step": lambda x, n: L.TimeDistributed(L.Dense(n + 2, activation="tanh"))(x),
    "prelu": lambda x, n: L.PReLU()(x),
    "slices": lambda x, n: ops.concatenate([x[..., 1:], x[..., :1]], axis=-1),
    "context": lambda x, n: x + ops.mean(x, axis=1, keepdims=True),
    "flip": lambda x, n: ops.flip(x, axis=-1),
    "flatten": lambda x, n: L.Reshape((STEPS, -1))(L.Flatten()(x)),
    "gated": lambda x, n: ops.glu(L.Dense(2 * n + 2)(x)),
    "running": lambda x, n: ops.cumsum(ops.cumsum(x, axis=1), axis=2) * 0.3,
    "tile": lambda x, n: ops.tile(x, [1, 1, n % 2 + 1]),
    "attention_operation": _attention_operation,
    "windows": _windows,
    "halves": _halves,
    "shuffle": _shuffle,
    "split": _split,
    "shared": _shared,
    "nested": _nested,
    "squeeze": _squeeze,
    "constant": _constant,
}
TWO = {
    "add": lambda x, y, n: L.Add()([x, _same_width(x, y)]),
    "multiply": lambda x, y, n: x * ops.sigmoid(_same_width(x, y)),
    "maximum": lambda x, y, n: L.Maximum()([x, _same_width(x, y)]),
    "concatenate": lambda x, y, n: L.Concatenate()([x, y]),
    "longer": lambda x, y, n: L.Concatenate(axis=1)([x, _same_width(x, y)])[:, n : n + STEPS],
    "cross_attention": lambda x, y, n: L.MultiHeadAttention(2, 2, value_dim=n + 1)(x, y),
    "attention": lambda x, y, n: L.Attention()([x, _same_width(x, y)]),
    "attention_by_hand": _attention_by_hand,
}

small = st.integers(0, 3)
recipes = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(sorted(ONE)), small, small, small),
        st.tuples(st.sampled_from(sorted(TWO)), small, small, small),
    ),
    min_size=2,
    max_size=8,
)


def build(recipe):
    """Build the model of a recipe; parts read from the last four tensors made."""
    start = keras.Input((STEPS, 3))
    made = [L.Dense(6, activation="tanh")(start), L.Dense(4)(start)]
    for name, first, second, number in recipe:
        x, y = made[-1 - first % len(made)], made[-1 - second % len(made)]
        made.append(ONE[name](x, number) if name in ONE else TWO[name](x, y, number))
    ends = [L.GlobalAveragePooling1D()(x) for x in made[-2:]]
    return randomise(keras.Model(start, L.Dense(3)(L.Concatenate()(ends))))


shares = st.sampled_from([0.1, 0.5, 0.9])
seeds = st.integers(0, 10_000)
# KERAS_NNS_GRAPHS=3000 tries that many graphs, others in every run.
GRAPHS = os.environ.get("KERAS_NNS_GRAPHS")
unhurried = {
    "deadline": None,
    "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large],
}
