"""Operations of `keras.ops` that treat every element alike, with one tensor or several."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras.src.ops import core, math, nn
from keras.src.ops import numpy as knp

from keras_nns.errors import SurgeryError
from keras_nns.graph.rules.base import Site
from keras_nns.graph.rules.normalization import axes_of
from keras_nns.graph.rules.operands import Operand, aligned, operands
from keras_nns.graph.rules.records import Keep, Units
from keras_nns.graph.rules.registry import known, rule

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
    *known(knp, "Fabs"),
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
    *known(math, "Erfc"),
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
    *known(knp, "Rad2deg"),
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
    *known(knp, "Fmax", "Fmin", "Fmod"),
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


def _bias_axis(first: Sequence[int | None], second: Sequence[int | None]) -> int | None:
    """Return the axis along which `keras.ops.add` adds a second tensor that it takes for a bias.

    It does so where that has one axis longer than 1, wherever this lies, as long as the last axis
    of the first or as its second. None where it broadcasts as numpy does.
    """
    sizes = [size for size in second if size != 1]
    if len(sizes) != 1 or sizes[0] is None or len(first) < 2:
        return None
    return next((axis for axis in (len(first) - 1, 1) if first[axis] == sizes[0]), None)


def _watch_constant(
    site: Site, tensor: Operand, constant: Operand, units: dict[int, Units]
) -> None:
    """Keep a constant that is added along the axis along which the parent adds it.

    Where Keras takes it for a bias of another axis than it lies along, both stay whole. Where it
    would do so after the cut alone, the two change places, and it takes none for a bias.
    """
    shape, own = constant.stream.shape, tensor.stream.rank - constant.stream.rank
    long = [axis for axis, size in enumerate(shape) if size != 1]
    if len(long) != 1 or own < 0:
        return
    own += long[0]
    taken = _bias_axis(tensor.stream.shape, shape)
    if taken not in (None, own):
        for axis in (taken, own):
            site.protect(
                units.get(axis), f"{site.title} adds a constant that Keras takes for one along them"
            )
        return

    def turn(
        keep: Keep, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        first = list(tensor.stream.shape)
        for axis, numbers in units.items():
            first[axis] = keep.count(numbers)
        second = list(shape)
        if own in units and shape[long[0]] == len(units[own]):
            second[long[0]] = keep.count(units[own])
        if _bias_axis(first, second) in (None, own):
            return args, kwargs
        if sum(size != 1 for size in first[1:]) < 2:
            raise SurgeryError(
                f"{site.title} would add a constant of shape {tuple(second)} to a tensor of shape "
                f"{tuple(first)}, and Keras would take it for one along another axis. Keep one "
                "unit more or one less."
            )
        given: dict[int | str, Any] = dict(enumerate(args))
        given.update(kwargs)
        one, other = given[tensor.place], given[constant.place]
        given |= {tensor.place: other, constant.place: one}
        return tuple(given[i] for i in range(len(args))), {name: given[name] for name in kwargs}

    site.rewrite(turn)


def _join(site: Site, names: tuple[str, ...]) -> None:
    given = operands(site, names)
    units = aligned(site, given)
    site.emit(units)
    if isinstance(site.operation, knp.Add) and [one.constant for one in given] == [False, True]:
        _watch_constant(site, given[0], given[1], units)
    tensors = sum(not one.constant for one in given)
    site.passes(merges=tensors > 1)
