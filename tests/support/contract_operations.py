"""Rows of the contract table: operations of `keras.ops` between layers."""

from __future__ import annotations

import keras
import numpy as np
from contract import chain, flat, row, steps
from keras import layers, ops
from keras.src.ops import core, math, nn
from keras.src.ops import numpy as knp

from keras_nns.graph.rules.registry import known

L = layers
SIX = np.array([0.5, -1.0, 2.0, 1.5, -0.5, 1.0], dtype="float32")

# One element at a time -----------------------------------------------------------------------


def _shifted(function):
    """Apply a function to numbers between 1 and 3, where logarithms and roots exist."""
    return lambda x: function(ops.tanh(x) + 2.0)


def _small(function):
    """Apply a function to numbers between -0.9 and 0.9, where arcs and inverses exist."""
    return lambda x: function(ops.tanh(x) * 0.9)


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
    knp.Exp2: ops.exp2,
    knp.Arccosh: _shifted(ops.arccosh),
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
    knp.Tan: _small(ops.tan),
    knp.Sinh: ops.sinh,
    knp.Cosh: ops.cosh,
    knp.Arcsin: _small(ops.arcsin),
    knp.Arccos: _small(ops.arccos),
    knp.Arctan: ops.arctan,
    knp.Arcsinh: ops.arcsinh,
    knp.Arctanh: _small(ops.arctanh),
    knp.Cbrt: _shifted(ops.cbrt),
    knp.Log2: _shifted(ops.log2),
    knp.Log10: _shifted(ops.log10),
    math.Erfinv: _small(ops.erfinv),
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
    knp.Trunc: ops.trunc,
    knp.Deg2rad: ops.deg2rad,
    knp.Rad2deg: ops.rad2deg,
    knp.Copy: ops.copy,
    knp.NanToNum: ops.nan_to_num,
    knp.OnesLike: ops.ones_like,
    knp.ZerosLike: ops.zeros_like,
    core.StopGradient: ops.stop_gradient,
    core.ConvertToTensor: ops.convert_to_tensor,
}
# Many of them in one row: they share one rule, and each is asked for by type.
_CHUNK = 8
# What Keras 3.14 lacks.
_UNARY |= {kind: ops.fabs for kind in known(knp, "Fabs")}
_UNARY |= {kind: ops.erfc for kind in known(math, "Erfc")}

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


@row(
    knp.Isnan,
    knp.Isinf,
    knp.Isfinite,
    knp.LogicalNot,
    core.Cast,
    core.SaturateCast,
    expected={"before": 6},
)
def tests_of_elements():
    def flags(x):
        odd = ops.logical_or(ops.isnan(x), ops.isinf(x))
        fine = ops.logical_and(ops.logical_not(odd), ops.isfinite(x))
        return ops.saturate_cast(x * ops.cast(fine, "float32"), "float32")

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
    knp.Add,
    expected={"before": (5, 5), "after": 4},
    reason="takes for one along them",
    note="protected where Keras mistakes the axis of a constant: as many units as steps",
)
def constant_along_as_many_steps_as_units():
    return steps(
        lambda x: x + np.linspace(-1, 1, 5).reshape(1, 5, 1).astype("float32"),
        L.Dense(4, activation="relu", name="after"),
        units=5,
    )


@row(
    knp.Add,
    expected={"before": (4, 4), "after": 4},
    reason="takes for one along them",
    note="protected where Keras mistakes the axis of a constant: as many units in front as columns",
)
def constant_along_units_in_front_of_as_many_columns():
    return chain(
        (4, 3),
        L.Dense(4, activation="tanh", name="before"),
        L.Permute((2, 1)),
        lambda x: x + np.linspace(-1, 1, 4).reshape(1, 4, 1).astype("float32"),
        L.Permute((2, 1)),
        L.Dense(4, activation="relu", name="after"),
        L.GlobalAveragePooling1D(),
        L.Dense(3, name="answer"),
    )


@row(
    knp.Maximum,
    knp.Minimum,
    knp.Divide,
    knp.DivideNoNan,
    knp.FloorDivide,
    knp.Mod,
    knp.Logaddexp,
    knp.Logaddexp2,
    *known(knp, "Fmax", "Fmin"),
    knp.Fmod,
    knp.Heaviside,
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
    if known(knp, "Fmax"):
        z = z + ops.fmax(x, y) - ops.fmin(x, SIX)
    z = z + ops.fmod(x, 0.7) + ops.logaddexp2(x, y)
    z = z + ops.heaviside(x, SIX)
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
    knp.LogicalXor,
    knp.Isclose,
    expected={"left": 6},
    members={"left": ("left", "right")},
)
def comparisons():
    start = keras.Input((4,))
    x, y = L.Dense(6, name="left")(start), L.Dense(6, name="right")(start)
    one = ops.logical_and(ops.less(x, y), ops.greater_equal(x, SIX))
    other = ops.logical_or(ops.less_equal(x, 0.1), ops.equal(x, y))
    other = ops.logical_xor(other, ops.isclose(x, y, atol=0.2))
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
