"""Rows of the contract table: preprocessing, code, and how models are put together."""

from __future__ import annotations

import keras
import numpy as np
from contract import chain, dtype_policy, flat, image, row
from keras import layers

L = layers

# Preprocessing -------------------------------------------------------------------------------


@row(
    L.Rescaling,
    L.Normalization,
    L.RandomFlip,
    L.Resizing,
    L.CenterCrop,
    expected={"hidden": 5},
    note="left as it is in front of the first units",
)
def preprocessing():
    normalization = L.Normalization()
    normalization.adapt(np.random.default_rng(0).normal(3, 2, (20, 6, 6, 2)).astype("float32"))
    return chain(
        (8, 8, 2),
        L.Rescaling([0.5, 2.0], offset=[1.0, -1.0]),
        L.CenterCrop(6, 6),
        normalization,
        L.RandomFlip(),
        L.Resizing(5, 5),
        L.Conv2D(5, 3, activation="relu", name="hidden"),
        L.GlobalAveragePooling2D(),
        L.Dense(3, name="answer"),
    )


@row(
    L.AutoContrast,
    L.RandomBrightness,
    L.RandomColorDegeneration,
    L.RandomColorJitter,
    L.RandomContrast,
    L.RandomCrop,
    L.RandomFlip,
    L.RandomGaussianBlur,
    L.RandomGrayscale,
    L.RandomHue,
    L.RandomPosterization,
    L.RandomRotation,
    L.RandomSaturation,
    L.RandomSharpness,
    L.RandomTranslation,
    L.RandomZoom,
    L.Solarization,
    expected={"hidden": 5},
    note="left as it is in front of the first units",
)
def augmentation():
    return chain(
        (8, 8, 3),
        L.Rescaling(30.0, offset=128.0),
        L.AutoContrast((0, 255)),
        L.RandomBrightness(0.1),
        L.RandomColorDegeneration(0.1),
        L.RandomColorJitter((0, 255), 0.1),
        L.RandomContrast(0.1),
        L.RandomCrop(7, 7),
        L.RandomFlip(),
        L.RandomGaussianBlur(),
        L.RandomGrayscale(0.1),
        L.RandomHue(0.1),
        L.RandomPosterization(4),
        L.RandomRotation(0.1),
        L.RandomSaturation(0.1),
        L.RandomSharpness(0.1),
        L.RandomTranslation(0.1, 0.1),
        L.RandomZoom(0.1),
        L.Solarization(),
        L.Rescaling(1 / 127.5, offset=-1.0),
        L.Conv2D(5, 3, activation="relu", name="hidden"),
        L.GlobalAveragePooling2D(),
        L.Dense(3, name="answer"),
    )


@row(
    L.IntegerLookup,
    L.Discretization,
    L.CategoryEncoding,
    L.Hashing,
    L.HashedCrossing,
    L.Embedding,
    expected={"hidden": 5, "table": 4},
    note="left as it is, with what it learnt",
)
def categories():
    lookup = L.IntegerLookup(num_oov_indices=1)
    lookup.adapt(np.array([3, 1, 1, 4]))
    tokens = keras.Input((4,), dtype="int32", name="tokens")
    number = keras.Input((2,), name="number")
    one = L.GlobalAveragePooling1D()(L.Embedding(4, 4, name="table")(lookup(tokens)))
    two = L.CategoryEncoding(3, output_mode="count")(L.Discretization([-0.5, 0.5])(number))
    three = L.CategoryEncoding(7, output_mode="count")(L.Hashing(7)(tokens))
    four = L.HashedCrossing(5, output_mode="one_hot")((tokens[:, :1], tokens[:, 1:2]))
    x = L.Concatenate()([one, two, three, four])
    x = L.Dense(5, activation="relu", name="hidden")(x)
    return keras.Model([tokens, number], L.Dense(3, name="answer")(x))


@row(
    L.StringLookup,
    L.TextVectorization,
    expected={"table": 6, "words": 4},
    note="left as it is, with what it learnt",
)
def text():
    words = L.TextVectorization(output_sequence_length=4)
    words.adapt(["one two three", "two three", "three four"])
    lookup = L.StringLookup(vocabulary=["a", "b", "c"])
    text, letter = keras.Input((), dtype="string"), keras.Input((2,), dtype="string")
    x = L.Embedding(8, 6, name="table")(words(text))
    y = L.Embedding(4, 4, name="words")(lookup(letter))
    pool = L.GlobalAveragePooling1D()
    z = L.Concatenate()([pool(x), L.GlobalMaxPooling1D()(y)])
    return keras.Model([text, letter], L.Dense(3, name="answer")(z))


@row(L.Rescaling, expected={"before": 6})
def rescaling_of_units():
    return flat(L.Rescaling([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], offset=0.5), L.ReLU())


@row(
    L.Normalization,
    expected={"before": (6, 6), "after": 4},
    reason="statistics",
    note="protected behind units",
)
def normalization_of_units():
    layer = L.Normalization(mean=np.arange(6.0), variance=np.ones(6))
    return flat(layer, L.Dense(4, activation="relu", name="after"))


# How models are put together -----------------------------------------------------------------


@row(keras.Sequential, expected={"one": 6, "two": 5}, note="stays Sequential")
def sequential():
    return keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            L.Conv2D(6, 3, activation="relu", name="one"),
            L.MaxPooling2D(),
            L.Flatten(),
            L.Dense(5, activation="relu", name="two"),
            L.Dropout(0.3),
            L.Dense(3, activation="softmax", name="answer"),
        ]
    )


@row(keras.Sequential, expected={"first": 5, "inner/one": 6, "inner/deep/two": 4, "last": 5})
def nested_sequential():
    deep = keras.Sequential([keras.Input((6,)), L.Dense(4, "relu", name="two")], name="deep")
    inner = keras.Sequential(
        [keras.Input((5,)), L.Dense(6, activation="relu", name="one"), deep], name="inner"
    )
    return keras.Sequential(
        [
            keras.Input((4,)),
            L.Dense(5, "relu", name="first"),
            inner,
            L.Dense(5, "relu", name="last"),
            L.Dense(3, name="answer"),
        ]
    )


@row(
    keras.Model,
    expected={"block/one": 5, "before": 6},
    members={"before": ("before", "block/two")},
    note="exact at any depth",
)
def nested_model_called_twice():
    inside = keras.Input((6,))
    y = L.Dense(5, activation="relu", name="one")(inside)
    block = keras.Model(inside, L.Add()([inside, L.Dense(6, name="two")(y)]), name="block")
    start = keras.Input((4,))
    x = L.Dense(6, activation="relu", name="before")(start)
    x = block(block(x))
    return keras.Model(start, L.Dense(3, name="answer")(x))


@row(
    keras.Model,
    L.BatchNormalization,
    expected={"left": 6},
    members={"left": ("left", "right")},
    note="exact; all its calls lose the same",
)
def nested_model_called_on_two_tensors():
    inside = keras.Input((4, 6))
    pool = keras.Model(inside, L.GlobalMaxPooling1D()(L.ReLU()(inside)), name="pool")
    start = keras.Input((4, 3))
    x, y = L.Dense(6, name="left")(start), L.Dense(6, name="right")(start)
    x = L.BatchNormalization()(x)
    z = L.Concatenate()([pool(x), pool(y)])
    return keras.Model(start, L.Dense(3, name="answer")(z))


@row(keras.Model, expected={"net/hidden": 5, "after": 4, "tail": 2})
def nested_model_of_several_inputs():
    a, b = keras.Input((3,), name="a"), keras.Input((2,), name="b")
    h = L.Dense(5, activation="relu", name="hidden")(L.Concatenate()([a, b]))
    net = keras.Model({"a": a, "b": b}, [h, L.Dense(2, name="side")(h)], name="net")
    one, two = keras.Input((3,), name="one"), keras.Input((2,), name="two")
    h, s = net({"a": one, "b": two})
    x = L.Dense(4, activation="relu", name="after")(h)
    x = L.Concatenate()([x, L.Dense(2, name="tail")(one)])
    return keras.Model([one, two], [L.Dense(3, name="answer")(x), s])


@row(L.Dense, expected={"shared": 6}, note="exact; called twice, cut once")
def shared_layer():
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    layer = L.Dense(6, activation="relu", name="shared")
    z = L.Concatenate()([layer(a), layer(b)])
    return keras.Model([a, b], L.Dense(3, name="answer")(z))


@row(L.Dense, expected={"before": 6}, members={"before": ("before", "shared")})
def shared_layer_in_a_row():
    layer = L.Dense(6, activation="relu", name="shared")
    return flat(layer, layer, layer)


@row(L.Dense, expected={"hidden": 6, "two": 5})
def several_outputs_and_an_unused_one():
    a, b = keras.Input((4,), name="a"), keras.Input((3,), name="b")
    h = L.Dense(6, activation="relu", name="hidden")(L.Concatenate()([a, b]))
    one = L.Dense(3, activation="softmax", name="answer")(h)
    two = L.Dense(5, activation="relu", name="two")(h)
    L.Dense(2, name="unused")(h)
    return keras.Model(
        {"a": a, "b": b}, {"one": one, "other": L.Dense(2, "sigmoid", name="other")(two)}
    )


@row(
    keras.Model,
    L.LSTM,
    expected={"net/hidden": 5, "net/side": 2, "rnn": 4},
    note="exact; what makes an output that nobody reads can be cut too",
)
def unused_outputs():
    inside = keras.Input((6, 3))
    h = L.Dense(5, activation="relu", name="hidden")(inside)
    net = keras.Model(inside, [h, L.Dense(2, name="side")(h)], name="net")
    start = keras.Input((6, 3))
    h, _ = net(start)
    _, state, _ = L.LSTM(4, return_state=True, name="rnn")(h)
    return keras.Model(start, L.Dense(3, name="answer")(state))


@row(
    L.Dense,
    expected={"hidden": (6, 6), "inner": 5},
    reason="model output",
    note="protected: the model answers with it",
)
def output_that_is_also_used():
    start = keras.Input((4,))
    h = L.Dense(6, activation="relu", name="hidden")(start)
    x = L.Dense(5, activation="relu", name="inner")(h)
    return keras.Model(start, [L.Dense(3, name="answer")(x), h])


@row(L.Dense, L.BatchNormalization, expected={"before": 6, "dense": 5})
def mixed_precision_bfloat16():
    with dtype_policy("mixed_bfloat16"):
        return flat(
            L.Dense(5, name="dense"),
            L.BatchNormalization(),
            L.ReLU(),
            L.Activation("linear", dtype="float32"),
        )


@row(L.Conv2D, L.BatchNormalization, expected={"before": 6, "conv": 5})
def mixed_precision_float16():
    with dtype_policy("mixed_float16"):
        return image(L.Conv2D(5, 3, name="conv"), L.BatchNormalization(), L.ReLU())


@row(L.Dense, L.BatchNormalization, expected={"before": 6, "dense": 5})
def frozen_parts():
    model = flat(L.Dense(5, name="dense"), L.BatchNormalization(name="norm"), L.ReLU())
    model.get_layer("before").trainable = False
    model.get_layer("norm").trainable = False
    return model


@row(
    L.Lambda,
    expected={"before": (6, 6), "after": 4},
    reason="runs code",
    note="protected: code cannot be read",
)
def code_in_a_lambda():
    return flat(L.Lambda(_double, output_shape=(6,)), L.Dense(4, activation="relu", name="after"))


@keras.saving.register_keras_serializable("contract")
def _double(x):
    return x * 2
