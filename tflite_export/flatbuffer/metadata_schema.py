"""The TFLite metadata schema (identifier M001), written and read without generated code.

Slot numbers are those of `metadata_schema.fbs`, which the standard metadata readers use.
Only the fields this package fills are named.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import flatbuffers
from flatbuffers import number_types
from flatbuffers.table import Table

from tflite_export.errors import MetadataError

IDENTIFIER = b"M001"
# The lowest schema version that has every field written here.
PARSER_VERSION = "1.0.0"
TENSOR_AXIS_LABELS = 2
DESCRIPTIONS = 1
NORMALIZATION = 1


class ModelSlots:
    """Table ModelMetadata."""

    NAME, DESCRIPTION, VERSION, SUBGRAPHS, AUTHOR, LICENSE, FILES, PARSER = range(8)


class SubgraphSlots:
    """Table SubGraphMetadata."""

    INPUTS, OUTPUTS = 2, 3


class TensorSlots:
    """Table TensorMetadata."""

    NAME, DESCRIPTION = 0, 1
    PROCESS_UNITS, STATS, FILES = 4, 5, 6


class FileSlots:
    """Table AssociatedFile."""

    NAME, DESCRIPTION, TYPE = 0, 1, 2


class UnitSlots:
    """Table ProcessUnit: a union is a type byte and an offset."""

    KIND, OPTIONS = 0, 1


class NormalizationSlots:
    """Table NormalizationOptions."""

    MEAN, STD = 0, 1


class StatsSlots:
    """Table Stats."""

    MAX, MIN = 0, 1


class Writer:
    """Builds one metadata flatbuffer, children before parents."""

    def __init__(self) -> None:
        self._builder = flatbuffers.Builder(512)

    def string(self, value: str) -> int | None:
        """Write a string; the empty one is left out."""
        return int(self._builder.CreateString(value)) if value else None

    def floats(self, values: Sequence[float]) -> int | None:
        """Write a vector of float32."""
        if not values:
            return None
        self._builder.StartVector(4, len(values), 4)
        for value in reversed(values):
            self._builder.PrependFloat32(value)
        return int(self._builder.EndVector())

    def tables(self, offsets: Sequence[int]) -> int | None:
        """Write a vector of tables."""
        if not offsets:
            return None
        self._builder.StartVector(4, len(offsets), 4)
        for offset in reversed(offsets):
            self._builder.PrependUOffsetTRelative(offset)
        return int(self._builder.EndVector())

    def table(self, offsets: dict[int, int | None], numbers: dict[int, int] | None = None) -> int:
        """Write a table from slots that are offsets and slots that are bytes."""
        numbers = numbers or {}
        self._builder.StartObject(max((*offsets, *numbers), default=-1) + 1)
        for slot, offset in offsets.items():
            if offset is not None:
                self._builder.PrependUOffsetTRelativeSlot(slot, offset, 0)
        for slot, number in numbers.items():
            self._builder.PrependInt8Slot(slot, number, 0)
        return int(self._builder.EndObject())

    def finish(self, root: int) -> bytes:
        """Close the buffer."""
        self._builder.Finish(root, file_identifier=IDENTIFIER)
        return bytes(self._builder.Output())


class View:
    """A table of a metadata flatbuffer, read by slot number."""

    def __init__(self, table: Any) -> None:
        self._table = table

    @classmethod
    def root(cls, data: bytes) -> View:
        """Open a metadata flatbuffer.

        Raises:
            MetadataError: The bytes are something else.
        """
        if len(data) < 8 or data[4:8] != IDENTIFIER:
            raise MetadataError(
                f"the model's {len(data)} bytes of TFLITE_METADATA are not in the standard "
                f"schema: identifier {data[4:8]!r} instead of {IDENTIFIER!r}."
            )
        position = struct.unpack_from("<I", data)[0]
        return cls(Table(bytearray(data), position))

    def string(self, slot: int) -> str:
        """Read a string; empty when it was left out."""
        at = self._at(slot)
        return "" if not at else self._table.String(at + self._table.Pos).decode("utf-8")

    def number(self, slot: int) -> int:
        """Read a byte."""
        at = self._at(slot)
        return int(self._table.Get(number_types.Int8Flags, at + self._table.Pos)) if at else 0

    def floats(self, slot: int) -> tuple[float, ...]:
        """Read a vector of float32."""
        flags = number_types.Float32Flags
        return tuple(float(self._table.Get(flags, at)) for at in self._elements(slot))

    def table(self, slot: int) -> View | None:
        """Read a table."""
        at = self._at(slot)
        if not at:
            return None
        position = self._table.Indirect(at + self._table.Pos)
        return View(Table(self._table.Bytes, position))

    def tables(self, slot: int) -> list[View]:
        """Read a vector of tables."""
        return [
            View(Table(self._table.Bytes, self._table.Indirect(at))) for at in self._elements(slot)
        ]

    def _at(self, slot: int) -> int:
        return int(self._table.Offset(4 + 2 * slot))

    def _elements(self, slot: int) -> list[int]:
        """Positions of a vector's elements of four bytes each."""
        at = self._at(slot)
        if not at:
            return []
        start = self._table.Vector(at)
        return [start + 4 * index for index in range(self._table.VectorLen(at))]
