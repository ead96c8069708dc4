"""Whether a file holds a model's weights, told from the weights alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tflite_export.flatbuffer.container import constant
from tflite_export.keras_model.ports import Kernel

Array = np.ndarray[Any, Any]
_TYPES: dict[int, np.dtype[Any]] = {
    schema.TensorType.FLOAT32: np.dtype(np.float32),
    schema.TensorType.FLOAT16: np.dtype(np.float16),
    schema.TensorType.INT8: np.dtype(np.int8),
}
# Cosine of a channel with itself rounded to 8 bits, one wide weight among many small ones.
_ALIKE = 0.9
_FEWEST = 8


@dataclass(frozen=True)
class Resemblance:
    """What comparing kernels told.

    Attributes:
        found: Layers whose kernel the file holds.
        missing: Layers of which it holds a kernel of that shape, with other values.
    """

    found: tuple[str, ...]
    missing: tuple[str, ...]


def resemblance(model: Any, kernels: Mapping[str, Kernel]) -> Resemblance:
    """Look for kernels in a file, whatever scale each channel was given.

    The converter folds batch norms into the kernels before them, and quantization rounds: both
    leave the direction of a channel's weights, which is all that is compared.

    Args:
        model: The parsed flatbuffer.
        kernels: The model's kernels by layer, as `keras_model.source.kernels` gives them.
    """
    constants: dict[tuple[int, ...], list[Array]] = {}
    for array in _constants(model):
        constants.setdefault(array.shape, []).append(array)
    found: list[str] = []
    missing: list[str] = []
    for name, kernel in kernels.items():
        candidates = constants.get(kernel.values.shape, ())
        if candidates and kernel.values.size >= _FEWEST * kernel.values.shape[kernel.axis]:
            alike = any(_alike(kernel, other) for other in candidates)
            (found if alike else missing).append(name)
    return Resemblance(tuple(found), tuple(missing))


def _alike(kernel: Kernel, other: Array) -> bool:
    count = other.shape[kernel.axis]
    a, b = (
        np.moveaxis(values, kernel.axis, 0).reshape(count, -1).astype(np.float64)
        for values in (kernel.values, other)
    )
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    # A channel of zeros has no direction.
    cosines = np.abs((a * b).sum(axis=1))[norms > 0] / norms[norms > 0]
    return not cosines.size or float(np.median(cosines)) > _ALIKE


def _constants(model: Any) -> Iterator[Array]:
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            if not constant(model, tensor):
                continue
            raw = bytes(bytearray(model.buffers[tensor.buffer].data))
            shape = tuple(int(size) for size in (() if tensor.shape is None else tensor.shape))
            if tensor.type == schema.TensorType.INT4:
                # Two in a byte, the first one in its lower half.
                packed = np.frombuffer(raw, np.int8)
                halves = np.stack([packed << 4 >> 4, packed >> 4], axis=-1).reshape(-1)
                values = halves[: int(np.prod(shape))]
            elif tensor.type in _TYPES:
                values = np.frombuffer(raw, _TYPES[tensor.type])
            else:
                continue
            if values.size == int(np.prod(shape)):
                yield values.reshape(shape)
