"""Move metadata between its dataclasses and the bytes of a model file."""

from __future__ import annotations

import io
import json
import os
import struct
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any

from tflite_export.errors import FlatbufferError, MetadataError
from tflite_export.flatbuffer import container
from tflite_export.flatbuffer.metadata_schema import (
    DESCRIPTIONS,
    NORMALIZATION,
    PARSER_VERSION,
    TENSOR_AXIS_LABELS,
    FileSlots,
    ModelSlots,
    NormalizationSlots,
    StatsSlots,
    SubgraphSlots,
    TensorSlots,
    UnitSlots,
    View,
    Writer,
)
from tflite_export.flatbuffer.metadata_types import (
    Files,
    Labels,
    Metadata,
    Normalization,
    TensorMetadata,
)
from tflite_export.reading import archives

LABEL_FILE = "labels.txt"
_LONGEST_NAME = 255
"""Bytes of a file's name: zip takes 65,535, the file systems it is unpacked on take these."""
# A fixed date, so that the same model gives the same bytes on every day.
_EPOCH = (1980, 1, 1, 0, 0, 0)


def describe(
    current: Metadata,
    model: Any,
    *,
    labels: Labels | None = None,
    normalization: Normalization | Mapping[str, Normalization] | None = None,
    files: Files | None = None,
    ranges: Mapping[str, tuple[float, float]] | None = None,
) -> Metadata:
    """Check what the user says against the model's tensors and add it to the metadata."""
    inputs = _tensors(model, current.inputs, "inputs")
    outputs = _tensors(model, current.outputs, "outputs")
    packed = dict(current.files)
    for name, contents in (files or {}).items():
        packed[_file_name(name)] = _contents(name, contents)
    if normalization is not None:
        given = _by_name(normalization, inputs, "normalization", "input")
        inputs = tuple(
            replace(item, normalization=given.get(item.name, item.normalization)) for item in inputs
        )
    for name, (low, high) in (ranges or {}).items():
        inputs = tuple(
            replace(item, minimum=low, maximum=high) if item.name == name else item
            for item in inputs
        )
    if labels is not None:
        widths = dict(zip([item.name for item in outputs], _widths(model), strict=True))
        named = _by_name(labels, outputs, "labels", "output")
        checked = {name: _labels(name, value, widths[name]) for name, value in named.items()}
        outputs = tuple(
            replace(item, labels=checked.get(item.name, item.labels)) for item in outputs
        )
        for name in label_files(current).values():
            packed.pop(name, None)
    current = replace(current, inputs=inputs, outputs=outputs)
    reserved = set(label_files(current).values())
    for name in files or ():
        if _file_name(name) in reserved:
            raise MetadataError(f"files may not hold {name!r}: it is written from the labels.")
    for output, name in label_files(current).items():
        lines = next(item.labels for item in outputs if item.name == output)
        packed[name] = "".join(f"{line}\n" for line in lines).encode("utf-8")
    return replace(current, files=packed)


def label_files(metadata: Metadata) -> dict[str, str]:
    """Output name to the name of its label file."""
    labelled = [item.name for item in metadata.outputs if item.labels]
    if len(labelled) == 1:
        return {labelled[0]: LABEL_FILE}
    return {name: f"labels_{_safe(name)[:100]}.txt" for name in labelled}


def pack(model: Any, metadata: Metadata) -> bytes:
    """Write a model with its metadata and its files."""
    container.set_entry(model, container.METADATA_NAME, _encode(metadata))
    flat = container.pack(model, quantize=metadata.quantize or "", files=len(metadata.files))
    if not metadata.files:
        return flat
    buffer = io.BytesIO(flat)
    # Stored, not deflated: the readers on devices map the files in place.
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_STORED) as archive:
        for name, contents in metadata.files.items():
            info = zipfile.ZipInfo(name, date_time=_EPOCH)
            info.create_system = 3
            info.external_attr = 0o644 << 16
            archive.writestr(info, contents)
    return buffer.getvalue()


def unpack(flat: bytes, model: Any, stamp: container.Stamp | None) -> Metadata:
    """Read a model's metadata and its files."""
    files = _files(flat, stamp)
    data = container.entry(model, container.METADATA_NAME)
    metadata = Metadata() if data is None else _decode(data, files)
    metadata = replace(metadata, files=files, quantize=(stamp.quantize or None) if stamp else None)
    return replace(
        metadata,
        inputs=_tensors(model, metadata.inputs, "inputs"),
        outputs=_tensors(model, metadata.outputs, "outputs"),
    )


def _files(flat: bytes, stamp: container.Stamp | None) -> dict[str, bytes]:
    if stamp is not None and not stamp.files:
        return {}
    try:
        with zipfile.ZipFile(io.BytesIO(flat)) as archive:
            files = {}
            for info in archive.infolist():
                if not archives.fits(info.file_size, info.compress_size):
                    raise zipfile.BadZipFile(f"{info.filename} claims {info.file_size:,} bytes")
                files[info.filename] = archive.read(info)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        if stamp is None:
            # A model without associated files: the usual case for other people's.
            return {}
        raise FlatbufferError(
            f"the model's associated files are truncated or damaged ({error}). "
            "Copy or export it again."
        ) from error
    if stamp is not None and len(files) != stamp.files:
        raise FlatbufferError(
            f"the model holds {len(files)} of its {stamp.files} associated files. "
            "Copy or export it again."
        )
    return files


def _encode(metadata: Metadata) -> bytes:
    writer = Writer()

    def told(what: str) -> int | None:
        return writer.string(_text(getattr(metadata, what), f"the metadata's {what}"))

    files = label_files(metadata)
    inputs = writer.tables([_encode_tensor(writer, item, files) for item in metadata.inputs])
    outputs = writer.tables([_encode_tensor(writer, item, files) for item in metadata.outputs])
    subgraph = writer.table({SubgraphSlots.INPUTS: inputs, SubgraphSlots.OUTPUTS: outputs})
    others = [name for name in metadata.files if name not in files.values()]
    root = writer.table(
        {
            ModelSlots.NAME: told("name"),
            ModelSlots.DESCRIPTION: told("description"),
            ModelSlots.VERSION: told("version"),
            ModelSlots.SUBGRAPHS: writer.tables([subgraph]),
            ModelSlots.AUTHOR: told("author"),
            ModelSlots.LICENSE: told("license"),
            ModelSlots.FILES: writer.tables(
                [_encode_file(writer, name, DESCRIPTIONS) for name in others]
            ),
            ModelSlots.PARSER: writer.string(PARSER_VERSION),
        }
    )
    return writer.finish(root)


def _encode_tensor(writer: Writer, tensor: TensorMetadata, files: Mapping[str, str]) -> int:
    units = []
    if tensor.normalization is not None:
        options = writer.table(
            {
                NormalizationSlots.MEAN: writer.floats(tensor.normalization.mean),
                NormalizationSlots.STD: writer.floats(tensor.normalization.std),
            }
        )
        units.append(
            writer.table({UnitSlots.OPTIONS: options}, numbers={UnitSlots.KIND: NORMALIZATION})
        )
    stats = None
    if tensor.minimum is not None and tensor.maximum is not None:
        stats = writer.table(
            {
                StatsSlots.MAX: writer.floats([tensor.maximum]),
                StatsSlots.MIN: writer.floats([tensor.minimum]),
            }
        )
    attached = []
    if tensor.name in files and tensor.labels:
        attached.append(_encode_file(writer, files[tensor.name], TENSOR_AXIS_LABELS))
    return writer.table(
        {
            TensorSlots.NAME: writer.string(_text(tensor.name, "the name of a tensor")),
            TensorSlots.DESCRIPTION: writer.string(
                _text(tensor.description, f"the description of {tensor.name!r}")
            ),
            TensorSlots.PROCESS_UNITS: writer.tables(units),
            TensorSlots.STATS: stats,
            TensorSlots.FILES: writer.tables(attached),
        }
    )


def _encode_file(writer: Writer, name: str, kind: int) -> int:
    return writer.table({FileSlots.NAME: writer.string(name)}, numbers={FileSlots.TYPE: kind})


def _decode(data: bytes, files: Mapping[str, bytes]) -> Metadata:
    try:
        root = View.root(data)
        subgraphs = root.tables(ModelSlots.SUBGRAPHS)
        first = subgraphs[0] if subgraphs else None
        inputs = first.tables(SubgraphSlots.INPUTS) if first else []
        outputs = first.tables(SubgraphSlots.OUTPUTS) if first else []
        return Metadata(
            name=root.string(ModelSlots.NAME),
            description=root.string(ModelSlots.DESCRIPTION),
            version=root.string(ModelSlots.VERSION),
            author=root.string(ModelSlots.AUTHOR),
            license=root.string(ModelSlots.LICENSE),
            inputs=tuple(_decode_tensor(view, files) for view in inputs),
            outputs=tuple(_decode_tensor(view, files) for view in outputs),
        )
    except (struct.error, IndexError, UnicodeDecodeError, TypeError) as error:
        raise MetadataError(f"the model's metadata is damaged: {error}.") from error


def _decode_tensor(view: View, files: Mapping[str, bytes]) -> TensorMetadata:
    labels: tuple[str, ...] = ()
    for file in view.tables(TensorSlots.FILES):
        if file.number(FileSlots.TYPE) == TENSOR_AXIS_LABELS and not labels:
            contents = files.get(file.string(FileSlots.NAME), b"")
            labels = tuple(contents.decode("utf-8").splitlines())
    normalization = None
    for unit in view.tables(TensorSlots.PROCESS_UNITS):
        options = unit.table(UnitSlots.OPTIONS)
        if unit.number(UnitSlots.KIND) == NORMALIZATION and options is not None:
            normalization = Normalization(
                options.floats(NormalizationSlots.MEAN), options.floats(NormalizationSlots.STD)
            )
    stats = view.table(TensorSlots.STATS)
    low = stats.floats(StatsSlots.MIN) if stats else ()
    high = stats.floats(StatsSlots.MAX) if stats else ()
    return TensorMetadata(
        name=view.string(TensorSlots.NAME),
        description=view.string(TensorSlots.DESCRIPTION),
        labels=labels,
        normalization=normalization,
        minimum=min(low, default=None),
        maximum=max(high, default=None),
    )


def _tensors(
    model: Any, known: tuple[TensorMetadata, ...], side: str
) -> tuple[TensorMetadata, ...]:
    """One entry per tensor of the graph, blank ones where the metadata has none."""
    names = tensor_names(model, side)
    if len(known) == len(names):
        return known
    return tuple(TensorMetadata(name) for name in names)


def tensor_names(model: Any, side: str) -> list[str]:
    """Names of the graph's inputs or outputs, the signature's where there is one."""
    graph = model.subgraphs[0]
    signature = (model.signatureDefs or [None])[0]
    by_index = {
        item.tensorIndex: container.text(item.name) for item in getattr(signature, side, None) or ()
    }
    return [
        by_index.get(index) or container.text(graph.tensors[index].name)
        for index in getattr(graph, side)
    ]


def _widths(model: Any) -> list[int]:
    """Size of the last axis of each output; -1 where it is open."""
    graph = model.subgraphs[0]
    widths = []
    for index in graph.outputs:
        tensor = graph.tensors[index]
        shape = tensor.shapeSignature if tensor.shapeSignature is not None else tensor.shape
        widths.append(int(shape[-1]) if shape is not None and len(shape) else 1)
    return widths


def _by_name(
    given: Any, tensors: tuple[TensorMetadata, ...], what: str, side: str
) -> dict[str, Any]:
    names = [item.name for item in tensors]
    if isinstance(given, Mapping):
        unknown = [name for name in given if name not in names]
        if unknown:
            raise MetadataError(f"{what} names the {side} {unknown[0]!r}; the model has {names}.")
        return dict(given)
    if len(names) != 1:
        raise MetadataError(
            f"the model has {len(names)} {side}s ({', '.join(names)}); pass {what} as a dict "
            f"from {side} name."
        )
    return {names[0]: given}


def _labels(output: str, labels: Any, width: int) -> tuple[str, ...]:
    if isinstance(labels, (str, bytes)) or not isinstance(labels, Sequence):
        raise MetadataError(
            f"labels must be a list of names. Received: {type(labels).__name__}. "
            "Read a label file with Path(...).read_text().splitlines()."
        )
    names = tuple(_text(str(label), f"a label of output {output!r}") for label in labels)
    if len(names) != width:
        raise MetadataError(
            f"{len(names)} labels were given, but output {output!r} has width {width}. "
            "Give one label per position, in the order of the output."
        )
    for position, name in enumerate(names):
        if not name.strip() or len(name.splitlines()) != 1:
            raise MetadataError(
                f"label {position} is {name!r}; a label is one line of text and not empty."
            )
    return names


def _file_name(name: Any) -> str:
    path = PurePosixPath(str(name))
    if (
        not str(name)
        or path.is_absolute()
        or ".." in path.parts
        or any(character in str(name) for character in "\\:\0\n")
    ):
        raise MetadataError(
            f"{name!r} cannot be the name of an associated file; use a plain relative name."
        )
    if len(_text(str(path), "the name of an associated file").encode()) > _LONGEST_NAME:
        raise MetadataError(
            f"the name of an associated file may have {_LONGEST_NAME:,} bytes. Received: one of "
            f"{len(str(path).encode()):,}, {str(path)[:40]!r}…; choose a shorter one."
        )
    return str(path)


def _text(value: str, what: str) -> str:
    """Check that a text can be written as UTF-8, as every reader of the format reads it."""
    if not isinstance(value, str):
        raise MetadataError(
            f"{what} must be text. Received: {value!r}; pass {str(value)!r} for instance."
        )
    try:
        value.encode()
    except UnicodeEncodeError:
        plain = os.fsencode(value).decode("latin-1", "replace")
        raise MetadataError(
            f"{what} is no text that UTF-8 can write: {value!r}. It may come from a file name in "
            f"another encoding; write {plain!r} instead."
        ) from None
    return value


def _contents(name: str, contents: Any) -> bytes:
    if isinstance(contents, (bytes, bytearray, memoryview)):
        return bytes(contents)
    if isinstance(contents, str):
        return _text(contents, f"the text of file {name!r}").encode()
    try:
        return json.dumps(contents, indent=1, sort_keys=True, allow_nan=False).encode("utf-8")
    except (TypeError, ValueError) as error:
        raise MetadataError(
            f"file {name!r} holds a {type(contents).__name__} that is neither bytes, text nor "
            f"JSON: {error}."
        ) from error


def _safe(name: str) -> str:
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in name)
