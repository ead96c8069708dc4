"""Rows of the contract table: operations of `keras.ops` that sum, order and multiply."""

from __future__ import annotations

import keras
import numpy as np
from contract import flat, image, row, steps
from keras import layers, ops
from keras.src.ops import linalg, math, nn
from keras.src.ops import numpy as knp

L = layers


@row(knp.Sum, expected={"before": 6, "gate": 5}, note="exact, over units as well")
def sums():
    start = keras.Input((4, 3))
    x = L.Dense(6, activation="relu", name="before")(start)
    g = L.Dense(5, activation="tanh", name="gate")(start)
    y = ops.sum(x, axis=1) * ops.sum(g, axis=[1, 2], keepdims=True)[:, :, 0]
    return keras.Model(start, L.Dense(3, name="answer")(y))


@row(linalg.Norm, knp.CountNonzero, expected={"before": 6}, note="exact, over units as well")
def lengths():
    def change(x):
        y = ops.norm(x, axis=1) + ops.cast(ops.count_nonzero(x > 0.1, axis=1), "float32")
        length = ops.norm(x, axis=[1, 2])[:, None] + ops.norm(x, ord=1, axis=2)[:, :1]
        return y / (length + 1.0)

    return steps(change, pool=False)


@row(
    linalg.Norm,
    expected={"before": (6, 6), "after": 4},
    reason="zeros would count",
    note="protected over units where it takes the least",
)
def least_length_of_units():
    def change(x):
        return x / (ops.norm(x, ord=-1, axis=1, keepdims=True) + 1.0)

    return flat(change, L.Dense(4, "relu", name="after"))


@row(
    knp.Cumsum,
    knp.Cumprod,
    expected={"before": 6},
    note="exact along other axes; running sums over units too",
)
def running_sums_and_products():
    def change(x):
        return ops.cumsum(ops.cumsum(x, axis=-1), axis=1) + ops.cumprod(x, axis=1)

    return steps(change)


@row(
    knp.Sort,
    knp.Argsort,
    knp.Diff,
    math.TopK,
    expected={"before": 6},
    note="exact along other axes; protected over units",
)
def order_of_steps():
    def change(x):
        y = ops.sort(x, axis=1)[:, 1:] * ops.cast(ops.argsort(x, axis=1)[:, 1:], "float32")
        y = ops.swapaxes(y + ops.diff(x, axis=1), 1, 2)
        return ops.swapaxes(ops.top_k(y, 2)[0], 1, 2)

    return steps(change)


@row(
    math.TopK,
    expected={"before": (6, 6), "after": 4},
    reason="compares",
    note="exact along other axes; protected over units",
)
def largest_units():
    return flat(lambda x: ops.top_k(x, 3)[0], L.Dense(4, "relu", name="after"))


@row(knp.Dot, knp.Tensordot, expected={"before": 6}, note="exact; constants are sliced")
def products_with_constants():
    matrix = np.random.default_rng(0).normal(size=(6, 5)).astype("float32")

    return steps(lambda x: ops.dot(x, matrix) + ops.tanh(ops.tensordot(x, matrix, axes=1)))


@row(
    knp.Mean,
    knp.Max,
    knp.Min,
    knp.Amax,
    knp.Amin,
    knp.Prod,
    knp.Std,
    knp.Var,
    knp.Median,
    knp.Ptp,
    knp.Average,
    math.Logsumexp,
    expected={"before": 6},
    note="exact along other axes; protected over units",
)
def statistics_of_steps():
    def change(x):
        y = ops.mean(x, axis=1) + ops.max(x, axis=1) + ops.min(x, axis=1) + ops.amax(x, axis=1)
        y = y + ops.amin(x, axis=1) + ops.prod(x, axis=1) + ops.std(x, axis=1) + ops.var(x, axis=1)
        y = y + ops.median(x, axis=1) + ops.ptp(x, axis=1) + ops.average(x, axis=1)
        return y + ops.squeeze(ops.logsumexp(x, axis=1, keepdims=True), axis=1)

    return steps(change, pool=False)


@row(
    knp.Any,
    knp.All,
    knp.Argmax,
    knp.Argmin,
    expected={"before": 6},
    note="exact along other axes; protected over units",
)
def flags_and_places_of_steps():
    def change(x):
        y = ops.cast(ops.any(x > 0.5, axis=1), "float32")
        y = y + ops.cast(ops.all(x > -0.9, axis=1), "float32")
        y = y + ops.cast(ops.argmax(x, axis=1), "float32")
        return y - ops.cast(ops.argmin(x, axis=1), "float32")

    return steps(change, pool=False)


@row(
    knp.Mean,
    knp.Max,
    expected={"before": (6, 6), "after": 4},
    reason="zeros would count",
    note="exact along other axes; protected over units",
)
def spatial_attention_over_units():
    def gate(x):
        a = ops.concatenate(
            [ops.mean(x, axis=-1, keepdims=True), ops.max(x, axis=-1, keepdims=True)], axis=-1
        )
        return x * ops.sigmoid(L.Conv2D(1, 3, padding="same", name="gate")(a))

    return image(gate, L.Conv2D(4, 3, activation="relu", name="after"))


@row(
    knp.Matmul,
    knp.Reshape,
    knp.Transpose,
    nn.Softmax,
    expected={"k": 4, "v": 4},
    members={"k": ("q", "k")},
    note="exact; summed units leave both factors",
)
def attention_by_hand():
    start = keras.Input((5, 3))
    q, k, v = (L.Dense(8, name=name)(start) for name in "qkv")

    def heads(x):
        return ops.transpose(ops.reshape(x, (-1, 5, 2, 4)), (0, 2, 1, 3))

    scores = ops.softmax(ops.matmul(heads(q), ops.swapaxes(heads(k), 2, 3)) * 0.5)
    y = ops.reshape(ops.transpose(ops.matmul(scores, heads(v)), (0, 2, 1, 3)), (-1, 5, 8))
    return keras.Model(start, L.Dense(3, name="answer")(y))


@row(
    nn.DotProductAttention,
    expected={"v": 4, "pairs": 4},
    members={"v": ("q", "k", "v")},
    note="exact; queries, keys and values lose the same",
)
def attention_operation():
    start = keras.Input((5, 3))
    mask = np.tril(np.ones((1, 1, 5, 5), dtype=bool))

    def heads(name):
        return ops.reshape(L.Dense(8, name=name)(start), (-1, 5, 2, 4))

    y = ops.dot_product_attention(heads("q"), heads("k"), heads("v"), mask=mask)
    y = L.Dense(8, name="pairs")(ops.reshape(y, (-1, 5, 8)))
    y = ops.reshape(y, (-1, 5, 2, 4))
    y = ops.dot_product_attention(y, y, y, is_causal=True, scale=0.3)
    return keras.Model(start, L.Dense(3, name="answer")(ops.reshape(y, (-1, 40))))


@row(
    nn.DotProductAttention,
    L.EinsumDense,
    expected={"q:d": 2, "q:e": 4},
    members={"q:d": ("q:d", "k:d", "v:d"), "q:e": ("q:e", "k:e", "v:e")},
    note="exact: whole heads too",
)
def attention_operation_with_heads():
    start = keras.Input((5, 3))
    bias = np.random.default_rng(0).normal(size=(1, 2, 5, 5)).astype("float32")
    q, k, v = (L.EinsumDense("abc,cde->abde", (None, 2, 4), name=name)(start) for name in "qkv")
    y = ops.dot_product_attention(q, k, v, bias)
    return keras.Model(start, L.EinsumDense("abde,def->abf", (None, 3), name="answer")(y))


@row(knp.Matmul, expected={"before": 6}, note="exact; constants are sliced")
def matmul_with_a_constant():
    matrix = np.random.default_rng(0).normal(size=(6, 5)).astype("float32")
    return flat(lambda x: ops.matmul(x, matrix), ops.relu)


@row(knp.Einsum, expected={"q": 6, "v": 5}, members={"q": ("q", "k")})
def einsum():
    start = keras.Input((4, 3))
    q, k, v = (L.Dense(n, name=m)(start) for n, m in ((6, "q"), (6, "k"), (5, "v")))
    scores = ops.softmax(ops.einsum("bqd,bkd->bqk", q, k))
    y = ops.einsum("...qk,...kd->...qd", scores, v)
    return keras.Model(start, L.Dense(3, name="answer")(y))


@row(
    knp.Einsum,
    expected={"before": (6, 6), "after": 4},
    reason="write it with",
    note="protected without `->`",
)
def einsum_without_arrow():
    matrix = np.random.default_rng(0).normal(size=(6, 5)).astype("float32")
    return flat(lambda x: ops.einsum("bd,de", x, matrix), L.Dense(4, "relu", name="after"))
