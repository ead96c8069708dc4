"""What a watched layer's units are worth for each sample: the mean over its positions."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from keras import ops

from keras_nns.engine import operations
from keras_nns.engine.layers import mask_of
from keras_nns.graph.keras_internals import Key
from keras_nns.graph.rules.records import Reading, Through
from keras_nns.graph.watching import WatchPoint

Place = tuple[Key, int | str | Reading | Through]
"""A tensor: an output of a call, what is read or answered inside it, or what says what counts."""


@dataclass(frozen=True)
class Tap:
    """One watched layer.

    Attributes:
        name: Path of the layer.
        points: Where it is watched, one for each call of the layer.
        units: How many units it has.
        spread: Whether its output has positions (pixels, steps) to average over.
    """

    name: str
    points: tuple[WatchPoint, ...]
    units: int
    spread: bool

    @property
    def nonnegative(self) -> bool:
        """Whether the units can never be below zero."""
        return all(point.nonnegative for point in self.points)


@dataclass(frozen=True)
class Values:
    """A layer's unit values for a batch, each `(batch, units)` float32.

    Attributes:
        signed: The mean over all positions.
        absolute: The mean of the absolute value.
        active: The share of positions with an absolute value above a bar; None where not asked for.
        square: The mean of the square; None where not asked for.
    """

    signed: Any
    absolute: Any
    active: Any = None
    square: Any = None


@dataclass(frozen=True)
class Further:
    """What else is asked of each position, beside the mean and the mean absolute value.

    Attributes:
        above: The bar for positions that are active; None leaves them uncounted.
        squares: Whether squares are averaged too.
    """

    above: float | None = None
    squares: bool = False


NOTHING_ELSE = Further()


def unit_values(
    tap: Tap,
    tensors: Sequence[tuple[Any, Any]],
    samples: Any,
    *,
    further: Further = NOTHING_ELSE,
) -> Values:
    """Reduce a layer's outputs to one value per sample and unit: the mean over all positions.

    Steps that a mask leaves out do not count. A layer that is called several times has the
    mean over its calls.

    Args:
        tap: The watched layer.
        tensors: What it gave, one tensor for each call, with the mask of its steps or None.
        samples: How many samples there are.
        further: What else is asked for.
    """
    signed, absolute, active, square = [], [], [], []
    for point, (tensor, mask) in zip(tap.points, tensors, strict=True):
        x = ops.cast(tensor, "float32")
        weights = _step_weights(x, mask, point.axis % len(x.shape))
        signed.append(_mean(point, x, weights, samples))
        if not point.nonnegative:
            absolute.append(_mean(point, ops.abs(x), weights, samples))
        else:
            absolute.append(signed[-1])
        if further.above is not None:
            over = ops.cast(ops.abs(x) > further.above, "float32")
            active.append(_mean(point, over, weights, samples))
        if further.squares:
            square.append(_mean(point, ops.square(x), weights, samples))
    mean = _average(signed)
    return Values(
        mean,
        mean if tap.nonnegative else _average(absolute),
        _average(active) if active else None,
        _average(square) if square else None,
    )


def _mean(point: WatchPoint, x: Any, weights: Any, samples: Any) -> Any:
    """Take the mean over all that a sample has for a unit: positions, and rows."""
    rows = by_sample(point, _mean_over_positions(x, point.axis % len(x.shape), weights), samples)
    return rows if point.rows == 1 else ops.mean(rows, axis=1)


def by_sample(point: WatchPoint, x: Any, samples: Any) -> Any:
    """Return rows `(rows, units)` as `(samples, rows of one, units)`, where one has several."""
    return x if point.rows == 1 else ops.reshape(x, (samples, -1, x.shape[-1]))


def _average(values: list[Any]) -> Any:
    return values[0] if len(values) == 1 else operations.total(values) / float(len(values))


def _step_weights(tensor: Any, mask: Any, axis: int) -> Any:
    if mask is None or len(tensor.shape) < 3 or axis == 1 or len(mask.shape) != 2:
        return None
    kept = ops.cast(mask, "float32")
    return kept / ops.maximum(ops.sum(kept, axis=1, keepdims=True), 1.0)


def _mean_over_positions(x: Any, axis: int, step_weights: Any) -> Any:
    others = [a for a in range(1, len(x.shape)) if a != axis]
    if not others:
        return x
    if step_weights is not None:
        shape = [-1 if a < 2 else 1 for a in range(len(x.shape))]
        dynamic = ops.shape(step_weights)
        shape = [dynamic[0], dynamic[1]] + [1] * (len(x.shape) - 2)
        x = ops.sum(x * ops.reshape(step_weights, shape), axis=1)
        others = [a - 1 for a in others if a != 1]
        return ops.mean(x, axis=others) if others else x
    return ops.mean(x, axis=others)


def values_at(
    tap: Tap, seen: Mapping[Place, Any], samples: Any, *, further: Further = NOTHING_ELSE
) -> Values:
    """Return a layer's unit values from what was seen; the rest as in `unit_values`."""
    tensors = [tensor_at(point, seen) for point in tap.points]
    return unit_values(tap, tensors, samples, further=further)


def counted_positions(operation: Any, given: Any, name: str) -> Any:
    """Return the argument of a layer's call that is true at the positions that count.

    Args:
        operation: The layer.
        given: What it was called with, `(args, kwargs)`.
        name: The argument.

    Returns:
        `(batch, steps)`, or None where the call does not say.
    """
    args, kwargs = given
    names = list(inspect.signature(type(operation).call).parameters)[1:]
    named = {**dict(zip(names, args, strict=False)), **kwargs}
    mask = named.get(name)
    if mask is None or len(mask.shape) == 2:
        return mask
    return mask[:, 0, :] if len(mask.shape) == 3 and mask.shape[1] == 1 else None


def along_steps(point: WatchPoint, tensor: Any, seen: Mapping[Place, Any]) -> Any:
    """Take samples and steps apart where a layer reads them along one axis."""
    outer = seen[point.key, point.output]
    if len(tensor.shape) > 2 or len(outer.shape) < 3:
        return tensor
    return ops.reshape(tensor, (ops.shape(outer)[0], -1, tensor.shape[-1]))


def tensor_at(point: WatchPoint, seen: Mapping[Place, Any]) -> tuple[Any, Any]:
    """Return the tensor that is watched at a point, and the mask of what counts in it, or None."""
    outer = seen[point.key, point.output]
    mask = mask_of(outer)
    reading = point.reading
    if reading is None:
        return outer, mask
    inside = seen[point.place]
    if reading.values is None:
        values = inside
    else:
        values = reading.values(inside, outer) if reading.whole else reading.values(inside)
    said = seen.get((point.key, reading.padding)) if reading.padding else None
    return along_steps(point, values, seen), mask if said is None else said
