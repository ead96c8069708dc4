"""Operations of `keras.ops` that treat every element alike, with one tensor or several."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras.src.ops import core, math, nn
from keras.src.ops import numpy as knp

from keras_nns.errors import SurgeryError
from keras_nns.graph.rules.base import Site, rule
from keras_nns.graph.rules.normalization import axes_of
from keras_nns.graph.rules.operands import aligned, operands
from keras_nns.graph.rules.records import Keep, Shape, Units

_NONNEGATIVE = (
    nn.Relu,
    nn.Relu6,
    nn.Sigmoid,
    nn.HardSigmoid,
    nn.Softplus,
    nn.Squareplus,
    nn.SparsePlus,
    nn.SparseSigmoid,
    knp.Absolute,
    knp.Exp,
    knp.Square,
    knp.Sqrt,
    knp.Exp2,
    knp.Fabs,
    knp.Arccosh,
)
_NONLINEAR = (
    nn.Softsign,
    nn.SoftShrink,
    nn.Silu,
    nn.LogSigmoid,
    nn.LeakyRelu,
    nn.HardSilu,
    nn.Elu,
    nn.Selu,
    nn.Gelu,
    nn.Celu,
    nn.TanhShrink,
    nn.HardTanh,
    nn.HardShrink,
    nn.Threshold,
    knp.Tanh,
    knp.Sin,
    knp.Cos,
    knp.Tan,
    knp.Sinh,
    knp.Cosh,
    knp.Arcsin,
    knp.Arccos,
    knp.Arctan,
    knp.Arcsinh,
    knp.Arctanh,
    knp.Cbrt,
    knp.Log,
    knp.Log1p,
    knp.Log2,
    knp.Log10,
    knp.Expm1,
    knp.Reciprocal,
    math.Erf,
    math.Erfc,
    math.Erfinv,
    math.Rsqrt,
)
_OTHER = (
    knp.Negative,
    knp.Sign,
    knp.Floor,
    knp.Ceil,
    knp.Round,
    knp.Trunc,
    knp.Deg2rad,
    knp.Rad2deg,
    knp.Copy,
    knp.Isnan,
    knp.Isinf,
    knp.Isfinite,
    knp.LogicalNot,
    knp.NanToNum,
    knp.OnesLike,
    knp.ZerosLike,
    core.Cast,
    core.SaturateCast,
    core.StopGradient,
    core.ConvertToTensor,
)


@rule(*_NONNEGATIVE, *_NONLINEAR, *_OTHER)
def unary(site: Site) -> None:
    """Pass units through."""
    site.emit(site.input.units)
    kind = type(site.operation)
    site.passes(nonlinear=kind in _NONNEGATIVE + _NONLINEAR, nonnegative=kind in _NONNEGATIVE)


@rule(knp.Clip)
def clip(site: Site) -> None:
    """Pass units through; limits are one number for all."""
    operation = site.operation
    for limit in (operation.x_min, operation.x_max):
        if np.ndim(limit):
            site.protect_all(f"{site.title} has limits of their own for its elements")
    site.emit(site.input.units)
    site.passes(nonlinear=True, nonnegative=_is_nonnegative(operation.x_min))


def _is_nonnegative(number: Any) -> bool:
    return number is not None and np.ndim(number) == 0 and float(number) >= 0


@rule(nn.Softmax, nn.LogSoftmax, nn.Sparsemax)
def softmax(site: Site) -> None:
    """Pass units through, unless the softmax runs over them."""
    axis = site.operation.axis
    over = range(site.input.rank) if axis is None else axes_of(axis, site.input.rank)
    for one in over:
        site.normalises(site.input.on(one))
    site.emit(site.input.units)
    site.passes(nonlinear=True)


@rule(nn.Normalize)
def normalize(site: Site) -> None:
    """Divide by a length, which zeros do not change."""
    if site.operation.order != 2:
        site.protect_all(f"{site.title} divides by a norm of order {site.operation.order}")
    site.emit(site.input.units)
    site.passes()


@rule(
    knp.Add,
    knp.Subtract,
    knp.Multiply,
    knp.Divide,
    knp.TrueDivide,
    knp.DivideNoNan,
    knp.FloorDivide,
    knp.Mod,
    knp.Power,
    knp.Maximum,
    knp.Minimum,
    knp.Logaddexp,
    knp.Arctan2,
    knp.Hypot,
    knp.Equal,
    knp.NotEqual,
    knp.Less,
    knp.LessEqual,
    knp.Greater,
    knp.GreaterEqual,
    knp.LogicalAnd,
    knp.LogicalOr,
    knp.LogicalXor,
    knp.Fmax,
    knp.Fmin,
    knp.Fmod,
    knp.Logaddexp2,
    knp.Heaviside,
    knp.Isclose,
)
def binary(site: Site) -> None:
    """Join two tensors element by element, or a tensor and a constant, which is sliced."""
    _join(site, ("x1", "x2"))


@rule(knp.Where)
def where(site: Site) -> None:
    """Join condition and choices element by element."""
    _join(site, ("condition", "x1", "x2"))


def _watch_constant(site: Site, shape: Shape, units: Units | None) -> None:
    """Keep a constant along another axis than the last where it is.

    `keras.ops.add` takes a second tensor with one axis longer than 1 for the bias of the last axis
    where that has as many elements, wherever the constant has them.
    """
    sizes = [size for size in shape if size != 1]
    if units is None or len(sizes) != 1 or shape[-1] != 1:
        return
    if len(units) == sizes[0]:
        site.protect(units, f"{site.title} adds a constant that Keras takes for one along them")

    def refuse(
        keep: Keep, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if keep.count(units) == sizes[0] and not keep.all(units):
            raise SurgeryError(
                f"{site.title} would add a constant of shape {tuple(shape)} to {sizes[0]} units, "
                "and Keras would take it for one along them. Keep one unit more or one less."
            )
        return args, kwargs

    site.rewrite(refuse)


def _join(site: Site, names: tuple[str, ...]) -> None:
    given = operands(site, names)
    units = aligned(site, given)
    site.emit(units)
    if isinstance(site.operation, knp.Add) and len(given) == 2 and given[1].constant:
        _watch_constant(site, given[1].stream.shape, units.get(len(site.shapes[0]) - 1))
    tensors = sum(not one.constant for one in given)
    site.passes(merges=tensors > 1)
