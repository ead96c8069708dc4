"""Files of one layer of a network at any width: to ask a device what it alone would cost."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tflite_export.flatbuffer import container

_OPERATOR = schema.BuiltinOperator
_UNITS = {
    _OPERATOR.CONV_2D: 0,
    _OPERATOR.FULLY_CONNECTED: 0,
    _OPERATOR.DEPTHWISE_CONV_2D: 3,
}
"""Operators that have units, and the axis of the kernel that counts them."""

_STORED = {schema.TensorType.INT8: np.int8, schema.TensorType.INT32: np.int32}
"""Of kernels and biases in integers."""


@dataclass(frozen=True)
class OneLayer:
    """A layer with units in a file of integer arithmetic.

    Attributes:
        kernel: Name of its kernel in the file.
        operator: Name of its operator, such as `"CONV_2D"`.
        units: How many units it has.
    """

    kernel: str
    operator: str
    units: int
    _model: Any
    _number: int
    _axis: int

    def file(self, units: int) -> bytes:
        """Write a file of this layer alone with so many units.

        Its kernel begins as the layer's does and repeats it where there are more units, so that
        answers mean nothing; sizes, types and options are the layer's.
        """
        graph = self._model.subgraphs[0]
        model = copy.copy(self._model)
        model.buffers, model.metadata, model.signatureDefs = list(model.buffers), [], None
        operator = copy.copy(graph.operators[self._number])
        alone = copy.copy(graph)
        model.subgraphs, alone.operators = [alone], [operator]
        rows = np.arange(units) % self.units
        given, kernel, *bias = (graph.tensors[index] for index in operator.inputs if index >= 0)
        written = graph.tensors[operator.outputs[0]]
        # A depthwise layer has a unit for each channel that it reads.
        wide = [_sized(given, units)] if self._axis else [_fixed(given)]
        alone.tensors = [
            *wide,
            self._taken(model, kernel, rows, self._axis),
            *(self._taken(model, one, rows, 0) for one in bias),
            _sized(written, units),
        ]
        last = len(alone.tensors) - 1
        operator.inputs, operator.outputs = list(range(last)), [last]
        alone.inputs, alone.outputs = [0], [last]
        return container.pack(model, quantize="")

    def _taken(self, model: Any, tensor: Any, rows: Any, axis: int) -> Any:
        made = _fixed(tensor)
        stored: Any = np.frombuffer(bytes(bytearray(_data(model, tensor))), _STORED[tensor.type])
        taken = stored.reshape(tensor.shape).take(rows, axis)
        made.shape = list(taken.shape)
        scales = tensor.quantization
        if len(scales.scale) > 1:
            made.quantization = copy.copy(scales)
            made.quantization.scale = np.asarray(scales.scale)[rows]
            made.quantization.zeroPoint = np.asarray(scales.zeroPoint)[rows]
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(taken).tobytes(), np.uint8)
        made.buffer = len(model.buffers)
        model.buffers.append(buffer)
        return made


def inner_layers(model: Any) -> Iterator[OneLayer]:
    """Find the layers whose number of units is free: those that others read, in integers.

    Args:
        model: The parsed flatbuffer.
    """
    graph = model.subgraphs[0]
    found = [
        (number, operator)
        for number, operator in enumerate(graph.operators or ())
        if _has_units(model, graph, operator)
    ]
    read = _read_by_others(graph, {number for number, _ in found})
    for number, operator in found:
        code = model.operatorCodes[operator.opcodeIndex].builtinCode
        kernel = graph.tensors[operator.inputs[1]]
        if number in read:
            name = next(key for key, value in vars(_OPERATOR).items() if value == code)
            axis = _UNITS[code]
            units = int(kernel.shape[axis])
            yield OneLayer(container.text(kernel.name), name, units, model, number, axis)


def _has_units(model: Any, graph: Any, operator: Any) -> bool:
    code = model.operatorCodes[operator.opcodeIndex].builtinCode
    if code not in _UNITS:
        return False
    given, kernel, *bias = (graph.tensors[index] for index in operator.inputs if index >= 0)
    constants = [kernel, *bias]
    if any(one.type not in _STORED or _data(model, one) is None for one in constants):
        return False
    if given.type != schema.TensorType.INT8 or any(one.quantization is None for one in constants):
        return False
    if any(one.quantization.scale is None for one in constants):
        return False
    channels = given.shape[-1]
    if code == _OPERATOR.DEPTHWISE_CONV_2D:
        return bool(kernel.shape[3] == channels)
    # In groups a unit is not free by itself.
    return code != _OPERATOR.CONV_2D or bool(kernel.shape[3] == channels)


def _read_by_others(graph: Any, layers: set[int]) -> set[int]:
    """The layers of whose answers another one is made."""
    above: dict[int, set[int]] = {}
    read: set[int] = set()
    for number, operator in enumerate(graph.operators or ()):
        seen = {one for index in operator.inputs for one in above.get(int(index), ())}
        if number in layers:
            read |= seen
            seen = {number}
        for index in operator.outputs:
            above[int(index)] = seen
    return read


def _data(model: Any, tensor: Any) -> Any:
    data = model.buffers[tensor.buffer].data
    return data if data is not None and len(data) else None


def _fixed(tensor: Any) -> Any:
    made = copy.copy(tensor)
    made.shapeSignature = None
    return made


def _sized(tensor: Any, units: int) -> Any:
    made = _fixed(tensor)
    made.shape = [*(int(size) for size in tensor.shape[:-1]), units]
    return made
