"""Kernels that a variant was to make small and that are in float32 all the same."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

from tflite_export.flatbuffer import container

_KERNELS = {
    "BATCH_MATMUL": 1,
    "CONV_2D": 1,
    "CONV_3D": 1,
    "DEPTHWISE_CONV_2D": 1,
    "FULLY_CONNECTED": 1,
    "TRANSPOSE_CONV": 1,
}


def left_in_float(model: Any, layers: Sequence[str]) -> dict[str, int]:
    """Find them.

    Args:
        model: The model.
        layers: Names of the Keras model's layers.

    Returns:
        Layer, or tensor where no layer is known by its name, to the numbers in its kernel.
    """
    names = "|".join(sorted(map(re.escape, layers), key=len, reverse=True))
    scope = re.compile(rf"(?:^|[/;])({names})(?:_\d+)?/")
    found: dict[str, int] = {}
    for graph in model.subgraphs:
        for operator in graph.operators or ():
            name = str(flatbuffer_utils.opcode_to_name(model, operator.opcodeIndex))
            if name not in _KERNELS:
                continue
            kernel = graph.tensors[operator.inputs[_KERNELS[name]]]
            if kernel.type == schema.TensorType.FLOAT32 and container.constant(model, kernel):
                text = container.text(kernel.name)
                match = scope.search(text)
                found[match[1] if match else text] = math.prod(int(n) for n in kernel.shape)
    return found
