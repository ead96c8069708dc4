"""Rows of the contract table: layers of images and vectors, and how models are put together."""

from __future__ import annotations

import keras
import numpy as np
from contract import chain, dtype_policy, flat, image, row, steps
from keras import layers
from keras.src.applications.convnext import LayerScale, StochasticDepth
from keras.src.applications.inception_resnet_v2 import CustomScaleLayer

from keras_nns.partial import PartialLayerNormalization

L = layers

# Dense and convolutions ----------------------------------------------------------------------


@row(L.Dense, expected={"before": 6, "dense": 5})
def dense():
    return flat(L.Dense(5, activation="relu", name="dense"))


@row(L.Dense, expected={"before": 6, "dense": 5})
def dense_on_steps_without_bias():
    return chain(
        (4, 3),
        L.Dense(6, name="before"),
        L.Dense(5, use_bias=False, name="dense"),
        L.GlobalMaxPooling1D(),
        L.Dense(3, name="answer"),
    )


@row(L.Dense, expected={"before": 6, "dense": 5}, note="exact, factors sliced")
def dense_with_lora():
    return flat(L.Dense(5, activation="gelu", name="dense", lora_rank=2))


@row(
    L.Dense,
    expected={"before": (6, 6), "dense": (5, 5), "free": 4},
    reason="quantised",
    note="protected: cut first, quantise afterwards",
)
def dense_quantised():
    model = chain(
        (4,),
        L.Dense(4, activation="relu", name="free"),
        L.Dense(6, name="before"),
        L.Dense(5, name="dense"),
        L.Dense(3, name="answer"),
    )
    model.get_layer("dense").quantize("int8")
    return model


@row(L.EinsumDense, expected={"before": 6, "dense": 5})
def einsum_dense():
    return chain(
        (4, 3),
        L.Dense(6, name="before"),
        L.EinsumDense("abc,cd->abd", (None, 5), activation="relu", bias_axes="d", name="dense"),
        L.GlobalAveragePooling1D(),
        L.Dense(3, name="answer"),
    )


@row(L.EinsumDense, expected={"before": 6, "dense": 5})
def einsum_dense_with_dots():
    return flat(L.EinsumDense("...x,xy->...y", 5, bias_axes="y", name="dense"))


@row(L.EinsumDense, expected={"before": 6, "dense": 5}, note="exact, factors sliced")
def einsum_dense_with_lora():
    layer = L.EinsumDense("ab,bc->ac", 5, bias_axes="c", lora_rank=2, name="dense")
    return flat(layer)


@row(L.EinsumDense, expected={"before": 6, "dense:d": 2, "dense:e": 4})
def einsum_dense_of_two_axes():
    return chain(
        (4, 3),
        L.Dense(6, name="before"),
        L.EinsumDense("abc,cde->abde", (None, 2, 4), bias_axes="de", name="dense"),
        L.EinsumDense("abde,def->abf", (None, 3), bias_axes="f", name="answer"),
    )


@row(L.Conv1D, expected={"before": 6, "conv": 5})
def conv1d():
    return chain(
        (9, 2),
        L.Conv1D(6, 3, activation="relu", name="before"),
        L.Conv1D(5, 3, padding="causal", dilation_rate=2, activation="elu", name="conv"),
        L.GlobalAveragePooling1D(),
        L.Dense(3, name="answer"),
    )


@row(L.Conv2D, expected={"before": 6, "conv": 5})
def conv2d():
    return image(L.Conv2D(5, (3, 2), strides=2, activation="tanh", name="conv"))


@row(L.Conv2D, expected={"before": 6, "conv": 5})
def conv2d_dilated_without_bias():
    return image(L.Conv2D(5, 3, dilation_rate=2, padding="same", use_bias=False, name="conv"))


@row(L.Conv2D, expected={"before": 3, "conv": 2}, note="exact; every group loses the same")
def conv2d_grouped():
    return image(L.Conv2D(4, 3, groups=2, activation="relu", name="conv"))


@row(
    L.Conv2D,
    expected={"before": 6},
    members={"before": ("before", "conv")},
    note="exact; one channel a group: whole groups leave",
)
def conv2d_grouped_like_depthwise():
    return image(L.Conv2D(12, 3, groups=6, activation="relu", name="conv"))


@row(L.Conv2D, expected={"before": 6, "conv": 5}, note="exact, factors sliced")
def conv2d_with_lora():
    return image(L.Conv2D(5, 3, name="conv", lora_rank=2))


@row(L.Conv3D, expected={"before": 4, "conv": 5})
def conv3d():
    return chain(
        (4, 4, 4, 2),
        L.Conv3D(4, 2, activation="relu", name="before"),
        L.Conv3D(5, 2, name="conv"),
        L.GlobalMaxPooling3D(),
        L.Dense(3, name="answer"),
    )


@row(L.DepthwiseConv1D, expected={"before": 5})
def depthwise1d():
    return chain(
        (9, 2),
        L.Conv1D(5, 3, name="before"),
        L.DepthwiseConv1D(3, depth_multiplier=2, activation="relu"),
        L.GlobalAveragePooling1D(),
        L.Dense(3, name="answer"),
    )


@row(L.DepthwiseConv2D, expected={"before": 6})
def depthwise2d():
    return image(L.DepthwiseConv2D(3, depth_multiplier=2, activation="relu"))


@row(L.SeparableConv1D, expected={"before": 5, "conv": 4})
def separable1d():
    return chain(
        (9, 2),
        L.Conv1D(5, 3, name="before"),
        L.SeparableConv1D(4, 3, depth_multiplier=2, activation="relu", name="conv"),
        L.GlobalAveragePooling1D(),
        L.Dense(3, name="answer"),
    )


@row(L.SeparableConv2D, expected={"before": 6, "conv": 4})
def separable2d():
    return image(L.SeparableConv2D(4, 3, depth_multiplier=2, activation="relu", name="conv"))


@row(L.Conv1DTranspose, expected={"before": 5, "conv": 4})
def transposed1d():
    return chain(
        (5, 2),
        L.Conv1D(5, 3, activation="relu", name="before"),
        L.Conv1DTranspose(4, 3, strides=2, activation="tanh", name="conv"),
        L.GlobalAveragePooling1D(),
        L.Dense(3, name="answer"),
    )


@row(L.Conv2DTranspose, expected={"before": 6, "conv": 4})
def transposed2d():
    return image(L.Conv2DTranspose(4, 3, strides=2, activation="relu", name="conv"))


@row(L.Conv3DTranspose, expected={"before": 4, "conv": 3})
def transposed3d():
    return chain(
        (3, 3, 3, 2),
        L.Conv3D(4, 2, activation="relu", name="before"),
        L.Conv3DTranspose(3, 2, name="conv"),
        L.GlobalMaxPooling3D(),
        L.Dense(3, name="answer"),
    )


# Normalisation -------------------------------------------------------------------------------


@row(L.BatchNormalization, expected={"before": 6})
def batch_normalization():
    return image(L.BatchNormalization(), L.ReLU())


@row(L.BatchNormalization, expected={"before": 6})
def batch_normalization_without_scale():
    return image(L.BatchNormalization(scale=False, center=False), L.Activation("elu"))


@row(
    L.LayerNormalization,
    expected={"before": (6, 6), "after": 5},
    reason="mean and variance",
    note="protected: mean and variance over the units would change; exact after "
    "`unfold(model, normalizations=True)`",
)
def layer_normalization():
    return flat(L.LayerNormalization(), L.Dense(5, activation="relu", name="after"))


@row(PartialLayerNormalization, expected={"before": 6, "after": 5}, note="exact")
def layer_normalization_that_features_may_leave():
    return flat(PartialLayerNormalization(6), L.Dense(5, activation="relu", name="after"))


@row(PartialLayerNormalization, expected={"before": 6}, note="exact")
def layer_normalization_that_features_may_leave_in_a_stream():
    def stream(x):
        y = PartialLayerNormalization(6, scale=False, epsilon=0.1)(x)
        return L.Add()([x, L.Dense(6, activation="relu", name="branch")(y)])

    return steps(stream, PartialLayerNormalization(6, center=False))


@row(L.LayerNormalization, expected={"before": 6}, note="exact along other axes")
def layer_normalization_over_steps():
    return chain(
        (4, 3),
        L.Dense(6, name="before"),
        L.LayerNormalization(axis=1),
        L.GlobalAveragePooling1D(),
        L.Dense(3, name="answer"),
    )


@row(L.GroupNormalization, expected={"before": 3}, note="exact; a group leaves as a whole")
def group_normalization():
    return image(L.GroupNormalization(groups=3), L.ReLU())


@row(L.GroupNormalization, expected={"before": 6})
def instance_normalization():
    return image(L.GroupNormalization(groups=-1), L.ReLU())


@row(L.GroupNormalization, expected={"before": (1, 1), "after": 4}, reason="over all of them")
def group_normalization_over_all():
    return image(L.GroupNormalization(groups=1), L.ReLU(), L.Conv2D(4, 1, name="after"))


@row(L.RMSNormalization, expected={"before": 6}, note="exact; scale and epsilon corrected")
def rms_normalization():
    return flat(L.RMSNormalization(epsilon=0.1), L.Activation("gelu"))


@row(L.UnitNormalization, expected={"before": 6})
def unit_normalization():
    return flat(L.UnitNormalization())


@row(L.SpectralNormalization, expected={"before": 6, "spectral": 5})
def spectral_normalization():
    return image(L.SpectralNormalization(L.Conv2D(5, 3, activation="relu"), name="spectral"))


# Activations and regularisation --------------------------------------------------------------


def _activation_row(make, name):
    row(type(make()), expected={"before": 6}, name=name)(lambda: flat(make()))


for _kind in ("relu", "gelu", "silu", "softplus", "hard_sigmoid", "selu", "mish", "leaky_relu"):
    _activation_row(lambda kind=_kind: L.Activation(kind), f"activation_{_kind}")
_activation_row(L.ReLU, "relu")
_activation_row(lambda: L.ReLU(6.0, 0.1, 0.2), "relu_with_slope")
_activation_row(L.LeakyReLU, "leaky_relu")
_activation_row(L.ELU, "elu")
_activation_row(L.PReLU, "prelu")
_activation_row(lambda: L.Dropout(0.5), "dropout")
_activation_row(lambda: L.AlphaDropout(0.5), "alpha_dropout")
_activation_row(lambda: L.GaussianDropout(0.5), "gaussian_dropout")
_activation_row(lambda: L.GaussianNoise(0.5), "gaussian_noise")
_activation_row(lambda: L.ActivityRegularization(0.1), "activity_regularization")
_activation_row(L.Identity, "identity")


@row(L.PReLU, expected={"before": 6})
def prelu_with_shared_axes():
    return image(L.PReLU(shared_axes=[1, 2]))


@row(
    L.Softmax,
    expected={"before": (6, 6), "after": 4},
    reason="normalises",
    note="protected over units: a softmax takes their sum; exact along other axes",
)
def softmax_over_units():
    return flat(L.Softmax(), L.Dense(4, activation="relu", name="after"))


@row(L.Softmax, expected={"before": 6})
def softmax_over_steps():
    return chain(
        (4, 3),
        L.Dense(6, name="before"),
        L.Softmax(axis=1),
        L.GlobalMaxPooling1D(),
        L.Dense(3, name="answer"),
    )


@row(L.SpatialDropout1D, expected={"before": 6})
def spatial_dropout1d():
    return chain(
        (4, 3),
        L.Dense(6, name="before"),
        L.SpatialDropout1D(0.2),
        L.GlobalMaxPooling1D(),
        L.Dense(3, name="answer"),
    )


@row(L.SpatialDropout2D, expected={"before": 6})
def spatial_dropout2d():
    return image(L.SpatialDropout2D(0.2))


@row(
    L.SpatialDropout3D,
    L.ZeroPadding3D,
    L.Cropping3D,
    L.UpSampling3D,
    L.MaxPooling3D,
    L.AveragePooling3D,
    L.GlobalAveragePooling3D,
    L.GlobalMaxPooling3D,
    expected={"before": 4},
)
def three_dimensions():
    return chain(
        (4, 4, 4, 2),
        L.Conv3D(4, 2, activation="relu", name="before"),
        L.SpatialDropout3D(0.1),
        L.ZeroPadding3D(2),
        L.Cropping3D(1),
        L.UpSampling3D(2),
        L.MaxPooling3D(2),
        L.AveragePooling3D(2),
        L.GlobalAveragePooling3D(keepdims=True),
        L.GlobalMaxPooling3D(),
        L.Dense(3, name="answer"),
    )


@row(
    L.Masking,
    expected={"after": 5, "before": (6, 6)},
    reason="which steps to skip",
    note="protected: all features decide which steps are skipped",
)
def masking_of_units():
    return chain(
        (4, 3),
        L.Dense(6, activation="relu", name="before"),
        L.Masking(),
        L.LSTM(5, name="after"),
        L.Dense(3, name="answer"),
    )


@row(L.Dense, expected={"before": 6, "dense": 5})
def regularisers_and_constraints():
    return flat(
        L.Dense(
            5,
            activation="relu",
            name="dense",
            kernel_regularizer="l2",
            kernel_constraint=keras.constraints.MaxNorm(2.0),
            bias_regularizer="l1",
            activity_regularizer="l2",
        )
    )


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
