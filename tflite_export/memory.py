"""The memory that a file needs on a microcontroller."""

from __future__ import annotations

import os

from tflite_export.files import read
from tflite_export.flatbuffer import container
from tflite_export.runtimes.micro import smallest_arena

__all__ = ["arena"]


def arena(flat: bytes | str | os.PathLike[str]) -> int:
    """Measure the smallest arena that TFLite Micro runs a file with.

    Its own interpreter tries arenas until none 16 bytes smaller is accepted; an arena is aligned to
    16 bytes. That interpreter is one of 64 bits with the reference kernels: on a microcontroller of
    32 bits pointers take half as much, and optimised kernels (CMSIS-NN, ESP-NN) may ask for room of
    their own.

    Args:
        flat: The model's bytes, or its path.

    Returns:
        Bytes.

    Raises:
        OptionError: The package tflite-micro is missing (`pip install 'keras-nns[micro]'`).
        FlatbufferError: Not a TFLite model, a damaged one, or one that TFLite Micro does not run.
        ExportFileError: The path cannot be read.

    Example:
        >>> tflite_export.arena(flat)  # bytes
        2672
    """
    data = read(flat) if isinstance(flat, (str, os.PathLike)) else flat
    container.parse(data)
    return smallest_arena(bytes(data))
