"""Run a flatbuffer and the model it came from on the same samples, and compare."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from tflite_export import _flatbuffer, _packing
from tflite_export._metadata_types import TensorMetadata
from tflite_export._runtime import Runner, Slot
from tflite_export._samples import arrays
from tflite_export._source import Port, Source, source
from tflite_export.errors import FlatbufferError, VerificationError
from tflite_export.files import read
from tflite_export.variants import variant

__all__ = ["OutputDifference", "Verification", "verify"]

Array = np.ndarray[Any, Any]
_BATCH = 64


@dataclass(frozen=True)
class OutputDifference:
    """How far one output of the file is from the model's.

    Attributes:
        name: The output.
        absolute: Largest absolute difference.
        relative: The same as a share of `scale`.
        scale: Largest absolute value that the model answers on the samples.
        agreement: Share of samples with the same decision (the largest position; above 0.5
            for a single probability); `None` for an output that decides nothing.

    Example:
        >>> OutputDifference("scores", 1e-7, 2e-7, 0.5, 1.0).agreement
        1.0
    """

    name: str
    absolute: float
    relative: float
    scale: float
    agreement: float | None


@dataclass(frozen=True)
class Verification:
    """The outcome of comparing a file with its model.

    Attributes:
        variant: The variant the file was converted as.
        samples: Number of samples compared.
        tolerance: Largest relative difference that was accepted.
        outputs: One entry per output.

    Example:
        >>> output = OutputDifference("scores", 1e-7, 2e-7, 0.5, 1.0)
        >>> Verification("float32", 100, 1e-5, (output,)).relative
        2e-07
    """

    variant: str
    samples: int
    tolerance: float
    outputs: tuple[OutputDifference, ...]

    @property
    def absolute(self) -> float:
        """Largest absolute difference over all outputs."""
        return max(output.absolute for output in self.outputs)

    @property
    def relative(self) -> float:
        """Largest difference over all outputs, as a share of the output's scale."""
        return max(output.relative for output in self.outputs)

    @property
    def agreement(self) -> float | None:
        """Lowest share of equal decisions over the outputs that decide; `None` if none does."""
        return min(
            (output.agreement for output in self.outputs if output.agreement is not None),
            default=None,
        )


def verify(
    flat: bytes | str | os.PathLike[str],
    model: Any,
    samples: Any,
    *,
    tolerance: float | None = None,
) -> Verification:
    """Check that a TFLite model answers what its Keras model answers.

    The file runs in the LiteRT interpreter, the model in Keras; a mixed precision model is
    compared in float32, the arithmetic the file has. The Keras model is not changed.

    Args:
        flat: The model's bytes, or its path.
        model: The Keras model it was converted from.
        samples: Inputs as for `model.predict`, sample axis first.
        tolerance: Largest difference to accept, as a share of the output's scale; by default
            the one of the file's variant (`tflite_export.VARIANTS`).

    Returns:
        The differences found.

    Raises:
        VerificationError: The answers differ by more than the tolerance; the file is damaged,
            or belongs to another model; the samples have the wrong shape, type or scale.
        ExportFileError: The path cannot be read.

    Example:
        >>> verify(flat, model, x_test[:100]).relative             # doctest: +SKIP
        8.4e-08
    """
    if tolerance is not None and not (math.isfinite(tolerance) and tolerance >= 0):
        raise VerificationError(f"tolerance must be 0 or more. Received: {tolerance!r}.")
    data = read(flat) if isinstance(flat, (str, os.PathLike)) else flat
    try:
        stamp = _flatbuffer.check(data)
        metadata = _packing.unpack(data, _flatbuffer.parse(data), stamp)
        runner = Runner(data)
    except FlatbufferError as error:
        raise VerificationError(str(error)) from error
    origin = source(model, samples=samples)
    inputs = _matched(runner.inputs, origin.inputs, "input", origin.name)
    outputs = _matched(runner.outputs, origin.outputs, "output", origin.name)
    values = arrays(samples, origin.inputs, VerificationError)
    for port, slot, array in zip(origin.inputs, inputs, values, strict=True):
        known = next((item for item in metadata.inputs if item.name == slot.name), None)
        _check_scale(port, slot, array, known)
    expected = _predict(origin, values)
    answers = _run(runner, inputs, outputs, values)
    row = variant(metadata.quantize)
    accepted = row.tolerance if tolerance is None else tolerance
    result = Verification(
        variant=row.name,
        samples=len(values[0]),
        tolerance=accepted,
        outputs=tuple(
            _difference(port.name, left, right)
            for port, left, right in zip(origin.outputs, expected, answers, strict=True)
        ),
    )
    for output in result.outputs:
        # Not `>`: a NaN must fail too.
        if not output.relative <= accepted:
            raise VerificationError(
                f"output {output.name!r} of the {row.name} file is {output.relative:.2g} of its "
                f"scale away from the model (largest difference {output.absolute:.3g} over "
                f"{result.samples} samples, tolerance {accepted:.2g}). The file was converted "
                "from another model or other weights, or the conversion is wrong."
            )
    return result


def _matched(slots: Sequence[Slot], ports: Sequence[Port], side: str, model: str) -> list[Slot]:
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


def _check_scale(port: Port, slot: Slot, array: Array, known: TensorMetadata | None) -> None:
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
    too_narrow = len(array) > 1 and (seen[1] - seen[0]) * 16 < span
    if span > 0 and (too_wide or too_narrow):
        raise VerificationError(
            f"samples for input {port.name!r} lie in [{seen[0]:.4g}, {seen[1]:.4g}], the file "
            f"was made for [{low:.4g}, {high:.4g}]: they are in another scale. Preprocess them "
            "as for the model."
        )


def _predict(origin: Source, values: Sequence[Array]) -> list[Array]:
    """The model's own answers, in batches."""
    parts = [
        [
            keras.ops.convert_to_numpy(answer)
            for answer in origin.call(
                [keras.ops.convert_to_tensor(array[start : start + _BATCH]) for array in values]
            )
        ]
        for start in range(0, len(values[0]), _BATCH)
    ]
    return [np.concatenate(column) for column in zip(*parts, strict=True)]


def _run(
    runner: Runner, inputs: Sequence[Slot], outputs: Sequence[Slot], values: Sequence[Array]
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


def _difference(name: str, expected: Array, answer: Array) -> OutputDifference:
    if expected.shape != answer.shape:
        raise VerificationError(
            f"output {name!r} of the file has shape {answer.shape}, the model's has "
            f"{expected.shape}: it is another model's."
        )
    left, right = expected.astype(np.float64), answer.astype(np.float64)
    absolute = float(np.abs(left - right).max(initial=0.0))
    scale = float(np.abs(left).max(initial=0.0))
    # An output that is zero everywhere has no scale; its differences count as they are.
    relative = absolute / scale if scale else absolute
    return OutputDifference(name, absolute, relative, scale, _agreement(left, right))


def _agreement(expected: Array, answer: Array) -> float | None:
    decisions = _decisions(expected, expected), _decisions(expected, answer)
    if decisions[0] is None or decisions[1] is None:
        return None
    return float((decisions[0] == decisions[1]).mean())


def _decisions(expected: Array, values: Array) -> Array | None:
    """What each sample is decided to be; `expected` tells what kind of output it is."""
    if expected.ndim < 2 or not expected.size:
        return None
    if expected.shape[-1] > 1:
        return np.asarray(values.argmax(axis=-1))
    if expected.min() >= 0 and expected.max() <= 1:
        return np.asarray(values > 0.5)
    return None


def _shape(shape: tuple[int | None, ...]) -> str:
    return "(" + ", ".join("any" if size is None else str(size) for size in shape) + ")"
