"""Run a TFLite flatbuffer in the LiteRT interpreter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from tflite_export.errors import FlatbufferError
from tflite_export.flatbuffer.container import parse, text
from tflite_export.running.silence import captured

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Slot:
    """An input or output of a flatbuffer.

    Attributes:
        name: Its name in the signature, or the tensor's where there is no signature.
        shape: Dimensions with the batch first; `None` where the size is open.
        dtype: Element type as stored.
        scale: Real value of one step of a quantized type; 0 where it is not quantized.
        zero_point: The stored value that means 0.
        index: Number of the tensor in the interpreter.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: np.dtype[Any]
    scale: float
    zero_point: int
    index: int

    @property
    def range(self) -> tuple[float, float] | None:
        """Smallest and largest real value that a quantized type can hold."""
        if not self.scale:
            return None
        info = np.iinfo(self.dtype)
        return (
            (info.min - self.zero_point) * self.scale,
            (info.max - self.zero_point) * self.scale,
        )

    def encode(self, values: Array) -> Array:
        """Turn real values into the stored type."""
        if not self.scale:
            return values.astype(self.dtype)
        info = np.iinfo(self.dtype)
        steps = np.rint(values.astype(np.float64) / self.scale) + self.zero_point
        return np.asarray(np.clip(steps, info.min, info.max), dtype=self.dtype)

    def decode(self, stored: Array) -> Array:
        """Turn the stored type into real values."""
        if not self.scale:
            return stored
        return ((stored.astype(np.float64) - self.zero_point) * self.scale).astype(np.float32)


class Runner:
    """A flatbuffer that can be called with real-valued arrays.

    Args:
        flat: The flatbuffer.
        threads: CPU threads the interpreter may use.

    Raises:
        FlatbufferError: The bytes are damaged, or hold an operator LiteRT does not know.
    """

    def __init__(self, flat: bytes, *, threads: int = 1) -> None:
        model = parse(flat)
        self._allocated = False
        self._checked(lambda: self._load(flat, threads))
        signature = (model.signatureDefs or [None])[0]
        self.inputs = slots(
            self._interpreter.get_input_details(), getattr(signature, "inputs", None)
        )
        self.outputs = slots(
            self._interpreter.get_output_details(), getattr(signature, "outputs", None)
        )

    def __call__(self, values: Sequence[Array]) -> list[Array]:
        """Run one batch; arrays in the order of `inputs`, real values in and out."""
        fresh = not self._allocated
        for slot, array in zip(self.inputs, values, strict=True):
            if tuple(self._shapes[slot.index]) != array.shape:
                self._interpreter.resize_tensor_input(slot.index, array.shape)
                self._shapes[slot.index] = array.shape
                fresh = True
        if fresh:
            self._checked(self._interpreter.allocate_tensors)
            self._allocated = True
        for slot, array in zip(self.inputs, values, strict=True):
            self._interpreter.set_tensor(slot.index, slot.encode(array))
        try:
            self._interpreter.invoke()
        except RuntimeError as error:
            raise FlatbufferError(f"LiteRT fails on these inputs: {error}") from error
        return [slot.decode(self._interpreter.get_tensor(slot.index)) for slot in self.outputs]

    def prepare(self) -> None:
        """Lay out the tensors for the sizes that the file has.

        Raises:
            FlatbufferError: An operator does not take what it is given.
        """
        self._checked(self._interpreter.allocate_tensors)
        self._allocated = True

    @property
    def delegated(self) -> bool:
        """Whether operators were handed to XNNPACK, which replaces them by one of its own."""
        details = self._interpreter._get_ops_details()
        return any(detail["op_name"] == "DELEGATE" for detail in details)

    def invoke(self) -> None:
        """Run again on the inputs of the last call."""
        self._interpreter.invoke()

    def _load(self, flat: bytes, threads: int) -> None:
        self._interpreter = Interpreter(model_content=bytes(flat), num_threads=threads)
        details = self._interpreter.get_input_details()
        self._shapes = {detail["index"]: tuple(detail["shape"]) for detail in details}
        # An open size stands as 1 in the file, which may be too small for its windows.
        self._allocated = not any(
            size < 0 for detail in details for size in detail["shape_signature"][1:]
        )
        if self._allocated:
            self._interpreter.allocate_tensors()

    def _checked(self, step: Callable[[], Any]) -> None:
        """Take a step that damaged or foreign models break, in silence."""
        failure: Exception | None = None
        with captured() as log:
            try:
                step()
            except (RuntimeError, ValueError) as error:
                failure = error
        if failure is not None:
            words = log.text.splitlines()
            raise FlatbufferError(
                f"LiteRT cannot run this model: {failure} {words[-1] if words else ''}".strip()
            ) from failure


def slots(details: list[dict[str, Any]], signature: Any) -> tuple[Slot, ...]:
    """Describe tensors in the signature's order, or in the graph's where there is none."""
    by_index = {detail["index"]: detail for detail in details}
    named = [(item.tensorIndex, text(item.name)) for item in signature or ()]
    if not named or any(index not in by_index for index, _ in named):
        named = [(detail["index"], detail["name"]) for detail in details]
    slots = []
    for index, name in named:
        detail = by_index[index]
        scale, zero_point = detail["quantization"]
        shape = detail.get("shape_signature", detail["shape"])
        slots.append(
            Slot(
                name=name,
                shape=tuple(None if size < 0 else int(size) for size in shape),
                dtype=np.dtype(detail["dtype"]),
                scale=float(scale),
                zero_point=int(zero_point),
                index=index,
            )
        )
    return tuple(slots)
