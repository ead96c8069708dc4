"""Files of other widths, made from a few of one network: to ask a device what widths would cost."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tflite_export.errors import FlatbufferError
from tflite_export.flatbuffer import container

_TYPES = {
    schema.TensorType.INT8: np.int8,
    schema.TensorType.INT16: np.int16,
    schema.TensorType.INT32: np.int32,
    schema.TensorType.INT64: np.int64,
    schema.TensorType.FLOAT32: np.float32,
    schema.TensorType.FLOAT16: np.float16,
    schema.TensorType.UINT8: np.uint8,
    schema.TensorType.BOOL: np.bool_,
}


class Resizable:
    """A file whose widths can be changed without converting its network again.

    How sizes depend on widths is read from files of the same network with one group of units
    smaller each: sizes of tensors, and constants that are sizes, change by so much a unit. Weights
    are the first rows of what there is, so that answers mean nothing; shapes, operators and types
    are those that the converter would write.

    Args:
        whole: The file with all units.
        fewer: By group of units, how many units are gone, and the file without them.

    Raises:
        FlatbufferError: The files differ in more than sizes.
    """

    def __init__(self, whole: bytes, fewer: Mapping[str, tuple[int, bytes]]) -> None:
        self._whole = container.parse(whole)
        self._slopes = {
            name: _slopes(self._whole, container.parse(flat), gone)
            for name, (gone, flat) in fewer.items()
        }

    def without(self, gone: Mapping[str, int]) -> bytes:
        """Return the file with so many units less of each group.

        Raises:
            FlatbufferError: Nothing would be left of a tensor.
        """
        model = copy.copy(self._whole)
        model.buffers = list(model.buffers)
        model.subgraphs = [copy.copy(graph) for graph in model.subgraphs]
        for number, graph in enumerate(model.subgraphs):
            graph.tensors = list(graph.tensors)
            for index, tensor in enumerate(graph.tensors):
                place = number, index
                shape = self._shifted(place, _shape(tensor), gone, "shapes")
                values = self._shifted(place, _whole_numbers(model, tensor), gone, "values")
                if shape is not None or values is not None:
                    graph.tensors[index] = _resized(model, tensor, shape, values)
            # A reshape says its size a second time.
            graph.operators = [_said_again(operator, graph) for operator in graph.operators or ()]
        return container.pack(model, quantize="", files=0)

    def _shifted(
        self, place: tuple[int, int], now: Any, gone: Mapping[str, int], kind: str
    ) -> Any | None:
        changed = None
        for name, count in gone.items():
            slope = self._slopes[name][kind].get(place)
            if slope is not None and count:
                changed = (now if changed is None else changed) - count * slope
        return changed


def _slopes(whole: Any, less: Any, gone: int) -> dict[str, dict[tuple[int, int], Any]]:
    """By how much sizes and whole-number constants fall for each unit that leaves."""
    found: dict[str, dict[tuple[int, int], Any]] = {"shapes": {}, "values": {}}
    if _operators(whole) != _operators(less):
        raise FlatbufferError("the two files have different operators.")
    for number, (one, other) in enumerate(zip(whole.subgraphs, less.subgraphs, strict=True)):
        # Tensors stand in the file in an order of their own: they are met as they are used.
        for index, meant in dict.fromkeys(zip(_used(one), _used(other), strict=True)):
            if index < 0:
                continue
            tensor, smaller = one.tensors[index], other.tensors[meant]
            for kind, before, after in (
                ("shapes", _shape(tensor), _shape(smaller)),
                ("values", _whole_numbers(whole, tensor), _whole_numbers(less, smaller)),
            ):
                slope = np.empty(0)
                alike = before.shape == after.shape and tensor.type == smaller.type
                if alike and not ((before - after) % gone).any():
                    slope = (before - after) // gone
                known = found[kind].setdefault((number, index), slope)
                if slope.shape != before.shape or (known != slope).any():
                    name = container.text(tensor.name)
                    raise FlatbufferError(f"tensor {name} changes otherwise than by its size.")
    return {
        kind: {place: slope for place, slope in slopes.items() if slope.any()}
        for kind, slopes in found.items()
    }


def _operators(model: Any) -> list[tuple[int, int, int]]:
    """Which there are, and how many tensors each reads and writes."""
    return [
        (
            model.operatorCodes[operator.opcodeIndex].builtinCode,
            len(operator.inputs),
            len(operator.outputs),
        )
        for graph in model.subgraphs
        for operator in graph.operators or ()
    ]


def _used(graph: Any) -> list[int]:
    """The tensors that operators read and write, in their order; below 0 where one is left out."""
    return [
        int(index)
        for operator in graph.operators or ()
        for index in (*operator.inputs, *operator.outputs)
    ]


def _shape(tensor: Any) -> Any:
    return np.array(() if tensor.shape is None else tensor.shape, dtype=np.int64)


def _whole_numbers(model: Any, tensor: Any) -> Any:
    """A constant that may be sizes: whole numbers without a scale."""
    data = model.buffers[tensor.buffer].data
    scaled = tensor.quantization is not None and tensor.quantization.scale is not None
    if tensor.type != schema.TensorType.INT32 or scaled or data is None or not len(data):
        return np.empty(0, dtype=np.int64)
    return np.frombuffer(bytes(bytearray(data)), np.int32).astype(np.int64)


def _resized(model: Any, tensor: Any, shape: Any | None, values: Any | None) -> Any:
    made = copy.copy(tensor)
    data = model.buffers[tensor.buffer].data
    kept = None if values is None else values.astype(np.int32)
    if shape is not None:
        if (shape < 1).any():
            raise FlatbufferError(f"nothing would be left of tensor {container.text(tensor.name)}.")
        made.shape = [int(size) for size in shape]
        if tensor.shapeSignature is not None:
            made.shapeSignature = [
                -1 if sign < 0 else size
                for sign, size in zip(tensor.shapeSignature, made.shape, strict=True)
            ]
        if data is not None and len(data) and kept is None:
            stored: Any = np.frombuffer(bytes(bytearray(data)), _TYPES[tensor.type])
            kept = stored.reshape(tensor.shape)[tuple(slice(size) for size in made.shape)]
        scales = tensor.quantization
        if scales is not None and scales.scale is not None and len(scales.scale) > 1:
            made.quantization = copy.copy(scales)
            left = made.shape[scales.quantizedDimension]
            made.quantization.scale = scales.scale[:left]
            made.quantization.zeroPoint = scales.zeroPoint[:left]
    if kept is not None:
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(kept).tobytes(), np.uint8)
        made.buffer = len(model.buffers)
        model.buffers.append(buffer)
    return made


def _said_again(operator: Any, graph: Any) -> Any:
    options = operator.builtinOptions
    if not isinstance(options, schema.ReshapeOptionsT) or options.newShape is None:
        return operator
    made = copy.copy(operator)
    made.builtinOptions = schema.ReshapeOptionsT()
    made.builtinOptions.newShape = graph.tensors[operator.outputs[0]].shape
    return made
