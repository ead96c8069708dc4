"""Inputs and outputs as a file holds them: shapes, types, scales, labels, what they decide."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from typing import Any

from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

from tflite_export.flatbuffer.metadata_types import Metadata, Normalization
from tflite_export.flatbuffer.packing import tensor_names

_TYPE_NAMES = {
    number: name.lower() for name, number in vars(schema.TensorType).items() if name.isupper()
}
_PASSING = {"DEQUANTIZE", "QUANTIZE", "RESHAPE"}
"""Operators that leave numbers what they are."""
_PICTURE = 16
"""From so many numbers on, an output of an input's shape is that input rebuilt."""


class Decision(enum.Enum):
    """What an output decides."""

    NOTHING = "nothing"
    LARGEST = "largest"
    ABOVE_HALF = "above_half"


@dataclass(frozen=True)
class End:
    """One input or output.

    Attributes:
        name: Its name in the signature, or the tensor's.
        type: Its type as TensorFlow writes it, `"int8"`.
        shape: Sizes that stand in the file, the batch first; an open one is 1 there.
        scale: Real value of one step of an integer type; 0 where there is none.
        zero_point: The stored value that means 0.
        decision: Whether its largest number, or being above 0.5, is a decision.
        labels: Name of each position; of a single probability what 0 and 1 mean; empty where the
            file names none.
        normalization: How raw values become those of an input, where the file says so.
    """

    name: str
    type: str
    shape: tuple[int, ...]
    scale: float
    zero_point: int
    decision: Decision
    labels: tuple[str, ...]
    normalization: Normalization | None

    @property
    def elements(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)


def ends(model: Any, metadata: Metadata) -> tuple[list[End], list[End]]:
    """Read inputs and outputs.

    Args:
        model: The parsed flatbuffer.
        metadata: What it says about itself.

    Returns:
        Inputs and outputs, in the order of the graph.
    """
    graph = model.subgraphs[0]
    shapes = {_shape(graph.tensors[index]) for index in graph.inputs}
    inputs = [
        _end(name, graph.tensors[index], Decision.NOTHING, (), about.normalization)
        for name, index, about in zip(
            tensor_names(model, "inputs"), graph.inputs, metadata.inputs, strict=True
        )
    ]
    outputs = []
    for name, index, about in zip(
        tensor_names(model, "outputs"), graph.outputs, metadata.outputs, strict=True
    ):
        decision = _decision(model, index, shapes)
        outputs.append(
            _end(name, graph.tensors[index], decision, _named(about.labels, decision), None)
        )
    return inputs, outputs


def _end(
    name: str,
    tensor: Any,
    decision: Decision,
    labels: tuple[str, ...],
    normalization: Normalization | None,
) -> End:
    known = tensor.quantization
    scaled = known is not None and known.scale is not None and len(known.scale) > 0
    return End(
        name=name,
        type=_TYPE_NAMES[tensor.type],
        shape=_shape(tensor),
        scale=float(known.scale[0]) if scaled else 0.0,
        zero_point=int(known.zeroPoint[0]) if scaled else 0,
        decision=decision,
        labels=labels,
        normalization=normalization,
    )


def _shape(tensor: Any) -> tuple[int, ...]:
    return () if tensor.shape is None else tuple(int(size) for size in tensor.shape)


def _named(labels: tuple[str, ...], decision: Decision) -> tuple[str, ...]:
    if decision is Decision.NOTHING or not labels:
        return ()
    if decision is Decision.LARGEST:
        return labels
    return (f"not {labels[0]}", labels[0]) if len(labels) == 1 else labels


def _decision(model: Any, index: int, inputs: set[tuple[int, ...]]) -> Decision:
    graph = model.subgraphs[0]
    shape = _shape(graph.tensors[index])
    elements = math.prod(shape)
    source = _source(model, index)
    if elements == 1:
        return Decision.ABOVE_HALF if source in ("LOGISTIC", "SOFTMAX") else Decision.NOTHING
    rows = elements // shape[-1] if shape and shape[-1] else 0
    if rows != 1 or (source != "SOFTMAX" and shape in inputs and elements >= _PICTURE):
        return Decision.NOTHING
    return Decision.LARGEST


def _source(model: Any, index: int) -> str:
    """Name of the operator that makes a tensor, past those that only rewrite it."""
    graph = model.subgraphs[0]
    for operator in reversed(graph.operators or ()):
        if index in operator.outputs:
            name = str(flatbuffer_utils.opcode_to_name(model, operator.opcodeIndex))
            if name not in _PASSING:
                return name
            index = int(operator.inputs[0])
    return ""
