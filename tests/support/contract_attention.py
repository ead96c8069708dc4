"""Rows of the contract table: attention, and transformers put together from it."""

from __future__ import annotations

import keras
import numpy as np
from contract import row
from keras import layers, ops

L = layers

# Attention -----------------------------------------------------------------------------------


@row(
    L.MultiHeadAttention,
    expected={
        "before": 6,
        "attention": 6,
        "attention:heads": 2,
        "attention:key": 4,
        "attention:value": 4,
    },
    note="exact: heads, key and value dimensions, outputs",
)
def multi_head_attention():
    start = keras.Input((5, 3))
    x = L.Dense(6, name="before")(start)
    y = L.MultiHeadAttention(2, 4, name="attention")(x, x)
    return keras.Model(start, L.Dense(3, name="answer")(y))


@row(
    L.MultiHeadAttention,
    expected={
        "query": 6,
        "memory": 5,
        "attention": 7,
        "attention:heads": 3,
        "attention:key": 4,
        "attention:value": 2,
    },
)
def cross_attention_with_its_own_sizes():
    one, two = keras.Input((5, 3), name="one"), keras.Input((4, 3), name="two")
    q, v = L.Dense(6, name="query")(one), L.Dense(5, name="memory")(two)
    y, _ = L.MultiHeadAttention(
        3, 4, value_dim=2, output_shape=7, use_bias=False, dropout=0.1, name="attention"
    )(q, v, return_attention_scores=True)
    return keras.Model([one, two], L.Dense(3, name="answer")(y))


@row(
    L.MultiHeadAttention,
    expected={
        "table": 6,
        "attention": 6,
        "attention:heads": 2,
        "attention:key": 4,
        "attention:value": 4,
    },
)
def causal_attention_with_gate_and_mask():
    start = keras.Input((6,), dtype="int32")
    x = L.Embedding(5, 6, mask_zero=True, name="table")(start)
    y = L.MultiHeadAttention(2, 4, use_gate=True, name="attention")(x, x, use_causal_mask=True)
    return keras.Model(start, L.Dense(3, name="answer")(y))


@row(
    L.MultiHeadAttention,
    expected={
        "before": 6,
        "attention": 6,
        "attention:heads": 2,
        "attention:key": 4,
        "attention:value": 4,
    },
)
def attention_over_two_axes():
    start = keras.Input((2, 4, 3))
    x = L.Dense(6, name="before")(start)
    y = L.MultiHeadAttention(2, 4, attention_axes=(2,), name="attention")(x, x)
    return keras.Model(start, L.Dense(3, name="answer")(y))


@row(
    L.GroupQueryAttention,
    expected={"before": 6, "attention:heads": 2, "attention:dimensions": 4},
    members={"before": ("before", "attention")},
    note="exact: a key and value head with all its query heads; dimensions",
)
def group_query_attention():
    start = keras.Input((5, 3))
    x = L.Dense(6, name="before")(start)
    y = L.GroupQueryAttention(4, 4, 2, use_gate=True, name="attention")(x, x)
    return keras.Model(start, L.Dense(3, name="answer")(y))


@row(
    L.GroupQueryAttention,
    expected={"before": 6, "attention:heads": 4, "attention:dimensions": 3},
    members={"before": ("before", "attention")},
    note="exact: single query heads where one key and value head serves them all",
)
def multi_query_attention():
    start = keras.Input((5, 3))
    x = L.Dense(6, name="before")(start)
    y = L.GroupQueryAttention(3, 4, 1, name="attention")(x, x)
    return keras.Model(start, L.Dense(3, name="answer")(y))


@row(
    L.GroupQueryAttention,
    expected={"attention": (3, 3), "attention:heads": 2, "attention:dimensions": 4, "after": 5},
    reason="as many numbers as its query",
)
def group_query_attention_of_an_input():
    start = keras.Input((5, 3))
    y = L.GroupQueryAttention(4, 4, 2, name="attention")(start, start)
    y = L.Dense(5, activation="relu", name="after")(y)
    return keras.Model(start, L.Dense(3, name="answer")(y))


def _plain_attention(kind, name, **settings):
    def build():
        start = keras.Input((5, 3))
        q, k, v = (L.Dense(n, name=m)(start) for n, m in ((6, "q"), (6, "k"), (4, "v")))
        y = kind(**settings)([q, v, k])
        return keras.Model(start, L.Dense(3, name="answer")(y))

    row(
        kind,
        expected={"q": 6, "v": 4},
        members={"q": ("q", "k")},
        name=name,
        note="exact; query and key lose the same",
    )(build)


_plain_attention(L.Attention, "attention_by_product", use_scale=True)
_plain_attention(L.Attention, "attention_by_sum", score_mode="concat", use_scale=True)
_plain_attention(L.AdditiveAttention, "additive_attention")
_plain_attention(L.AdditiveAttention, "additive_attention_without_scale", use_scale=False)


# Transformers --------------------------------------------------------------------------------


def _block(x, index, norm, *, causal=False, memory=None):
    """One transformer block, normalising before the parts, with a residual stream of 8."""
    y = norm(f"norm_a{index}")(x)
    source = y if memory is None else memory
    y = L.MultiHeadAttention(2, 4, name=f"attention{index}")(y, source, use_causal_mask=causal)
    x = L.Add()([x, y])
    y = norm(f"norm_b{index}")(x)
    y = L.Dense(6, activation="gelu", name=f"hidden{index}")(y)
    return L.Add()([x, L.Dense(8, name=f"out{index}")(y)])


_INSIDE = {
    f"{kind}{i}{part}": n
    for i in (0, 1)
    for kind, part, n in (
        ("attention", ":heads", 2),
        ("attention", ":key", 4),
        ("attention", ":value", 4),
        ("hidden", "", 6),
    )
}


@row(
    L.MultiHeadAttention,
    L.LayerNormalization,
    L.Embedding,
    L.Add,
    expected={"table": (8, 8), **_INSIDE},
    reason="mean and variance",
    members={"table": ("table", "attention0", "out0", "attention1", "out1")},
    note="heads and hidden units exact; the stream protected by LayerNormalization",
)
def transformer_encoder():
    start = keras.Input((6,), dtype="int32")
    x = L.Embedding(5, 8, name="table")(start)
    for index in (0, 1):
        x = _block(x, index, lambda name: L.LayerNormalization(name=name))
    return keras.Model(start, L.Dense(3, name="answer")(L.GlobalAveragePooling1D()(x)))


@row(
    L.MultiHeadAttention,
    L.RMSNormalization,
    L.ReversibleEmbedding,
    expected={"table": 8, **_INSIDE},
    members={"table": ("table", "attention0", "out0", "attention1", "out1")},
    note="heads, hidden units and the stream exact with RMSNormalization",
)
def transformer_decoder_with_rms():
    start = keras.Input((6,), dtype="int32")
    table = L.ReversibleEmbedding(5, 8, name="table")
    x = table(start)
    for index in (0, 1):
        x = _block(x, index, lambda name: L.RMSNormalization(name=name), causal=True)
    x = L.RMSNormalization(name="norm_last")(x)
    return keras.Model(start, table(x, reverse=True))


@row(
    L.LayerNormalization,
    L.MultiHeadAttention,
    expected={
        "words": (8, 8),
        "attention:heads": 2,
        "attention:key": 4,
        "attention:value": 4,
        "hidden": 12,
        "pooled": 5,
    },
    reason="mean and variance",
    members={"words": ("words", "places", "attention", "out")},
    note="like BERT, normalised behind each part: heads and hidden units exact",
)
def encoder_that_normalises_behind():
    tokens = keras.Input((6,), dtype="int32")
    places = keras.Input((6,), dtype="int32")
    x = L.Embedding(5, 8, name="words")(tokens) + L.Embedding(6, 8, name="places")(places)
    x = L.LayerNormalization()(x)
    y = L.MultiHeadAttention(2, 4, dropout=0.1, name="attention")(x, x)
    x = L.LayerNormalization()(x + L.Dropout(0.1)(y))
    y = L.Dense(8, name="out")(L.Dense(12, activation="gelu", name="hidden")(x))
    x = L.LayerNormalization()(x + y)
    x = L.Dense(5, activation="tanh", name="pooled")(x[:, 0])
    return keras.Model([tokens, places], L.Dense(3, name="answer")(x))


@row(
    L.MultiHeadAttention,
    L.Conv2D,
    L.Reshape,
    expected={
        "patches": (8, 8),
        "attention:heads": 2,
        "attention:key": 4,
        "attention:value": 4,
        "hidden": 12,
    },
    reason="mean and variance",
    members={"patches": ("patches", "attention", "out")},
    note="like ViT, with a token in front of the patches",
)
def transformer_on_patches():
    start = keras.Input((8, 8, 3))
    x = L.Reshape((4, 8))(L.Conv2D(8, 4, strides=4, name="patches")(start))
    first = ops.zeros_like(x[:, :1]) + np.linspace(-1, 1, 8).astype("float32")
    x = ops.concatenate([first, x], axis=1)
    x = x + np.random.default_rng(0).normal(size=(1, 5, 8)).astype("float32")
    y = L.LayerNormalization()(x)
    x = x + L.MultiHeadAttention(2, 4, name="attention")(y, y)
    y = L.Dense(12, activation="gelu", name="hidden")(L.LayerNormalization()(x))
    x = x + L.Dense(8, name="out")(y)
    return keras.Model(start, L.Dense(3, name="answer")(L.LayerNormalization()(x)[:, 0]))


@row(
    L.ReversibleEmbedding,
    L.GroupQueryAttention,
    L.RMSNormalization,
    expected={"table": 8, "attention:heads": 2, "attention:dimensions": 4, "gate": 12},
    members={"table": ("table", "attention", "out"), "gate": ("gate", "up")},
    note="like Llama: shared heads, gated hidden units and the stream exact",
)
def decoder_with_gates():
    tokens = keras.Input((6,), dtype="int32")
    table = L.ReversibleEmbedding(5, 8, name="table")
    x = table(tokens)
    y = L.RMSNormalization()(x)
    x = x + L.GroupQueryAttention(4, 4, 2, name="attention")(y, y, use_causal_mask=True)
    y = L.RMSNormalization()(x)
    up = L.Dense(12, use_bias=False, name="up")(y)
    y = ops.silu(L.Dense(12, use_bias=False, name="gate")(y)) * up
    x = x + L.Dense(8, use_bias=False, name="out")(y)
    return keras.Model(tokens, table(L.RMSNormalization()(x), reverse=True))


@row(
    L.MultiHeadAttention,
    L.Add,
    expected={
        "query": 8,
        "memory": 6,
        **{f"{name}:heads": 2 for name in ("itself", "other")},
        **{f"{name}:key": 4 for name in ("itself", "other")},
        **{f"{name}:value": 4 for name in ("itself", "other")},
    },
    members={"query": ("query", "itself", "other")},
    note="decoders that read another sequence: both attentions exact",
)
def decoder_that_reads_another_sequence():
    one, two = keras.Input((5, 3), name="source"), keras.Input((4, 3), name="target")
    memory = L.Dense(6, activation="relu", name="memory")(one)
    x = L.Dense(8, name="query")(two)
    x = L.Add()([x, L.MultiHeadAttention(2, 4, name="itself")(x, x, use_causal_mask=True)])
    x = L.Add()([x, L.MultiHeadAttention(2, 4, name="other")(query=x, value=memory)])
    return keras.Model([one, two], L.Dense(3, name="answer")(x))
