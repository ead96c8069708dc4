"""Rows of the contract table: operations of `keras.ops` that move elements."""

from __future__ import annotations

import keras
import numpy as np
from contract import chain, flat, image, row, steps
from keras import layers, ops
from keras.src.ops import core, nn
from keras.src.ops import image as image_ops
from keras.src.ops import numpy as knp
from keras.src.ops.einops import Rearrange

L = layers

# Moving elements -----------------------------------------------------------------------------


@row(knp.Reshape, knp.Transpose, expected={"before": 3}, note="exact (channel shuffle)")
def channel_shuffle():
    def shuffle(x):
        x = ops.reshape(x, (-1, 6, 6, 2, 3))
        return ops.reshape(ops.transpose(x, (0, 1, 2, 4, 3)), (-1, 6, 6, 6))

    return image(shuffle, L.DepthwiseConv2D(3), L.ReLU())


@row(
    knp.Split,
    knp.Concatenate,
    expected={"before": 6, "branch": 4},
    note="exact; parts may come to differ in size",
)
def split_and_concatenate():
    start = keras.Input((6, 6, 2))
    x = L.Conv2D(6, 3, activation="relu", name="before")(start)
    one, two = ops.split(x, 2, axis=-1)
    two = L.Conv2D(4, 3, padding="same", activation="relu", name="branch")(two)
    y = ops.concatenate([one, two, one], axis=-1)
    return keras.Model(start, L.Dense(3, name="answer")(L.GlobalMaxPooling2D()(y)))


@row(
    knp.Split,
    L.Reshape,
    expected={"before": 8, "one": 4},
    members={"before": ("before", "two")},
    note="exact; a layer behind a split keeps one unit of its part",
)
def shuffled_unit_with_a_split():
    start = keras.Input((6, 6, 2))
    x = L.Conv2D(8, 3, activation="relu", name="before")(start)
    x, y = ops.split(x, 2, axis=-1)
    y = L.Conv2D(4, 1, activation="relu", name="one")(y)
    y = L.Conv2D(4, 1, activation="relu", name="two")(L.DepthwiseConv2D(3, padding="same")(y))
    x = L.Reshape((4, 4, 2, 4))(L.Concatenate()([x, y]))
    x = L.Reshape((4, 4, 8))(L.Permute((1, 2, 4, 3))(x))
    return keras.Model(start, L.Dense(3, name="answer")(L.GlobalAveragePooling2D()(x)))


@row(knp.Split, expected={"before": 6})
def split_at_places():
    def parts(x):
        one, two, three = ops.split(x, [1, 4], axis=1)
        return ops.concatenate([three, one, two], axis=1)

    return flat(parts)


@row(knp.Split, expected={"before": 6})
def split_along_steps():
    def parts(x):
        one, two = ops.split(x, 2, axis=1)
        return one + two

    return steps(parts, length=4)


@row(knp.Swapaxes, knp.Moveaxis, knp.ExpandDims, knp.Squeeze, expected={"before": 6})
def moved_axes():
    def move(x):
        x = ops.swapaxes(x, 1, 2)
        x = ops.expand_dims(x, 1)
        x = ops.moveaxis(x, 2, -1)
        return ops.squeeze(x, axis=1)

    return steps(move)


@row(knp.Squeeze, expected={"before": 6}, note="exact, also when one unit is left")
def squeeze_without_axis():
    return chain(
        (4,),
        L.Dense(6, name="before"),
        lambda x: ops.expand_dims(x, 1),
        ops.squeeze,
        L.Dense(3, name="answer"),
    )


@row(knp.Stack, core.Unstack, expected={"left": 6}, members={"left": ("left", "right")})
def stack_and_unstack():
    start = keras.Input((4,))
    x, y = L.Dense(6, name="left")(start), L.Dense(6, name="right")(start)
    both = ops.stack([x, y], axis=1)
    one, two = ops.unstack(both, axis=1)
    z = ops.concatenate([one * two, ops.max(both, axis=1)], axis=-1)
    return keras.Model(start, L.Dense(3, name="answer")(z))


@row(
    core.Unstack,
    expected={"before": (6, 6), "after": 4},
    reason="takes their axis apart",
    note="protected along the axis of units",
)
def unstack_units():
    def apart(x):
        parts = ops.unstack(x, 6, axis=1)
        return ops.stack([parts[0] + parts[1], parts[2]], axis=1)

    return flat(apart, L.Dense(4, "relu", name="after"))


@row(knp.GetItem, expected={"before": 6}, note="exact; slices of units are renumbered")
def slices_of_units():
    def parts(x):
        return ops.concatenate([x[:, 4:], x[:, :2], x[..., 1:5], x[:, -3:]], axis=-1)

    return flat(parts)


@row(knp.GetItem, expected={"before": 3}, note="exact; a stride keeps its blocks together")
def strided_slices_of_units():
    def parts(x):
        return x[:, ::2] * x[:, 1::2]

    return flat(parts)


@row(knp.GetItem, expected={"before": 6})
def slices_of_steps():
    def parts(x):
        return ops.concatenate([x[:, 0], x[:, -1], x[:, None, 1:3][:, 0, 1]], axis=-1)

    return steps(parts, pool=False)


@row(
    knp.GetItem,
    expected={"before": (6, 1)},
    reason="by its number",
    note="protected where one unit is picked out",
)
def one_unit_picked_out():
    start = keras.Input((4,))
    x = L.Dense(6, name="before")(start)
    y = ops.concatenate([x, ops.expand_dims(x[:, 4], 1)], axis=1)
    return keras.Model(start, L.Dense(3, name="answer")(y))


@row(knp.Take, expected={"before": 6}, note="exact; picked units are renumbered")
def take_units():
    return flat(lambda x: ops.take(x, np.array([5, 0, 0, 3, 1]), axis=1))


@row(knp.Take, expected={"before": 6})
def take_steps():
    return steps(lambda x: ops.take(x, np.array([4, 0]), axis=1))


@row(knp.Flip, knp.Repeat, expected={"before": 6})
def flip_and_repeat():
    return flat(lambda x: ops.repeat(ops.flip(x, axis=-1), 2, axis=-1), ops.relu)


@row(knp.Roll, expected={"before": 6}, note="exact along other axes; protected along units")
def roll_of_steps():
    return steps(lambda x: ops.roll(x, 2, axis=1) * x)


@row(
    knp.Roll,
    expected={"before": (6, 6), "after": 4},
    reason="moves them round",
    note="exact along other axes; protected along units",
)
def roll_of_units():
    return flat(lambda x: ops.roll(x, 2, axis=1), L.Dense(4, "relu", name="after"))


@row(knp.Pad, expected={"before": 6}, note="exact; what is padded is fixed")
def pad():
    return flat(lambda x: ops.pad(x, [[0, 0], [1, 2]], constant_values=0.5), ops.tanh)


@row(
    knp.Pad,
    knp.Add,
    expected={"narrow": (6, 2)},
    reason="cannot be cut",
    members={"narrow": ("narrow", "wide")},
    note="protected where padding meets units",
)
def padded_shortcut():
    start = keras.Input((4,))
    x = L.Dense(4, activation="relu", name="narrow")(start)
    y = L.Dense(6, name="wide")(x)
    z = ops.relu(y + ops.pad(x, [[0, 0], [1, 1]]))
    return keras.Model(start, L.Dense(3, name="answer")(z))


@row(knp.BroadcastTo, expected={"before": 6})
def broadcast_to():
    start = keras.Input(batch_shape=(2, 4))
    x = L.Dense(6, name="before")(start)
    y = ops.broadcast_to(ops.expand_dims(x, 1), (2, 4, 6))
    return keras.Model(start, L.Dense(3, name="answer")(L.GlobalMaxPooling1D()(y)))


@row(knp.Tile, expected={"before": 6}, note="exact; copies leave together")
def tile():
    return steps(lambda x: ops.tile(x, [1, 2, 3]) * 0.5)


@row(nn.Glu, expected={"before": 3, "conv": 4}, note="exact; a unit leaves with its gate")
def gated_linear_unit():
    return chain(
        (9, 2),
        L.Conv1D(6, 3, name="before"),
        ops.glu,
        L.Conv1D(8, 2, name="conv"),
        lambda x: ops.glu(ops.swapaxes(x, 1, 2), axis=1),
        L.GlobalMaxPooling1D(data_format="channels_first"),
        L.Dense(3, name="answer"),
    )


@row(
    nn.DepthToSpace,
    nn.SpaceToDepth,
    expected={"before": 2, "conv": 4},
    note="exact; the channels of one pixel leave together",
)
def depth_to_space_and_back():
    return image(
        L.Conv2D(8, 1, activation="relu", name="before"),
        lambda x: ops.depth_to_space(x, 2),
        L.Conv2D(4, 1, activation="relu", name="conv"),
        lambda x: ops.space_to_depth(x, 2),
        first=L.Rescaling(2.0),
    )


@row(
    image_ops.Resize,
    image_ops.PadImages,
    image_ops.CropImages,
    nn.MaxPool,
    nn.AveragePool,
    expected={"before": 6},
)
def images_of_another_size():
    return image(
        lambda x: ops.image.resize(x, (9, 9)),
        lambda x: ops.image.pad_images(x, 1, 1, 1, 1),
        lambda x: ops.image.crop_images(x, 1, 2, 1, 2),
        lambda x: ops.max_pool(x, 2, 1),
        lambda x: ops.average_pool(x, 2),
    )


@row(Rearrange, expected={"k": 8}, members={"k": ("q", "k")}, note="exact; by the pattern")
def rearrange_to_features_and_back():
    # Keras rearranges only what has a known number of samples.
    start = keras.Input(batch_shape=(2, 5, 3))
    q, k = L.Dense(8, name="q")(start), L.Dense(8, name="k")(start)
    x = ops.rearrange(q, "b t c -> b c t") * ops.rearrange(k, "b t c -> b c t")
    x = L.Flatten()(ops.rearrange(x, "b c t -> b t c"))
    return keras.Model(start, L.Dense(3, name="answer")(x))


@row(Rearrange, expected={"before": 4}, note="exact; units that share a place leave together")
def rearrange_heads():
    start = keras.Input(batch_shape=(2, 5, 3))
    x = ops.rearrange(L.Dense(8, name="before")(start), "b t (h d) -> b h t d", h=2)
    x = ops.rearrange(ops.tanh(x), "b h t d -> b t (h d)")
    x = ops.rearrange(x, "b t (h d) -> b t d h", d=4)[..., 0]
    return keras.Model(start, L.Dense(3, name="answer")(L.Flatten()(x)))
