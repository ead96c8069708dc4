"""A file in a runtime of another process, called as LiteRT's `Runner` is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tflite_export.errors import FlatbufferError
from tflite_export.flatbuffer.container import parse, text
from tflite_export.running.interpreter import Slot, slots
from tflite_export.runtimes.process import RefusalError
from tflite_export.runtimes.refusals import NotRunError

Array = np.ndarray[Any, Any]
_TYPES = {
    schema.TensorType.FLOAT32: np.float32,
    schema.TensorType.FLOAT16: np.float16,
    schema.TensorType.FLOAT64: np.float64,
    schema.TensorType.INT8: np.int8,
    schema.TensorType.INT16: np.int16,
    schema.TensorType.INT32: np.int32,
    schema.TensorType.INT64: np.int64,
    schema.TensorType.UINT8: np.uint8,
    schema.TensorType.UINT32: np.uint32,
    schema.TensorType.BOOL: np.bool_,
}


class Remote(Protocol):
    """What runs files elsewhere: `process.Process`, or a browser."""

    lock: Any

    @property
    def holds(self) -> object | None:
        """Whose file it has loaded."""

    @holds.setter
    def holds(self, owner: object | None) -> None: ...

    def ask(self, *question: Any) -> tuple[Any, str]:
        """Ask, and give back the answer and what was said meanwhile."""


class RemoteRunner:
    """A flatbuffer that a process runs, called with real-valued arrays.

    Args:
        flat: The flatbuffer.
        process: The process.
        load: Loads the file there; called again when another file took its place.
        explain: Makes an error of a refusal.

    Raises:
        NotRunError: The runtime does not load it; the message says why.
    """

    def __init__(
        self,
        flat: bytes,
        process: Remote,
        load: Callable[[RemoteRunner], None],
        explain: Callable[[RefusalError], NotRunError],
    ) -> None:
        model = parse(flat)
        graph = model.subgraphs[0]
        signature = (model.signatureDefs or [None])[0]
        self._process, self._load, self._explain = process, load, explain
        self._order = [int(index) for index in graph.inputs]
        self._ends = [int(index) for index in graph.outputs]
        self.inputs = slots(
            [_detail(index, graph.tensors[index]) for index in self._order],
            getattr(signature, "inputs", None),
        )
        self.outputs = slots(
            [_detail(index, graph.tensors[index]) for index in self._ends],
            getattr(signature, "outputs", None),
        )
        self._hold()

    @property
    def in_order(self) -> tuple[list[Slot], list[Slot]]:
        """Inputs and outputs as the graph has them, where a signature may have another order."""
        by_index = {slot.index: slot for slot in (*self.inputs, *self.outputs)}
        return [by_index[n] for n in self._order], [by_index[n] for n in self._ends]

    def __call__(self, values: Sequence[Array]) -> list[Array]:
        """Run one batch; arrays in the order of `inputs`, real values in and out.

        Raises:
            NotRunError: It cannot; the message says why.
        """
        stored = {
            slot.index: np.ascontiguousarray(slot.encode(array))
            for slot, array in zip(self.inputs, values, strict=True)
        }
        with self._process.lock:
            self._hold()
            try:
                answers, _ = self._process.ask("run", [stored[index] for index in self._order])
            except RefusalError as error:
                raise self._explain(error) from error
        found = dict(zip(self._ends, answers, strict=True))
        return [slot.decode(found[slot.index]) for slot in self.outputs]

    def _hold(self) -> None:
        """Have the file loaded, and not another that was opened since."""
        with self._process.lock:
            if self._process.holds is not self:
                self._process.holds = None
                self._load(self)
                self._process.holds = self


def _detail(index: int, tensor: Any) -> dict[str, Any]:
    """What LiteRT would say of an end; sizes are those that stand in the file."""
    if tensor.type not in _TYPES:
        raise FlatbufferError(f"its end {text(tensor.name)!r} is of a type that numpy lacks.")
    known = tensor.quantization
    scaled = known is not None and known.scale is not None and len(known.scale) > 0
    return {
        "index": index,
        "name": text(tensor.name),
        "shape": () if tensor.shape is None else tuple(tensor.shape),
        "dtype": _TYPES[tensor.type],
        "quantization": (known.scale[0], known.zeroPoint[0]) if scaled else (0.0, 0),
    }
