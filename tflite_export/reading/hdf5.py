"""HDF5 files that would never be read to an end."""

from __future__ import annotations

import mmap
import struct
from os import PathLike
from pathlib import Path

_HEAP = b"GCOL\x01\0\0\0"
_HEADER = 16


def is_endless(path: str | PathLike[str]) -> bool:
    """Return whether the texts in a file are damaged so that HDF5 looks for their end for ever.

    Texts stand in heaps, one behind another, each with how far it is to the next (HDF5 File Format
    Specification 3.0, III.E). HDF5 1.14 goes by that also where it is nothing.

    Args:
        path: Any file.
    """
    if not Path(path).stat().st_size:
        return False
    with (
        Path(path).open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data,
    ):
        start = data.find(_HEAP)
        while start >= 0:
            if _never_ends(data, start):
                return True
            start = data.find(_HEAP, start + len(_HEAP))
    return False


def _never_ends(data: mmap.mmap, start: int) -> bool:
    (size,) = struct.unpack_from("<Q", data, start + 8) if start + _HEADER <= len(data) else (0,)
    here, end = start + _HEADER, min(start + size, len(data))
    while here + _HEADER <= end:
        number, length = struct.unpack_from("<H6xQ", data, here)
        # The one numbered 0 is what is free, and its length that of all of it.
        step = _HEADER + -(-length // 8) * 8 if number else length
        if not step:
            return True
        here += step
    return False
