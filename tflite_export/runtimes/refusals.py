"""Files that a runtime does not run, and why."""

from __future__ import annotations

from typing import Any

from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

from tflite_export.errors import FlatbufferError

TYPE_NAMES = {
    number: name.lower() for name, number in vars(schema.TensorType).items() if name.isupper()
}


class NotRunError(FlatbufferError):
    """A runtime does not run a file.

    Args:
        runtime: What people call it.
        reason: Why not, in a sentence.
    """

    def __init__(self, runtime: str, reason: str) -> None:
        super().__init__(f"{runtime} does not run this model: {reason}")
        self.reason = reason


def types_of(operator: Any, graph: Any) -> str:
    """The types that an operator reads and writes, as `float32, int8 → float32`."""
    read, written = (
        ", ".join(TYPE_NAMES[graph.tensors[index].type] for index in indices if index >= 0)
        for indices in (operator.inputs, operator.outputs)
    )
    return f"{read} → {written}"


def operator_at(model: Any, number: int, name: str) -> str:
    """Types of the operator of that name at a place, in whichever graph has it; else nothing."""
    for graph in model.subgraphs:
        if number < len(graph.operators or ()):
            operator = graph.operators[number]
            if str(flatbuffer_utils.opcode_to_name(model, operator.opcodeIndex)) == name:
                return types_of(operator, graph)
    return ""
