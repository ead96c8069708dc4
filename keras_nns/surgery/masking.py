"""Force a plan's removed units to zero in a full-size copy of the model."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from keras_nns.engine.deferred import (
    READ_IN_LOOPS,
    has_value,
    read_from,
    reader_of,
    without_values,
)
from keras_nns.graph.keras_internals import room_for
from keras_nns.graph.rules import FIXED, Keep
from keras_nns.graph.tracing import Graph, TracedCall
from keras_nns.plans.kept_units import Plan
from keras_nns.surgery.heads import Answer, mask_answer
from keras_nns.surgery.rebuilding import Rebuilder


@keras.saving.register_keras_serializable("keras_nns")
class UnitMask(keras.layers.Layer):
    """Force units to zero, whatever their value (also NaN).

    Args:
        keep: For each position of the axis, whether it stays.
        axis: The axis of the units.
    """

    def __init__(self, keep: list[bool], axis: int = -1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.keep = [bool(k) for k in keep]
        self.axis = axis
        self.supports_masking = True

    def build(self, input_shape: Any) -> None:
        """Do nothing: there are no weights."""
        self.built = True

    def call(self, inputs: Any) -> Any:
        """Zero the positions that do not stay."""
        shape = [1] * len(inputs.shape)
        shape[self.axis] = len(self.keep)
        keep = ops.convert_to_tensor(np.reshape(self.keep, shape))
        return ops.where(keep, inputs, ops.zeros((), dtype=inputs.dtype))

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Return the input's shape."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Return what the layer was made with."""
        return {**super().get_config(), "keep": self.keep, "axis": self.axis}


def masked(
    graph: Graph, plan: Plan, answer: Answer, *, dtype: str | None = None, held: bool = True
) -> Any:
    """Build a full-size copy of a model in which the removed units are zero.

    Args:
        graph: The traced model.
        plan: Which units stay.
        answer: What it answers.
        dtype: Compute in this type instead of the model's own.
        held: Whether the copy has weights of its own, also of a model that has none in memory. Else
            it reads that one's whenever it is called, where the backend lets it.
    """
    keep = graph.keep(plan)

    def after(traced: TracedCall, results: list[Any]) -> list[Any]:
        values = []
        for index, (stream, result) in enumerate(zip(traced.outputs, results, strict=True)):
            value = result
            for axis, units in stream.units.items():
                if not keep.all(units):
                    name = "_".join(["mask", *map(str, traced.call.key), str(index), str(axis)])
                    layer = UnitMask(keep.mask(units).tolist(), axis, name=name, dtype=value.dtype)
                    value = layer(value)
            values.append(value)
        return values

    everything = Keep(np.ones(graph.unit_count, dtype=bool))
    rebuilder = Rebuilder(graph, everything, after=after, dtype=dtype, closing=keep)
    away = not held and READ_IN_LOOPS and not all(map(has_value, graph.model.variables))
    with room_for(len(graph.calls)), without_values() if away else nullcontext():
        model = rebuilder.run()
        _silence(graph, keep, rebuilder)
        return mask_answer(model, answer)


def _silence(graph: Graph, keep: Keep, rebuilder: Rebuilder) -> None:
    """Zero removed units inside layers where they act before the output can be masked."""
    for old, new in rebuilder.layers:
        blueprint = graph.blueprints.get(id(old))
        if blueprint and blueprint.skip is not None and not keep.all(blueprint.skip.unit):
            for index in blueprint.skip.silenced:
                _change(new.variables[index], np.zeros_like)
        for index, binding in (blueprint.bindings if blueprint else {}).items():
            for axis in binding.silence:
                units = binding.axes[axis]
                if keep.all(units) or (units == FIXED).all():
                    continue
                place = (slice(None),) * axis + (~keep.mask(units),)
                _change(new.variables[index], partial(_with_zeros, place))


def _change(variable: Any, change: Callable[[NDArray[Any]], NDArray[Any]]) -> None:
    """Give a variable another value, made of its own; each time anew where it has none."""
    if has_value(variable):
        variable.assign(change(variable.numpy()))
    else:
        before = reader_of(variable)
        read_from(variable, lambda: change(before()))


def _with_zeros(place: tuple[Any, ...], value: NDArray[Any]) -> NDArray[Any]:
    changed = value.copy()
    changed[place] = 0
    return changed
