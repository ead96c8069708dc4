"""Rows of the contract table: operations of `keras.ops` between layers."""

from __future__ import annotations

import keras
import numpy as np
from contract import chain, flat, image, row, steps
from keras import layers, ops
from keras.src.ops import core, math, nn
from keras.src.ops import numpy as knp

L = layers
SIX = np.array([0.5, -1.0, 2.0, 1.5, -0.5, 1.0], dtype="float32")

# One element at a time -----------------------------------------------------------------------


def _shifted(function):
    """Apply a function to numbers between 1 and 3, where logarithms and roots exist."""
    return lambda x: function(ops.tanh(x) + 2.0)


_UNARY = {
    nn.Relu: ops.relu,
    nn.Relu6: ops.relu6,
    nn.Sigmoid: ops.sigmoid,
    nn.HardSigmoid: ops.hard_sigmoid,
    nn.Softplus: ops.softplus,
    nn.Squareplus: ops.squareplus,
    nn.SparsePlus: ops.sparse_plus,
    nn.SparseSigmoid: ops.sparse_sigmoid,
    knp.Absolute: ops.absolute,
    knp.Exp: ops.exp,
    knp.Square: ops.square,
    knp.Sqrt: _shifted(ops.sqrt),
    nn.Softsign: ops.softsign,
    nn.SoftShrink: ops.soft_shrink,
    nn.Silu: ops.silu,
    nn.LogSigmoid: ops.log_sigmoid,
    nn.LeakyRelu: ops.leaky_relu,
    nn.HardSilu: ops.hard_silu,
    nn.Elu: ops.elu,
    nn.Selu: ops.selu,
    nn.Gelu: ops.gelu,
    nn.Celu: ops.celu,
    nn.TanhShrink: ops.tanh_shrink,
    nn.HardTanh: ops.hard_tanh,
    nn.HardShrink: ops.hard_shrink,
    nn.Threshold: lambda x: ops.threshold(x, 0.1, -0.2),
    knp.Tanh: ops.tanh,
    knp.Sin: ops.sin,
    knp.Cos: ops.cos,
    knp.Log: _shifted(ops.log),
    knp.Log1p: _shifted(ops.log1p),
    knp.Expm1: ops.expm1,
    knp.Reciprocal: _shifted(ops.reciprocal),
    math.Erf: ops.erf,
    math.Rsqrt: _shifted(ops.rsqrt),
    knp.Negative: ops.negative,
    knp.Sign: ops.sign,
    knp.Floor: ops.floor,
    knp.Ceil: ops.ceil,
    knp.Round: ops.round,
    knp.Copy: ops.copy,
    knp.NanToNum: ops.nan_to_num,
    knp.OnesLike: ops.ones_like,
    knp.ZerosLike: ops.zeros_like,
    core.StopGradient: ops.stop_gradient,
    core.ConvertToTensor: ops.convert_to_tensor,
}
# Many of them in one row: they share one rule, and each is asked for by type.
_CHUNK = 8
_NAMES = sorted(_UNARY, key=lambda kind: kind.__name__)
for _start in range(0, len(_NAMES), _CHUNK):
    _kinds = tuple(_NAMES[_start : _start + _CHUNK])

    @row(*_kinds, expected={"before": 6}, name=f"elementwise_operations_{_start // _CHUNK}")
    def _elementwise(kinds=_kinds):
        start = keras.Input((4,))
        x = L.Dense(6, name="before")(start)
        total = x
        for kind in kinds:
            total = total + _UNARY[kind](x)
        return keras.Model(start, L.Dense(3, name="answer")(total))


@row(knp.Isnan, knp.Isinf, knp.Isfinite, knp.LogicalNot, core.Cast, expected={"before": 6})
def tests_of_elements():
    def flags(x):
        odd = ops.logical_or(ops.isnan(x), ops.isinf(x))
        fine = ops.logical_and(ops.logical_not(odd), ops.isfinite(x))
        return x * ops.cast(fine, "float32")

    return flat(flags)


@row(knp.Clip, expected={"before": 6})
def clip():
    return flat(lambda x: ops.clip(x, -0.3, 0.4))


@row(
    nn.Softmax,
    nn.LogSoftmax,
    nn.Sparsemax,
    expected={"before": 6},
    note="exact along other axes; protected over units",
)
def softmax_operations_over_steps():
    def mix(x):
        return (
            ops.softmax(x, axis=1)
            + ops.log_softmax(x, axis=1)
            + ops.swapaxes(ops.sparsemax(ops.swapaxes(x, 1, 2), axis=-1), 1, 2)
        )

    return steps(mix)


@row(
    nn.Softmax,
    expected={"before": (6, 6), "after": 4},
    reason="normalises",
    note="exact along other axes; protected over units",
)
def softmax_operation_over_units():
    return flat(ops.softmax, L.Dense(4, "relu", name="after"))


@row(nn.Normalize, expected={"before": 6})
def normalize():
    return flat(ops.normalize)


# Several tensors, and constants --------------------------------------------------------------


@row(
    knp.Add,
    knp.Subtract,
    knp.Multiply,
    knp.TrueDivide,
    knp.Power,
    knp.Negative,
    expected={"before": 6},
    note="exact; constants are sliced",
)
def arithmetic_with_constants():
    def change(x):
        x = 1.0 - (2.0 * x + SIX) * ops.convert_to_tensor(SIX)
        x = x / (SIX.reshape(1, 6) ** 2 + 1.0)
        return (-x) ** 2 + x * np.float32(0.5)

    return flat(change)


@row(
    knp.Maximum,
    knp.Minimum,
    knp.Divide,
    knp.DivideNoNan,
    knp.FloorDivide,
    knp.Mod,
    knp.Logaddexp,
    knp.Arctan2,
    knp.Hypot,
    expected={"right": 6},
    members={"right": ("left", "right")},
)
def binary_operations():
    start = keras.Input((4,))
    x, y = L.Dense(6, name="left")(start), L.Dense(6, name="right")(start)
    z = ops.maximum(x, y) + ops.minimum(x, SIX) + ops.divide(x, ops.abs(y) + 1)
    z = z + ops.divide_no_nan(x, y * 0) + ops.floor_divide(x, 0.7) + ops.mod(x, 0.7)
    z = z + ops.logaddexp(x, y) + ops.arctan2(x, ops.abs(y) + 1) + ops.hypot(x, y)
    return keras.Model(start, L.Dense(3, name="answer")(z))


@row(
    knp.Where,
    knp.Equal,
    knp.NotEqual,
    knp.Less,
    knp.LessEqual,
    knp.Greater,
    knp.GreaterEqual,
    knp.LogicalAnd,
    knp.LogicalOr,
    expected={"left": 6},
    members={"left": ("left", "right")},
)
def comparisons():
    start = keras.Input((4,))
    x, y = L.Dense(6, name="left")(start), L.Dense(6, name="right")(start)
    one = ops.logical_and(ops.less(x, y), ops.greater_equal(x, SIX))
    other = ops.logical_or(ops.less_equal(x, 0.1), ops.equal(x, y))
    z = ops.where(one, x, y) + ops.where(other, x, 0.5) + ops.where(ops.greater(x, y), SIX, y)
    z = z * ops.cast(ops.not_equal(x, 0.3), "float32")
    return keras.Model(start, L.Dense(3, name="answer")(z))


@row(
    knp.Multiply,
    expected={"before": (1, 1), "after": 4},
    reason="along a constant",
    note="protected where one unit is repeated over a constant",
)
def unit_repeated_over_a_constant():
    return flat(lambda x: x * SIX, L.Dense(4, "relu", name="after"), units=1)


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


# Sums and products ---------------------------------------------------------------------------


@row(knp.Sum, expected={"before": 6, "gate": 5}, note="exact, over units as well")
def sums():
    start = keras.Input((4, 3))
    x = L.Dense(6, activation="relu", name="before")(start)
    g = L.Dense(5, activation="tanh", name="gate")(start)
    y = ops.sum(x, axis=1) * ops.sum(g, axis=[1, 2], keepdims=True)[:, :, 0]
    return keras.Model(start, L.Dense(3, name="answer")(y))


@row(
    knp.Mean,
    knp.Max,
    knp.Min,
    knp.Amax,
    knp.Amin,
    knp.Prod,
    knp.Std,
    knp.Var,
    math.Logsumexp,
    expected={"before": 6},
    note="exact along other axes; protected over units",
)
def statistics_of_steps():
    def change(x):
        y = ops.mean(x, axis=1) + ops.max(x, axis=1) + ops.min(x, axis=1) + ops.amax(x, axis=1)
        y = y + ops.amin(x, axis=1) + ops.prod(x, axis=1) + ops.std(x, axis=1) + ops.var(x, axis=1)
        return y + ops.squeeze(ops.logsumexp(x, axis=1, keepdims=True), axis=1)

    return steps(change, pool=False)


@row(
    knp.Any,
    knp.All,
    knp.Argmax,
    knp.Argmin,
    expected={"before": 6},
    note="exact along other axes; protected over units",
)
def flags_and_places_of_steps():
    def change(x):
        y = ops.cast(ops.any(x > 0.5, axis=1), "float32")
        y = y + ops.cast(ops.all(x > -0.9, axis=1), "float32")
        y = y + ops.cast(ops.argmax(x, axis=1), "float32")
        return y - ops.cast(ops.argmin(x, axis=1), "float32")

    return steps(change, pool=False)


@row(
    knp.Mean,
    knp.Max,
    expected={"before": (6, 6), "after": 4},
    reason="zeros would count",
    note="exact along other axes; protected over units",
)
def spatial_attention_over_units():
    def gate(x):
        a = ops.concatenate(
            [ops.mean(x, axis=-1, keepdims=True), ops.max(x, axis=-1, keepdims=True)], axis=-1
        )
        return x * ops.sigmoid(L.Conv2D(1, 3, padding="same", name="gate")(a))

    return image(gate, L.Conv2D(4, 3, activation="relu", name="after"))


@row(
    knp.Matmul,
    knp.Reshape,
    knp.Transpose,
    nn.Softmax,
    expected={"k": 4, "v": 4},
    members={"k": ("q", "k")},
    note="exact; summed units leave both factors",
)
def attention_by_hand():
    start = keras.Input((5, 3))
    q, k, v = (L.Dense(8, name=name)(start) for name in "qkv")

    def heads(x):
        return ops.transpose(ops.reshape(x, (-1, 5, 2, 4)), (0, 2, 1, 3))

    scores = ops.softmax(ops.matmul(heads(q), ops.swapaxes(heads(k), 2, 3)) * 0.5)
    y = ops.reshape(ops.transpose(ops.matmul(scores, heads(v)), (0, 2, 1, 3)), (-1, 5, 8))
    return keras.Model(start, L.Dense(3, name="answer")(y))


@row(knp.Matmul, expected={"before": 6}, note="exact; constants are sliced")
def matmul_with_a_constant():
    matrix = np.random.default_rng(0).normal(size=(6, 5)).astype("float32")
    return flat(lambda x: ops.matmul(x, matrix), ops.relu)


@row(knp.Einsum, expected={"q": 6, "v": 5}, members={"q": ("q", "k")})
def einsum():
    start = keras.Input((4, 3))
    q, k, v = (L.Dense(n, name=m)(start) for n, m in ((6, "q"), (6, "k"), (5, "v")))
    scores = ops.softmax(ops.einsum("bqd,bkd->bqk", q, k))
    y = ops.einsum("...qk,...kd->...qd", scores, v)
    return keras.Model(start, L.Dense(3, name="answer")(y))


@row(
    knp.Einsum,
    expected={"before": (6, 6), "after": 4},
    reason="write it with",
    note="protected without `->`",
)
def einsum_without_arrow():
    matrix = np.random.default_rng(0).normal(size=(6, 5)).astype("float32")
    return flat(lambda x: ops.einsum("bd,de", x, matrix), L.Dense(4, "relu", name="after"))
