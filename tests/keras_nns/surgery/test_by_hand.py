"""Cut models against forward passes written in numpy from the layers' definitions.

`test_rules.py` compares `cut` with `mask`, and both read the same rules. Here nothing of the
package computes the expectation: the removed units are left out of the formulas by hand.
"""

from __future__ import annotations

import keras
import numpy as np
import pytest
from backends import not_on
from contract import chain, randomise
from keras import layers
from scipy.signal import correlate

from keras_nns.graph.tracing import trace
from keras_nns.plans.kept_units import Plan
from keras_nns.surgery.cutting import cut

L = layers
RANDOM = np.random.default_rng(7)


def cut_to(model, **kept):
    """Cut a model to named units; `__` in a name stands for the colon before a kind of unit."""
    graph = trace(model)
    names = {name.replace("__", ":"): units for name, units in kept.items()}
    groups = graph.layout.prunable
    return cut(
        model,
        Plan(
            graph.fingerprint,
            sizes={group.name: group.size for group in groups},
            kept={g.name: tuple(names.get(g.name, range(g.size))) for g in groups},
        ),
    )


def weights(model, name):
    return [np.asarray(w, np.float64) for w in model.get_layer(name).get_weights()]


def agree(model, inputs, expected):
    answer = np.asarray(model(inputs.astype("float32"), training=False))
    np.testing.assert_allclose(answer, expected, rtol=2e-5, atol=2e-5)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def test_dense_behind_batch_normalization():
    model = randomise(
        chain(
            (4,), L.Dense(5, name="one"), L.BatchNormalization(name="norm"), L.ReLU(),
            L.Dense(3, name="answer"),
        )
    )  # fmt: skip
    kept = [0, 3]
    (w, b), (g, o, m, v), (u, c) = (weights(model, n) for n in ("one", "norm", "answer"))
    x = RANDOM.normal(size=(6, 4))
    hidden = (x @ w + b - m) / np.sqrt(v + 1e-3) * g + o
    expected = sum(np.maximum(hidden[:, [i]], 0) * u[i] for i in kept) + c
    agree(cut_to(model, one=kept), x, expected)


def test_convolution_flattened():
    model = randomise(
        chain(
            (5, 5, 2), L.Conv2D(4, 3, activation="tanh", name="conv"), L.Flatten(),
            L.Dense(3, name="answer"),
        )
    )  # fmt: skip
    kept = [1, 2]
    (w, b), (u, c) = weights(model, "conv"), weights(model, "answer")
    x = RANDOM.normal(size=(3, 5, 5, 2))
    expected = np.tile(c, (3, 1))
    for sample in range(3):
        for channel in kept:
            image = sum(
                correlate(x[sample, :, :, i], w[:, :, i, channel], mode="valid") for i in (0, 1)
            )
            active = np.tanh(image + b[channel])
            for row in range(3):
                for column in range(3):
                    expected[sample] += active[row, column] * u[(row * 3 + column) * 4 + channel]
    agree(cut_to(model, conv=kept), x, expected)


def test_lstm():
    model = randomise(chain((4, 3), L.LSTM(5, name="rnn"), L.Dense(2, name="answer")))
    kept = [0, 2, 3]
    (w, r, b), (u, c) = weights(model, "rnn"), weights(model, "answer")
    gate = {name: np.array(kept) + 5 * place for place, name in enumerate("ifco")}
    x = RANDOM.normal(size=(6, 4, 3))
    h, s = np.zeros((6, 3)), np.zeros((6, 3))
    for t in range(4):
        i, f, n, o = (
            x[:, t] @ w[:, gate[k]] + h @ r[kept][:, gate[k]] + b[gate[k]] for k in "ifco"
        )
        s = sigmoid(f) * s + sigmoid(i) * np.tanh(n)
        h = sigmoid(o) * np.tanh(s)
    agree(cut_to(model, rnn=kept), x, h @ u[kept] + c)


@pytest.mark.parametrize("after", [True, False])
def test_gru(after):
    model = randomise(
        chain((4, 3), L.GRU(5, reset_after=after, name="rnn"), L.Dense(2, name="answer"))
    )
    kept = [1, 4]
    (w, r, b), (u, c) = weights(model, "rnn"), weights(model, "answer")
    b, q = (b[0], b[1]) if after else (b, np.zeros(15))
    z_, r_, n_ = (np.array(kept) + 5 * place for place in range(3))
    x = RANDOM.normal(size=(6, 4, 3))
    h = np.zeros((6, 2))
    for t in range(4):
        z = sigmoid(x[:, t] @ w[:, z_] + b[z_] + h @ r[kept][:, z_] + q[z_])
        s = sigmoid(x[:, t] @ w[:, r_] + b[r_] + h @ r[kept][:, r_] + q[r_])
        if after:
            n = np.tanh(x[:, t] @ w[:, n_] + b[n_] + s * (h @ r[kept][:, n_] + q[n_]))
        else:
            n = np.tanh(x[:, t] @ w[:, n_] + b[n_] + (s * h) @ r[kept][:, n_])
        h = z * h + (1 - z) * n
    agree(cut_to(model, rnn=kept), x, h @ u[kept] + c)


@not_on("jax", "attends only where value_dim is key_dim, in Keras 3.15")
def test_multi_head_attention():
    start = keras.Input((4, 3))
    y = L.MultiHeadAttention(3, 4, value_dim=2, output_shape=5, name="attention")(start, start)
    model = randomise(keras.Model(start, L.Dense(2, name="answer")(y)))
    heads, keys, values, outs = [0, 2], [1, 2, 3], [1], [0, 1, 4]
    wq, bq, wk, bk, wv, bv, wo, bo = weights(model, "attention")
    u, c = weights(model, "answer")
    x = RANDOM.normal(size=(6, 4, 3))
    total = np.tile(bo[outs], (6, 4, 1))
    for head in heads:
        q = x @ wq[:, head, keys] + bq[head, keys]
        k = x @ wk[:, head, keys] + bk[head, keys]
        v = x @ wv[:, head, values] + bv[head, values]
        # The parent divides by the root of its own four dimensions.
        scores = softmax(q @ k.transpose(0, 2, 1) / 2.0)
        total = total + scores @ v @ wo[head][values][:, outs]
    small = cut_to(
        model, attention=outs, attention__heads=heads, attention__key=keys, attention__value=values
    )
    agree(small, x, total @ u[outs] + c)


def test_group_query_attention():
    start = keras.Input((4, 3))
    y = L.GroupQueryAttention(4, 4, 2, name="attention")(start, start)
    model = randomise(keras.Model(start, y))
    wq, bq, wk, bk, wv, bv, wo, bo = weights(model, "attention")
    x = RANDOM.normal(size=(6, 4, 3))
    dims = [0, 2, 3]
    total = np.tile(bo, (6, 4, 1))
    for head in (2, 3):  # the two query heads of key and value head 1
        q = x @ wq[:, head, dims] + bq[head, dims]
        k = x @ wk[:, 1, dims] + bk[1, dims]
        v = x @ wv[:, 1, dims] + bv[1, dims]
        total = total + softmax(q @ k.transpose(0, 2, 1) / 2.0) @ v @ wo[head][dims]
    small = cut_to(model, attention__heads=[1], attention__dimensions=dims)
    agree(small, x, total)


def test_rms_normalization_still_divides_by_the_parents_count():
    model = randomise(
        chain(
            (4,), L.Dense(6, name="one"), L.RMSNormalization(epsilon=0.3, name="norm"),
            L.Dense(2, name="answer"),
        )
    )  # fmt: skip
    kept = [1, 2, 5]
    (w, b), (g,), (u, c) = (weights(model, n) for n in ("one", "norm", "answer"))
    x = RANDOM.normal(size=(6, 4))
    hidden = (x @ w + b)[:, kept]
    hidden = hidden / np.sqrt((hidden**2).sum(axis=1, keepdims=True) / 6 + 0.3) * g[kept]
    agree(cut_to(model, one=kept), x, hidden @ u[kept] + c)


@pytest.mark.slow
def test_bidirectional():
    model = randomise(
        chain((3, 2), L.Bidirectional(L.SimpleRNN(4), name="both"), L.Dense(2, name="answer"))
    )
    kept = [0, 3]
    wf, rf, bf, wb, rb, bb = weights(model, "both")
    u, c = weights(model, "answer")
    x = RANDOM.normal(size=(5, 3, 2))

    def run(w, r, b, order):
        h = np.zeros((5, 2))
        for t in order:
            h = np.tanh(x[:, t] @ w[:, kept] + h @ r[kept][:, kept] + b[kept])
        return h

    expected = run(wf, rf, bf, (0, 1, 2)) @ u[kept] + run(wb, rb, bb, (2, 1, 0)) @ u[[4, 7]] + c
    agree(cut_to(model, both=kept), x, expected)


def test_channel_shuffle():
    def shuffle(x):
        x = keras.ops.reshape(x, (-1, 2, 3))
        return keras.ops.reshape(keras.ops.transpose(x, (0, 2, 1)), (-1, 6))

    model = randomise(chain((4,), L.Dense(6, name="one"), shuffle, L.Dense(2, name="answer")))
    (w, b), (u, c) = weights(model, "one"), weights(model, "answer")
    x = RANDOM.normal(size=(6, 4))
    hidden = x @ w + b
    # Unit n of the first half and of the second come to lie at 2 n and 2 n + 1.
    expected = c + sum(
        hidden[:, [n + 3 * half]] * u[2 * n + half] for n in (0, 2) for half in (0, 1)
    )
    agree(cut_to(model, one=[0, 2]), x, expected)


def test_grouped_convolution():
    model = randomise(
        chain(
            (4, 4, 2), L.Conv2D(6, 1, name="one"), L.Conv2D(4, 1, groups=2, name="two"),
            L.GlobalAveragePooling2D(), L.Dense(2, name="answer"),
        )
    )  # fmt: skip
    (w, b), (v, o), (u, c) = (weights(model, n) for n in ("one", "two", "answer"))
    x = RANDOM.normal(size=(3, 4, 4, 2))
    one = x @ w[0, 0] + b
    expected = np.tile(c, (3, 1))
    for group in (0, 1):
        inputs = [group * 3 + i for i in (0, 2)]
        two = one[..., inputs] @ v[0, 0][[0, 2]][:, [group * 2 + 1]] + o[group * 2 + 1]
        expected += two.mean(axis=(1, 2)) * u[group * 2 + 1]
    agree(cut_to(model, one=[0, 2], two=[1]), x, expected)


@pytest.mark.parametrize("kept", [(0, 2, 3, 5), (1, 4)])
def test_a_constant_for_each_unit_in_front_of_as_many_columns(kept):
    """Four units left in front of four columns: Keras alone would add it along the columns."""
    offsets = np.linspace(-2, 3, 6).reshape(1, 6, 1).astype("float32")
    model = randomise(
        chain(
            (4, 3),
            L.Dense(6, name="hidden"),
            L.Permute((2, 1)),
            lambda x: x + offsets,
            L.Flatten(),
            L.Dense(2, name="answer"),
        )
    )
    x = RANDOM.normal(size=(5, 4, 3))
    (a, b), (c, d) = weights(model, "hidden"), weights(model, "answer")
    rows = (x @ a + b).transpose(0, 2, 1) + offsets
    chosen = list(kept)
    expected = rows[:, chosen].reshape(5, -1) @ c.reshape(6, 4, 2)[chosen].reshape(-1, 2) + d
    agree(cut_to(model, hidden=kept), x, expected)
