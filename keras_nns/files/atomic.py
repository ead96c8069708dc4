"""Reading and writing files: atomic, checked, without pickle."""

from __future__ import annotations

import contextlib
import io
import json
import os
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_nns.errors import FileError
from tflite_export.reading import archives
from tflite_export.writing.temporary import held_folder

Path_ = str | PathLike[str]
Json = dict[str, Any]

_TRIED = 2**20
"""Bytes that are compressed to see whether the others will shrink."""


def refuse_existing(path: Path_, *, overwrite: bool) -> None:
    """Raise `FileError` when `path` exists and `overwrite` is false."""
    if not overwrite and os.path.lexists(path):
        raise _taken(path)


def _taken(path: Path_) -> FileError:
    return FileError(
        f"{os.fspath(path)!r} already exists. Pass overwrite=True (--overwrite in a shell) to "
        "replace it, or choose another name."
    )


@contextlib.contextmanager
def replacing(path: Path_, *, overwrite: bool = False) -> Iterator[Path]:
    """Give a temporary path beside `path`; move it there when the block ends without an error.

    A killed process leaves the old file or the new one, never a part of one, and its temporary file
    goes when the next process writes there. Of two processes that write one new name, one succeeds
    and the other gets the error.

    Raises:
        FileError: The file exists and `overwrite` is false, also where another process made it
            since the block began; or its folder cannot be written.
    """
    target = Path(path)
    refuse_existing(target, overwrite=overwrite)
    with contextlib.ExitStack() as stack:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            folder = stack.enter_context(held_folder(target.parent, target.stem))
            part = folder / f"part{target.suffix}"
            part.touch(exist_ok=False)
        except OSError as error:
            raise FileError(
                f"Cannot write in the folder of {str(target)!r}: {error.strerror or error}."
            ) from error
        try:
            yield part
            with part.open("rb+") as stream:
                os.fsync(stream.fileno())
            _publish(part, target, overwrite=overwrite)
        except FileError:
            raise
        except OSError as error:
            raise FileError(f"Cannot write {str(target)!r}: {error.strerror or error}.") from error


def _publish(part: Path, target: Path, *, overwrite: bool) -> None:
    """Give a finished file its name; without `overwrite`, only if the name is still free.

    Raises:
        FileError: Another process took the name.
    """
    if not overwrite:
        try:
            # A hard link, unlike a rename, fails where the name is taken: no gap between looking
            # and writing.
            os.link(part, target)
            return
        except FileExistsError:
            raise _taken(target) from None
        except OSError:
            _reserve(target)
    part.replace(target)


def _reserve(target: Path) -> None:
    """Hold a free name with an empty file, on a file system without links.

    Raises:
        FileError: Another process took the name.
    """
    try:
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    except FileExistsError:
        raise _taken(target) from None


def write_bytes(path: Path_, data: bytes, *, overwrite: bool = False) -> None:
    """Write bytes atomically.

    Raises:
        FileError: The file exists and `overwrite` is false, or cannot be written (no permission,
            no space).
    """
    with replacing(path, overwrite=overwrite) as part:
        part.write_bytes(data)


def read_bytes(path: Path_) -> bytes:
    """Read a file whole.

    Raises:
        FileError: The file is missing or cannot be read.
    """
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise FileError(f"Cannot read {os.fspath(path)!r}: {error.strerror or error}.") from error


@contextlib.contextmanager
def blame(path: Path_) -> Iterator[None]:
    """Name the file in a `FileError` raised while its contents are read."""
    try:
        yield
    except FileError as error:
        name = os.fspath(path)
        if name in str(error):
            raise
        raise FileError(f"{name!r}: {error}") from error


def parse_json(data: bytes) -> Any:
    """Parse JSON bytes.

    Raises:
        FileError: The bytes are not JSON.
    """
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise FileError(f"The file is not JSON, or is cut short: {error}.") from error


def json_text(content: Any, *, indent: int | None = None) -> str:
    """Write plain data as JSON that UTF-8 can write, and that is read as it was.

    Letters stand as they are, but where there are halves of surrogate pairs, which `os.fsdecode`
    makes of file names in other encodings: then all but ASCII is escaped.

    Args:
        content: Plain data; numbers are finite.
        indent: Spaces by which a level is set in; None for one line without spaces.
    """
    apart = (",", ":") if indent is None else None
    text = json.dumps(content, indent=indent, ensure_ascii=False, separators=apart)
    try:
        text.encode()
    except UnicodeEncodeError:
        return json.dumps(content, indent=indent, separators=apart)
    return text


def write_arrays(
    path: Path_,
    format: str,
    header: Mapping[str, Any],
    arrays: Mapping[str, NDArray[Any]],
    *,
    overwrite: bool = False,
) -> None:
    """Write named arrays and a JSON header as a compressed `.npz` with a checksum per entry.

    Args:
        path: Where to.
        format: What the file is; `read_arrays` refuses any other.
        header: Plain data.
        arrays: Arrays of numbers or booleans, by name.
        overwrite: Whether an existing file may be replaced.

    Raises:
        FileError: The file exists and `overwrite` is false, or cannot be written.
    """
    text = json_text({"format": format, **header}).encode()
    entries = {"header": np.frombuffer(text, dtype=np.uint8), **arrays}
    # The fastest level: others take five times as long for a few percent.
    with (
        replacing(path, overwrite=overwrite) as part,
        zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
    ):
        for name, array in entries.items():
            # Not `ascontiguousarray`, which makes a single number an array of one.
            whole = np.asarray(array, order="C")
            archive.compression = zipfile.ZIP_DEFLATED if _shrinks(whole) else zipfile.ZIP_STORED
            with archive.open(f"{name}.npy", "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, whole, allow_pickle=False)


def _shrinks(array: NDArray[Any]) -> bool:
    """Whether compressing is worth its time, by what becomes of a part from the middle."""
    if array.dtype.hasobject:  # Which is refused where it is written.
        return True
    data = array.reshape(-1).view(np.uint8)
    middle = data[max(0, len(data) // 2 - _TRIED // 2) :][:_TRIED]
    return len(middle) == 0 or len(zlib.compress(middle.tobytes(), 1)) < 0.9 * len(middle)


def read_arrays(path: Path_, format: str) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Read what `write_arrays` wrote.

    Returns:
        The header, and the arrays by name.

    Raises:
        FileError: The file is missing, damaged, cut short, or of another format.
    """
    data = read_bytes(path)
    with blame(path):
        try:
            arrays = dict(_entries(data))
        except Exception as error:  # zlib.error and struct.error derive from Exception alone.
            raise FileError(
                f"The file is damaged, cut short, or not a {format} file: {error}."
            ) from error
        if "header" not in arrays:
            raise FileError(f"The file is not a {format} file: it has no header.")
        return _checked(arrays.pop("header").tobytes(), format), arrays


def read_header(path: Path_, *formats: str) -> dict[str, Any]:
    """Read the header of what `write_arrays` wrote, and none of its arrays.

    Args:
        path: The file.
        formats: What it may be; the header's "format" says which it is.

    Raises:
        FileError: As `read_arrays`.
    """
    try:
        with Path(path).open("rb") as stream, zipfile.ZipFile(stream) as archive:
            archives.entries(archive, archives.end_of(stream))
            text = archives.array(archive, "header.npy").tobytes()
    except OSError as error:
        raise FileError(f"Cannot read {os.fspath(path)!r}: {error.strerror or error}.") from error
    except Exception as error:  # zlib.error and struct.error derive from Exception alone.
        raise FileError(
            f"{os.fspath(path)!r}: The file is damaged, cut short, or not a {' or '.join(formats)} "
            f"file: {error}."
        ) from error
    with blame(path):
        return _checked(text, *formats)


def _checked(text: bytes, *formats: str) -> dict[str, Any]:
    header = parse_json(text)
    if not isinstance(header, dict) or header.get("format") not in formats:
        found = header.get("format") if isinstance(header, dict) else None
        raise FileError(f"Expected a {' or '.join(formats)} file. Received: format {found!r}.")
    return header


def _entries(data: bytes) -> Iterator[tuple[str, NDArray[Any]]]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for entry in archives.entries(archive, data):
            yield entry.removesuffix(".npy"), archives.array(archive, entry)
