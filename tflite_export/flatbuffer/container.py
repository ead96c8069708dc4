"""Open, change and close a TFLite flatbuffer, and notice a damaged one.

Every file this package writes carries a stamp: the length of its flatbuffer, the CRC-32 of it, and
of what lies before the stamp. A flipped bit in the weights, which no reader of the format would
see, is one clear error. Other tools that open a flatbuffer and write it again keep the stamp as
they found it, behind other bytes and in a file of another length. A cut changes only the length, a
flipped bit does not: such a file is treated as theirs.
"""

from __future__ import annotations

import hashlib
import json
import struct
import warnings
import zlib
from collections.abc import Container
from dataclasses import dataclass
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

from tflite_export.errors import ChangedFileWarning, FlatbufferError

IDENTIFIER = b"TFL3"
STAMP_NAME = "tflite_export"
METADATA_NAME = "TFLITE_METADATA"

# The stamp is JSON of fixed width with the check sum last, so that it can be written
# into a packed file without moving anything.
_STAMP_HEAD = b'{"tflite_export":1,'
_STAMP_CRC = b'"crc32":"'
# CRC-32 of what lies before the stamp, and of everything else in the stamp itself.
_STAMP_HEAD_CRC = b'"head":"'
_STAMP_OWN = b'"own":"'
_ZIP = b"PK\x03\x04"
_UNREADABLE = "the TFLite model is damaged: its own stamp cannot be read. Export it again."


@dataclass(frozen=True)
class Stamp:
    """What a file of this package says about itself.

    Attributes:
        quantize: The variant it was converted as.
        length: Bytes of the flatbuffer; associated files come behind it.
        files: Number of associated files behind the flatbuffer.
    """

    quantize: str
    length: int
    files: int


def check(flat: bytes) -> Stamp | None:
    """Refuse what is no TFLite model or a damaged one; give back the stamp, if it is the file's.

    Raises:
        FlatbufferError: Wrong identifier, truncated, or changed in its place since it was written.

    Warns:
        ChangedFileWarning: Another tool wrote the file anew; there is no stamp then.
    """
    stamp, moved = _examined(flat)
    if moved is not None:
        lost = ", and its associated files (labels and the like) are gone" if moved.files else ""
        warnings.warn(
            "another tool wrote this TFLite model anew since it was exported: the check sum no "
            f"longer tells whether it is damaged, its variant is read off its types{lost}. "
            "add_metadata gives it metadata and a check sum of its own.",
            ChangedFileWarning,
            stacklevel=3,
        )
    return stamp


def _examined(flat: bytes) -> tuple[Stamp | None, Stamp | None]:
    """Give the stamp of a whole file; or, second, that of one that another tool wrote anew."""
    if not isinstance(flat, (bytes, bytearray, memoryview)):
        raise FlatbufferError(
            f"expected the bytes of a TFLite model. Received: {type(flat).__name__}."
        )
    flat = bytes(flat)
    if len(flat) < 8 or flat[4:8] != IDENTIFIER:
        raise FlatbufferError(
            f"these {len(flat):,} bytes are not a TFLite model: bytes 4 to 8 are "
            f"{flat[4:8]!r}, a TFLite flatbuffer has {IDENTIFIER!r} there."
        )
    start = flat.find(_STAMP_HEAD)
    if start < 0:
        return None, None
    end = flat.find(b"}", start) + 1
    try:
        fields = json.loads(flat[start:end])
        stamp = Stamp(str(fields["quantize"]), int(fields["length"]), int(fields["files"]))
        expected = int(fields["crc32"], 16)
        head = int(fields["head"], 16)
        whole = _own_checksum(flat[start:end]) == int(fields["own"], 16)
    except (ValueError, KeyError, TypeError):
        raise FlatbufferError(_UNREADABLE) from None
    if not whole:
        raise FlatbufferError(_UNREADABLE)
    behind = flat[stamp.length : stamp.length + len(_ZIP)]
    as_written = len(flat) >= stamp.length and behind == (_ZIP if stamp.files else b"")
    if not as_written and zlib.crc32(flat[:start]) != head:
        return None, stamp
    if len(flat) < stamp.length:
        raise FlatbufferError(
            f"the TFLite model is truncated: {len(flat):,} bytes of at least "
            f"{stamp.length:,}. Copy or export it again."
        )
    if _checksum(flat[: stamp.length], start, end) != expected:
        raise FlatbufferError(
            "the TFLite model is damaged, or another tool changed it in its place: its check sum "
            "does not fit its contents. Copy or export it again."
        )
    return stamp, None


def parse(flat: bytes) -> Any:
    """Turn checked bytes into the schema's `ModelT` object.

    Raises:
        FlatbufferError: The bytes do not hold a complete model.
    """
    stamp, moved = _examined(flat)
    try:
        model = flatbuffer_utils.read_model_from_bytearray(bytearray(flat))
        if not model.subgraphs or not model.operatorCodes:
            raise ValueError("it has no graph")
        for graph in model.subgraphs:
            for index in (*(graph.inputs or ()), *(graph.outputs or ())):
                if not 0 <= index < len(graph.tensors):
                    raise ValueError(f"it names tensor {index} of {len(graph.tensors)}")
    except (
        struct.error,
        IndexError,
        ValueError,
        TypeError,
        AttributeError,
        OverflowError,
        MemoryError,
        UnicodeDecodeError,
    ) as error:
        raise FlatbufferError(
            f"the TFLite model is truncated or damaged ({error}). Copy or export it again."
        ) from error
    if stamp is None and moved is None and entry(model, STAMP_NAME) is not None:
        # Damage to the stamp's first letters hides it from `check`.
        raise FlatbufferError(_UNREADABLE)
    return model


def pack(model: Any, *, quantize: str, files: int = 0) -> bytes:
    """Turn a `ModelT` back into bytes, with a fresh stamp."""
    blank = _stamp_bytes(quantize, 0, files)
    set_entry(model, STAMP_NAME, blank)
    flat = serialize(model)
    start = flat.index(blank)
    filled = _stamp_bytes(quantize, len(flat), files)
    end = start + len(filled)
    filled = _written(filled, _STAMP_HEAD_CRC, zlib.crc32(flat[:start]))
    filled = _written(filled, _STAMP_CRC, _checksum(flat[:start] + filled + flat[end:], start, end))
    filled = _written(filled, _STAMP_OWN, _own_checksum(filled))
    return flat[:start] + filled + flat[end:]


def serialize(model: Any) -> bytes:
    """Turn a `ModelT` into bytes as it is."""
    builder = _AlignedBuilder(1024)
    builder.Finish(model.Pack(builder), file_identifier=IDENTIFIER)
    return bytes(builder.Output())


def entry(model: Any, name: str) -> bytes | None:
    """Read one named entry of `Model.metadata`."""
    for item in model.metadata or ():
        if _text(item.name) == name:
            data = model.buffers[item.buffer].data
            return None if data is None else bytes(bytearray(data))
    return None


def set_entry(model: Any, name: str, data: bytes) -> None:
    """Write one named entry of `Model.metadata`, replacing an older one."""
    payload = np.frombuffer(data, dtype=np.uint8)
    for item in model.metadata or ():
        if _text(item.name) == name:
            model.buffers[item.buffer].data = payload
            return
    item = schema.MetadataT()
    item.name = name
    item.buffer = len(model.buffers)
    buffer = schema.BufferT()
    buffer.data = payload
    model.buffers.append(buffer)
    model.metadata = [*(model.metadata or ()), item]


def drop(model: Any, names: Container[str]) -> None:
    """Leave out entries of `Model.metadata`, and buffers that nothing reads then."""
    model.metadata = [one for one in model.metadata or () if _text(one.name) not in names] or None
    tensors = [tensor for graph in model.subgraphs for tensor in graph.tensors or ()]
    readers = [*tensors, *(model.metadata or ())]
    # The first buffer is the empty one, by the schema.
    kept = sorted({0} | {reader.buffer for reader in readers})
    moved = {old: new for new, old in enumerate(kept)}
    model.buffers = [model.buffers[number] for number in kept]
    for reader in readers:
        reader.buffer = moved[reader.buffer]


def share(model: Any) -> None:
    """Let constants with the same bytes lie in the file once, as a table that also scores does."""
    first: dict[bytes, int] = {}
    moved: dict[int, int] = {}
    tensors = [tensor for graph in model.subgraphs for tensor in graph.tensors or ()]
    for number in sorted({tensor.buffer for tensor in tensors}):
        data = model.buffers[number].data
        if data is not None and len(data):
            digest = hashlib.sha256(np.asarray(data, np.uint8).data).digest()
            moved[number] = first.setdefault(digest, number)
    for tensor in tensors:
        tensor.buffer = moved.get(tensor.buffer, tensor.buffer)
    for number, kept in moved.items():
        if number != kept:
            model.buffers[number].data = None


def constant(model: Any, tensor: Any) -> bool:
    """Whether a tensor is a weight or another constant of the file."""
    data = model.buffers[tensor.buffer].data
    return data is not None and len(data) > 0


def text(value: bytes | str | None) -> str:
    """Read a flatbuffer string."""
    return _text(value)


def _text(value: bytes | str | None) -> str:
    if value is None:
        return ""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _stamp_bytes(quantize: str, length: int, files: int) -> bytes:
    body = f'"quantize":{json.dumps(quantize)},"length":"{length:012d}","files":"{files:04d}",'
    sums = b",".join(name + b'00000000"' for name in (_STAMP_HEAD_CRC, _STAMP_CRC, _STAMP_OWN))
    return _STAMP_HEAD + body.encode("ascii") + sums + b"}"


def _checksum(flat: bytes, start: int, end: int) -> int:
    """CRC-32 of the flatbuffer with the digits of both check sums read as zeros."""
    blank = _written(_written(flat[start:end], _STAMP_CRC, 0), _STAMP_OWN, 0)
    return zlib.crc32(flat[end:], zlib.crc32(blank, zlib.crc32(flat[:start])))


def _own_checksum(stamp: bytes) -> int:
    return zlib.crc32(_written(stamp, _STAMP_OWN, 0))


def _written(stamp: bytes, name: bytes, value: int) -> bytes:
    """Put a check sum into a stamp."""
    at = stamp.index(name) + len(name)
    return stamp[:at] + f"{value:08x}".encode() + stamp[at + 8 :]


class _AlignedBuilder(flatbuffers.Builder):
    """A builder that keeps the schema's `force_align: 16` on buffers.

    The generated Python code forgets it, and a bias at an odd address faults on
    microcontrollers that cannot read unaligned words.
    """

    def CreateNumpyVector(self, x: Any) -> Any:  # noqa: N802
        if x.dtype != np.uint8 or not x.size:
            return super().CreateNumpyVector(x)
        self.StartVector(1, x.size, 16)
        self.head: int = self.head - x.size
        self.Bytes[self.head : self.head + x.size] = x.tobytes()
        self.vectorNumElems = x.size
        return self.EndVector()
