"""Build a model without what was found to be constant, or with layers folded into others."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import layers
from numpy.typing import NDArray

from keras_nns.graph.keras_internals import Call
from keras_nns.graph.tracing import Graph
from keras_nns.surgery.cleaning.decisions import Decision, Join
from keras_nns.surgery.rebuilding import Rebuilder


class Rewriter(Rebuilder):
    """Build the model that a decision leaves of a graph.

    Args:
        graph: The traced model.
        decision: What leaves.
        dtype: Compute in this type instead of the model's own.

    Attributes:
        added: Names of the layers that were put in to multiply or add a constant.
    """

    def __init__(self, graph: Graph, decision: Decision, *, dtype: str | None = None) -> None:
        super().__init__(graph, decision.keep, dtype=dtype)
        self._decision = decision
        self.added: list[str] = []

    def _results(self, call: Call, fill: Any, values: dict[int, Any]) -> list[Any]:
        first = id(call.outputs[0])
        if first in self._decision.skipped:
            return [None] * len(call.outputs)
        join = self._decision.joins.get(first)
        if join is None:
            return super()._results(call, fill, values)
        return [self._joined(call, join, [values[tensor] for tensor in join.inputs])]

    def _joined(self, call: Call, join: Join, tensors: list[Any]) -> Any:
        name = call.operation.name
        value = tensors[0]
        if len(tensors) > 1:
            value = self.operation(call.operation, call.key, call.path)(tensors)
            name = f"{name}_constant"
        if join.trivial:
            if len(tensors) > 1 or not join.show:
                return value
            return layers.Identity(name=name, dtype=self._dtype_of(call.outputs[0]))(value)
        self.added.append(name)
        layer = layers.Rescaling(
            _plain(join.scale),
            _plain(join.offset),
            name=name,
            dtype=self._dtype_of(call.outputs[0]),
        )
        return layer(value)

    def _renew(self, operation: Any, path: str) -> Any:
        if not self._gains_bias(operation):
            return super()._renew(operation, path)
        return type(operation).from_config(
            {**super()._renew(operation, path).get_config(), "use_bias": True}
        )

    def _gains_bias(self, old: Any) -> bool:
        return id(old) in self._decision.shifts and not old.use_bias

    def _variables(self, old: Any, new: Any) -> list[Any]:
        found = super()._variables(old, new)
        return [v for v in found if v is not new.bias] if self._gains_bias(old) else found

    def _copy_weights(self, old: Any, new: Any) -> None:
        super()._copy_weights(old, new)
        shift = self._decision.shifts.get(id(old))
        if shift is None:
            return
        cell = getattr(new, "cell", new)
        blueprint = self._graph.blueprints[id(old)]
        kernel = next(
            i for i, v in enumerate(old.variables) if v is getattr(old, "cell", old).kernel
        )
        units = blueprint.bindings[kernel].axes.get(len(old.variables[kernel].shape) - 1)
        stays = slice(None) if units is None else self._keep.where(units)
        value = cell.bias.numpy().copy()
        # A GRU that resets after the product has two rows, the first added to its inputs.
        row = value[0] if value.ndim > 1 else value
        row += shift[stays].astype(value.dtype)
        cell.bias.assign(value)


def rewrite(graph: Graph, decision: Decision, *, dtype: str | None = None) -> tuple[Any, list[str]]:
    """Build what a decision leaves of a model; return it with the names of layers put in."""
    rewriter = Rewriter(graph, decision, dtype=dtype)
    model = rewriter.run()
    return model, rewriter.added


def unchanged(graph: Graph) -> Decision:
    """Return the decision that nothing leaves."""
    return Decision(np.ones(graph.unit_count, dtype=bool))


def _plain(value: NDArray[np.float64]) -> Any:
    """Return a constant as a configuration holds it: a number or a list of numbers."""
    return value.astype(np.float32).tolist()
