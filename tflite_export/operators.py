"""What a flatbuffer is made of: operators, parameters, arithmetic, memory, runtimes."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

from tflite_export.files import read
from tflite_export.flatbuffer import container
from tflite_export.flatbuffer.packing import tensor_names
from tflite_export.runtimes import micro_kernels

__all__ = ["Anatomy", "anatomy"]

_TYPES = schema.TensorType
_BITS = {
    _TYPES.FLOAT32: 32,
    _TYPES.FLOAT16: 16,
    _TYPES.INT32: 32,
    _TYPES.UINT32: 32,
    _TYPES.UINT8: 8,
    _TYPES.INT64: 64,
    _TYPES.BOOL: 8,
    _TYPES.INT16: 16,
    _TYPES.INT8: 8,
    _TYPES.FLOAT64: 64,
    _TYPES.INT4: 4,
}
_WEIGHTS = (
    _TYPES.FLOAT32,
    _TYPES.FLOAT16,
    _TYPES.INT8,
    _TYPES.UINT8,
    _TYPES.INT4,
    _TYPES.INT16,
    _TYPES.INT64,
)


@dataclass(frozen=True)
class Anatomy:
    """What a flatbuffer is made of.

    Attributes:
        operators: Operator to the number of times it stands in the file.
        parameters: Elements of all weights and biases.
        multiply_adds: Multiplications with addition of one call with one sample, in
            convolutions, dense layers and matrix products; `None` where a loop or an open size
            hides how often they run.
        activation_bytes: Most bytes of tensors that must be alive at the same time: what any
            memory planner needs at least, without the runtime's own structures. `None` for a
            model with open shapes.
        minimum_runtime: The oldest TensorFlow Lite release that can run the file, as the
            converter states it; a lower bound for int4 and int16, which it states too low.
        flex: TensorFlow's own operators in it, which need the Flex delegate.
        not_in_micro: What TFLite Micro does not run, or runs wrongly: operators that it lacks,
            operators with types that it has no kernel for, weights with a scale for each unit that
            it reads with one. Known without its package; `verify(runtime="micro")` asks itself.
        inputs: Input to its shape, as the signature names it; -1 where a size is open.
        outputs: The same of the outputs.

    Example:
        >>> told = tflite_export.anatomy(flat)
        >>> told.multiply_adds, told.inputs
        (2720, {'pixels': (1, 64)})
        >>> told.runs_on_micro
        True
    """

    operators: Mapping[str, int]
    parameters: int
    multiply_adds: int | None
    activation_bytes: int | None
    minimum_runtime: str | None
    flex: tuple[str, ...]
    not_in_micro: tuple[str, ...]
    inputs: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    outputs: Mapping[str, tuple[int, ...]] = field(default_factory=dict)

    @property
    def runs_on_micro(self) -> bool:
        """Whether TFLite Micro has every operator, with the types that it has here."""
        return not self.not_in_micro


def anatomy(source: bytes | str | os.PathLike[str]) -> Anatomy:
    """Look into a TFLite model.

    Args:
        source: The model's bytes, or its path.

    Returns:
        Its operators, parameters, arithmetic, memory and the runtimes that know it.

    Raises:
        FlatbufferError: Not a TFLite model, or a damaged one.
        ExportFileError: The path cannot be read.

    Example:
        >>> tflite_export.anatomy(flat).operators
        {'FULLY_CONNECTED': 3, 'SOFTMAX': 1}
    """
    model = container.parse(read(source) if isinstance(source, (str, os.PathLike)) else source)
    counts: Counter[str] = Counter()
    flex = set()
    products = [0] * len(model.subgraphs)
    untold = False
    for number, graph in enumerate(model.subgraphs):
        for operator in graph.operators or ():
            code = model.operatorCodes[operator.opcodeIndex]
            custom = container.text(code.customCode)
            name = custom or str(flatbuffer_utils.opcode_to_name(model, operator.opcodeIndex))
            counts[name] += 1
            if custom.startswith("Flex"):
                flex.add(custom)
            products[number] += _products(name, operator, graph)
            untold |= name in _RULES and _open(graph.tensors[operator.outputs[0]])
    return Anatomy(
        operators=dict(sorted(counts.items())),
        parameters=_parameters(model),
        multiply_adds=None if untold or any(products[1:]) else products[0],
        activation_bytes=_activation_bytes(model),
        minimum_runtime=_minimum_runtime(model),
        flex=tuple(sorted(flex)),
        not_in_micro=micro_kernels.refused(model),
        inputs=_ends(model, "inputs"),
        outputs=_ends(model, "outputs"),
    )


def _ends(model: Any, side: str) -> dict[str, tuple[int, ...]]:
    """Shapes of the main graph's inputs or outputs, open sizes as -1."""
    graph = model.subgraphs[0]
    shapes = {}
    for name, index in zip(tensor_names(model, side), getattr(graph, side), strict=True):
        tensor = graph.tensors[index]
        signature = tensor.shapeSignature
        shapes[name] = _shape(tensor) if signature is None else tuple(int(n) for n in signature)
    return shapes


def _parameters(model: Any) -> int:
    """Count every weight once, also where several tensors share its buffer."""
    sizes: dict[int, int] = {}
    for graph in model.subgraphs:
        for tensor in graph.tensors or ():
            scales = tensor.quantization is not None and tensor.quantization.scale is not None
            # int32 constants are shapes and axes, unless they have a scale: then a bias.
            weight = tensor.type in _WEIGHTS or (tensor.type == _TYPES.INT32 and scales)
            if weight and container.constant(model, tensor):
                sizes[tensor.buffer] = math.prod(_shape(tensor))
    return sum(sizes.values())


def _shape(tensor: Any) -> tuple[int, ...]:
    return () if tensor.shape is None else tuple(int(size) for size in tensor.shape)


def _open(tensor: Any) -> bool:
    """Whether a size other than the batch is only known when the model runs."""
    signature = () if tensor.shapeSignature is None else tensor.shapeSignature
    return any(size < 0 for size in signature[1:])


def _products(name: str, operator: Any, graph: Any) -> int:
    """Multiply-adds of one operator, from the shapes it reads and writes."""
    if name not in _RULES:
        return 0
    shapes = [_shape(graph.tensors[i]) if i >= 0 else () for i in operator.inputs]
    return _RULES[name](shapes, _shape(graph.tensors[operator.outputs[0]]), operator)


def _convolution(shapes: list[tuple[int, ...]], output: tuple[int, ...], operator: Any) -> int:
    # Filters are (out, …, in): every output element costs one filter.
    return math.prod(output) * math.prod(shapes[1][1:])


def _convolution_3d(shapes: list[tuple[int, ...]], output: tuple[int, ...], operator: Any) -> int:
    # Filters are (depth, height, width, in, out).
    return math.prod(output) * math.prod(shapes[1][:-1])


def _depthwise(shapes: list[tuple[int, ...]], output: tuple[int, ...], operator: Any) -> int:
    return math.prod(output) * math.prod(shapes[1][1:3])


def _transposed(shapes: list[tuple[int, ...]], output: tuple[int, ...], operator: Any) -> int:
    # Inputs are (shape, filter, values): every value is spread by one filter.
    return math.prod(shapes[2]) * math.prod(shapes[1][:3])


def _dense(shapes: list[tuple[int, ...]], output: tuple[int, ...], operator: Any) -> int:
    return math.prod(output) * shapes[1][-1]


def _matrix(shapes: list[tuple[int, ...]], output: tuple[int, ...], operator: Any) -> int:
    return math.prod(output) * shapes[0][-2 if operator.builtinOptions.adjX else -1]


_RULES = {
    "CONV_2D": _convolution,
    "CONV_3D": _convolution_3d,
    "DEPTHWISE_CONV_2D": _depthwise,
    "TRANSPOSE_CONV": _transposed,
    "FULLY_CONNECTED": _dense,
    "BATCH_MATMUL": _matrix,
}


def _activation_bytes(model: Any) -> int | None:
    """Largest sum of tensors alive while one operator of the main graph runs."""
    graph = model.subgraphs[0]
    if len(model.subgraphs) > 1:
        return None
    born: dict[int, int] = dict.fromkeys(graph.inputs, -1)
    last: dict[int, int] = {}
    for step, operator in enumerate(graph.operators or ()):
        for index in operator.outputs:
            born.setdefault(index, step)
            last.setdefault(index, step)
        for index in operator.inputs:
            if index in born:
                last[index] = step
    last.update(dict.fromkeys(graph.outputs, len(graph.operators or ())))
    sizes = {}
    for index in born:
        tensor = graph.tensors[index]
        if _open(tensor) or tensor.type not in _BITS:
            return None
        # Runtimes place tensors at multiples of 16 bytes.
        size = math.ceil(math.prod(_shape(tensor)) * _BITS[tensor.type] / 8)
        sizes[index] = 16 * math.ceil(size / 16)
    return max(
        (
            sum(sizes[i] for i in born if born[i] <= step <= last.get(i, -1))
            for step in range(len(graph.operators or ()))
        ),
        default=sum(sizes.values()),
    )


def _minimum_runtime(model: Any) -> str | None:
    stated = container.entry(model, "min_runtime_version")
    version = "" if stated is None else stated.rstrip(b"\0").decode("ascii", "replace")
    types = {tensor.type for graph in model.subgraphs for tensor in graph.tensors or ()}
    # Quantizers change types without raising what the converter stated. The first releases
    # with kernels of these types:
    floors = {_TYPES.INT4: "2.11.0", _TYPES.INT16: "2.3.0"}
    bounds = [floor for kind, floor in floors.items() if kind in types]
    known = [item for item in (version, *bounds) if item]
    return max(known, key=_order) if known else None


def _order(version: str) -> tuple[int, ...]:
    return tuple(int(part) if part.isdigit() else 0 for part in version.split("."))
