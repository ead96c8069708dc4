"""Rows of the contract table: layers that multiply by weights, Dense and convolutions."""

from __future__ import annotations

from contract import chain, flat, image, row
from keras import layers

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


@row(
    L.EinsumDense,
    expected={"before": (6, 6), "dense": (5, 5), "free": 4},
    reason="quantised",
    note="protected: cut first, quantise afterwards",
)
def einsum_dense_quantised():
    model = chain(
        (4,),
        L.Dense(4, activation="relu", name="free"),
        L.Dense(6, name="before"),
        L.EinsumDense("ab,bc->ac", 5, name="dense"),
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


@row(
    L.Conv2D,
    expected={"before": (5, 5), "after": 4},
    reason="along the width",
    note="protected where Keras adds a bias in front along the width: as many filters as pixels",
)
def as_many_filters_as_the_output_is_wide():
    first = {"data_format": "channels_first"}
    return chain(
        (2, 6, 6),
        L.Conv2D(5, 2, name="before", **first),
        L.Conv2D(4, 3, use_bias=False, name="after", **first),
        L.GlobalMaxPooling2D(**first),
        L.Dense(3, name="answer"),
    )


# Channels in front ---------------------------------------------------------------------------


def _channels_first(rank, kind, *, name, expected=None, **settings):
    """Put a layer between a convolution and pooling, all with their channels on axis 1."""
    first = {"data_format": "channels_first"}
    conv = {1: L.Conv1D, 2: L.Conv2D, 3: L.Conv3D}[rank]
    pool = {1: L.GlobalMaxPooling1D, 2: L.GlobalMaxPooling2D, 3: L.GlobalMaxPooling3D}[rank]

    def build():
        return chain(
            # Wider than there are channels: see `watch_bias`.
            (2, *(8,) * rank),
            conv(6, 2, padding="same", name="before", **first),
            L.BatchNormalization(axis=1),
            kind(**settings, **first, name="layer"),
            L.ReLU(),
            pool(**first),
            L.Dense(3, name="answer"),
        )

    row(kind, expected=expected or {"before": 6, "layer": settings["filters"]}, name=name)(build)


for _rank, _kind in enumerate((L.Conv1D, L.Conv2D, L.Conv3D), 1):
    _channels_first(_rank, _kind, name=f"conv{_rank}d_channels_first", filters=4, kernel_size=2)
for _rank, _kind in enumerate((L.Conv1DTranspose, L.Conv2DTranspose, L.Conv3DTranspose), 1):
    _channels_first(
        _rank, _kind, name=f"transposed{_rank}d_channels_first", filters=4, kernel_size=2
    )
for _rank, _kind in enumerate((L.SeparableConv1D, L.SeparableConv2D), 1):
    _channels_first(
        _rank,
        _kind,
        name=f"separable{_rank}d_channels_first",
        filters=4,
        kernel_size=2,
        depth_multiplier=2,
    )
for _rank, _kind in enumerate((L.DepthwiseConv1D, L.DepthwiseConv2D), 1):
    _channels_first(
        _rank,
        _kind,
        name=f"depthwise{_rank}d_channels_first",
        expected={"before": 6},
        kernel_size=2,
        depth_multiplier=2,
    )
