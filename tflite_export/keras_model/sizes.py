"""Sizes for what a model leaves open in its inputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tflite_export.errors import OptionError
from tflite_export.keras_model.ports import Port
from tflite_export.keras_model.source import Source


def with_length(origin: Source, length: int | None) -> Source:
    """Give the open second axis of the inputs, steps or tokens, a size.

    Args:
        origin: The model.
        length: The size; `None` leaves it open.

    Raises:
        OptionError: It is no size, or no input has such an axis.
    """
    if length is None:
        return origin
    if not isinstance(length, int) or length < 1:
        raise OptionError(f"sequence_length must be None or at least 1. Received: {length!r}.")
    if not any(port.shape[1:2] == (None,) for port in origin.inputs):
        shapes = ", ".join(f"{port.name!r} {port.shape}" for port in origin.inputs)
        raise OptionError(
            f"sequence_length={length} is the size of an open second axis, which no input of model "
            f"{origin.name!r} has ({shapes}). Leave it out."
        )
    return with_sizes(
        origin,
        [
            (port.shape[0], length, *port.shape[2:]) if port.shape[1:2] == (None,) else port.shape
            for port in origin.inputs
        ],
    )


def with_sizes(origin: Source, shapes: Sequence[tuple[int | None, ...]]) -> Source:
    """Give what is open in the inputs, but for the batch, the sizes of other shapes."""

    def sized(port: Port, other: tuple[int | None, ...]) -> Port:
        pairs = zip(port.shape[1:], other[1:], strict=True)
        sizes = (there if own is None else own for own, there in pairs)
        return replace(port, shape=(port.shape[0], *sizes))

    return replace(origin, inputs=tuple(map(sized, origin.inputs, shapes)))
