"""Data in files: `.npz`, IDX, and folders with one sub-folder of images for each class."""

from __future__ import annotations

import gzip
import math
import os
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_nns.data.encodings import label_array
from keras_nns.engine import datasets
from keras_nns.engine.failures import OperationFailed, reason
from keras_nns.engine.images import decode
from keras_nns.errors import DataError, FileError
from keras_nns.files.atomic import archive_entries, blame, read_bytes, read_entry

Path_ = str | PathLike[str]

ACCEPTED = (
    "a folder with one sub-folder of images for each class (or train/ and test/ with such "
    "sub-folders), a folder with the IDX files train-images-idx3-ubyte, …, or an .npz with x and y "
    "or with x_train, y_train, x_test and y_test"
)
_IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".png")
_IDX_NAME = re.compile(
    r"(?:.*[-_.])?(train|t10k|test|val)[-_.](images|labels)[-_.]idx\d[-_.]ubyte(?:\.gz)?", re.I
)
_IDX_TYPES = {8: "u1", 9: "i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
_PART_FOLDERS = {"train": ("train", "training"), "test": ("test", "val", "validation", "valid")}


@dataclass(frozen=True, eq=False)
class Arrays:
    """One part of a set as arrays, unscaled.

    Attributes:
        x: Inputs as the file has them.
        y: Labels as the file has them.
        label_names: What label numbers stand for, where the set knows.
        alphabetical: Whether the names are the labels' own strings in alphabetical order, since the
            set tells no other.
        divisor: What the values of images are divided by to be in 0..1; None for other data.
    """

    x: NDArray[Any]
    y: NDArray[Any]
    label_names: tuple[str, ...] | None = None
    divisor: float | None = None
    alphabetical: bool = False

    def scaled(self, x: NDArray[Any]) -> NDArray[Any]:
        """Scale some of the inputs to 0..1 when they are images."""
        return x if self.divisor is None else x.astype(np.float32) / np.float32(self.divisor)


@dataclass(frozen=True)
class ImageFolder:
    """One part of a set as a folder with one sub-folder of images for each class.

    Attributes:
        path: The folder.
        label_names: Names of the sub-folders, sorted: label 0 is the first.
        files: The images, in the order in which they are read.
        ignored: Number of other files, which are left out.
    """

    path: str
    label_names: tuple[str, ...]
    files: tuple[str, ...]
    ignored: int

    @property
    def size(self) -> int:
        """Number of images."""
        return len(self.files)

    def first_shape(self) -> tuple[int, int, int]:
        """Return the height, width and channels of the first image."""
        height, width, channels = _decode(self.files[0]).shape
        return int(height), int(width), int(channels)

    def reader(
        self, *, shape: Sequence[int | None], batch_size: int, scale: bool = True
    ) -> Callable[[int], Iterator[tuple[Any, Any]]]:
        """Make a function that reads the images in batches, from a batch number on.

        Args:
            shape: Height, width and channels to give; None takes the first image's.
            batch_size: Images in a batch.
            scale: Whether to scale pixels to 0..1; otherwise they are 0..255.

        Raises:
            DataError: Images cannot be given with that many channels.
        """
        if None in shape:
            own = self.first_shape()
            shape = [own[i] if size is None else size for i, size in enumerate(shape)]
        height, width, channels = shape
        modes = {1: "grayscale", 3: "rgb", 4: "rgba"}
        if channels not in modes:
            raise DataError(
                f"Images have 1, 3 or 4 channels. Received: a model or a request for {channels}."
            )
        images = keras.utils.image_dataset_from_directory(
            self.path,
            label_mode="int",
            color_mode=modes[channels],
            batch_size=batch_size,
            image_size=(height, width),
            shuffle=False,
            seed=0,  # Unused without shuffling, but None would draw from numpy's global generator.
            data_format="channels_last",
            verbose=False,
        )

        def read(first: int) -> Iterator[tuple[Any, Any]]:
            try:
                for x, y in datasets.elements(images, first=first):
                    yield (x / 255.0 if scale else x), y
            except OperationFailed as error:
                for file in self.files:
                    _decode(file)
                raise FileError(
                    f"Cannot read the images in {self.path!r}: {reason(error)}"
                ) from error

        return read


Part = Arrays | ImageFolder


@dataclass(frozen=True)
class Found:
    """What a path holds.

    Attributes:
        parts: Its parts: one, or "train" and "test" in this order.
        notes: What a reader of figures must know about them.
    """

    parts: Mapping[str, Part]
    notes: tuple[str, ...] = ()


def open_path(path: Path) -> Found:
    """Recognise what a path holds, without reading a folder's images.

    Raises:
        DataError: Its parts do not belong together.
        FileError: It is damaged, or nothing that can be read.
    """
    if path.is_dir():
        return _folder(path)
    if _IDX_NAME.fullmatch(path.name):
        for files in _idx_files(path.parent).values():
            if path in files.values():
                return Found({"all": _idx(files, path.parent)})
    if zipfile.is_zipfile(path) or path.suffix == ".npz":
        return _npz(path)
    raise FileError(f"{str(path)!r} holds no data set. Expected {ACCEPTED}.")


def as_images(x: NDArray[Any], y: NDArray[Any], names: tuple[str, ...] | None) -> Arrays:
    """Tell images, uint8 of rank 3 or 4, from other data; give them an axis for channels.

    Args:
        x: Inputs.
        y: Their labels.
        names: What label numbers stand for, when known.
    """
    if x.dtype != np.uint8 or x.ndim not in (3, 4):
        return Arrays(x, y, names)
    return Arrays(x[..., None] if x.ndim == 3 else x, y, names, divisor=255.0)


def _folder(path: Path) -> Found:
    idx = _idx_files(path)
    if idx:
        if len(idx) < 2:
            raise FileError(
                f"{str(path)!r} has IDX files of its {next(iter(idx))} part alone. Add the other "
                "part's, or name one of the files."
            )
        both_idx = {part: _idx(idx[part], path) for part in ("train", "test")}
        return Found(both_idx, ("The split of the IDX files.",))
    folders = {p.name.lower(): p for p in sorted(path.iterdir()) if p.is_dir()}
    found = {
        part: [folders[name] for name in names if name in folders]
        for part, names in _PART_FOLDERS.items()
    }
    if all(found.values()):
        both = {part: _image_folder(some[0]) for part, some in found.items()}
        train, test = both["train"], both["test"]
        if train.label_names != test.label_names:
            odd = sorted(set(train.label_names) ^ set(test.label_names))
            raise DataError(f"{str(path)!r}: classes {odd} are in one of its parts alone.")
        unused = [p.name for p in found["test"][1:]]
        notes = [f"The split of the folders: {found['test'][0].name}/ is held out."]
        notes += [f"{unused} left out."] if unused else []
        return Found(both, (*notes, *_ignored(train, test)))
    images = _image_folder(path)
    return Found({"all": images}, _ignored(images))


def _ignored(*folders: ImageFolder) -> tuple[str, ...]:
    count = sum(folder.ignored for folder in folders)
    return (f"{count} files that are not images were left out.",) if count else ()


def _image_folder(path: Path) -> ImageFolder:
    names = sorted(p.name for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))
    files: list[str] = []
    ignored = 0
    for name in names:
        # The order of keras.utils.image_dataset_from_directory.
        for folder, _, entries in sorted(os.walk(path / name)):
            images = [e for e in sorted(entries) if e.lower().endswith(_IMAGE_SUFFIXES)]
            files += [str(Path(folder, entry)) for entry in images]
            ignored += len(entries) - len(images)
    if not files:
        raise FileError(f"Folder {str(path)!r} holds no data set. Expected {ACCEPTED}.")
    return ImageFolder(str(path), tuple(names), tuple(files), ignored)


def _decode(file: str) -> NDArray[np.uint8]:
    data = read_bytes(file)
    try:
        return decode(data)
    except ValueError as error:
        raise FileError(
            f"{file!r} is damaged or not an image (BMP, GIF, JPEG, PNG): {error}"
        ) from error


def _idx_files(folder: Path) -> dict[str, dict[str, Path]]:
    """Find IDX files in a folder: {"train": {"images": path, "labels": path}, "test": …}."""
    files: dict[str, dict[str, Path]] = {}
    # Sorted, a plain file comes before its own .gz.
    for path in sorted(folder.iterdir()):
        match = _IDX_NAME.fullmatch(path.name)
        if not match:
            continue
        part = "train" if match[1].lower() == "train" else "test"
        slot = files.setdefault(part, {})
        other = slot.setdefault(match[2].lower(), path)
        if path.name not in (other.name, f"{other.name}.gz"):
            raise DataError(
                f"{str(folder)!r} has two files for one part: {other.name} and {path.name}. Keep "
                "each data set in a folder of its own."
            )
    return files


def _idx(files: Mapping[str, Path], folder: Path) -> Arrays:
    for kind in ("images", "labels"):
        if kind not in files:
            (other,) = files.values()
            raise FileError(f"{str(folder)!r} has {other.name} but not the {kind} that go with it.")
    x, y = read_idx(files["images"]), read_idx(files["labels"])
    if y.ndim != 1 or x.ndim < 2 or len(x) != len(y):
        raise FileError(
            f"{str(files['images'])!r} has the shape {x.shape} and {files['labels'].name} the "
            f"shape {y.shape}: they do not belong together."
        )
    return as_images(x, y, None)


def read_idx(path: Path_) -> NDArray[Any]:
    """Read an IDX file, plain or compressed with gzip.

    The format is that of the MNIST files: two zero bytes, a type, the number of axes, the sizes of
    the axes as big-endian 32-bit numbers, the values.

    Raises:
        FileError: The file is missing, damaged, cut short or not an IDX file.
    """
    data = read_bytes(path)
    with blame(path):
        if data[:2] == b"\x1f\x8b":
            try:
                data = gzip.decompress(data)
            except (EOFError, OSError, zlib.error) as error:
                raise FileError(f"The file is damaged or cut short: {error}.") from error
        start = 4 + 4 * data[3] if len(data) > 3 else 4
        if len(data) < start or data[:2] != b"\0\0" or data[2] not in _IDX_TYPES:
            raise FileError(f"This is not an IDX file: it starts with {data[:4]!r}.")
        shape = tuple(np.frombuffer(data[4:start], dtype=">u4").tolist())
        dtype = np.dtype(_IDX_TYPES[data[2]])
        expected = start + math.prod(shape) * dtype.itemsize
        if len(data) != expected:
            raise FileError(
                f"The file is damaged or cut short: its header, shape {shape}, asks for {expected} "
                f"bytes and there are {len(data)}."
            )
        return (
            np.frombuffer(data, dtype, offset=start).reshape(shape).astype(dtype.newbyteorder("="))
        )


def _npz(path: Path) -> Found:
    wanted = ("x", "y", "x_train", "y_train", "x_test", "y_test", "label_names")
    with blame(path):
        if not zipfile.is_zipfile(path):
            raise FileError("The file is damaged, cut short, or not an .npz.")
        try:
            with zipfile.ZipFile(path) as archive:
                entries = [
                    entry.removesuffix(".npy") for entry in archive_entries(archive, _end(path))
                ]
                arrays = {
                    name: read_entry(archive, f"{name}.npy") for name in wanted if name in entries
                }
        except Exception as error:  # zlib.error and struct.error derive from Exception alone.
            if "allow_pickle" in str(error):
                raise FileError(
                    "The file holds Python objects, which are not loaded since they can run code. "
                    "Save arrays of numbers or strings."
                ) from error
            raise FileError(f"The file is damaged: {error}") from error
        if {"x_train", "y_train", "x_test", "y_test"} <= set(arrays):
            pairs = {part: (arrays[f"x_{part}"], arrays[f"y_{part}"]) for part in ("train", "test")}
            notes: tuple[str, ...] = ("The split of the .npz file.",)
        elif {"x", "y"} <= set(arrays):
            pairs, notes = {"all": (arrays["x"], arrays["y"])}, ()
        else:
            raise FileError(
                "Expected the entries x and y, or x_train, y_train, x_test and y_test. "
                f"Received: {entries}."
            )
        for x, y in pairs.values():
            if not x.shape or not y.shape or len(x) != len(y) or not len(x):
                raise FileError(f"Inputs {x.shape} and labels {y.shape} do not go together.")
    names: tuple[str, ...] | None = None
    alphabetical = False
    if "label_names" in arrays:
        names = tuple(str(name) for name in arrays["label_names"])
    elif label_array(next(iter(pairs.values()))[1]).dtype.kind == "U":
        names = tuple(sorted(set().union(*(label_array(y).tolist() for _, y in pairs.values()))))
        alphabetical = True
    parts = {
        part: replace(as_images(x, y, names), alphabetical=alphabetical)
        for part, (x, y) in pairs.items()
    }
    return Found(parts, notes)


def _end(path: Path) -> bytes:
    """Read the last 64 KiB of a file, where an archive tells how many entries it has."""
    with path.open("rb") as stream:
        stream.seek(-min(2**16 + 22, path.stat().st_size), os.SEEK_END)
        return stream.read()
