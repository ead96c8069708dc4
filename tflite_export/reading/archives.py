"""Archives of arrays (`.npz`): every entry, whole, and no larger than the file can hold."""

from __future__ import annotations

import math
import os
import zipfile
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

_DEFLATE = 1032
"""How many times smaller deflate can make data at most (zlib's documentation)."""

_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def fits(size: int, packed: int) -> bool:
    """Return whether deflated bytes can hold so many, and this machine's memory too."""
    return size <= _DEFLATE * packed + 1024 and size <= memory()


def memory() -> float:
    """Return how many bytes of memory the machine has; infinity where it does not say."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, OSError, ValueError):  # Windows has no sysconf.
        return math.inf


def entries(archive: zipfile.ZipFile, end: bytes) -> list[str]:
    """Return the names of an archive's entries, all of them.

    A damaged length in the directory makes `zipfile` skip what follows without a word; the number
    of entries stands at the end of the file. A damaged name shows beside the one that stands where
    the entry begins.

    Args:
        archive: The archive.
        end: The last bytes of its file: 64 KiB suffice.

    Raises:
        zipfile.BadZipFile: Entries are missing, under another name, or larger than they can be.
    """
    names = archive.namelist()
    place = end.rfind(b"PK\x05\x06")
    count = int.from_bytes(end[place + 10 : place + 12], "little")
    if count not in (len(names), 0xFFFF):
        raise zipfile.BadZipFile(f"{len(names)} of {count} entries are left")
    for about in archive.infolist():
        archive.open(about.filename).close()
        if not fits(about.file_size, about.compress_size):
            raise zipfile.BadZipFile(
                f"{about.filename} claims {about.file_size:,} bytes, packed in "
                f"{about.compress_size:,}"
            )
    return names


def array(archive: zipfile.ZipFile, entry: str) -> NDArray[Any]:
    """Read one array of an `.npz`.

    It is read to its end, which is where its checksum is compared: numpy stops where the shape in
    the entry's own header says, and would miss that the header is damaged.

    Raises:
        zipfile.BadZipFile: The entry is damaged. Damage shows in other exceptions too.
    """
    size = archive.getinfo(entry).file_size
    with archive.open(entry) as stream:
        _check_header(stream, entry, size)
    with archive.open(entry) as stream:
        found: NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
        if stream.read(1):
            raise zipfile.BadZipFile(f"{entry} holds more than its shape {found.shape}")
    return found


def _check_header(stream: Any, entry: str, size: int) -> None:
    """Raise where an array's header asks for more than its entry holds, before it is made."""
    header = _HEADERS.get(np.lib.format.read_magic(stream))
    if header is None:  # Names of fields in UTF-8: no plain array.
        return
    shape, _, dtype = header(stream)
    if math.prod(shape) * dtype.itemsize > size and not dtype.hasobject:
        raise zipfile.BadZipFile(f"{entry} has the shape {shape} and {size:,} bytes")


def end_of(file: BinaryIO) -> bytes:
    """Read the last 64 KiB of a file, where an archive tells how many entries it has."""
    file.seek(-min(2**16 + 22, file.seek(0, os.SEEK_END)), os.SEEK_END)
    return file.read()
