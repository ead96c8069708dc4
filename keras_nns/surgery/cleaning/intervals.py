"""Intervals: between which values the elements of a tensor lie, and how they pass computations."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import activations
from numpy.typing import NDArray

from keras_nns.graph.rules.elementwise import hard_sigmoid_of_keras_2, standard

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Bounds:
    """Least and greatest value of each element of a tensor, for any sample.

    Attributes:
        low: Of the tensor's rank less the batch axis; an axis along which all are alike has size 1.
        high: Of the same shape.
    """

    low: Array
    high: Array

    @property
    def constant(self) -> bool:
        """Whether every element has one value only."""
        return bool((self.low == self.high).all() and np.isfinite(self.low).all())

    def collapsed(self, *axes: int) -> Bounds:
        """Return bounds that hold for all positions along some axes, the batch axis not counted."""
        if all(self.low.shape[axis] == 1 for axis in axes):
            return self
        return Bounds(
            self.low.min(axis=axes, keepdims=True), self.high.max(axis=axes, keepdims=True)
        )

    def with_zero(self) -> Bounds:
        """Return bounds that hold where the tensor is padded with zeros as well."""
        return Bounds(np.minimum(self.low, 0.0), np.maximum(self.high, 0.0))

    def hull(self, other: Bounds) -> Bounds:
        """Return bounds that hold for either of two tensors of one shape."""
        return Bounds(np.minimum(self.low, other.low), np.maximum(self.high, other.high))


def exactly(value: Any) -> Bounds:
    """Return the bounds of what is known."""
    array = np.asarray(value, dtype=np.float64)
    return Bounds(array, array)


def unknown(rank: int) -> Bounds:
    """Return the bounds of a tensor of which nothing is known; `rank` counts the batch axis."""
    shape = (1,) * (rank - 1)
    return Bounds(np.full(shape, -np.inf), np.full(shape, np.inf))


_INCREASING = {
    activations.celu,
    activations.elu,
    activations.exponential,
    activations.hard_sigmoid,
    hard_sigmoid_of_keras_2,
    activations.hard_tanh,
    activations.leaky_relu,
    activations.log_sigmoid,
    activations.relu,
    activations.relu6,
    activations.selu,
    activations.sigmoid,
    activations.softplus,
    activations.softsign,
    activations.tanh,
}
_NOT_ELEMENTWISE = {activations.softmax, activations.log_softmax, activations.sparsemax}


def linear_bounds(low: Array, high: Array, positive: Array, negative: Array) -> Bounds:
    """Bound `x @ kernel` for x between two vectors, the kernel given by its signed parts."""

    def ends(one: Array, other: Array, infinite: float) -> Array:
        value = np.where(np.isfinite(one), one, 0.0) @ positive
        value = value + np.where(np.isfinite(other), other, 0.0) @ negative
        lost = np.isinf(one).astype(float) @ (positive > 0)
        lost = lost + np.isinf(other).astype(float) @ (negative < 0)
        return np.where(lost > 0, infinite, value)

    return Bounds(ends(low, high, -np.inf), ends(high, low, np.inf))


def activated(bounds: Bounds | None, function: Any) -> Bounds | None:
    """Bound an activation function; None where nothing is known of it."""
    function = standard(function)
    if bounds is None or function is None or function is activations.linear:
        return bounds
    if function in _INCREASING:
        return apply(function, bounds)
    known = getattr(activations, getattr(function, "__name__", ""), None) is function
    if not known or function in _NOT_ELEMENTWISE:
        return None
    # Of a function that goes up and down only the value at one point is known.
    point = (bounds.low == bounds.high) & np.isfinite(bounds.low)
    ends = apply(function, bounds)
    return Bounds(np.where(point, ends.low, -np.inf), np.where(point, ends.high, np.inf))


def apply(function: Any, bounds: Bounds) -> Bounds:
    """Bound a function that never decreases, in the float32 that a layer computes in."""
    low, high = (
        np.asarray(function(array.astype(np.float32)), dtype=np.float64)
        for array in (bounds.low, bounds.high)
    )
    return Bounds(low, high)


def biased(bounds: Bounds, bias: Any, axis: int) -> Bounds:
    """Put what was computed for a vector of channels on its axis, with the bias."""
    offset = 0.0 if bias is None else np.asarray(bias, dtype=np.float64)
    low, high = bounds.low + offset, bounds.high + offset
    return Bounds(np.moveaxis(low, -1, axis), np.moveaxis(high, -1, axis))


def signed(kernel: Any) -> tuple[Array, Array]:
    """Split a kernel into its positive and its negative entries."""
    value = np.asarray(kernel, dtype=np.float64)
    return np.maximum(value, 0.0), np.minimum(value, 0.0)


def wide(x: Bounds, count: int) -> Bounds:
    """Write the last axis out, where one value stands for all of it."""
    shape = (*x.low.shape[:-1], count)
    return Bounds(np.broadcast_to(x.low, shape), np.broadcast_to(x.high, shape))


def windows(kernel: Any) -> tuple[Array, Array]:
    """Sum the signed parts of a kernel over its window."""
    positive, negative = signed(kernel)
    window = tuple(range(positive.ndim - 2))
    return positive.sum(axis=window), negative.sum(axis=window)


def by_channel(x: Bounds, kernel: Any) -> Bounds:
    """Bound a depthwise convolution with a kernel `(*window, channels, multiplier)`."""
    positive, negative = windows(kernel)
    x = wide(x, len(positive))
    low, high = (np.where(np.isinf(a), np.sign(a) * 1e300, a)[..., None] for a in (x.low, x.high))
    ends = low * positive + high * negative, high * positive + low * negative
    shape = (*x.low.shape[:-1], positive.size)
    least, most = (end.reshape(shape) for end in ends)
    # What was computed from the stand-in for infinity is infinite.
    return Bounds(np.where(least < -1e200, -np.inf, least), np.where(most > 1e200, np.inf, most))


def affine(x: Bounds, scale: Array, shift: Array) -> Bounds:
    """Bound `x * scale + shift`."""
    one, other = x.low * scale, x.high * scale
    # Infinity times zero is NaN, and the value zero.
    one, other = (np.where(np.broadcast_to(scale, a.shape) == 0, 0.0, a) for a in (one, other))
    return Bounds(np.minimum(one, other) + shift, np.maximum(one, other) + shift)


def add(a: Bounds, b: Bounds) -> Bounds:
    """Bound the sum."""
    return Bounds(a.low + b.low, a.high + b.high)


def subtract(a: Bounds, b: Bounds) -> Bounds:
    """Bound the difference."""
    return Bounds(a.low - b.high, a.high - b.low)


def multiply(a: Bounds, b: Bounds) -> Bounds:
    """Bound the product."""
    corners = [x * y for x in (a.low, a.high) for y in (b.low, b.high)]
    # Zero times infinity: whatever the other is, the product is zero.
    corners = [np.where(np.isnan(corner), 0.0, corner) for corner in corners]
    return Bounds(np.minimum.reduce(corners), np.maximum.reduce(corners))


def maximum(a: Bounds, b: Bounds) -> Bounds:
    """Bound the greater of two."""
    return Bounds(np.maximum(a.low, b.low), np.maximum(a.high, b.high))


def minimum(a: Bounds, b: Bounds) -> Bounds:
    """Bound the smaller of two."""
    return Bounds(np.minimum(a.low, b.low), np.minimum(a.high, b.high))
