"""Named data sets and data in files: scikit-learn's digits, Keras's sets, `.npz`, IDX, images."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
import sklearn.datasets
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from keras_nns.data.answers import few_of
from keras_nns.data.formats import (
    ACCEPTED,
    Arrays,
    Found,
    ImageFolder,
    Part,
    as_images,
    open_path,
)
from keras_nns.data.labels import label_reader
from keras_nns.engine.images import resize
from keras_nns.errors import DataError, FileError

Path_ = str | PathLike[str]

_FASHION = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
_CIFAR10 = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip
_DOWNLOADS: Mapping[str, tuple[str, ...]] = {
    "mnist": tuple("0123456789"),
    "fashion_mnist": _FASHION,
    "cifar10": _CIFAR10,
}
NAMES = ("digits", *_DOWNLOADS)


@dataclass(frozen=True, eq=False)
class Splits:
    """A data set in two parts.

    Attributes:
        name: Name of the set, or the path it was read from.
        x_train: Inputs to train on, `(samples, …)`; images are float32 in 0..1.
        y_train: int64 label numbers `(samples,)`, or bool `(samples, labels)` where a sample has
            several labels.
        x_test: Inputs held out.
        y_test: Their labels.
        label_names: Name of every label.
        notes: What a reader of figures must know: where the split comes from, what was changed.
        sorted_by: What the names were sorted by, where neither the set nor the caller told an
            order: the labels' own `"strings"`, or `"folders"`. A model trained elsewhere may number
            them otherwise (`order.check_splits`). None where the order is known.

    Example:
        >>> digits = nns.load_dataset("digits")
        >>> len(digits.y_train), len(digits.y_test), digits.label_names[:3]
        (1437, 360, ('0', '1', '2'))
    """

    name: str
    x_train: NDArray[Any]
    y_train: NDArray[Any]
    x_test: NDArray[Any]
    y_test: NDArray[Any]
    label_names: tuple[str, ...]
    notes: tuple[str, ...] = ()
    sorted_by: Literal["strings", "folders"] | None = None


def load_dataset(
    name_or_path: Path_,
    *,
    image_size: tuple[int, int] | None = None,
    channels: int | None = None,
    scale: bool | Callable[[float], bool] = True,
    label_names: Sequence[str] | None = None,
    test_share: float = 0.2,
) -> Splits:
    """Load a data set, split into a part to train on and a part held out.

    Args:
        name_or_path: `"digits"` (scikit-learn's, offline); `"mnist"`, `"fashion_mnist"` or
            `"cifar10"` (downloaded by Keras once); or the path of an `.npz`, of IDX files, or of a
            folder with a sub-folder of images for each label, or of two such, `train` and `test`.
        image_size: Height and width to resize images to; by default that of the first image.
        channels: 1, 3 or 4 for a folder of images; by default that of the first image.
        scale: Whether images stored as integers are scaled to 0..1. Images are arrays of uint8 of
            rank 3 or 4 and image files; integers of any other kind are left as they are. A
            function is asked, with the value of a white pixel as it is stored.
        label_names: Names of the labels, in the order of their numbers, where the set has none.
        test_share: Share of samples to hold out where the set has no split of its own.

    Raises:
        DataError: There is no such set, or it cannot be split.
        FileError: A file is missing, damaged or foreign.

    Example:
        >>> digits = nns.load_dataset("digits")
        >>> digits.x_train.shape, digits.x_test.shape
        ((1437, 8, 8, 1), (360, 8, 8, 1))
    """
    found = _open(name_or_path)
    parts = _load(found, image_size, channels, scale=scale)
    names, labels = _number([part.y for part in parts], parts[0].label_names, label_names)
    pairs = [(part.x, y) for part, y in zip(parts, labels, strict=True)]
    notes = found.notes
    if len(pairs) == 1:
        x, y = pairs[0]
        train, test = _split(y, test_share)
        pairs = [(x[train], y[train]), (x[test], y[test])]
        notes += (
            f"Split here: {len(test)} of {len(y)} samples held out, drawn at random with a fixed "
            f"seed{', each label in proportion' if y.ndim == 1 else ''}.",
        )
    (x_train, y_train), (x_test, y_test) = pairs
    return Splits(
        os.fspath(name_or_path),
        x_train,
        y_train,
        x_test,
        y_test,
        names,
        notes,
        sorted_by=None if label_names is not None else _sorted_by(found, parts[0]),
    )


def find(name_or_path: Path_, *, part: str | None = None) -> Part:
    """Open one part of a data set without loading a folder's images.

    Args:
        name_or_path: As in `load_dataset`.
        part: "train" or "test" where the set has both; else it is ignored.

    Raises:
        DataError: There is no such set, or it has two parts and none was named.
        FileError: A file is missing, damaged or foreign.
    """
    if part not in (None, "train", "test"):
        raise DataError(f'part must be "train" or "test". Received: part={part!r}.')
    parts = _open(name_or_path).parts
    if len(parts) == 1:
        return next(iter(parts.values()))
    if part is None:
        raise DataError(
            f"{os.fspath(name_or_path)!r} holds a training and a test part. Take one: "
            f"s = nns.load_dataset({os.fspath(name_or_path)!r}), then (s.x_test, s.y_test); in a "
            "shell --part test."
        )
    return parts[part]


def few_of_each(folder: ImageFolder, most: int) -> ImageFolder:
    """Return some images of every label, evenly over its own.

    Args:
        folder: All images.
        most: How many of a label, at most.
    """
    labels = np.asarray(folder.labels)
    each = [few_of(labels, label, most) for label in range(len(folder.label_names))]
    chosen = np.concatenate(each).tolist()
    files, numbers = zip(*((folder.files[i], folder.labels[i]) for i in chosen), strict=True)
    return replace(folder, files=files, labels=numbers)


def _open(name_or_path: Path_) -> Found:
    if name_or_path == "digits":
        return _digits()
    path = Path(name_or_path)
    if path.exists():
        return open_path(path)
    if isinstance(name_or_path, str) and name_or_path in _DOWNLOADS:
        return _download(name_or_path)
    raise FileError(
        f"There is no data set or path {os.fspath(path)!r}. Expected one of {list(NAMES)}, or the "
        f"path of {ACCEPTED}."
    )


def _sorted_by(found: Found, part: Arrays) -> Literal["strings", "folders"] | None:
    if any(isinstance(one, ImageFolder) for one in found.parts.values()):
        return "folders"
    return "strings" if part.alphabetical else None


def _digits() -> Found:
    bunch = sklearn.datasets.load_digits()
    digits = Arrays(bunch.images[..., None], bunch.target, tuple("0123456789"), divisor=16.0)
    note = (
        "scikit-learn's copy does not say who wrote a digit: the same 13 writers are in both "
        "parts, so figures for a new writer's hand may be lower."
    )
    return Found({"all": digits}, (note,))


def _download(name: str) -> Found:
    try:
        pairs = getattr(keras.datasets, name).load_data()
    except Exception as error:  # Keras raises a bare Exception when there is no network.
        raise DataError(
            f"Cannot download {name!r}: {error}. Without a network, pass the path of a folder with "
            "its four IDX files, or of an .npz with x_train, y_train, x_test and y_test."
        ) from error
    names = _DOWNLOADS[name]
    train, test = (as_images(x, y, names) for x, y in pairs)
    return Found({"train": train, "test": test}, (f"The split of {name} itself.",))


def _load(
    found: Found,
    image_size: tuple[int, int] | None,
    channels: int | None,
    *,
    scale: bool | Callable[[float], bool],
) -> list[Arrays]:
    """Load all parts, images of one size and scaled."""

    @cache
    def wanted(white: float) -> bool:
        return scale(white) if callable(scale) else scale

    loaded = []
    shape: tuple[int, int, int] | None = None
    for part in found.parts.values():
        if isinstance(part, ImageFolder):
            if shape is None:  # The first part's, so that both come out alike.
                height, width, depth = part.first_shape()
                shape = (*(image_size or (height, width)), channels or depth)
            loaded.append(_read_folder(part, shape, scale=wanted(255.0)))
        else:
            x = part.scaled(part.x) if part.divisor and wanted(part.divisor) else part.x
            loaded.append(replace(part, x=_resized(x, image_size)))
    return loaded


def _read_folder(folder: ImageFolder, shape: tuple[int, int, int], *, scale: bool) -> Arrays:
    x = np.empty((folder.size, *shape), dtype=np.float32)
    y = np.empty(folder.size, dtype=np.int64)
    start = 0
    for images, labels in folder.reader(shape=shape, batch_size=256, scale=scale)(0):
        end = start + len(labels)
        x[start:end], y[start:end] = np.asarray(images), np.asarray(labels)
        start = end
    return Arrays(x, y, folder.label_names)


def _resized(x: NDArray[Any], size: tuple[int, int] | None) -> NDArray[Any]:
    if size is None or x.ndim != 4 or x.shape[1:3] == tuple(size):
        return x
    return resize(x, size)


def _number(
    labels: list[NDArray[Any]], known: tuple[str, ...] | None, given: Sequence[str] | None
) -> tuple[tuple[str, ...], list[NDArray[Any]]]:
    """Turn the labels of all parts into numbers of one list of names."""
    if known is None and given is None:
        most = max(len(label_reader(outputs=None, y=y).names) for y in labels)
        known = tuple(str(i) for i in range(most))
    reader = label_reader(outputs=None, names=given, found=known)
    read = [reader.read(y) for y in labels]
    if all(y.ndim == 2 and (y.sum(axis=1) == 1).all() for y in read):
        read = [y.argmax(axis=1) for y in read]
    return reader.names, read


def _split(y: NDArray[Any], test_share: float) -> tuple[NDArray[Any], NDArray[Any]]:
    try:
        train, test = train_test_split(
            np.arange(len(y)),
            test_size=test_share,
            random_state=0,
            stratify=y if y.ndim == 1 else None,
        )
    except ValueError as error:
        raise DataError(
            f"Cannot hold out a share of {test_share} of {len(y)} samples with every label in both "
            f"parts: {error} Give every label at least two samples, change test_share, or split "
            "the data into x_train, y_train, x_test and y_test yourself."
        ) from error
    return train, test
