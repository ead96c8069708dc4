"""Samples in files of numpy arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tflite_export.cli.options import SAMPLE_FILES
from tflite_export.errors import ExportFileError, OptionError
from tflite_export.reading import archives

__all__ = ["entries", "read_samples"]

Array = np.ndarray[Any, Any]


def entries(path: str) -> tuple[str, ...] | None:
    """Name the arrays of an `.npz` file; `None` for a `.npy`, which has one without a name.

    Raises:
        ExportFileError: The file cannot be read, or is neither.
    """
    found = _load(path, names_only=True)
    return None if isinstance(found, np.ndarray) else tuple(found)


def read_samples(
    path: str, *, count: int | None = None, scale: bool = True, shape: tuple[Any, ...] | None = None
) -> tuple[Any, Array | None]:
    """Read samples and, where the file has them, labels; pickled arrays are refused.

    Args:
        path: An `.npz` or `.npy` file.
        count: At most how many, spread evenly over the file, which is often sorted.
        scale: Whether images, arrays of uint8 of rank 3 or 4, are scaled to 0..1.
        shape: What the model's one input takes; images without an axis for their one channel are
            given it.

    Returns:
        One array, or a dict of them by the names of inputs; and labels or `None`. Fractions are
        no labels, but what a regression is trained on.

    Raises:
        ExportFileError: The file cannot be read.
        OptionError: It holds no inputs.
    """
    found = _load(path)
    if isinstance(found, np.ndarray):
        found = {"x": found}
    targets = found.pop("y", None)
    if not found:
        raise OptionError(f"{path} holds no inputs; expected {SAMPLE_FILES}.")
    lengths = {name: len(array) if array.ndim else 0 for name, array in found.items()}
    size = min(lengths.values())
    if targets is not None and targets.shape[:1] != (size,):
        raise OptionError(
            f"{path} holds inputs and labels that do not go together: {lengths} inputs, y of shape "
            f"{targets.shape}."
        )
    if size and count is not None and count < size and len(set(lengths.values())) == 1:
        chosen = np.linspace(0, size - 1, count).round().astype(int)
        found = {name: array[chosen] for name, array in found.items()}
        targets = None if targets is None else targets[chosen]
    found = {name: _image(array, scale=scale) for name, array in found.items()}
    if targets is not None and targets.dtype.kind == "f" and not _whole(targets):
        targets = None
    if set(found) != {"x"}:
        return found, targets
    x = found["x"]
    if shape is not None and shape[-1:] == (1,) and x.ndim == len(shape) - 1:
        x = x[..., None]
    return x, targets


def _image(array: Array, *, scale: bool) -> Array:
    image = array.dtype == np.uint8 and array.ndim in (3, 4)
    return array.astype(np.float32) / np.float32(255) if image and scale else array


def _whole(array: Array) -> bool:
    return bool(np.isfinite(array).all()) and np.array_equal(np.rint(array), array)


def _load(path: str, *, names_only: bool = False) -> Any:
    try:
        with Path(path).open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return loaded
            return {
                name.removesuffix(".npy"): None if names_only else archives.array(loaded.zip, name)
                for name in archives.entries(loaded.zip, archives.end_of(file))
            }
    except OSError as error:
        raise ExportFileError(f"cannot read {path}: {error.strerror or error}.") from error
    except (ValueError, EOFError, KeyError) as error:
        raise ExportFileError(f"{path} is no .npz or .npy of plain arrays: {error}.") from error
    # zlib's and zipfile's own errors have no common root.
    except Exception as error:
        raise ExportFileError(f"{path} is damaged: {error}.") from error
