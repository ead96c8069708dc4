"""A model's equal that shares nothing with it."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_nns.graph.rules import Keep
from keras_nns.graph.tracing import Graph, trace
from keras_nns.surgery.compiling import carry_compile_settings
from keras_nns.surgery.lineage import origin_of, set_lineage
from keras_nns.surgery.rebuilding import Rebuilder


def copied(model: Any, *, bias: str | None = None) -> Any:
    """Return a model's equal that shares nothing with it: weights, lineage, compile settings.

    Args:
        model: A Sequential or functional model.
        bias: Path of a layer that gets a bias of zeros.
    """
    new = _Copier(trace(model), bias).run()
    carry_compile_settings(model, new)
    record = origin_of(model)
    if record is not None:
        set_lineage(new, record)
    return new


class _Copier(Rebuilder):
    """Copies a model as it is, but for one layer that gets a bias of zeros."""

    def __init__(self, graph: Graph, bias: str | None) -> None:
        super().__init__(graph, Keep(np.ones(graph.unit_count, dtype=bool)))
        self._bias = bias

    def _renew(self, operation: Any, path: str) -> Any:
        if path != self._bias:
            return super()._renew(operation, path)
        return type(operation).from_config({**operation.get_config(), "use_bias": True})

    def _copy_weights(self, old: Any, new: Any) -> None:
        if getattr(old, "use_bias", True) == getattr(new, "use_bias", True):
            super()._copy_weights(old, new)
        else:
            new.kernel.assign(np.asarray(old.kernel))
