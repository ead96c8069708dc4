"""Rows of the contract table: recurrent layers, embeddings, attention, transformers."""

from __future__ import annotations

import keras
from contract import chain, row, steps
from keras import layers

from keras_nns.partial import PartialEmbedding

L = layers


def _recurrent(kind, name, *, expected=None, covers=(), **settings):
    row(kind, *covers, expected=expected or {"before": 6, "rnn": 5}, name=name)(
        lambda: steps(kind(5, name="rnn", **settings), pool=False)
    )


_recurrent(L.SimpleRNN, "simple_rnn")
_recurrent(L.SimpleRNN, "simple_rnn_without_bias", use_bias=False, activation="relu")
_recurrent(L.LSTM, "lstm")
_recurrent(L.LSTM, "lstm_unrolled_backwards", unroll=True, go_backwards=True)
_recurrent(L.LSTM, "lstm_with_dropout", recurrent_dropout=0.2, dropout=0.1)
_recurrent(L.GRU, "gru_reset_after")
_recurrent(L.GRU, "gru_reset_before", reset_after=False)
_recurrent(L.GRU, "gru_without_bias", use_bias=False)
_recurrent(L.GRU, "gru_implementation_1", implementation=1, reset_after=True)


@row(L.LSTM, L.GRU, L.SimpleRNN, expected={"before": 6, "one": 5, "two": 4, "three": 6})
def recurrent_layers_returning_sequences():
    return steps(
        L.LSTM(5, return_sequences=True, name="one"),
        L.GRU(4, return_sequences=True, name="two"),
        L.SimpleRNN(6, name="three"),
        pool=False,
        length=None,
    )


@row(
    L.LSTM,
    expected={"encoder": 5},
    members={"encoder": ("encoder", "decoder")},
    note="exact; states handed over carry the same units",
)
def encoder_and_decoder():
    one, two = keras.Input((5, 4), name="source"), keras.Input((7, 2), name="target")
    _, h, c = L.LSTM(5, return_state=True, name="encoder")(one)
    y = L.LSTM(5, return_sequences=True, name="decoder")(two, initial_state=[h, c])
    return keras.Model([one, two], L.Dense(3, name="answer")(y))


@row(
    L.GRU,
    expected={"rnn": (5, 5), "after": 4},
    reason="cannot be cut",
    note="protected where a model input is its first state",
)
def state_from_an_input():
    one, two = keras.Input((5, 4), name="source"), keras.Input((5,), name="state")
    y = L.GRU(5, name="rnn")(one, initial_state=two)
    y = L.Dense(4, activation="relu", name="after")(y)
    return keras.Model([one, two], L.Dense(3, name="answer")(y))


@row(
    L.LSTM,
    L.GRU,
    expected={"one": 5, "two": 4},
    note="exact; the cut model starts from zero states",
)
def stateful():
    start = keras.Input(batch_shape=(2, 5, 4))
    x = L.LSTM(5, return_sequences=True, stateful=True, name="one")(start)
    x = L.GRU(4, stateful=True, name="two")(x)
    return keras.Model(start, L.Dense(3, name="answer")(x))


@row(L.Embedding, L.LSTM, expected={"table": 6, "rnn": 5}, note="exact; masks are handed on")
def embedding_with_mask():
    return chain(
        (7,),
        L.Embedding(5, 6, mask_zero=True, name="table"),
        L.LSTM(5, name="rnn"),
        L.Dense(3, name="answer"),
        dtype="int32",
    )


@row(
    PartialEmbedding,
    expected={"table": 6, "rnn": 5},
    note="exact over dimensions; what `keep_tokens` leaves of an Embedding",
)
def embedding_of_some_tokens():
    return chain(
        (7,),
        PartialEmbedding([0, 2, 3], input_dim=5, output_dim=6, mask_zero=True, name="table"),
        L.LSTM(5, name="rnn"),
        L.Dense(3, name="answer"),
        dtype="int32",
    )


@row(L.Embedding, expected={"table": 6}, note="exact over dimensions; tokens stay")
def embedding_with_lora():
    return chain(
        (7,),
        L.Embedding(5, 6, lora_rank=2, name="table"),
        L.GlobalAveragePooling1D(),
        L.Dense(3, name="answer"),
        dtype="int32",
    )


@row(
    L.ReversibleEmbedding,
    expected={"table": 6, "hidden": 5},
    members={"table": ("table", "back")},
    note="exact; table shared by both directions",
)
def reversible_embedding():
    start = keras.Input((7,), dtype="int32")
    table = L.ReversibleEmbedding(5, 6, name="table")
    x = L.Dense(5, activation="relu", name="hidden")(table(start))
    x = L.Dense(6, name="back")(x)
    return keras.Model(start, table(x, reverse=True))


@row(
    L.ReversibleEmbedding,
    expected={"table": 6},
    members={"table": ("table", "back")},
    note="exact; two tables with one number of dimensions",
)
def reversible_embedding_untied():
    start = keras.Input((7,), dtype="int32")
    table = L.ReversibleEmbedding(5, 6, tie_weights=False, name="table")
    x = L.Dense(6, activation="relu", name="back")(table(start))
    return keras.Model(start, table(x, reverse=True))


@row(L.RNN, expected={"before": 6, "rnn": 5})
def rnn_of_a_cell():
    return steps(L.RNN(L.GRUCell(5), name="rnn"), pool=False)


@row(
    L.RNN,
    expected={"before": 6, "rnn": 4, "rnn:cell_0": 5},
    note="exact; each cell of a stack by itself",
)
def rnn_of_stacked_cells():
    return steps(L.RNN([L.LSTMCell(5), L.SimpleRNNCell(4)], return_sequences=True, name="rnn"))


@row(L.ConvLSTM1D, expected={"before": 4, "rnn": 3})
def conv_lstm1d():
    return chain(
        (4, 6, 2),
        L.ConvLSTM1D(4, 2, return_sequences=True, name="before"),
        L.ConvLSTM1D(3, 2, padding="same", name="rnn"),
        L.GlobalMaxPooling1D(),
        L.Dense(3, name="answer"),
    )


@row(L.ConvLSTM2D, expected={"before": 4, "rnn": 3})
def conv_lstm2d():
    return chain(
        (4, 5, 5, 2),
        L.ConvLSTM2D(4, 2, return_sequences=True, use_bias=False, name="before"),
        L.ConvLSTM2D(3, 2, padding="same", strides=2, name="rnn"),
        L.GlobalMaxPooling2D(),
        L.Dense(3, name="answer"),
    )


@row(L.ConvLSTM3D, expected={"rnn": 3})
def conv_lstm3d():
    return chain(
        (2, 4, 4, 4, 1),
        L.ConvLSTM3D(3, 2, name="rnn"),
        L.GlobalMaxPooling3D(),
        L.Dense(3, name="answer"),
    )


# Wrappers ------------------------------------------------------------------------------------


def _both_ways(kind, mode, **settings):
    expected = {"before": 6}
    if mode is None:
        expected["both:forward"] = 5
    else:
        expected["both"] = 5

    def build():
        wrapper = L.Bidirectional(
            kind(5, return_sequences=True, **settings), merge_mode=mode, name="both"
        )
        start = keras.Input((5, 3))
        y = wrapper(L.Dense(6, activation="tanh", name="before")(start))
        y = L.Concatenate()(list(y)) if mode is None else y
        return keras.Model(start, L.Dense(3, name="answer")(L.GlobalAveragePooling1D()(y)))

    row(
        L.Bidirectional,
        expected=expected,
        name=f"bidirectional_{kind.__name__}_{mode}".lower(),
        note="exact; both directions lose the same units",
    )(build)


for _mode in ("concat", "sum", "mul", "ave", None):
    _both_ways(L.LSTM, _mode)
_both_ways(L.GRU, "concat", reset_after=False)
_both_ways(L.SimpleRNN, "sum")


@row(
    L.Bidirectional,
    L.LSTM,
    expected={"both": 4},
    members={"both": ("both", "rnn")},
    note="exact; states handed over carry the same units",
)
def bidirectional_states():
    start = keras.Input((5, 3))
    y, fh, fc, bh, bc = L.Bidirectional(L.LSTM(4, return_state=True), name="both")(start)
    h, c = L.Concatenate()([fh, bh]), L.Concatenate()([fc, bc])
    z = L.LSTM(8, name="rnn")(start, initial_state=[h, c])
    return keras.Model(start, L.Dense(3, name="answer")(L.Concatenate()([y, z])))


@row(L.Bidirectional, expected={"both": 4})
def bidirectional_with_its_own_backward_layer():
    start = keras.Input((5, 3))
    y = L.Bidirectional(
        L.LSTM(4), backward_layer=L.LSTM(4, activation="relu", go_backwards=True), name="both"
    )(start)
    return keras.Model(start, L.Dense(3, name="answer")(y))


@row(L.TimeDistributed, L.LSTM, expected={"frames": 4, "norm": 5, "rnn": 3})
def time_distributed():
    return chain(
        (4, 5, 5, 2),
        L.TimeDistributed(L.Conv2D(4, 2, activation="relu"), name="frames"),
        L.TimeDistributed(L.BatchNormalization()),
        L.TimeDistributed(L.Flatten()),
        L.TimeDistributed(L.Dense(5, activation="relu"), name="norm"),
        L.LSTM(3, name="rnn"),
        L.Dense(3, name="answer"),
    )


@row(
    L.TimeDistributed,
    expected={"before": (6, 6), "after": 4},
    reason="has no rule",
    note="protected around a wrapped model",
)
def time_distributed_model():
    inner = keras.Sequential([keras.Input((6,)), L.Dense(4, "relu")])
    return steps(L.TimeDistributed(inner), L.Dense(4, activation="relu", name="after"))


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
