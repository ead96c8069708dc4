"""Temporary folders that a process holds while it lives; the next one removes those of the dead.

What is written whole or not at all is made in such a folder beside its target and then moved. A
process that is killed cannot clean up behind itself. But the lock that it has on its folder goes
with it, so whoever comes by next can tell what is left over from what another process works on.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

if sys.platform != "win32":
    import fcntl

REPLACED = "replaced"
"""Name of the folder in a held one where what is about to be replaced lies for a moment."""

_HELD = re.compile(r"\..*\.held-[0-9a-f]{8}")
_swept: set[tuple[int, int]] = set()


@contextlib.contextmanager
def held_folder(parent: Path, name: str) -> Iterator[Path]:
    """Make a hidden folder that is this process's own while the block runs, and remove it then.

    Before it, what dead processes left in `parent` is removed, once for each process and folder.
    Where a file system (or Windows) has no locks on folders, the folder bears another name and
    nobody takes it for a leftover.

    Args:
        parent: The folder to make it in.
        name: What its name begins with.

    Raises:
        OSError: It cannot be made.
    """
    _sweep(parent)
    folder, lock = _make(parent, name[:40])
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def _make(parent: Path, name: str) -> tuple[Path, int | None]:
    while True:
        token = secrets.token_hex(4)
        folder = parent / f".{name}.held-{token}"
        folder.mkdir(mode=0o700)
        lock = _lock(folder, wait=True)
        if not folder.exists():  # A process that swept took it in the moment before the lock.
            if lock is not None:
                os.close(lock)
            continue
        if lock is None:
            folder = folder.rename(parent / f".{name}.part-{token}")
        return folder, lock


def _lock(folder: Path, *, wait: bool = False) -> int | None:
    """Lock a folder for as long as the descriptor is open; None where it cannot be had."""
    if sys.platform == "win32":
        return None
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _sweep(parent: Path) -> None:
    """Remove the held folders of processes that have died."""
    try:
        about = parent.stat()
        if (about.st_dev, about.st_ino) in _swept:
            return
        _swept.add((about.st_dev, about.st_ino))
        found = [Path(entry) for entry in os.scandir(parent) if _HELD.fullmatch(entry.name)]
    except OSError:  # Whoever writes there says so better.
        return
    for folder in found:
        lock = _lock(folder)
        if lock is None:
            continue
        _put_back(folder)
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _put_back(folder: Path) -> None:
    """Give its name back to what its process had moved aside and not yet replaced."""
    with contextlib.suppress(OSError):
        for old in (folder / REPLACED).iterdir():
            if not os.path.lexists(folder.parent / old.name):
                old.rename(folder.parent / old.name)
