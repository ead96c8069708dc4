"""What TFLite Micro has kernels for, said without it.

Asked of its interpreter (0.dev20261023182759), one operator and one type at a time, by
`tests/tflite_export/runtimes/test_micro_kernels.py`, which asks again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ai_edge_litert.tools import flatbuffer_utils

from tflite_export.flatbuffer import container
from tflite_export.runtimes.refusals import TYPE_NAMES, types_of

_ANY = "float32 float16 int8 uint8 int16 int32 int64 bool"
_BY_TYPES = {
    _ANY: "BROADCAST_TO LOGICAL_AND LOGICAL_OR RESHAPE SHAPE SQUEEZE",
    "float32": "CEIL COS EXP FLOOR FLOOR_DIV FLOOR_MOD L2_POOL_2D LOG NEG ROUND SIN SQRT SQUARE",
    "bool": "LOGICAL_NOT REDUCE_ALL",
    "int8 int16 uint8": "DEQUANTIZE",
    "float32 int8": (
        "ADD_N ARG_MAX ARG_MIN BATCH_TO_SPACE_ND CUMSUM DEPTH_TO_SPACE ELU GATHER GATHER_ND "
        "HARD_SWISH L2_NORMALIZATION LOG_SOFTMAX MIRROR_PAD PRELU REDUCE_MAX REDUCE_MIN "
        "RESIZE_BILINEAR SPACE_TO_BATCH_ND SPACE_TO_DEPTH"
    ),
    "float32 int8 int16": (
        "ABS AVERAGE_POOL_2D EXPAND_DIMS LEAKY_RELU LOGISTIC MAX_POOL_2D MEAN RELU RELU6 "
        "RESIZE_NEAREST_NEIGHBOR RSQRT SELECT_V2 SOFTMAX SUM TANH TRANSPOSE"
    ),
    "float32 int8 int32": "DIV FILL",
    "float32 int8 int16 int32": (
        "ADD DYNAMIC_UPDATE_SLICE MUL PAD PADV2 SPLIT SPLIT_V SQUARED_DIFFERENCE SUB UNPACK"
    ),
    "float32 int8 int32 int64": "GREATER_EQUAL LESS LESS_EQUAL ZEROS_LIKE",
    "float32 int8 int32 int64 bool": "EQUAL NOT_EQUAL",
    "float32 int8 int16 int32 int64": "GREATER MAXIMUM MINIMUM PACK",
    "float32 int8 int16 int32 bool": "CAST SLICE STRIDED_SLICE",
    "float32 int8 int16 int32 uint8": "QUANTIZE",
    "float32 int8 int16 int32 int64 bool": "CONCATENATION",
    "float32 int8 int16 int32 int64 bool uint8": "REVERSE_V2",
}
KERNELS = {
    operator: frozenset(types.split())
    for types, operators in _BY_TYPES.items()
    for operator in operators.split()
}
"""Operator to the types that it takes as its first input, or that of `_DATA`."""
_DATA = {"FILL": 1, "SELECT_V2": 1, "SPLIT": 1, "TRANSPOSE_CONV": 2}
_POSITIONS = frozenset(
    {
        "ARG_MAX", "ARG_MIN", "EXPAND_DIMS", "GATHER", "GATHER_ND", "MEAN", "MIRROR_PAD", "PAD",
        "PADV2", "REDUCE_ALL", "REDUCE_MAX", "REDUCE_MIN", "REVERSE_V2", "STRIDED_SLICE", "SUM",
        "TRANSPOSE",
    }
)  # fmt: skip
"""Operators whose second input, of axes or positions, must be int32."""
_CONVOLVED = {("float32", "float32"), ("int8", "int8"), ("int8", "int4"), ("int16", "int8")}
WEIGHTED = {
    "BATCH_MATMUL": {("float32", "float32"), ("int8", "int8"), ("int16", "int16")},
    "CONV_2D": _CONVOLVED,
    "DEPTHWISE_CONV_2D": _CONVOLVED,
    "FULLY_CONNECTED": _CONVOLVED,
    "TRANSPOSE_CONV": {
        ("float32", "float32"), ("int8", "int8"), ("int16", "int8"), ("int16", "int16"),
    },
}  # fmt: skip
"""Operator to the pairs of types that it takes, of what flows in and of its weights."""
_COMPARING = {"EQUAL", "GREATER", "GREATER_EQUAL", "LESS", "LESS_EQUAL", "NOT_EQUAL"}
_SCALED = {"ADD", "SUB", *_COMPARING}
UNTOLD = frozenset(
    {
        "ASSIGN_VARIABLE", "BROADCAST_ARGS", "CALL_ONCE", "EMBEDDING_LOOKUP", "IF", "READ_VARIABLE",
        "SVDF", "UNIDIRECTIONAL_SEQUENCE_LSTM", "VAR_HANDLE", "WHILE",
    }
)  # fmt: skip
"""Operators that it has, of which no types are told here."""


def refused(model: Any) -> tuple[str, ...]:
    """Say what of a model TFLite Micro does not run, or runs wrongly.

    Args:
        model: The parsed flatbuffer.

    Returns:
        Sentences, each once; none where it has a kernel for every operator with its types.
    """
    found = dict.fromkeys(
        reason
        for graph in model.subgraphs
        for operator in graph.operators or ()
        for reason in _refused(model, graph, operator)
    )
    return tuple(sorted(found))


def _refused(model: Any, graph: Any, operator: Any) -> Iterator[str]:
    code = model.operatorCodes[operator.opcodeIndex]
    name = container.text(code.customCode) or str(
        flatbuffer_utils.opcode_to_name(model, operator.opcodeIndex)
    )
    types = [
        TYPE_NAMES[graph.tensors[index].type] if index >= 0 else "" for index in operator.inputs
    ]
    place = _DATA.get(name, 0)
    kind = types[place] if place < len(types) else ""
    said = f"{name} ({types_of(operator, graph)})"
    if name in WEIGHTED:
        if (kind, types[1]) not in WEIGHTED[name]:
            yield f"{said}: no kernel for these types."
        elif (
            name == "FULLY_CONNECTED"
            and types[1] == "int4"
            and _scales(graph, operator.inputs, 1) > 1
        ):
            yield f"{said}: int4 weights with a scale for each unit."
    elif name in KERNELS:
        written = TYPE_NAMES[graph.tensors[operator.outputs[0]].type]
        into = {"CAST": KERNELS["CAST"], "ARG_MAX": {"int32"}, "ARG_MIN": {"int32"}}
        positioned = name not in _POSITIONS or types[1] == "int32"
        if kind not in KERNELS[name] or not positioned or written not in into.get(name, {written}):
            yield f"{said}: no kernel for these types."
        elif name == "DEQUANTIZE" and _scales(graph, operator.inputs, 0) > 1:
            yield f"{said}: it takes one scale for all units, and so answers wrongly."
        elif name in _SCALED and _far_apart(name, graph, operator):
            yield f"{said}: scales too far apart for its arithmetic, at which it ends the process."
    elif name not in UNTOLD:
        yield f"{name}: no such operator."


def _far_apart(name: str, graph: Any, operator: Any) -> bool:
    """Whether fixed-point numbers of 32 bits cannot bring what is read to one scale."""
    read, written = (
        [float(graph.tensors[index].quantization.scale[0]) for index in indices]
        if all(_scales(graph, indices, place) for place in range(len(indices)))
        else []
        for indices in (operator.inputs, operator.outputs)
    )
    if not read:
        return False
    if name in _COMPARING:
        return max(read) / min(read) >= 2.0**31
    # The sum is formed in 20 bits more than the inputs have.
    return bool(written) and max(read) / written[0] >= 2.0**19


def _scales(graph: Any, indices: Any, place: int) -> int:
    """How many scales one of an operator's tensors has."""
    known = graph.tensors[indices[place]].quantization
    return 0 if known is None or known.scale is None else len(known.scale)
