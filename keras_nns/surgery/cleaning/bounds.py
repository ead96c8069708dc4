"""Bounds: between which values every element of every tensor of a model lies, whatever the input.

Interval arithmetic over the graph, in inference mode, without running the model. An element whose
lower and upper bound are equal is constant: the output of a ReLU whose weights and bias are never
positive on inputs that are never negative, a channel of a batch norm whose scale is zero, all that
follows from a unit that a plan forces to zero.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import tree
from numpy.typing import NDArray

from keras_nns.graph.keras_internals import Call, Key, functional, walk
from keras_nns.graph.rules import Keep
from keras_nns.graph.tracing import Graph
from keras_nns.surgery.cleaning.intervals import Bounds, unknown
from keras_nns.surgery.cleaning.layer_bounds import RULES, Site


@dataclass(frozen=True, eq=False)
class Seen:
    """The bounds of what one call is given and gives.

    Attributes:
        inputs: Of each tensor it is called on, in order.
        outputs: Of each tensor it returns, removed units forced to zero.
    """

    inputs: list[Bounds]
    outputs: list[Bounds]


def bounds_of(graph: Graph, keep: Keep) -> dict[Key, Seen]:
    """Follow bounds through a model in which some units are forced to zero, as `mask` does.

    Args:
        graph: The traced model.
        keep: Which of its units stay.

    Returns:
        What goes into every call and comes out, by key.
    """
    found: dict[Key, Seen] = {}

    def visit(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Bounds]:
        inputs = [a for a in tree.flatten((args, kwargs)) if isinstance(a, Bounds)]
        outputs = _outputs(call, args, kwargs, graph, keep)
        streams = graph.calls[call.key].outputs
        for index, stream in enumerate(streams):
            for axis, units in stream.units.items():
                if axis and not keep.all(units):
                    outputs[index] = _zeroed(outputs[index], axis - 1, keep.mask(units))
        found[call.key] = Seen(inputs, outputs)
        return outputs

    starts = [unknown(len(tensor.shape)) for tensor in functional(graph.model).inputs]
    walk(graph.model, starts, visit)
    return found


def _outputs(
    call: Call, args: tuple[Any, ...], kwargs: dict[str, Any], graph: Graph, keep: Keep
) -> list[Bounds]:
    nothing = [unknown(len(shape)) for shape in call.shapes]
    floating = all("float" in str(tensor.dtype) for tensor in call.outputs)
    rule = RULES.get(type(call.operation))
    if rule is None or not floating or getattr(call.operation, "quantization_mode", None):
        return nothing
    site = Site(call, args, kwargs, graph, keep)
    with np.errstate(invalid="ignore", over="ignore"):
        result = rule(site)
    if result is None:
        return nothing
    low = np.where(np.isnan(result.low), -np.inf, result.low)
    high = np.where(np.isnan(result.high), np.inf, result.high)
    return [Bounds(low, high), *nothing[1:]]


def _zeroed(bounds: Bounds, axis: int, stays: NDArray[np.bool_]) -> Bounds:
    shape = [1] * bounds.low.ndim
    shape[axis] = len(stays)
    where = stays.reshape(shape)
    return Bounds(np.where(where, bounds.low, 0.0), np.where(where, bounds.high, 0.0))
