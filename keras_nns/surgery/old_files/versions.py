"""Which version of Keras wrote a file."""

from __future__ import annotations

import json
import os
import zipfile
from os import PathLike

import h5py

Path = str | PathLike[str]


def version_of(path: Path) -> str:
    """Return the version of Keras that wrote a `.keras` or `.h5` file.

    The first versions wrote none, which is read as 1.0.

    Args:
        path: The file.
    """
    if not is_h5(path):
        with zipfile.ZipFile(path) as archive:
            return str(json.loads(archive.read("metadata.json")).get("keras_version", "3"))
    return attribute(path, "keras_version") or "1.0"


def is_old(version: str) -> bool:
    """Return whether a version is one of Keras 1 or 2."""
    return is_first(version) or version.startswith("2.")


def is_first(version: str) -> bool:
    """Return whether a version is one of Keras 1."""
    return version.startswith(("0.", "1."))


def is_h5(path: Path) -> bool:
    """Return whether a file's name says that it is HDF5."""
    return os.fspath(path).endswith((".h5", ".hdf5"))


def attribute(path: Path, name: str) -> str | None:
    """Read an attribute of an HDF5 file, which stands at its root or beside the weights."""
    with h5py.File(path, "r") as file:
        for group in (file, file.get("model_weights")):
            value = None if group is None else group.attrs.get(name)
            if value is not None:
                return value.decode() if isinstance(value, bytes) else str(value)
    return None
