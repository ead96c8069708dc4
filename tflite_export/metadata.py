"""Labels, preprocessing and files inside the model file.

What a device must know travels in the `.tflite` itself, in the standard form: a
`TFLITE_METADATA` entry in the flatbuffer, and the named files as a zip archive behind it.
The interpreter ignores both, `unzip` shows the files, and the standard metadata readers
(MediaPipe's, Android's) find labels and normalization.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace

from tflite_export.files import read
from tflite_export.flatbuffer import container, packing
from tflite_export.flatbuffer.metadata_types import (
    Files,
    Labels,
    Metadata,
    Normalization,
    TensorMetadata,
)

__all__ = ["Metadata", "Normalization", "TensorMetadata", "add_metadata", "read_metadata"]


def add_metadata(
    flat: bytes,
    *,
    name: str | None = None,
    description: str | None = None,
    version: str | None = None,
    author: str | None = None,
    license: str | None = None,
    labels: Labels | None = None,
    normalization: Normalization | Mapping[str, Normalization] | None = None,
    files: Files | None = None,
) -> bytes:
    """Put labels, preprocessing and files into a TFLite model.

    Works on any TFLite model. What the model holds already stays unless it is given anew.

    Args:
        flat: The model.
        name: The model's name.
        description: Text for people, for example a model card.
        version: The model's version.
        author: Who made the model.
        license: The model's licence.
        labels: One name per position of the output's last axis; for a model with several
            outputs a dict from output name to labels.
        normalization: How raw values become inputs; for several inputs a dict by name.
        files: File name to contents: bytes, text, or anything JSON can hold.

    Returns:
        The model with its metadata; it runs exactly as before.

    Raises:
        FlatbufferError: `flat` is not a TFLite model.
        MetadataError: The labels do not fit the output, or a file cannot be packed.

    Example:
        >>> names = [f"digit {number}" for number in range(10)]
        >>> flat = tflite_export.add_metadata(flat, labels=names, files={"note.txt": "Tried."})
        >>> tflite_export.read_metadata(flat).labels[3]
        'digit 3'
    """
    stamp = container.check(flat)
    model = container.parse(flat)
    current = packing.unpack(flat, model, stamp)
    current = replace(
        current,
        name=current.name if name is None else name,
        description=current.description if description is None else description,
        version=current.version if version is None else version,
        author=current.author if author is None else author,
        license=current.license if license is None else license,
    )
    current = packing.describe(
        current, model, labels=labels, normalization=normalization, files=files
    )
    return packing.pack(model, current)


def read_metadata(source: bytes | str | os.PathLike[str]) -> Metadata:
    """Read what a model file says about itself.

    Args:
        source: The model's bytes, or its path.

    Returns:
        Its metadata; a model without any gives the tensors' names and nothing else.

    Raises:
        ExportFileError: The path cannot be read.
        FlatbufferError: Not a TFLite model, or a damaged one.
        MetadataError: The metadata is not in the standard schema.

    Example:
        >>> told = tflite_export.read_metadata(flat)
        >>> told.name, told.quantize, told.inputs[0].name
        ('digits', 'int8', 'pixels')
    """
    flat = read(source) if isinstance(source, (str, os.PathLike)) else source
    stamp = container.check(flat)
    return packing.unpack(flat, container.parse(flat), stamp)
