"""Flatbuffers of one operator each, for every operator that TFLite Micro is said to run."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tflite_export.flatbuffer import container

TYPES = ("float32", "int8", "int16", "int32", "int64", "bool", "uint8", "float16")
_NUMPY = {name: np.dtype("bool" if name == "bool" else name) for name in TYPES}
Shape = tuple[int, ...]


@dataclass(frozen=True)
class Tensor:
    """One tensor: its type, shape, contents where it is constant, and scale."""

    type: str
    shape: Shape
    values: Any = None
    scale: float = 1 / 128
    zero_point: int = 0
    scales: int = 1


def flatbuffer(
    operator: str, inputs: list[Tensor], outputs: list[Tensor], options: Any = None
) -> bytes:
    """Write a model of one operator."""
    model, graph, code, step = (
        schema.ModelT(), schema.SubGraphT(), schema.OperatorCodeT(), schema.OperatorT(),
    )  # fmt: skip
    number = getattr(schema.BuiltinOperator, operator)
    code.builtinCode, code.deprecatedBuiltinCode, code.version = number, min(number, 127), 1
    model.version, model.operatorCodes, model.subgraphs = 3, [code], [graph]
    model.buffers = [schema.BufferT()]
    graph.name, graph.tensors, graph.operators = b"main", [], [step]
    graph.inputs, graph.outputs = [], []
    for tensor in (*inputs, *outputs):
        made = schema.TensorT()
        made.name = f"t{len(graph.tensors)}".encode()
        made.shape, made.type = list(tensor.shape), getattr(schema.TensorType, tensor.type.upper())
        if tensor.type in ("int8", "int16", "uint8", "int4"):
            made.quantization = schema.QuantizationParametersT()
            made.quantization.scale = np.full(tensor.scales, tensor.scale, np.float32)
            made.quantization.zeroPoint = np.full(tensor.scales, tensor.zero_point, np.int64)
            made.quantization.quantizedDimension = 0
        made.buffer = 0
        if tensor.values is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(np.asarray(tensor.values).tobytes(), np.uint8)
            made.buffer = len(model.buffers)
            model.buffers.append(buffer)
        elif len(graph.tensors) < len(inputs):
            graph.inputs.append(len(graph.tensors))
        graph.tensors.append(made)
    step.opcodeIndex, step.inputs = 0, list(range(len(inputs)))
    step.outputs = list(range(len(inputs), len(inputs) + len(outputs)))
    graph.outputs = step.outputs
    if options is not None:
        name = type(options).__name__.removesuffix("T")
        step.builtinOptionsType = getattr(schema.BuiltinOptions, name)
        step.builtinOptions = options
    return container.serialize(model)


def _options(kind: str, **values: Any) -> Any:
    made = getattr(schema, f"{kind}OptionsT")()
    for name, value in values.items():
        setattr(made, name, value)
    return made


def _whole(*values: int) -> Tensor:
    return Tensor("int32", (len(values),), np.array(values, np.int32))


def _weights(kind: str, *shape: int) -> Tensor:
    values = np.zeros(shape, _NUMPY["int8" if kind == "int4" else kind])
    return Tensor(kind, shape, values[..., : (shape[-1] + 1) // 2] if kind == "int4" else values)


def _names(text: str) -> list[str]:
    return text.split()


_UNARY = _names(
    "ABS CEIL COS ELU EXP FLOOR HARD_SWISH L2_NORMALIZATION LEAKY_RELU LOG LOGICAL_NOT LOG_SOFTMAX "
    "NEG RELU RELU6 ROUND RSQRT SIN SQRT SQUARE ZEROS_LIKE"
)
_BINARY = _names(
    "ADD ADD_N DIV FLOOR_DIV FLOOR_MOD LOGICAL_AND LOGICAL_OR MAXIMUM MINIMUM MUL PRELU "
    "SQUARED_DIFFERENCE SUB"
)
_COMPARING = _names("EQUAL GREATER GREATER_EQUAL LESS LESS_EQUAL NOT_EQUAL")
_REDUCING = _names("MEAN REDUCE_ALL REDUCE_MAX REDUCE_MIN SUM")
_KINDS = {
    "ADD": "Add",
    "ADD_N": "AddN",
    "DIV": "Div",
    "LEAKY_RELU": "LeakyRelu",
    "MUL": "Mul",
    "SUB": "Sub",
    "L2_NORMALIZATION": "L2Norm",
    "ABS": "Abs",
}
_POOL = {"filterHeight": 2, "filterWidth": 2, "strideH": 2, "strideW": 2}
_STRIDES = {"strideH": 1, "strideW": 1, "dilationHFactor": 1, "dilationWFactor": 1}


def _simple(operator: str, kind: str) -> bytes:
    options = _options(_KINDS[operator]) if operator in _KINDS else None
    tensor = Tensor(kind, (1, 4))
    if operator in _UNARY:
        return flatbuffer(operator, [tensor], [tensor], options)
    if operator in _COMPARING:
        return flatbuffer(operator, [tensor, tensor], [Tensor("bool", (1, 4))])
    divisor = Tensor(kind, (1, 4), np.ones((1, 4), _NUMPY[kind]))
    second = divisor if operator in ("DIV", "FLOOR_DIV", "FLOOR_MOD") else tensor
    if operator == "PRELU":
        second = Tensor(kind, (1, 4), np.ones((1, 4), _NUMPY[kind]))
    if operator in _REDUCING:
        return flatbuffer(
            operator,
            [tensor, _whole(1)],
            [Tensor(kind, (1, 1))],
            _options("Reducer", keepDims=True),
        )
    return flatbuffer(operator, [tensor, second], [tensor], options)


def _squashing(operator: str, kind: str) -> bytes:
    into = Tensor(kind, (1, 4), scale=1 / 4096)
    scale, zero = (1 / 256, -128) if kind == "int8" else (1 / 32768, 0)
    if operator == "TANH" and kind == "int8":
        scale, zero = 1 / 128, 0
    options = _options("Softmax", beta=1.0) if operator == "SOFTMAX" else None
    return flatbuffer(operator, [into], [Tensor(kind, (1, 4), None, scale, zero)], options)


def _square(kind: str, *shape: int) -> Tensor:
    return Tensor(kind, shape or (1, 4, 4, 2))


_MOVING: dict[str, Callable[[str], bytes]] = {
    "BATCH_TO_SPACE_ND": lambda t: flatbuffer(
        "BATCH_TO_SPACE_ND",
        [_square(t, 4, 2, 2, 1), _whole(2, 2), Tensor("int32", (2, 2), np.zeros((2, 2), np.int32))],
        [_square(t, 1, 4, 4, 1)],
    ),
    "SPACE_TO_BATCH_ND": lambda t: flatbuffer(
        "SPACE_TO_BATCH_ND",
        [_square(t, 1, 4, 4, 1), _whole(2, 2), Tensor("int32", (2, 2), np.zeros((2, 2), np.int32))],
        [_square(t, 4, 2, 2, 1)],
    ),
    "SPACE_TO_DEPTH": lambda t: flatbuffer(
        "SPACE_TO_DEPTH",
        [_square(t)],
        [_square(t, 1, 2, 2, 8)],
        _options("SpaceToDepth", blockSize=2),
    ),
    "DEPTH_TO_SPACE": lambda t: flatbuffer(
        "DEPTH_TO_SPACE",
        [_square(t, 1, 2, 2, 8)],
        [_square(t)],
        _options("DepthToSpace", blockSize=2),
    ),
    "BROADCAST_TO": lambda t: flatbuffer(
        "BROADCAST_TO", [Tensor(t, (1, 4)), _whole(3, 4)], [Tensor(t, (3, 4))]
    ),
    "CONCATENATION": lambda t: flatbuffer(
        "CONCATENATION",
        [Tensor(t, (1, 4))] * 2,
        [Tensor(t, (1, 8))],
        _options("Concatenation", axis=1),
    ),
    "CUMSUM": lambda t: flatbuffer(
        "CUMSUM",
        [Tensor(t, (1, 4)), Tensor("int32", (), np.int32(1))],
        [Tensor(t, (1, 4))],
        _options("Cumsum"),
    ),
    "DYNAMIC_UPDATE_SLICE": lambda t: flatbuffer(
        "DYNAMIC_UPDATE_SLICE",
        [Tensor(t, (3, 4)), Tensor(t, (1, 4)), _whole(1, 0)],
        [Tensor(t, (3, 4))],
    ),
    "EXPAND_DIMS": lambda t: flatbuffer(
        "EXPAND_DIMS", [Tensor(t, (1, 4)), _whole(1)], [Tensor(t, (1, 1, 4))]
    ),
    "FILL": lambda t: flatbuffer("FILL", [_whole(1, 4), Tensor(t, ())], [Tensor(t, (1, 4))]),
    "GATHER": lambda t: flatbuffer(
        "GATHER", [Tensor(t, (3, 4)), _whole(1)], [Tensor(t, (1, 4))], _options("Gather", axis=0)
    ),
    "GATHER_ND": lambda t: flatbuffer(
        "GATHER_ND",
        [Tensor(t, (3, 4)), Tensor("int32", (1, 1), np.ones((1, 1), np.int32))],
        [Tensor(t, (1, 4))],
    ),
    "MIRROR_PAD": lambda t: flatbuffer(
        "MIRROR_PAD",
        [Tensor(t, (1, 4)), Tensor("int32", (2, 2), np.array([[0, 0], [1, 1]], np.int32))],
        [Tensor(t, (1, 6))],
        _options("MirrorPad", mode=0),
    ),
    "PACK": lambda t: flatbuffer(
        "PACK",
        [Tensor(t, (1, 4))] * 2,
        [Tensor(t, (2, 1, 4))],
        _options("Pack", valuesCount=2, axis=0),
    ),
    "PAD": lambda t: flatbuffer(
        "PAD",
        [Tensor(t, (1, 4)), Tensor("int32", (2, 2), np.array([[0, 0], [1, 1]], np.int32))],
        [Tensor(t, (1, 6))],
    ),
    "PADV2": lambda t: flatbuffer(
        "PADV2",
        [
            Tensor(t, (1, 4)),
            Tensor("int32", (2, 2), np.array([[0, 0], [1, 1]], np.int32)),
            Tensor(t, (), np.zeros((), _NUMPY[t])),
        ],
        [Tensor(t, (1, 6))],
    ),
    "RESHAPE": lambda t: flatbuffer(
        "RESHAPE", [Tensor(t, (1, 4)), _whole(2, 2)], [Tensor(t, (2, 2))]
    ),
    "RESIZE_BILINEAR": lambda t: flatbuffer(
        "RESIZE_BILINEAR",
        [_square(t), _whole(8, 8)],
        [_square(t, 1, 8, 8, 2)],
        _options("ResizeBilinear"),
    ),
    "RESIZE_NEAREST_NEIGHBOR": lambda t: flatbuffer(
        "RESIZE_NEAREST_NEIGHBOR",
        [_square(t), _whole(8, 8)],
        [_square(t, 1, 8, 8, 2)],
        _options("ResizeNearestNeighbor"),
    ),
    "REVERSE_V2": lambda t: flatbuffer(
        "REVERSE_V2", [Tensor(t, (3, 4)), _whole(0)], [Tensor(t, (3, 4))]
    ),
    "SELECT_V2": lambda t: flatbuffer(
        "SELECT_V2", [Tensor("bool", (1, 4)), *[Tensor(t, (1, 4))] * 2], [Tensor(t, (1, 4))]
    ),
    "SHAPE": lambda t: flatbuffer("SHAPE", [Tensor(t, (1, 4))], [Tensor("int32", (2,))]),
    "SLICE": lambda t: flatbuffer(
        "SLICE", [Tensor(t, (3, 4)), _whole(1, 0), _whole(1, 4)], [Tensor(t, (1, 4))]
    ),
    "SPLIT": lambda t: flatbuffer(
        "SPLIT",
        [Tensor("int32", (), np.int32(1)), Tensor(t, (1, 4))],
        [Tensor(t, (1, 2))] * 2,
        _options("Split", numSplits=2),
    ),
    "SPLIT_V": lambda t: flatbuffer(
        "SPLIT_V",
        [Tensor(t, (1, 4)), _whole(1, 3), Tensor("int32", (), np.int32(1))],
        [Tensor(t, (1, 1)), Tensor(t, (1, 3))],
        _options("SplitV", numSplits=2),
    ),
    "SQUEEZE": lambda t: flatbuffer(
        "SQUEEZE", [Tensor(t, (1, 4))], [Tensor(t, (4,))], _options("Squeeze", squeezeDims=[0])
    ),
    "STRIDED_SLICE": lambda t: flatbuffer(
        "STRIDED_SLICE",
        [Tensor(t, (3, 4)), _whole(0, 0), _whole(2, 4), _whole(1, 1)],
        [Tensor(t, (2, 4))],
        _options("StridedSlice"),
    ),
    "TRANSPOSE": lambda t: flatbuffer(
        "TRANSPOSE", [Tensor(t, (3, 4)), _whole(1, 0)], [Tensor(t, (4, 3))]
    ),
    "UNPACK": lambda t: flatbuffer(
        "UNPACK", [Tensor(t, (2, 4))], [Tensor(t, (4,))] * 2, _options("Unpack", num=2, axis=0)
    ),
}


def operators() -> Iterator[tuple[str, str, bytes]]:
    """Every operator with every type of what it works on, and a model of it."""
    for kind in TYPES:
        for name in (*_UNARY, *_BINARY, *_COMPARING, *_REDUCING):
            yield name, kind, _simple(name, kind)
        for name in ("LOGISTIC", "SOFTMAX", "TANH"):
            yield name, kind, _squashing(name, kind)
        for name, made in _MOVING.items():
            yield name, kind, made(kind)
        for name in ("AVERAGE_POOL_2D", "L2_POOL_2D", "MAX_POOL_2D"):
            pooled = [_square(kind, 1, 2, 2, 2)]
            yield name, kind, flatbuffer(name, [_square(kind)], pooled, _options("Pool2D", **_POOL))
        for name, of in (("ARG_MAX", "ArgMax"), ("ARG_MIN", "ArgMin")):
            row, place = [Tensor(kind, (1, 4)), _whole(1)], [Tensor("int32", (1,))]
            yield name, kind, flatbuffer(name, row, place, _options(of, outputType=2))
        yield "CAST", kind, flatbuffer("CAST", [Tensor(kind, (1, 4))], [Tensor("float32", (1, 4))])
        yield (
            "DEQUANTIZE",
            kind,
            flatbuffer("DEQUANTIZE", [Tensor(kind, (1, 4))], [Tensor("float32", (1, 4))]),
        )
        yield (
            "QUANTIZE",
            kind,
            flatbuffer("QUANTIZE", [Tensor(kind, (1, 4))], [Tensor("int8", (1, 4), scale=1 / 64)]),
        )


def weighted() -> Iterator[tuple[str, str, str, bytes]]:
    """Operators with weights, with every pair of types."""
    for kind in ("float32", "int8", "int16"):
        bias = {"float32": "float32", "int8": "int32", "int16": "int64"}[kind]
        for other in ("float32", "float16", "int8", "int4", "int16"):
            zeros = Tensor(bias, (2,), np.zeros(2, _NUMPY[bias]))
            yield (
                "CONV_2D",
                kind,
                other,
                flatbuffer(
                    "CONV_2D",
                    [_square(kind), _weights(other, 2, 2, 2, 2), zeros],
                    [_square(kind, 1, 3, 3, 2)],
                    _options("Conv2D", padding=1, **_STRIDES),
                ),
            )
            yield (
                "DEPTHWISE_CONV_2D",
                kind,
                other,
                flatbuffer(
                    "DEPTHWISE_CONV_2D",
                    [_square(kind), _weights(other, 1, 2, 2, 2), zeros],
                    [_square(kind, 1, 3, 3, 2)],
                    _options("DepthwiseConv2D", padding=1, depthMultiplier=1, **_STRIDES),
                ),
            )
            yield (
                "TRANSPOSE_CONV",
                kind,
                other,
                flatbuffer(
                    "TRANSPOSE_CONV",
                    [_whole(1, 8, 8, 2), _weights(other, 2, 2, 2, 2), _square(kind)],
                    [_square(kind, 1, 8, 8, 2)],
                    _options("TransposeConv", padding=1, strideH=2, strideW=2),
                ),
            )
            yield (
                "FULLY_CONNECTED",
                kind,
                other,
                flatbuffer(
                    "FULLY_CONNECTED",
                    [Tensor(kind, (1, 4)), _weights(other, 2, 4), zeros],
                    [Tensor(kind, (1, 2))],
                    _options("FullyConnected"),
                ),
            )
            yield (
                "BATCH_MATMUL",
                kind,
                other,
                flatbuffer(
                    "BATCH_MATMUL",
                    [Tensor(kind, (1, 3, 4)), _weights(other, 1, 4, 2)],
                    [Tensor(kind, (1, 3, 2))],
                    _options("BatchMatMul"),
                ),
            )


def positioned() -> Iterator[tuple[str, str, bytes]]:
    """Operators with axes or positions, with the types that those may have."""
    for kind in ("int32", "int64"):
        one = Tensor(kind, (1,), np.zeros(1, _NUMPY[kind]))
        row, rows = Tensor("float32", (1, 4)), Tensor("float32", (3, 4))
        yield "GATHER", kind, flatbuffer("GATHER", [rows, one], [row], _options("Gather", axis=0))
        yield "SUM", kind, flatbuffer("SUM", [rows, one], [row], _options("Reducer", keepDims=True))
        yield "REVERSE_V2", kind, flatbuffer("REVERSE_V2", [rows, one], [rows])
        yield (
            "EXPAND_DIMS",
            kind,
            flatbuffer("EXPAND_DIMS", [row, one], [Tensor("float32", (1, 1, 4))]),
        )
        made = _options("ArgMax", outputType=2 if kind == "int32" else 4)
        yield "ARG_MAX", kind, flatbuffer("ARG_MAX", [rows, _whole(1)], [Tensor(kind, (3,))], made)
        table = Tensor(kind, (1, 1), np.ones((1, 1), _NUMPY[kind]))
        yield "GATHER_ND", kind, flatbuffer("GATHER_ND", [rows, table], [row])
