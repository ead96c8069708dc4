"""How many rows of a tensor belong to one sample: reshapes may put windows or steps among them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from keras import layers, tree
from keras.src.ops import numpy as knp

from keras_nns.graph.keras_internals import Call, Key, functional, walk
from keras_nns.graph.rules import rule_of
from keras_nns.graph.rules.normalization import axes_of
from keras_nns.graph.rules.records import Shape

_OVER_AXES = (
    *("All", "Any", "Argmax", "Argmin", "Argsort", "Average", "CountNonzero", "Cumprod", "Cumsum"),
    *("Flip", "LogSoftmax", "Logsumexp", "Max", "Mean", "Median", "Min", "Norm", "Normalize"),
    *("Prod", "Quantile", "Roll", "Softmax", "Sort", "Std", "Sum", "UnitNormalization", "Var"),
)
"""Layers and operations whose `axis` is what they go over; all axes where it is None."""

UNKNOWN = 0
"""Several, one sample's behind one another; how many is seen when the model runs."""


@dataclass(frozen=True)
class _Rows:
    """Rows for each sample, or None where samples no longer lie along the first axis."""

    count: int | None
    shape: Shape


def rows_of(model: Any) -> Mapping[tuple[Key, int], int | None]:
    """Count the rows of one sample in each output of each call.

    Args:
        model: A Sequential or functional model.

    Returns:
        By key of the call and place of the output: 1 for nearly every tensor, another number or
        `UNKNOWN` behind a reshape that takes an axis into the first one, None where samples lie
        along another axis.
    """
    found: dict[tuple[Key, int], int | None] = {}

    def visit(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[_Rows]:
        given = [value for value in tree.flatten((args, kwargs)) if isinstance(value, _Rows)]
        results = [_Rows(_after(call, given, shape), shape) for shape in call.shapes]
        found.update({(call.key, i): rows.count for i, rows in enumerate(results)})
        return results

    walk(model, [_Rows(1, tuple(one.shape)) for one in functional(model).inputs], visit)
    return found


def over_the_batch(model: Any) -> list[str]:
    """Return the paths of calls that go over the batch axis, such as a mean over samples.

    What a model answers to a sample then depends on the others of its batch.

    Args:
        model: A Sequential or functional model.
    """
    found: list[str] = []

    def visit(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[_Rows]:
        given = [value for value in tree.flatten((args, kwargs)) if isinstance(value, _Rows)]
        if given and given[0].count is not None and _goes_over_first(call, given[0].shape):
            found.append(call.path)
        return [_Rows(_after(call, given, shape), shape) for shape in call.shapes]

    walk(model, [_Rows(1, tuple(one.shape)) for one in functional(model).inputs], visit)
    return found


def _goes_over_first(call: Call, shape: Shape) -> bool:
    if type(call.operation).__name__ not in _OVER_AXES or not shape:
        return False
    axis = getattr(call.operation, "axis", None)
    return axis is None or 0 in axes_of(axis, len(shape))


def _after(call: Call, given: list[_Rows], shape: Shape) -> int | None:
    counts = {rows.count for rows in given}
    if None in counts:
        return None
    count = counts.pop() if len(counts) == 1 else UNKNOWN
    operation = call.operation
    if isinstance(operation, knp.Reshape):
        return _reshaped(count, given[0].shape, shape)
    if isinstance(operation, knp.Transpose | knp.Swapaxes | knp.Moveaxis):
        return count if _stays_first(operation, len(given[0].shape)) else None
    # What a user's own code does to the first axis is not known.
    own = isinstance(operation, layers.Lambda) or rule_of(operation) is None
    return UNKNOWN if own else count


def _reshaped(count: int | None, source: Shape, target: Shape) -> int | None:
    if source[1:] == target[1:]:
        return count
    sizes = [shape[1:] if shape[0] is None else shape for shape in (source, target)]
    if not count or (source[0] is None) != (target[0] is None) or None in (*sizes[0], *sizes[1]):
        return UNKNOWN
    if source[0] is not None and target[0] is not None:
        return count * target[0] // source[0]
    return count * math.prod(source[1:]) // math.prod(target[1:])  # type: ignore[arg-type]


def _stays_first(operation: Any, rank: int) -> bool:
    if isinstance(operation, knp.Transpose):
        return operation.axes is not None and axes_of(operation.axes, rank)[0] == 0
    if isinstance(operation, knp.Swapaxes):
        return 0 not in axes_of([operation.axis1, operation.axis2], rank)
    moved = [*operation.source, *operation.destination]
    return 0 not in axes_of(moved, rank)
