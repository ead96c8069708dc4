"""Putting a finished folder in the place of another, so that there is one at every moment."""

from __future__ import annotations

import ctypes
import os
import sys
from pathlib import Path

_AT_FDCWD = -100
_EXCHANGE = 2
"""RENAME_EXCHANGE of Linux and RENAME_SWAP of macOS: the same number."""


def exchange(new: Path, old: Path, aside: Path) -> None:
    """Put a folder in the place of another.

    On Linux and macOS the two change names in one step (`renameat2`, `renamex_np`). Elsewhere, and
    on file systems that cannot do that, the old one first moves aside and comes back if the second
    step fails.

    Args:
        new: The finished folder, on the same file system.
        old: The folder it replaces.
        aside: A folder to make, for the old one to lie in meanwhile.

    Raises:
        OSError: It cannot be done; the old folder is where it was.
    """
    if _swap_names(new, old):
        return
    aside.mkdir()
    moved = old.rename(aside / old.name)
    try:
        new.rename(old)
    except BaseException:
        if not old.exists():  # Else another process has put its folder there meanwhile.
            moved.rename(old)
        raise


def _swap_names(one: Path, other: Path) -> bool:
    """Let two paths change places; False where the system or the file system cannot."""
    paths = os.fsencode(one), os.fsencode(other)
    try:
        system = ctypes.CDLL(None)
        if sys.platform == "darwin":
            return bool(system.renamex_np(*paths, ctypes.c_uint(_EXCHANGE)) == 0)
        return bool(
            system.renameat2(_AT_FDCWD, paths[0], _AT_FDCWD, paths[1], ctypes.c_uint(_EXCHANGE))
            == 0
        )
    except (AttributeError, OSError, TypeError):  # No such function; Windows has no such library.
        return False
