"""The nouns of the metadata: what a model file can say about itself."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tflite_export.errors import MetadataError

Labels = Sequence[str] | Mapping[str, Sequence[str]]
Files = Mapping[str, Any]


@dataclass(frozen=True)
class Normalization:
    """What is done to a raw input before the model sees it: ``(x - mean) / std``.

    Attributes:
        mean: One value, or one per channel.
        std: One value, or one per channel.

    Example:
        >>> grey = tflite_export.Normalization(mean=(0.0,), std=(255.0,))  # 0..255 become 0..1
        >>> told = tflite_export.read_metadata(tflite_export.add_metadata(flat, normalization=grey))
        >>> told.inputs[0].normalization
        Normalization(mean=(0.0,), std=(255.0,))
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        """Refuse what no device could apply."""
        for name in ("mean", "std"):
            given = getattr(self, name)
            values = (given,) if isinstance(given, (int, float)) else tuple(given)
            object.__setattr__(self, name, tuple(float(value) for value in values))
        if not self.mean or not self.std:
            raise MetadataError("Normalization needs at least one mean and one std.")
        if not all(math.isfinite(value) for value in (*self.mean, *self.std)):
            raise MetadataError(f"Normalization must be finite. Received: {self}.")
        if any(value <= 0 for value in self.std):
            raise MetadataError(f"Normalization std must be above 0. Received: std={self.std}.")


@dataclass(frozen=True)
class TensorMetadata:
    """What the metadata says about one input or output.

    Attributes:
        name: The name in the model's signature.
        description: Text for people.
        labels: One name per position of the output's last axis; empty for an input.
        normalization: How raw values become inputs, where it was given.
        minimum: Smallest value seen in the samples given at conversion, if any.
        maximum: Largest value seen in them.

    Example:
        >>> pixels = tflite_export.read_metadata(flat).inputs[0]
        >>> pixels.name, pixels.minimum, pixels.maximum
        ('pixels', 0.0, 1.0)
    """

    name: str
    description: str = ""
    labels: tuple[str, ...] = ()
    normalization: Normalization | None = None
    minimum: float | None = None
    maximum: float | None = None


@dataclass(frozen=True)
class Metadata:
    """Everything a model file says about itself.

    Attributes:
        name: The model's name.
        description: Text for people.
        version: The model's version.
        author: Who made the model.
        license: The model's licence.
        inputs: One entry per input, in the order of the graph.
        outputs: One entry per output, in the order of the graph.
        files: The associated files, label files included: name to contents.
        quantize: The variant this package converted the model as; `None` in other files.

    Example:
        >>> metadata = tflite_export.read_metadata(flat)
        >>> metadata.name, metadata.quantize
        ('digits', 'int8')
    """

    name: str = ""
    description: str = ""
    version: str = ""
    author: str = ""
    license: str = ""
    inputs: tuple[TensorMetadata, ...] = ()
    outputs: tuple[TensorMetadata, ...] = ()
    files: Mapping[str, bytes] = field(default_factory=dict)
    quantize: str | None = None

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels of the first output that has any."""
        return next((tensor.labels for tensor in self.outputs if tensor.labels), ())
