"""Reading and writing whole files: atomic, and never over another file unasked."""

from __future__ import annotations

import os
from pathlib import Path

from tflite_export.errors import ExportFileError
from tflite_export.writing.temporary import held_folder

__all__ = ["read", "save"]


def save(
    data: bytes | bytearray | str, path: str | os.PathLike[str], *, overwrite: bool = False
) -> Path:
    """Write a whole file, or nothing.

    The bytes go to a temporary file in the same folder, reach the disk, and are then
    renamed: a process that is killed leaves the old file or the new one, never half of
    one, and the next process that writes there removes its temporary file. Missing parent
    folders are created.

    Args:
        data: The contents; text is written as UTF-8.
        path: Where the file shall be.
        overwrite: Whether a file that is already there may be replaced.

    Returns:
        The path that was written.

    Raises:
        ExportFileError: The file is there and `overwrite` is false, or the folder
            cannot be written (permissions, no space, not a folder).

    Example:
        >>> tflite_export.save(flat, "digits.tflite").name
        'digits.tflite'
    """
    target = Path(path)
    try:
        payload = data.encode("utf-8") if isinstance(data, str) else bytes(data)
    except UnicodeEncodeError as error:
        raise ExportFileError(
            f"cannot write {target}: the text holds {data[error.start]!r} in place {error.start}, "
            "which UTF-8 cannot write; pass bytes in the encoding you want."
        ) from error
    if target.is_dir():
        raise ExportFileError(f"cannot write {target}: it is a folder; give a file name in it.")
    if target.exists() and not overwrite:
        raise ExportFileError(
            f"{target} exists already; pass overwrite=True to replace it, or choose another name."
        )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with held_folder(target.parent, target.name) as folder:
            temporary = folder / target.name
            # Not tempfile: its files are private, a published model has the usual mode.
            with temporary.open("xb") as file:
                file.write(payload)
                file.flush()
                os.fsync(file.fileno())
            _publish(temporary, target, overwrite=overwrite)
    except _TakenError:
        raise ExportFileError(
            f"{target} was created by another process meanwhile; "
            "pass overwrite=True to replace it, or choose another name."
        ) from None
    except OSError as error:
        raise ExportFileError(
            f"cannot write {target} ({len(payload):,} bytes): {error.strerror or error}. "
            "Check that the folder can be written and has room."
        ) from error
    return target


def read(path: str | os.PathLike[str]) -> bytes:
    r"""Read a whole file.

    Args:
        path: The file.

    Returns:
        Its bytes.

    Raises:
        ExportFileError: The file is missing or cannot be read.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     read(save("zero\n", folder + "/labels.txt"))
        b'zero\n'
    """
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ExportFileError(f"cannot read {path}: {error.strerror or error}.") from error


class _TakenError(Exception):
    """Somebody else took the name."""


def _publish(temporary: Path, target: Path, *, overwrite: bool) -> None:
    """Give the finished file its name; without `overwrite`, only if the name is still free."""
    if not overwrite:
        # A hard link, unlike a rename, fails when the name is taken: no gap between
        # looking and writing. Not every file system has links.
        try:
            os.link(temporary, target)
            return
        except FileExistsError:
            raise _TakenError from None
        except OSError:
            pass
    temporary.replace(target)
