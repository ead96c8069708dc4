"""Rows of the contract table: pooling, padding, reshaping, and tensors that are joined."""

from __future__ import annotations

import keras
from contract import chain, image, row
from keras import layers
from keras.src.applications.convnext import LayerScale, StochasticDepth
from keras.src.applications.inception_resnet_v2 import CustomScaleLayer

L = layers

# Pooling, padding, shapes --------------------------------------------------------------------


@row(
    L.MaxPooling2D,
    L.AveragePooling2D,
    L.ZeroPadding2D,
    L.Cropping2D,
    L.UpSampling2D,
    expected={"before": 6},
)
def windows_in_two_dimensions():
    return image(
        L.ZeroPadding2D(1),
        L.MaxPooling2D(2),
        L.UpSampling2D(2, interpolation="bilinear"),
        L.Cropping2D(1),
        L.AveragePooling2D(2, strides=1),
    )


@row(
    L.MaxPooling1D,
    L.AveragePooling1D,
    L.ZeroPadding1D,
    L.Cropping1D,
    L.UpSampling1D,
    L.GlobalAveragePooling1D,
    expected={"before": 6},
)
def windows_in_one_dimension():
    return chain(
        (8, 2),
        L.Conv1D(6, 3, padding="same", name="before"),
        L.MaxPooling1D(2),
        L.ZeroPadding1D(1),
        L.UpSampling1D(2),
        L.Cropping1D(1),
        L.AveragePooling1D(2),
        L.GlobalAveragePooling1D(),
        L.Dense(3, name="answer"),
    )


@row(
    L.ZeroPadding1D,
    L.MaxPooling1D,
    L.AveragePooling1D,
    L.SpatialDropout2D,
    L.ZeroPadding2D,
    L.Cropping2D,
    L.UpSampling2D,
    L.AveragePooling2D,
    L.GlobalAveragePooling2D,
    expected={"before": 6, "images": 5},
)
def windows_with_channels_in_front():
    first = {"data_format": "channels_first"}
    start = keras.Input((2, 8))
    x = L.Conv1D(6, 2, padding="same", name="before", **first)(start)
    x = L.AveragePooling1D(2, **first)(
        L.MaxPooling1D(2, 1, **first)(L.ZeroPadding1D(1, **first)(x))
    )
    start_2d = keras.Input((2, 8, 8))
    y = L.Conv2D(5, 2, name="images", **first)(start_2d)
    y = L.SpatialDropout2D(0.1, **first)(L.ZeroPadding2D(1, **first)(y))
    y = L.Cropping2D(1, **first)(L.UpSampling2D(2, **first)(y))
    y = L.GlobalAveragePooling2D(**first)(L.AveragePooling2D(2, **first)(y))
    x = L.Concatenate()([L.Flatten(**first)(x), y])
    return keras.Model([start, start_2d], L.Dense(3, name="answer")(x))


@row(L.GlobalMaxPooling1D, expected={"before": 6})
def global_max_pooling1d():
    return chain(
        (8, 2),
        L.Conv1D(6, 3, name="before"),
        L.GlobalMaxPooling1D(keepdims=True),
        L.Flatten(),
        L.Dense(3, name="answer"),
    )


@row(L.GlobalMaxPooling2D, L.GlobalAveragePooling2D, expected={"before": 6})
def global_pooling2d():
    start = keras.Input((6, 6, 2))
    x = L.Conv2D(6, 3, activation="relu", name="before")(start)
    y = L.Concatenate()([L.GlobalMaxPooling2D()(x), L.GlobalAveragePooling2D()(x)])
    return keras.Model(start, L.Dense(3, name="answer")(y))


def _adaptive(rank, *kinds):
    shape = (5,) * rank + (2,)
    conv = {1: L.Conv1D, 2: L.Conv2D, 3: L.Conv3D}[rank]
    pool = {1: L.GlobalMaxPooling1D, 2: L.GlobalMaxPooling2D, 3: L.GlobalMaxPooling3D}[rank]
    for kind in kinds:
        row(kind, expected={"before": 4}, name=kind.__name__)(
            lambda kind=kind: chain(
                shape, conv(4, 2, name="before"), kind(2), pool(), L.Dense(3, name="answer")
            )
        )


_adaptive(1, L.AdaptiveAveragePooling1D, L.AdaptiveMaxPooling1D)
_adaptive(2, L.AdaptiveAveragePooling2D, L.AdaptiveMaxPooling2D)
_adaptive(3, L.AdaptiveAveragePooling3D, L.AdaptiveMaxPooling3D)


@row(L.Flatten, expected={"before": 6})
def flatten():
    return chain((4, 4, 2), L.Conv2D(6, 3, name="before"), L.Flatten(), L.Dense(3, name="answer"))


@row(L.Flatten, L.Permute, expected={"before": 6})
def flatten_channels_first():
    return chain(
        (4, 4, 2),
        L.Conv2D(6, 3, name="before"),
        L.Permute((3, 1, 2)),
        L.Flatten(data_format="channels_first"),
        L.Dense(3, name="answer"),
    )


@row(L.Reshape, expected={"before": 6})
def reshape_space():
    return chain(
        (4, 4, 2),
        L.Conv2D(6, 3, name="before"),
        L.Reshape((4, 6)),
        L.GlobalMaxPooling1D(),
        L.Dense(3, name="answer"),
    )


@row(L.Reshape, expected={"before": 6})
def reshape_with_free_size():
    return chain(
        (None, None, 2),
        L.Conv2D(6, 3, name="before"),
        L.Reshape((-1, 6)),
        L.GlobalMaxPooling1D(),
        L.Dense(3, name="answer"),
    )


@row(L.Reshape, expected={"before": 3}, note="exact; units that share a place leave together")
def reshape_units_into_two_axes():
    return chain(
        (4,),
        L.Dense(6, name="before"),
        L.Reshape((2, 3)),
        L.GlobalMaxPooling1D(),
        L.Dense(3, name="answer"),
    )


@row(L.Reshape, L.Permute, expected={"before": 3}, note="exact (channel shuffle)")
def channel_shuffle_of_layers():
    return image(
        L.Reshape((6, 6, 2, 3)),
        L.Permute((1, 2, 4, 3)),
        L.Reshape((6, 6, 6)),
        L.DepthwiseConv2D(3),
        L.ReLU(),
    )


@row(L.RepeatVector, expected={"before": 6, "after": 4})
def repeat_vector():
    return chain(
        (3,),
        L.Dense(6, name="before"),
        L.RepeatVector(4),
        L.Conv1D(4, 2, name="after"),
        L.GlobalMaxPooling1D(),
        L.Dense(3, name="answer"),
    )


# Merging -------------------------------------------------------------------------------------


def _merge_row(kind, note="exact"):
    def build():
        start = keras.Input((4,))
        x = L.Dense(6, activation="relu", name="left")(start)
        y = L.Dense(6, activation="tanh", name="right")(start)
        merged = L.ReLU()(kind()([x, y]))
        return keras.Model(start, L.Dense(3, name="answer")(merged))

    row(
        kind,
        expected={"left": 6},
        members={"left": ("left", "right")},
        name=kind.__name__.lower(),
        note=note,
    )(build)


for _kind in (L.Add, L.Subtract, L.Multiply, L.Average, L.Maximum, L.Minimum):
    _merge_row(_kind)


@row(
    L.Add,
    L.Conv2D,
    L.BatchNormalization,
    expected={"stem": 6, "inner": 5},
    members={"stem": ("stem", "outer")},
)
def residual_block():
    start = keras.Input((6, 6, 2))
    x = L.Conv2D(6, 3, padding="same", name="stem")(start)
    y = L.Conv2D(5, 3, padding="same", name="inner")(x)
    y = L.ReLU()(L.BatchNormalization()(y))
    y = L.BatchNormalization()(L.Conv2D(6, 3, padding="same", name="outer")(y))
    z = L.ReLU()(L.Add()([x, y]))
    return keras.Model(start, L.Dense(3, name="answer")(L.GlobalAveragePooling2D()(z)))


@row(
    L.Add,
    expected={"left": (6, 6), "hidden": 4},
    reason="cannot be cut",
    note="protected where a model input or another fixed tensor is added",
)
def add_of_an_input():
    start = keras.Input((6,))
    x = L.Dense(4, activation="relu", name="hidden")(start)
    x = L.Add()([start, L.Dense(6, name="left")(x)])
    return keras.Model(start, L.Dense(3, name="answer")(x))


@row(
    L.Multiply,
    L.Reshape,
    L.GlobalAveragePooling2D,
    expected={"before": 6, "squeeze": 3},
    members={"before": ("before", "excite")},
    note="exact; broadcasts too",
)
def squeeze_and_excite():
    start = keras.Input((6, 6, 2))
    x = L.Conv2D(6, 3, activation="relu", name="before")(start)
    s = L.Reshape((1, 1, 6))(L.GlobalAveragePooling2D()(x))
    s = L.Conv2D(3, 1, activation="relu", name="squeeze")(s)
    s = L.Conv2D(6, 1, activation="sigmoid", name="excite")(s)
    x = L.Multiply()([x, s])
    return keras.Model(start, L.Dense(3, name="answer")(L.GlobalAveragePooling2D()(x)))


@row(
    L.Multiply,
    expected={"before": 6, "gate": (1, 1)},
    reason="repeats them",
    note="protected where one unit is repeated over others",
)
def gate_of_one_unit():
    start = keras.Input((4,))
    x = L.Dense(6, name="before")(start)
    g = L.Dense(1, activation="sigmoid", name="gate")(start)
    return keras.Model(start, L.Dense(3, name="answer")(L.Multiply()([x, g])))


@row(L.Add, expected={"per_step": 6}, members={"per_step": ("per_step", "context")})
def add_of_other_rank():
    start = keras.Input((4, 3))
    x = L.Dense(6, name="per_step")(start)
    c = L.Dense(6, name="context")(L.GlobalAveragePooling1D()(start))
    return keras.Model(start, L.Dense(3, name="answer")(L.GlobalMaxPooling1D()(L.Add()([x, c]))))


@row(L.Concatenate, expected={"left": 6, "right": 4})
def concatenate():
    start = keras.Input((4,))
    x = L.Dense(6, name="left")(start)
    y = L.Dense(4, name="right")(start)
    z = L.ReLU()(L.Concatenate()([x, start, y]))
    return keras.Model(start, L.Dense(3, name="answer")(z))


@row(L.Concatenate, expected={"left": 6}, members={"left": ("left", "right")})
def concatenate_steps():
    start = keras.Input((4, 3))
    x = L.Dense(6, name="left")(start)
    y = L.Conv1D(6, 2, name="right")(start)
    z = L.GlobalMaxPooling1D()(L.Concatenate(axis=1)([x, y]))
    return keras.Model(start, L.Dense(3, name="answer")(z))


@row(
    L.Dot,
    expected={"left": 6},
    members={"left": ("left", "right")},
    note="exact; summed units leave both factors",
)
def dot_over_units():
    start = keras.Input((4, 3))
    x, y = L.Dense(6, name="left")(start), L.Dense(6, name="right")(start)
    z = L.Flatten()(L.Dot(axes=2, normalize=True)([x, y]))
    return keras.Model(start, L.Dense(3, name="answer")(z))


@row(
    L.Dot,
    L.Flatten,
    expected={"left": (6, 6), "right": 5},
    reason="mixes their axis",
    note="exact; of two axes of units that are flattened together, one is protected",
)
def dot_over_steps():
    start = keras.Input((4, 3))
    x = L.Dense(6, activation="relu", name="left")(start)
    y = L.Dense(5, activation="relu", name="right")(start)
    z = L.Flatten()(L.Dot(axes=1)([x, y]))
    return keras.Model(start, L.Dense(3, name="answer")(z))


@row(CustomScaleLayer, expected={"left": 6}, members={"left": ("left", "right")})
def inception_resnet_scale():
    start = keras.Input((4,))
    x, y = L.Dense(6, name="left")(start), L.Dense(6, name="right")(start)
    return keras.Model(start, L.Dense(3, name="answer")(CustomScaleLayer(0.3)([x, y])))


@row(LayerScale, StochasticDepth, expected={"before": 6})
def convnext_layers():
    return image(LayerScale(0.1, 6, name="scale"), StochasticDepth(0.2, name="depth"))
