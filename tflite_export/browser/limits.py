"""What LiteRT.js takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tflite_export.flatbuffer import container
from tflite_export.flatbuffer.ends import End

NAME = "LiteRT.js"
TYPES = ("float32", "int32", "uint8")
"""What it takes and gives."""


def refused(model: Any, ends: Sequence[End]) -> str:
    """Say why LiteRT.js does not run a file, and the way on.

    Args:
        model: The parsed flatbuffer.
        ends: Its inputs and outputs.

    Returns:
        A sentence or two; nothing where it may run.
    """
    for end in ends:
        if end.type not in TYPES:
            way = (
                " Convert with quantize='int8_float': it computes in int8 all the same."
                if end.type == "int8"
                else ""
            )
            return (
                f"{end.name!r} is of type {end.type}, and it takes and gives {', '.join(TYPES)}."
                f"{way}"
            )
    codes = (container.text(code.customCode) for code in model.operatorCodes)
    flex = sorted({code for code in codes if code.startswith("Flex")})
    if flex:
        return f"it lacks TensorFlow's own {', '.join(flex)}."
    graph = model.subgraphs[0]
    for index in (*graph.inputs, *graph.outputs):
        if not _closed(graph.tensors[index], start=1):
            name = container.text(graph.tensors[index].name)
            return (
                f"{name!r} has an open size besides the batch. Give the model an Input of a fixed "
                "shape."
            )
    return ""


def alone(flat: bytes) -> bytes:
    """Take the flatbuffer without the files behind it, for one sample a call.

    LiteRT.js takes no open batch.
    """
    stamp = container.check(flat)
    model = container.parse(flat)
    tensors = [tensor for graph in model.subgraphs for tensor in graph.tensors or ()]
    if all(_closed(tensor) for tensor in tensors):
        return flat if stamp is None else flat[: stamp.length]
    for tensor in tensors:
        tensor.shapeSignature = None
    return container.pack(model, quantize="")


def _closed(tensor: Any, start: int = 0) -> bool:
    signature = tensor.shapeSignature
    return signature is None or all(int(size) >= 0 for size in signature[start:])
