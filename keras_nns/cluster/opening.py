"""Data of other kinds as a data set of Ray's: arrays, folders of images, files that Ray reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_nns.cluster.starting import start
from keras_nns.data.formats import ImageFolder

_ROWS = 1024
"""Samples that are read at a time."""

_FILES = {".parquet": "read_parquet", ".tfrecord": "read_tfrecords", ".tfrecords": "read_tfrecords"}


def reader_of(path: str) -> str | None:
    """Return what of Ray's reads a path, by its ending; None where nothing does."""
    found = [name for suffix, name in _FILES.items() if path.rstrip("/").endswith(suffix)]
    return found[0] if found else None


def from_files(path: str) -> Any:
    """Open Parquet or TFRecord files, or a folder of them, here or in an object store.

    Args:
        path: A path or an address such as `s3://…`. One that does not end in .tfrecord or
            .tfrecords is read as Parquet.
    """
    reader = reader_of(path) or "read_parquet"
    return getattr(start().data, reader)(path)


def from_arrays(x: Any, y: Any) -> Any:
    """Make a data set with columns x and y of arrays; each machine has one copy of them."""
    ray = start()
    held = ray.put(np.asarray(x)), ray.put(np.asarray(y))
    rows = ray.data.range(len(y), override_num_blocks=-(-len(y) // _ROWS))
    return rows.map_batches(partial(_rows_of, held), batch_size=_ROWS)


def from_folder(folder: ImageFolder, reading: Reading) -> Any:
    """Make a data set with columns x and y of images in a folder that every machine sees.

    Labels are the names of sub-folders.
    """
    ray = start()
    held = ray.put(folder)
    rows = ray.data.range(folder.size, override_num_blocks=-(-folder.size // _ROWS))
    return rows.map_batches(partial(_images_of, held, reading), batch_size=_ROWS)


@dataclass(frozen=True)
class Reading:
    """How images are given.

    Attributes:
        shape: Height, width and channels; None takes the first image's.
        scale: Whether to scale pixels to 0..1.
    """

    shape: tuple[int | None, ...]
    scale: bool


def _rows_of(held: tuple[Any, Any], batch: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    ray, places = start(), batch["id"]
    return {name: ray.get(one)[places] for name, one in zip("xy", held, strict=True)}


def _images_of(held: Any, reading: Reading, batch: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    folder = start().get(held)
    places = batch["id"]
    some = replace(
        folder,
        files=tuple(folder.files[i] for i in places),
        labels=tuple(folder.labels[i] for i in places),
    )
    shape = reading.shape
    if None in shape:
        # As the first image of all has it, not of these.
        own = folder.first_shape()
        shape = tuple(o if s is None else s for s, o in zip(shape, own, strict=True))
    read = list(some.reader(shape=shape, batch_size=_ROWS, scale=reading.scale)(0))
    names = np.array(folder.label_names)
    return {
        "x": np.concatenate([np.asarray(x) for x, _ in read]),
        "y": names[np.concatenate([np.asarray(y) for _, y in read])],
    }
