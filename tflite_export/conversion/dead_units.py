"""Units whose kernel is all zeros keep their bias.

ai-edge-quantizer gives the kernel of such a unit a scale next to nothing, in which no bias can be
written down: the unit then answers 0. Its kernel is zeros in any scale, so it is given one in which
its bias fits.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

from tflite_export.flatbuffer import container

Array = np.ndarray[Any, Any]
_BIAS = {"CONV_2D": 2, "DEPTHWISE_CONV_2D": 2, "FULLY_CONNECTED": 2, "TRANSPOSE_CONV": 3}
"""Operators that add a bias, and its place among their inputs; the kernel's is 1."""
_INPUT = {"TRANSPOSE_CONV": 2}
_TYPES = {schema.TensorType.INT32: np.int32, schema.TensorType.INT64: np.int64}
_STEPS = 1 << 20
"""Steps in which such a bias is written: fine enough, and far from the end of 32 bits."""


def keep_biases(model: Any, plain: Any) -> None:
    """Write the biases of dead units anew.

    Args:
        model: The quantised model, which is changed.
        plain: The float32 model that it was made of.
    """
    biases = {
        container.text(tensor.name): _values(plain, tensor, np.float32)
        for graph in plain.subgraphs
        for tensor in graph.tensors
        if tensor.type == schema.TensorType.FLOAT32 and container.constant(plain, tensor)
    }
    for graph in model.subgraphs:
        for operator in graph.operators or ():
            name = str(flatbuffer_utils.opcode_to_name(model, operator.opcodeIndex))
            place = _BIAS.get(name)
            if place is None or len(operator.inputs) <= place or operator.inputs[place] < 0:
                continue
            indices = (operator.inputs[n] for n in (_INPUT.get(name, 0), 1, place))
            entered, kernel, bias = (graph.tensors[index] for index in indices)
            real = biases.get(container.text(bias.name))
            if real is not None and _channels(kernel) == len(real) and bias.type in _TYPES:
                _keep(model, entered, kernel, bias, real)


def _keep(model: Any, entered: Any, kernel: Any, bias: Any, real: Array) -> None:
    """Give the dead units of one layer a scale, and their biases in steps of it."""
    if kernel.type != schema.TensorType.INT8 or not container.constant(model, kernel):
        return
    shape = tuple(int(size) for size in kernel.shape)
    stored = np.moveaxis(
        _values(model, kernel, np.int8).reshape(shape), kernel.quantization.quantizedDimension, 0
    )
    dead = ~stored.reshape(len(stored), -1).any(axis=1)
    if not dead.any():
        return
    step = float(entered.quantization.scale[0])
    scales = np.array(kernel.quantization.scale, np.float32)
    needed = np.abs(real[dead]).astype(np.float64) / (step * _STEPS)
    # A unit without a bias takes any scale.
    scales[dead] = np.where(needed > 0, needed, 1.0)
    steps = _values(model, bias, _TYPES[bias.type]).copy()
    steps[dead] = np.rint(real[dead] / (step * scales[dead].astype(np.float64)))
    # Equal tensors share buffers and scales, and this one differs from now on.
    for tensor, values in ((kernel, scales), (bias, step * scales)):
        tensor.quantization = copy.copy(tensor.quantization)
        tensor.quantization.scale = values.astype(np.float32)
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(steps.tobytes(), np.uint8)
    bias.buffer = len(model.buffers)
    model.buffers.append(buffer)


def _channels(kernel: Any) -> int:
    known = kernel.quantization
    return 0 if known is None or known.scale is None else len(known.scale)


def _values(model: Any, tensor: Any, dtype: Any) -> Array:
    return np.frombuffer(bytes(bytearray(model.buffers[tensor.buffer].data)), dtype)
