"""Vectorised weights: the kept rows of a model's weights in a file, read row by row.

The paper's section 3.5: the rows of a matrix that are not zeros, and where they belong, in a
safetensors file that any reader of that format reads. Nothing here needs Keras or TensorFlow.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from keras_nns.bundles.parent_weights import (
    PLAIN,
    Mask,
    Positions,
    Weight,
    dtype_named,
    union_of,
    weight_of,
)
from keras_nns.errors import FileError, SurgeryError, what_is_wrong
from keras_nns.files import atomic
from keras_nns.files.atomic import Json

Values = Literal["exact", "float16", "int8"]
VALUES: tuple[Values, ...] = get_args(Values)

_FORMAT = "keras_nns.bundle"
_VERSION = 1
_AXES, _CHECKSUMS = ":axes", ":checksums"
_SCALE = ":scale/"


@dataclass(frozen=True, eq=False)
class VectorFile:
    """A file of kept rows, opened: its header has been read and checked, no row has.

    What was opened stays readable as it was when another file takes its name.

    Attributes:
        path: Where it is.
        content: What the writer said about it.
        values: How numbers are stored.
        weights: Every weight of the parent, in order.
        union: Units of which rows are stored.
    """

    path: str
    content: Json
    values: Values
    weights: tuple[Weight, ...]
    union: Mask
    _stream: Any
    _stored: Mapping[str, tuple[Positions, NDArray[np.uint32]]]

    def read(self, mask: Mask) -> dict[str, NDArray[Any]]:
        """Read the part of every weight that stays, and nothing else; compare its checksums.

        Args:
            mask: For every unit, whether it stays; a part of `union`.

        Returns:
            Arrays by name of weight, in the parent's types.

        Raises:
            FileError: The file is damaged.
        """
        kept = None if (mask == self.union).all() else np.append(mask, True)
        with _named(self.path):
            return {weight.name: self._part(weight, kept) for weight in self.weights}

    def _part(self, weight: Weight, kept: Mask | None) -> NDArray[Any]:
        stream = self._stream
        stored, checksums = self._stored[weight.name]
        wanted = stored if kept is None else weight.positions(kept)
        if weight.row is None:
            rows, count = np.zeros(1, np.int64), 1
            value = stream.get_tensor(weight.name)[None]
        else:
            rows = np.searchsorted(stored[weight.row], wanted[weight.row])
            count = len(stored[weight.row])
            value = _rows(stream, weight.name, rows, count)
        # Shapes and types are not under the rows' checksums.
        shape = [len(stored[a]) if a in stored else n for a, n in enumerate(weight.shape)]
        if weight.row is not None:
            del shape[weight.row]
        _expect(weight.name, value, _stored_dtype(weight, self.values), (len(rows), *shape))
        scale = None
        if self._is_scaled(weight):
            scale = _rows(stream, _SCALE + weight.name, rows, count)
            _expect(_SCALE + weight.name, scale, "float32", (len(rows),))
        if (_row_checksums(value, scale) != checksums[rows]).any():
            raise FileError(
                f"The file is damaged: a checksum of {weight.name!r} is wrong. Copy it again from "
                "where it came, or store it anew."
            )
        value = _unpacked(value, scale, weight.dtype)
        value = value[0] if weight.row is None else np.moveaxis(value, 0, weight.row)
        for axis, where in wanted.items():
            if axis != weight.row and len(where) < value.shape[axis]:
                value = np.take(value, np.searchsorted(stored[axis], where), axis=axis)
        return np.asarray(value)

    def _is_scaled(self, weight: Weight) -> bool:
        return _stored_dtype(weight, self.values) == "int8" and weight.dtype != "int8"


def write(
    path: str | PathLike[str],
    content: Json,
    weights: Sequence[Weight],
    arrays: Sequence[NDArray[Any]],
    union: Mask,
    *,
    values: Values = "exact",
    overwrite: bool = False,
) -> None:
    """Write the rows of weights that stay, once each.

    Args:
        path: Where to.
        content: Plain data about the file.
        weights: Every weight of the parent.
        arrays: Their values, in the same order.
        union: Units of which rows are stored.
        values: `"exact"` keeps every bit. `"float16"` and `"int8"` store the numbers of matrices
            and kernels smaller, int8 with one scale per row; vectors stay as they are.
        overwrite: Whether an existing file may be replaced.

    Raises:
        SurgeryError: A number is too large for float16, or not finite.
        FileError: The file exists and `overwrite` is false, or cannot be written.
    """
    tensors: dict[str, NDArray[Any]] = {}
    axes: list[NDArray[np.int32]] = []
    known: dict[bytes, list[int]] = {}
    checksums: list[NDArray[np.uint32]] = []
    described = []
    for weight, array in zip(weights, arrays, strict=True):
        part = weight.take(array, union)
        rows = part[None] if weight.row is None else np.moveaxis(part, weight.row, 0)
        packed, scale = _packed(np.ascontiguousarray(rows), weight, values)
        tensors[weight.name] = packed.reshape(part.shape) if weight.row is None else packed
        if scale is not None:
            tensors[_SCALE + weight.name] = scale
        checksums.append(_row_checksums(packed, scale))
        places = {}
        for axis, units in weight.axes.items():
            # Weights of one group have the same units along their axes: write them once.
            key = units.astype(np.int32).tobytes()
            if key not in known:
                known[key] = [sum(map(len, axes)), len(units)]
                axes.append(units.astype(np.int32))
            places[str(axis)] = known[key]
        described.append(
            [weight.name, weight.layer, weight.index, weight.shape, weight.dtype, places,
             weight.row]
        )  # fmt: skip
    tensors[_AXES] = np.concatenate([*axes, np.zeros(0, np.int32)]).astype(np.int32)
    tensors[_CHECKSUMS] = np.concatenate([*checksums, np.zeros(0, np.uint32)]).astype(np.uint32)
    header = {
        "version": _VERSION,
        "values": values,
        "union": np.packbits(union).tobytes().hex(),
        "units": len(union),
        "weights": described,
        "content": content,
    }
    text = atomic.json_text(header)
    digest = _digest(text, tensors[_AXES], tensors[_CHECKSUMS])
    metadata = {"format": _FORMAT, "header": text, "digest": digest}
    atomic.write_bytes(path, save(tensors, metadata), overwrite=overwrite)


def open_vectors(path: str | PathLike[str]) -> VectorFile:
    """Open a file that `write` wrote: read its header, and none of its rows.

    Raises:
        FileError: The file is missing, damaged, cut short, or of another kind.
    """
    with _named(path):
        stream: Any = safe_open(path, framework="numpy")
        metadata = stream.metadata() or {}
        if metadata.get("format") != _FORMAT:
            raise FileError(
                f"Expected a {_FORMAT} file. Received: a safetensors file of format "
                f"{metadata.get('format')!r}."
            )
        try:
            axes, checksums = stream.get_tensor(_AXES), stream.get_tensor(_CHECKSUMS)
            _expect(_AXES, axes, "int32", (axes.size,))
            _expect(_CHECKSUMS, checksums, "uint32", (checksums.size,))
            text, digest = metadata["header"], metadata["digest"]
            if _digest(text, axes, checksums) != digest:
                raise FileError("The file is damaged: the checksum of its header is wrong.")
            header = json.loads(text)
            if header["version"] != _VERSION:
                raise FileError(
                    f"Expected a bundle of version {_VERSION}. Received: version "
                    f"{header['version']!r}. Read it with the release that wrote it."
                )
            return _file(stream, str(path), header, axes, checksums)
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise FileError(f"The file is damaged: {what_is_wrong(error)}.") from error


def _file(
    stream: Any,
    path: str,
    header: Json,
    axes: NDArray[np.int32],
    checksums: NDArray[np.uint32],
) -> VectorFile:
    union = union_of(header)
    weights = tuple(weight_of(entry, axes, len(union)) for entry in header["weights"])
    values = header["values"]
    if values not in VALUES:
        raise ValueError(f"values are stored as {values!r}")
    kept = np.append(union, True)
    start = 0
    own: dict[str, tuple[Positions, NDArray[np.uint32]]] = {}
    for weight in weights:
        where = weight.positions(kept)
        count = 1 if weight.row is None else len(where[weight.row])
        own[weight.name] = where, checksums[start : start + count]
        start += count
    return VectorFile(path, header["content"], values, weights, union, stream, own)


@contextmanager
def _named(path: str | PathLike[str]) -> Iterator[None]:
    """Name the file in every error that reading it raises."""
    with atomic.blame(path):
        try:
            yield
        except SafetensorError as error:
            raise FileError(
                f"The file is damaged, cut short, or not a {_FORMAT} file: {error}."
            ) from error
        except FileError:
            raise
        except OSError as error:
            raise FileError(f"Cannot read {str(path)!r}: {error.strerror or error}.") from error


def _rows(stream: Any, name: str, rows: NDArray[np.int64], count: int) -> NDArray[Any]:
    """Read some rows of a tensor, run by run."""
    if len(rows) == count:
        return np.asarray(stream.get_tensor(name))
    found = stream.get_slice(name)
    breaks = np.flatnonzero(np.diff(rows) != 1) + 1
    runs = [found[int(run[0]) : int(run[-1]) + 1] for run in np.split(rows, breaks) if len(run)]
    return np.concatenate(runs) if runs else found[0:0]


def _expect(name: str, value: NDArray[Any], dtype: str, shape: tuple[int, ...]) -> None:
    if value.dtype != dtype or value.shape != shape:
        raise FileError(
            f"The file is damaged: {name!r} should be {dtype} {shape} and is {value.dtype} "
            f"{value.shape}."
        )


def _stored_dtype(weight: Weight, values: Values) -> str:
    """Name the type in which a weight's numbers are stored."""
    if values != "exact" and len(weight.shape) > 1 and "float" in weight.dtype:
        return values
    if weight.dtype in PLAIN:
        return weight.dtype
    return f"uint{8 * dtype_named(weight.dtype).itemsize}"


def _packed(
    rows: NDArray[Any], weight: Weight, values: Values
) -> tuple[NDArray[Any], NDArray[np.float32] | None]:
    """Turn numbers into what is stored, with the scale of each row where there is one."""
    stored = _stored_dtype(weight, values)
    if stored == weight.dtype:
        return rows, None
    if stored not in VALUES:
        return rows.view(stored), None
    numbers = rows.astype(np.float32)
    if stored == "float16":
        with np.errstate(over="ignore"):
            half = numbers.astype(np.float16)
        if not np.isfinite(half).all():
            raise SurgeryError(
                f"Weight {weight.name!r} holds numbers that float16 does not reach: at most "
                f"65504, and {np.abs(numbers).max()} is there. Store it with values='exact'."
            )
        return half, None
    if not np.isfinite(numbers).all():
        raise SurgeryError(
            f"Weight {weight.name!r} holds NaN or infinity, which int8 has not. Store it with "
            "values='exact'."
        )
    flat = np.abs(numbers).reshape(len(numbers), -1)
    scale = flat.max(axis=1, initial=0) / np.float32(127)
    scale = np.where(scale > 0, scale, 1).astype(np.float32)
    each = scale.reshape(-1, *[1] * (numbers.ndim - 1))
    return np.clip(np.rint(numbers / each), -127, 127).astype(np.int8), scale


def _unpacked(rows: NDArray[Any], scale: NDArray[np.float32] | None, dtype: str) -> NDArray[Any]:
    if scale is not None:
        each = scale.reshape(-1, *[1] * (rows.ndim - 1))
        return (rows.astype(np.float32) * each).astype(dtype_named(dtype))
    stored_bits = dtype not in PLAIN and rows.dtype.kind == "u"
    return (
        rows.view(dtype_named(dtype))
        if stored_bits
        else rows.astype(dtype_named(dtype), copy=False)
    )


def _row_checksums(rows: NDArray[Any], scale: NDArray[np.float32] | None) -> NDArray[np.uint32]:
    """CRC-32 of each row's bytes, its scale's behind them."""
    size = rows.nbytes // max(len(rows), 1)
    data = np.ascontiguousarray(rows).reshape(-1).view(np.uint8).data
    sums = [zlib.crc32(data[i * size : (i + 1) * size]) for i in range(len(rows))]
    if scale is not None:
        sums = [zlib.crc32(one.tobytes(), old) for old, one in zip(sums, scale, strict=True)]
    return np.array(sums, dtype=np.uint32)


def _digest(text: str, axes: NDArray[Any], checksums: NDArray[Any]) -> str:
    digest = hashlib.sha256(text.encode())
    digest.update(axes.tobytes())
    digest.update(checksums.tobytes())
    return digest.hexdigest()
