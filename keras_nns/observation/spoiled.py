"""NaN and infinity, in inputs and in weights."""

from __future__ import annotations

from typing import Any

import numpy as np
from keras import ops, tree

from keras_nns.engine import operations
from keras_nns.engine.tensors import is_floating


def nothing_unless_spoiled(inputs: Any) -> Any:
    """Return 0, or NaN where an input is NaN or infinite."""
    floating = [ops.cast(t, "float32") for t in tree.flatten(inputs) if is_floating(t)]
    return operations.total([ops.sum(t) * 0.0 for t in floating] or [ops.zeros((), "float32")])


def spoiled_weight(model: Any) -> str | None:
    """Return the path of the first weight that holds NaN or infinity."""
    for weight in model.weights:
        value = np.asarray(weight)
        if value.dtype.kind not in "iub" and not np.isfinite(value.astype(np.float32)).all():
            return str(weight.path)
    return None
