"""Data in files: `.npz`, IDX, and folders with one sub-folder of images for each class."""

from __future__ import annotations

import gzip
import io
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

import numpy as np
from numpy.typing import NDArray

from keras_nns.data.encodings import label_array
from keras_nns.engine.images import decode, from_files
from keras_nns.errors import DataError, FileError
from keras_nns.files.atomic import blame, read_bytes
from tflite_export.reading import archives

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
        labels: Which sub-folder each lies in.
        notes: What was left out, and which names were hard to read.
    """

    path: str
    label_names: tuple[str, ...]
    files: tuple[str, ...]
    labels: tuple[int, ...]
    notes: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Number of images."""
        return len(self.files)

    def marks(self) -> Iterator[NDArray[Any]]:
        """Give what tells the folder from others, wherever it lies: its images, by name."""
        yield np.array([Path(file).relative_to(self.path).as_posix() for file in self.files])
        yield np.array(self.labels)

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
        own = self.first_shape() if None in shape else (0, 0, 0)
        height, width, channels = (
            known if size is None else size for size, known in zip(shape, own, strict=True)
        )
        if channels not in (1, 3, 4):
            raise DataError(
                f"Images have 1, 3 or 4 channels. Received: a model or a request for {channels}."
            )

        def read(first: int) -> Iterator[tuple[Any, Any]]:
            start, size = first * batch_size, (height, width)
            files, labels = self.files[start:], self.labels[start:]
            images = from_files(files, labels, size=size, channels=channels, batch_size=batch_size)
            try:
                for x, y in images:
                    yield (x / 255.0 if scale else x), y
            except ValueError as error:
                for file in self.files:
                    _decode(file)
                raise FileError(f"Cannot read the images in {self.path!r}: {error}") from error

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
        return Found(both, (*notes, *train.notes, *test.notes))
    images = _image_folder(path)
    return Found({"all": images}, images.notes)


def _image_folder(path: Path) -> ImageFolder:
    folders = sorted(p.name for p in path.iterdir() if p.is_dir() and not p.name.startswith("."))
    files: list[str] = []
    labels: list[int] = []
    others = hidden = 0
    for label, name in enumerate(folders):
        # The order of keras.utils.image_dataset_from_directory.
        for folder, _, entries in sorted(os.walk(path / name)):
            # A Mac writes what it knows of x.png beside it into ._x.png.
            shown = [e for e in sorted(entries) if not e.startswith(".")]
            images = [e for e in shown if e.lower().endswith(_IMAGE_SUFFIXES)]
            files += [str(Path(folder, entry)) for entry in images]
            labels += [label] * len(images)
            others += len(shown) - len(images)
            hidden += len(entries) - len(shown)
    if not files:
        raise FileError(f"Folder {str(path)!r} holds no data set. Expected {ACCEPTED}.")
    notes = [f"{others} files that are not images were left out."] if others else []
    notes += [f"{hidden} hidden files were left out."] if hidden else []
    names = [_readable(name) for name in folders]
    foreign = [name for name, folder in zip(names, folders, strict=True) if name != folder]
    if foreign:
        notes.append(f"Names of folders that are not UTF-8 were read as Latin-1: {foreign}.")
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise DataError(f"{str(path)!r} has two folders for each of {twice}. Rename or unite them.")
    return ImageFolder(str(path), tuple(names), tuple(files), tuple(labels), tuple(notes))


def _readable(name: str) -> str:
    """Return a file's name as text, also one that is not UTF-8, as old archives unpack."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return os.fsencode(name).decode("latin-1")
    return name


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
        packed = data[:2] == b"\x1f\x8b"
        stream = gzip.GzipFile(fileobj=io.BytesIO(data)) if packed else io.BytesIO(data)
        try:
            return _read_idx(stream, len(data), packed=packed)
        except (EOFError, OSError, zlib.error) as error:
            if isinstance(error, FileError):
                raise
            raise FileError(f"The file is damaged or cut short: {error}.") from error


def _read_idx(stream: gzip.GzipFile | io.BytesIO, size: int, *, packed: bool) -> NDArray[Any]:
    start = stream.read(4)
    if len(start) < 4 or start[:2] != b"\0\0" or start[2] not in _IDX_TYPES or not start[3]:
        raise FileError(f"This is not an IDX file: it starts with {start!r}.")
    sizes = stream.read(4 * start[3])
    if start[3] > 32 or len(sizes) < 4 * start[3]:
        raise FileError(f"The file is damaged or cut short: it claims {start[3]} axes.")
    shape = tuple(np.frombuffer(sizes, dtype=">u4").tolist())
    dtype = np.dtype(_IDX_TYPES[start[2]])
    expected = math.prod(shape) * dtype.itemsize
    there = size - 4 - len(sizes)
    # Packed, it is read no further than a file of this size can hold.
    if not (archives.fits(expected, size) if packed else expected == there):
        raise _cut_short(shape, expected, f"there are {there}{' packed ones' if packed else ''}")
    values = stream.read(expected + 1)
    if len(values) != expected:
        raise _cut_short(
            shape, expected, f"there are {'more' if len(values) > expected else len(values)}"
        )
    return np.frombuffer(values, dtype).reshape(shape).astype(dtype.newbyteorder("="))


def _cut_short(shape: Sequence[int], expected: int, there: str) -> FileError:
    return FileError(
        f"The file is damaged or cut short: its header, shape {tuple(shape)}, asks for {expected} "
        f"bytes of values and {there}."
    )


def _npz(path: Path) -> Found:
    wanted = ("x", "y", "x_train", "y_train", "x_test", "y_test", "label_names")
    with blame(path):
        if not zipfile.is_zipfile(path):
            raise FileError("The file is damaged, cut short, or not an .npz.")
        try:
            with zipfile.ZipFile(path) as archive:
                entries = [
                    entry.removesuffix(".npy") for entry in archives.entries(archive, _end(path))
                ]
                arrays = {
                    name: archives.array(archive, f"{name}.npy")
                    for name in wanted
                    if name in entries
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
    with path.open("rb") as stream:
        return archives.end_of(stream)
