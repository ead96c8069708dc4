"""Bring a file and its model together: match their tensors, check samples, run, judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from tflite_export.errors import VerificationError
from tflite_export.flatbuffer.metadata_types import Metadata, TensorMetadata
from tflite_export.keras_model.ports import Port
from tflite_export.running.interpreter import Slot
from tflite_export.variants import VARIANTS, Variant

Array = np.ndarray[Any, Any]
_BATCH = 64
# Fewer samples may well lie close together.
_MANY = 8


class Runs(Protocol):
    """A file in some runtime: real values in the order of its inputs, answers in its outputs'."""

    inputs: tuple[Slot, ...]
    outputs: tuple[Slot, ...]

    def __call__(self, values: Sequence[Array]) -> list[Array]:
        """Run one batch."""


@dataclass(frozen=True)
class LabelFigures:
    """How well one label is recognised; recall never stands alone.

    Attributes:
        label: Its position in the output.
        name: Its name, where the file has labels.
        samples: Number of samples of the label.
        recall: Share of them that are called the label; `None` without samples.
        specificity: Share of the other samples that are not called the label.
        balanced_accuracy: Mean of the two.

    Example:
        >>> made = tflite_export.card(flat, x_test, targets=y_test, seconds=0.05)
        >>> made.rows[0].labels[3].samples, made.rows[0].labels[3].specificity
        (53, 0.9...)
    """

    label: int
    name: str
    samples: int
    recall: float | None
    specificity: float | None
    balanced_accuracy: float | None


def figures(
    targets: Array, decisions: Array, width: int, names: Sequence[str] = ()
) -> tuple[LabelFigures, ...]:
    """Judge decisions label by label.

    One name for two decisions is that of a yes/no answer's yes.
    """
    if width == 2 and len(names) == 1:
        names = (f"not {names[0]}", names[0])
    rows = []
    for label in range(width):
        own = targets == label
        called = decisions == label
        recall = float(called[own].mean()) if own.any() else None
        specificity = float((~called[~own]).mean()) if (~own).any() else None
        both = None if recall is None or specificity is None else (recall + specificity) / 2
        name = names[label] if label < len(names) else ""
        rows.append(LabelFigures(label, name, int(own.sum()), recall, specificity, both))
    return tuple(rows)


def variant_of(metadata: Metadata, model: Any) -> tuple[str, Variant]:
    """Name and row of a file's variant; looked up in its types where it does not say."""
    name = metadata.quantize or _guess(model)
    row = VARIANTS.get(name.removeprefix("recipe:"))
    if row is None:
        raise VerificationError(
            f"the file says it is of variant {name!r}, which this version does not know; it "
            f"knows {', '.join(VARIANTS)}."
        )
    return name, row


def _guess(model: Any) -> str:
    types = schema.TensorType
    constants: set[int] = set()
    flowing: set[int] = set()
    for graph in model.subgraphs:
        for tensor in graph.tensors:
            data = model.buffers[tensor.buffer].data
            (constants if data is not None and len(data) else flowing).add(tensor.type)
    if types.INT4 in constants:
        return "weight_int4"
    if types.INT16 in flowing:
        return "int16x8"
    if types.INT8 in flowing or types.UINT8 in flowing:
        return "int8"
    if types.INT8 in constants:
        return "dynamic"
    return "float16" if types.FLOAT16 in constants else "float32"


def answers_of(
    runner: Runs, inputs: Sequence[Slot], outputs: Sequence[Slot], values: Sequence[Array]
) -> list[Array]:
    """The file's answers, in batches of the size it takes."""
    count = len(values[0])
    size = inputs[0].shape[0] or min(_BATCH, count)
    parts = []
    for start in range(0, count, size):
        batch = {
            slot.index: _padded(array[start : start + size], size, slot)
            for slot, array in zip(inputs, values, strict=True)
        }
        answers = dict(
            zip(
                (slot.index for slot in runner.outputs),
                runner([batch[slot.index] for slot in runner.inputs]),
                strict=True,
            )
        )
        parts.append([answers[slot.index] for slot in outputs])
    return [np.concatenate(column)[:count] for column in zip(*parts, strict=True)]


def _padded(array: Array, size: int, slot: Slot) -> Array:
    """Fill the last batch of a fixed size up by repeating its last sample."""
    missing = 0 if slot.shape[0] is None else size - len(array)
    return np.concatenate([array, np.repeat(array[-1:], missing, axis=0)]) if missing else array


def matched(slots: Sequence[Slot], ports: Sequence[Port], side: str, model: str) -> list[Slot]:
    """Bring the file's tensors into the model's order."""
    by_name = {slot.name: slot for slot in slots}
    if len(slots) != len(ports):
        raise VerificationError(
            f"the file has {len(slots)} {side}s ({', '.join(by_name)}), model {model!r} has "
            f"{len(ports)} ({', '.join(port.name for port in ports)}): it is another model's."
        )
    if set(by_name) == {port.name for port in ports}:
        ordered = [by_name[port.name] for port in ports]
    else:
        # Files of other converters have names of their own; the order is all there is.
        ordered = list(slots)
    for slot, port in zip(ordered, ports, strict=True):
        fits = len(slot.shape) == len(port.shape) and all(
            None in (have, want) or have == want
            for have, want in zip(slot.shape[1:], port.shape[1:], strict=True)
        )
        if not fits:
            raise VerificationError(
                f"{side} {slot.name!r} of the file has shape {_shape(slot.shape)}, model "
                f"{model!r} has {_shape(port.shape)} at {port.name!r}: it is another model's."
            )
    return ordered


def check_scale(port: Port, slot: Slot, array: Array, known: TensorMetadata | None) -> None:
    """Refuse samples whose values cannot be what the file was made for.

    The file's idea of its input comes from the samples it was converted with, or from the
    range of its quantized input. Samples that leave it by more than its own width, or that
    fill less than a sixteenth of it (0..1 instead of 0..255), are in another scale.
    """
    if np.dtype(port.dtype).kind != "f":
        return
    limits: tuple[float, float] | None = slot.range
    if known is not None and known.minimum is not None and known.maximum is not None:
        limits = (known.minimum, known.maximum)
    if limits is None:
        return
    low, high = limits
    span = high - low
    seen = (float(array.min()), float(array.max()))
    too_wide = seen[0] < low - span or seen[1] > high + span
    too_narrow = len(array) >= _MANY and (seen[1] - seen[0]) * 16 < span
    if span > 0 and (too_wide or too_narrow):
        raise VerificationError(
            f"samples for input {port.name!r} lie in [{seen[0]:.4g}, {seen[1]:.4g}], the file "
            f"was made for [{low:.4g}, {high:.4g}]: they are in another scale. Preprocess them "
            "as for the model."
        )


def _shape(shape: tuple[int | None, ...]) -> str:
    return "(" + ", ".join("any" if size is None else str(size) for size in shape) + ")"
