"""Write small models as Keras 2 does, with what they answer; weights and inputs are random.

The files beside this script came from it, under tf_keras 2.21.0 and TensorFlow 2.21.0:

    python tests/support/old_files/write.py tests/support/old_files
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import tf_keras
from tf_keras import layers as L

SAMPLES = 3


def nested():
    """Models in models, as Teachable Machine writes them, one of them frozen."""
    base = tf_keras.Sequential(
        [
            L.InputLayer((6, 6, 3)),
            L.Conv2D(4, 3, strides=2, padding="same", use_bias=False),
            L.BatchNormalization(),
            L.ReLU(6.0),
            L.DepthwiseConv2D(3, padding="same", use_bias=False),
            L.BatchNormalization(),
            L.SeparableConv2D(5, 3, padding="same", activation="hard_sigmoid"),
        ]
    )
    whole = tf_keras.Model(base.inputs, base.outputs, name="base")
    whole.layers[1].trainable = False
    whole.layers[5].trainable = False
    first = tf_keras.Sequential([whole, L.GlobalAveragePooling2D()])
    last = tf_keras.Sequential([L.Dense(4, input_shape=(5,)), L.Dense(3, activation="softmax")])
    return tf_keras.Sequential([first, last])


def recurrent():
    """Two directions behind a mask, states handed on, cells, and a model at every step."""
    words, more = tf_keras.Input((5,)), tf_keras.Input((4, 3))
    step = tf_keras.Sequential([L.InputLayer((6,)), L.Dense(4), L.BatchNormalization()])
    x = L.Embedding(9, 4, mask_zero=True, input_length=5)(words)
    x = L.Bidirectional(L.LSTM(3, return_sequences=True))(x)
    x = L.TimeDistributed(step)(x)
    x, state = L.GRU(3, return_sequences=True, return_state=True)(x)
    y = L.GRU(3, reset_after=False, recurrent_activation="hard_sigmoid", return_sequences=True)(
        more, initial_state=state
    )
    cells = L.RNN([L.SimpleRNNCell(3), L.LSTMCell(2)])
    return tf_keras.Model([words, more], L.Concatenate()([cells(x), L.Bidirectional(L.GRU(2))(y)]))


def attention():
    """Attention called with tensors by name, and activations that Keras 3 writes otherwise."""
    a, b = tf_keras.Input((4, 6), name="a"), tf_keras.Input((4, 6), name="b")
    x = L.MultiHeadAttention(2, 3)(a, value=b, use_causal_mask=True)
    x = L.LayerNormalization(axis=[1, 2])(L.Add()([x, a]))
    x = L.Attention(use_scale=True)([x, b])
    x = L.Dense(4, activation=L.LeakyReLU(alpha=0.1))(x)
    x = L.SpatialDropout1D(0.2)(L.ThresholdedReLU(theta=0.4)(x))
    x = L.Conv1DTranspose(3, 2, dtype=tf_keras.mixed_precision.Policy("float32"))(x)
    return tf_keras.Model({"a": a, "b": b}, {"x": x, "bins": L.Discretization([-1.0, 1.0])(x)})


def shared():
    """A model and a layer that are called twice."""
    a, b = tf_keras.Input((4,)), tf_keras.Input((4,))
    inner = tf_keras.Input((4,))
    two = tf_keras.Model(inner, [L.Dense(3)(inner), L.Dense(2)(inner)], name="two")
    last = L.Dense(2)
    (p, q), (r, s) = two(a), two(b)
    joined = L.Concatenate()([p, r])
    return tf_keras.Model([a, b], [joined, L.Add()([last(q), last(s)])])


def main(folder: Path) -> None:
    random = np.random.default_rng(0)
    answers = {}
    for make in (nested, recurrent, attention, shared):
        model = make()
        for weight in model.weights:
            value = random.normal(size=weight.shape) * 0.5
            weight.assign(abs(value) + 0.3 if "variance" in weight.name else value)
        structure = model.input if isinstance(model.input, dict | list) else [model.input]
        named = structure.items() if isinstance(structure, dict) else enumerate(structure)
        given = {}
        for key, tensor in named:
            shape = (SAMPLES, *tensor.shape[1:])
            drawn = random.normal(size=shape)
            if len(shape) == 2 and make is recurrent:
                drawn = random.integers(0, 9, shape)
            given[key] = drawn.astype("float32")
            answers[f"{make.__name__}/x/{key}"] = given[key]
        x = given if isinstance(structure, dict) else list(given.values())
        found = model(x[0] if len(x) == 1 else x, training=False)
        found = found if isinstance(found, dict) else dict(enumerate(_listed(found)))
        answers.update({f"{make.__name__}/y/{key}": np.asarray(y) for key, y in found.items()})
        if make is nested:
            model.compile("adam", "categorical_crossentropy", metrics=["accuracy"])
        for suffix in ("h5", "keras"):
            model.save(folder / f"{make.__name__}.{suffix}")
    np.savez_compressed(folder / "answers.npz", **answers)


def _listed(value):
    return value if isinstance(value, list | tuple) else [value]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
