"""A model whose weights stay in its file: each is read when something asks for it, and let go."""

from __future__ import annotations

import io
import json
import mmap
import os
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import keras
import numpy as np
from keras.src.saving import saving_lib
from keras.src.saving.serialization_lib import SafeModeScope
from numpy.typing import NDArray

from keras_nns.engine.deferred import converted, fill, has_value, read_from, without_values
from keras_nns.engine.tensors import as_array
from keras_nns.errors import FileError
from keras_nns.surgery import loading, presets
from keras_nns.surgery.old_files.versions import is_old
from tflite_export.writing.temporary import held_folder

_WEIGHTS = "model.weights.h5"
_ASSETS = "assets"
_PAGES = 2**16
"""From how many bytes on an array has pages of its own."""


class WholeError(Exception):
    """Weights are kept so that they cannot be read one by one; the message says how."""


@contextmanager
def parent_of(
    model: Any,
    *,
    custom_objects: Mapping[str, Any] | None = None,
    unsafe: bool = False,
    tell: bool = True,
) -> Iterator[Any]:
    """Give the model that surgery reads: the one that is given, or that of a file.

    Of a file whose weights cannot be read one by one the model is read whole.

    Args:
        model: A model; or the path of its file, or of the folder of a preset of KerasHub.
        custom_objects: As in `load_model`.
        unsafe: As in `load_model`.
        tell: Whether to warn where a model is read whole.

    Raises:
        FileError: As in `load_model`.
    """
    if not isinstance(model, str | PathLike):
        yield model
        return
    name = os.fspath(model)
    given: dict[str, Any] = {"custom_objects": custom_objects, "unsafe": unsafe}
    with ExitStack() as stack:
        try:
            parent = stack.enter_context(_opened(name, **given))
        except WholeError as reason:
            if tell:
                warnings.warn(f"{name!r} is read whole into memory: {reason}.", stacklevel=4)
            parent = _whole(name, given)
        yield parent


def _whole(name: str, given: dict[str, Any]) -> Any:
    if not presets.is_preset(name):
        return loading.load_model(name, **given)
    try:
        return presets.from_preset(name)
    except FileError:
        raise
    except Exception as error:  # KerasHub raises what h5py, json and Keras raise.
        raise loading.failure(name, "3", error) from error


@contextmanager
def _opened(name: str, *, custom_objects: Mapping[str, Any] | None, unsafe: bool) -> Iterator[Any]:
    """Open a model with its weights left where they are, while the block runs."""
    with ExitStack() as stack:
        if presets.is_preset(name):
            if not presets.is_in_pieces(name):
                raise WholeError("its weights are not in model.weights.h5 or model.weights.json")
            try:
                with without_values():
                    model = presets.from_preset(name, weights=False)
                _bind(model, _stores_of_preset(model, name, stack), None)
            except FileError:
                raise
            except Exception as error:  # KerasHub raises what h5py, json and Keras raise.
                raise loading.failure(name, "3", error) from error
            yield model
            return
        version = loading.checked(name)
        if not name.endswith(".keras") or is_old(version):
            raise WholeError(f"it is no .keras file of Keras 3, but one of Keras {version}")
        archive = stack.enter_context(zipfile.ZipFile(name))
        if _WEIGHTS not in archive.namelist():
            raise WholeError(f"its weights are not in {_WEIGHTS}")
        config, custom = archive.read("config.json"), dict(custom_objects or {})
        try:
            with without_values():
                model = saving_lib._model_from_config(config, custom, False, not unsafe)
            store = _Opened(stack.enter_context(_hdf5(archive)))
            _bind(model, [(model, store, [])], stack.enter_context(_assets(archive)))
        except Exception as error:  # As in load_model.
            raise loading.failure(name, version, error) from error
        try:
            _compile(model, json.loads(config).get("compile_config"), custom, safe=not unsafe)
        except Exception as error:  # As in load_model.
            loading.tell(name, version, loading.not_compiled(error))
        loading.remember(model, name)
        yield model


def _compile(model: Any, config: Any, custom: dict[str, Any], *, safe: bool) -> None:
    """Compile a model as its file says, but for what its optimizer remembers of each weight."""
    if not config:
        return
    scopes = SafeModeScope(safe), keras.saving.custom_object_scope(custom)
    model.built = False  # Else the optimizer has memory for all weights.
    try:
        with scopes[0], scopes[1]:
            model.compile_from_config(config)
    finally:
        model.built = True


# Where weights are read ------------------------------------------------------------------------


class _Reads:
    """What Keras reads weights from, and what was read of it last."""

    last: tuple[str, str, NDArray[Any]] | None = None
    _path = ""

    def get(self, path: str) -> Any:
        """Go to a layer, by its path in the file."""
        self._path, self.last = path, None
        return super().get(path)  # type: ignore[misc]

    def __getitem__(self, key: str) -> Any:
        """Read a variable of that layer."""
        group = self._h5_entry_group  # type: ignore[attr-defined]
        plain = key in group and "dtype" not in group[key].attrs
        if plain and group[key].size:
            value = _array(saving_lib.safe_get_h5_dataset(group, key))
        else:
            value = super().__getitem__(key)  # type: ignore[misc]
        self.last = (self._path, key, value)
        return value

    def again(self, path: str, key: str) -> Any:
        """Read a variable once more."""
        value = self.get(path)[key]
        self.last = None
        return value


def _array(dataset: h5py.Dataset) -> NDArray[Any]:
    """Read an array into memory that a tensor can take over, and that goes back to the system.

    It begins with a page. What is asked of the heap stays with the process in pieces.
    """
    size = dataset.size * dataset.dtype.itemsize
    room = mmap.mmap(-1, size) if size > _PAGES else np.empty(size, np.uint8)
    array: NDArray[Any] = np.frombuffer(room, dataset.dtype).reshape(dataset.shape)
    dataset.read_direct(array)
    return array


class _OneFile(_Reads, saving_lib.H5IOStore):
    pass


class _Shards(_Reads, saving_lib.ShardedH5IOStore):
    pass


class _Opened(_Reads, saving_lib.H5IOStore):
    def __init__(self, file: h5py.File) -> None:
        self._file = file
        super().__init__(_WEIGHTS)

    def _get_h5_file(self, path_or_io: Any, mode: str | None = None) -> h5py.File:
        return self._file


_Part = tuple[Any, Any, list[Any]]


def _stores_of_preset(model: Any, name: str, stack: ExitStack) -> Iterator[_Part]:
    for part, path, skipped in presets.parts_of(model, name):
        store = (_Shards if path.endswith(".json") else _OneFile)(path)
        stack.callback(store.close)
        yield part, store, skipped


def _bind(model: Any, parts: Any, assets: Any) -> None:
    """Let variables read what Keras would load into them; read all of it once, to see that it fits.

    Args:
        model: The model, without values.
        parts: What is loaded, from which store, and the layers that are left out.
        assets: Where Keras reads what is not in variables, or None.

    Raises:
        ValueError: A weight is missing, left over, or of another shape.
    """
    bound = set[int]()
    store: Any = None

    def assigned(variable: Any, value: Any) -> None:
        bound.add(id(variable))
        if store.last is not None:
            path, key, found = store.last
            if _gives(variable, found, value):
                read_from(variable, _reader(store, path, key))
                return
        # A layer may load something else than what it read.
        fill(variable, value)

    for part, store, skipped in parts:
        failed, told = set[int](), dict[int, Any]()
        with without_values(assigned):
            saving_lib._load_state(
                part,
                weights_store=store,
                assets_store=assets,
                inner_path="",
                visited_saveables={id(one) for one in skipped},
                failed_saveables=failed,
                error_msgs=told,
            )
        store.last = None
        if failed:
            saving_lib._raise_loading_failure(told)
    for variable in model.variables:
        # Of what no file has: as Keras leaves it.
        if id(variable) not in bound and not has_value(variable):
            fill(variable)


def _reader(store: Any, path: str, key: str) -> Callable[[], Any]:
    return lambda: store.again(path, key)


def _gives(variable: Any, found: NDArray[Any], value: Any) -> bool:
    """Return whether a variable that reads `found` has the value that it was to be given."""
    wanted = as_array(value)
    if found.dtype != wanted.dtype:
        found = as_array(converted(variable, found))
    if found.shape != wanted.shape or found.dtype != wanted.dtype:
        return False
    return np.array_equal(_bits(found), _bits(wanted))


def _bits(array: NDArray[Any]) -> NDArray[Any]:
    size = array.dtype.itemsize
    kind = f"u{size}" if size in (1, 2, 4, 8) else "u1"
    return np.ascontiguousarray(array).reshape(-1).view(kind)


@contextmanager
def _hdf5(archive: zipfile.ZipFile) -> Iterator[h5py.File]:
    """Open the weights of an archive where they lie, or on disk where they lie packed."""
    about = archive.getinfo(_WEIGHTS)
    with ExitStack() as stack:
        source: Any
        if about.compress_type == zipfile.ZIP_STORED:
            file = stack.enter_context(Path(str(archive.filename)).open("rb"))
            file.seek(about.header_offset + 26)
            name, extra = (int.from_bytes(file.read(2), "little") for _ in range(2))
            source = _Window(file, about.header_offset + 30 + name + extra, about.file_size)
        else:
            folder = stack.enter_context(held_folder(Path(tempfile.gettempdir()), "weights"))
            source = archive.extract(_WEIGHTS, folder)
        yield stack.enter_context(h5py.File(source, "r"))


class _Window(io.RawIOBase):
    """A part of a file, as a file."""

    def __init__(self, file: BinaryIO, start: int, size: int) -> None:
        super().__init__()
        self._file, self._start, self._size, self._here = file, start, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._here, os.SEEK_END: self._size}[whence]
        self._here = base + offset
        return self._here

    def tell(self) -> int:
        return self._here

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        self._file.seek(self._start + self._here)
        count = self._file.readinto(view[: max(0, self._size - self._here)])  # type: ignore[attr-defined]
        self._here += count
        return int(count)


@contextmanager
def _assets(archive: zipfile.ZipFile) -> Iterator[Any]:
    """Unpack what layers keep in files of their own; None where there is nothing."""
    names = [name for name in archive.namelist() if name.startswith(f"{_ASSETS}/")]
    if not names:
        yield None
        return
    with held_folder(Path(tempfile.gettempdir()), _ASSETS) as folder:
        archive.extractall(folder, names)
        yield saving_lib.DiskIOStore(str(folder / _ASSETS), mode="r")
