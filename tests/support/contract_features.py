"""Rows of the contract table: normalisation, activations, noise: each feature by itself."""

from __future__ import annotations

import keras
from contract import chain, flat, image, row, steps
from keras import layers, ops

from keras_nns.graph.partial_layers import PartialLayerNormalization

L = layers

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


@row(L.RMSNormalization, expected={"before": 6})
def rms_normalization_over_pixels_and_units():
    return image(L.RMSNormalization(axis=[1, 2, 3], epsilon=0.1))


@row(L.UnitNormalization, expected={"before": 6})
def unit_normalization():
    return flat(L.UnitNormalization())


@row(L.UnitNormalization, expected={"before": 6})
def unit_normalization_over_pixels():
    return image(L.UnitNormalization(axis=[1, 2]))


@row(
    L.BatchNormalization,
    L.GroupNormalization,
    L.LayerNormalization,
    expected={"before": 3},
    note="exact on any axis",
)
def normalizations_with_channels_in_front():
    return chain(
        (6, 6, 2),
        L.Conv2D(6, 3, name="before"),
        L.Permute((3, 1, 2)),
        L.BatchNormalization(axis=1),
        L.GroupNormalization(groups=3, axis=1),
        L.LayerNormalization(axis=[2, 3]),
        L.ReLU(),
        L.GlobalAveragePooling2D(data_format="channels_first"),
        L.Dense(3, name="answer"),
    )


@row(L.SpectralNormalization, expected={"before": 6, "spectral": 5})
def spectral_normalization():
    return image(L.SpectralNormalization(L.Conv2D(5, 3, activation="relu"), name="spectral"))


# Activations and regularisation --------------------------------------------------------------


def _activation_row(make, name):
    row(type(make()), expected={"before": 6}, name=name)(lambda: flat(make()))


for _kind in ("relu", "gelu", "silu", "softplus", "hard_sigmoid", "selu", "mish", "leaky_relu"):
    _activation_row(lambda kind=_kind: L.Activation(kind), f"activation_{_kind}")
_activation_row(lambda: L.Activation(ops.silu), "activation_of_keras_ops")
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


@row(L.PReLU, expected={"before": 6})
def prelu_with_one_shared_axis():
    return image(L.PReLU(shared_axes=[2]))


@row(L.PReLU, expected={"before": 6}, note="exact; one slope for all units is left as it is")
def prelu_shared_over_units():
    return image(L.PReLU(shared_axes=[1, 3]))


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
def dense_with_a_layer_as_activation():
    return flat(L.Dense(5, activation=L.LeakyReLU(0.3), name="dense"))


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
