"""Writing whole folders: all of one or nothing, and never over files of the user's."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from tflite_export.errors import ExportFileError
from tflite_export.writing.exchange import exchange
from tflite_export.writing.temporary import REPLACED, held_folder


class FolderError(ExportFileError):
    """A folder cannot be written, or would be overwritten unasked."""


@contextlib.contextmanager
def replacing_folder(
    path: str | os.PathLike[str], *, made: Sequence[str], overwrite: bool = False
) -> Iterator[Path]:
    """Give a temporary folder beside `path`; move it there when the block ends without an error.

    Work that is stopped half way, by an error, Ctrl-C or a full disk, leaves nothing, or the old
    folder as it was. Old and new change places in one step where the system can (Linux, macOS), so
    that one of them is there at every moment. An old folder is replaced only where every file in it
    is one that the same work would make: anything else is the user's. Of two processes that write
    one new folder, one succeeds and the other gets the error.

    Args:
        path: The folder that shall be. An empty one that exists is as good as none.
        made: Patterns of the files that the work makes, relative to the folder, `"plans/*.json"`.
        overwrite: Whether an earlier run's folder may be replaced.

    Raises:
        FolderError: The folder exists and `overwrite` is false, it holds other files, or it cannot
            be written. All but a disk that gets full and what another process made meanwhile is
            found out before the block starts.

    Example:
        >>> with replacing_folder("plans", made=["*.json"]) as folder:
        ...     plan.save(folder / "3.json")
    """
    target = Path(path).resolve()
    _refuse(target, Path(path), made, overwrite=overwrite)
    with contextlib.ExitStack() as stack:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            held = stack.enter_context(held_folder(target.parent, target.name))
            part = held / target.name
            part.mkdir()
        except OSError as error:
            raise FolderError(
                f"Cannot write in the folder of {str(path)!r}: {error.strerror or error}. Choose "
                "another folder."
            ) from error
        yield part
        try:
            _refuse(target, Path(path), made, overwrite=overwrite)
            if overwrite and target.exists():
                exchange(part, target, held / REPLACED)
            else:
                _claim(part, target, Path(path))
        except FolderError:
            raise
        except OSError as error:
            raise FolderError(f"Cannot write {str(path)!r}: {error.strerror or error}.") from error


def _refuse(target: Path, path: Path, made: Sequence[str], *, overwrite: bool) -> None:
    if not target.exists():
        return
    if not target.is_dir():
        raise FolderError(f"{str(path)!r} is a file. Choose another name for the folder.")
    if Path.cwd().is_relative_to(target):
        raise FolderError(
            f"{str(path)!r} holds the folder you are working in. Name a folder inside it."
        )
    held = [found for found in target.rglob("*") if not found.is_dir() or found.is_symlink()]
    if not held:
        return
    if not overwrite:
        raise _taken(path)
    for file in held:
        name = file.relative_to(target).as_posix()
        if not any(fnmatchcase(name, pattern) for pattern in made):
            raise FolderError(
                f"The folder {str(path)!r} holds {name!r}, which no earlier run made, so it is not "
                "replaced. Choose another folder, or move that file away."
            )


def _taken(path: Path) -> FolderError:
    return FolderError(
        f"The folder {str(path)!r} already exists. Pass overwrite=True (--overwrite in a shell) to "
        "replace it, or choose another name."
    )


def _claim(part: Path, target: Path, path: Path) -> None:
    """Give a finished folder a name that is free, or that of a folder without files.

    Raises:
        FolderError: Another process took the name.
    """
    try:
        if target.exists():
            _remove_empty(target)
        part.rename(target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        raise _taken(path) from None


def _remove_empty(folder: Path) -> None:
    """Remove a folder of empty folders; a file in it is an `OSError`, and stays."""
    # What is gone already was removed by another process that wants the same name.
    with contextlib.suppress(FileNotFoundError):
        for inner in folder.iterdir():
            if inner.is_dir() and not inner.is_symlink():
                _remove_empty(inner)
        folder.rmdir()
