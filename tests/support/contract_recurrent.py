"""Rows of the contract table: recurrent layers, embeddings, wrappers."""

from __future__ import annotations

import keras
import numpy as np
from contract import chain, row, steps
from keras import layers

from keras_nns.graph.partial_layers import PartialEmbedding

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
    L.Bidirectional,
    L.GRU,
    L.Masking,
    expected={"both": 4, "rnn": 4},
    note="exact; masks are handed on",
)
def masked_steps_in_both_directions():
    return chain(
        (5, 3),
        L.Masking(),
        L.Bidirectional(L.LSTM(4, return_sequences=True), name="both"),
        L.Dropout(0.2),
        L.GRU(4, go_backwards=True, name="rnn"),
        L.Dense(3, name="answer"),
    )


@row(L.Embedding, expected={"table": 6}, note="exact; a table that is given, and frozen")
def embedding_of_given_vectors():
    vectors = np.random.default_rng(0).normal(size=(5, 6)).astype("float32")
    start = keras.initializers.Constant(vectors)
    return chain(
        (7,),
        L.Embedding(5, 6, embeddings_initializer=start, trainable=False, name="table"),
        L.GlobalAveragePooling1D(),
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
    L.Embedding,
    expected={"table": (6, 6), "after": 5},
    reason="quantised",
    note="protected: cut first, quantise afterwards",
)
def embedding_quantised():
    model = chain(
        (7,),
        L.Embedding(5, 6, name="table"),
        L.GlobalAveragePooling1D(),
        L.Dense(5, activation="relu", name="after"),
        L.Dense(3, name="answer"),
        dtype="int32",
    )
    model.get_layer("table").quantize("int8")
    return model


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
def conv_lstm2d_with_channels_in_front():
    first = {"data_format": "channels_first"}
    return chain(
        (3, 2, 4, 4),
        L.ConvLSTM2D(4, 2, return_sequences=True, padding="same", name="before", **first),
        L.ConvLSTM2D(3, 2, name="rnn", **first),
        L.GlobalMaxPooling2D(**first),
        L.Dense(3, name="answer"),
    )


@row(L.ConvLSTM2D, expected={"rnn": 3}, note="exact; the cut model starts from zero states")
def conv_lstm2d_stateful():
    start = keras.Input(batch_shape=(2, 3, 4, 4, 2))
    y = L.ConvLSTM2D(3, 2, stateful=True, go_backwards=True, name="rnn")(start)
    return keras.Model(start, L.Dense(3, name="answer")(L.GlobalMaxPooling2D()(y)))


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
    note="protected around a wrapped model; exact after `unfold(model)`",
)
def time_distributed_model():
    inner = keras.Sequential([keras.Input((6,)), L.Dense(4, "relu")])
    return steps(L.TimeDistributed(inner), L.Dense(4, activation="relu", name="after"))
