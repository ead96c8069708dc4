"""Containers of data, each opened as a stream of `(x, y)` batches."""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from keras_nns.data.formats import ImageFolder
from keras_nns.data.inputs import InputReader
from keras_nns.data.named import find
from keras_nns.errors import DataError

_ACCEPTED = (
    "Pass (x, y) arrays, a batched tf.data.Dataset, a keras.utils.PyDataset, an iterable of (x, y) "
    "batches or a function that returns one, or the path of a folder of images per class, an .npz "
    "or IDX files."
)
Pairs = Iterator[tuple[Any, Any]]


@dataclass(frozen=True, eq=False)
class Source:
    """A container of data.

    Attributes:
        open: Starts a pass at a batch number; gives `(x, y)` as the container has them.
        size: Number of samples, when known.
        batches: Number of batches, when known.
        per_batch: Samples in every batch but the last, when known.
        repeatable: Whether there can be a second pass.
        names: What label numbers stand for, where the container knows.
        labels: All labels, where they are at hand and can be sliced.
    """

    open: Callable[[int], Pairs]
    size: int | None = None
    batches: int | None = None
    per_batch: int | None = None
    repeatable: bool = True
    names: Sequence[str] | None = None
    labels: Any = None


def open_source(
    data: Any, y: Any, *, inputs: InputReader, batch_size: int, part: str | None
) -> Source:
    """Recognise a container and check what can be checked without reading it.

    The arguments are those of `data.as_batches`.

    Raises:
        DataError: The container is of no known kind, empty, endless, without labels, or its shapes
            do not fit the model.
        FileError: A file is missing, damaged or foreign.
    """
    if isinstance(data, (str, os.PathLike)) and y is None:
        return _path(data, inputs, batch_size, part)
    if part is not None:
        raise DataError(f"part is for a path that holds several. Received: part={part!r}.")
    return (
        _container(data, inputs, batch_size) if y is None else _beside(data, y, inputs, batch_size)
    )


def _container(data: Any, inputs: InputReader, batch_size: int) -> Source:
    if isinstance(data, tf.data.Dataset):
        return _dataset(data, inputs)
    if isinstance(data, keras.utils.PyDataset):
        return _py_dataset(data)
    if isinstance(data, tuple):
        x, y = _split(data)
        return _arrays(x, y, inputs, batch_size)
    if isinstance(data, Mapping) or hasattr(data, "shape"):
        raise DataError("The data has no labels: pass y as well, or a tuple (x, y).")
    if isinstance(data, list) and not all(isinstance(item, tuple) for item in data):
        raise DataError(
            "A list is read as (x, y) batches, each a tuple. For arrays pass a tuple (x, y)."
        )
    if isinstance(data, Iterator):
        return Source(_once(data), repeatable=False)
    if isinstance(data, Iterable):
        size = len(data) if isinstance(data, (list, Sequence)) else None
        return Source(partial(_stream, data.__iter__), batches=size)
    if callable(data):
        return Source(partial(_stream, data))
    raise DataError(f"Data of type {type(data).__name__} cannot be read. {_ACCEPTED}")


def _beside(x: Any, y: Any, inputs: InputReader, batch_size: int) -> Source:
    whole = (tf.data.Dataset, keras.utils.PyDataset, Iterator, str, os.PathLike)
    if isinstance(x, whole) or (callable(x) and not hasattr(x, "shape")):
        raise DataError(
            f"y is for arrays: data of type {type(x).__name__} must bring its own labels, as "
            "(x, y) batches."
        )
    return _arrays(x, y, inputs, batch_size)


def _split(item: Any) -> tuple[Any, Any]:
    if isinstance(item, (tuple, list)) and len(item) in (2, 3):
        if item[1] is None:
            raise DataError("The data has no labels: y is None.")
        return item[0], item[1]
    got = f"{len(item)} of them" if isinstance(item, (tuple, list)) else type(item).__name__
    raise DataError(
        f"Expected (x, y) or (x, y, sample_weight), inputs with their labels. Received: {got}."
    )


def _sliceable(array: Any) -> Any:
    """Leave what can be sliced as it is, so that a file behind it is read batch by batch."""
    if isinstance(array, np.ndarray) or hasattr(array, "iloc"):
        return np.asarray(array)
    if hasattr(array, "shape") and hasattr(array, "dtype") and hasattr(array, "__getitem__"):
        return array
    try:
        return np.asarray(array)
    except ValueError as error:
        raise DataError(
            f"The samples do not have one shape: {error}. Pad them to one length."
        ) from error


def _arrays(
    x: Any,
    y: Any,
    inputs: InputReader,
    batch_size: int,
    *,
    scale: Callable[[NDArray[Any]], NDArray[Any]] | None = None,
    names: Sequence[str] | None = None,
) -> Source:
    if isinstance(y, Mapping):
        raise DataError(f"Pass the labels of one output. Received: a dict with keys {list(y)}.")
    parts, y = [_sliceable(part) for part in inputs.parts(x)], _sliceable(y)
    sizes = {
        name: len(part) if part.shape else 0 for name, part in zip(inputs.names, parts, strict=True)
    }
    size = len(y) if y.shape else 0
    if set(sizes.values()) != {size}:
        raise DataError(
            f"Inputs and labels must have as many samples. Received: inputs {sizes}, {size} labels."
        )
    if not size:
        raise DataError("The data is empty: the arrays have no samples.")
    inputs.check_shapes([part.shape for part in parts])
    inputs.fit(inputs.join([part[:1] for part in parts]))

    def open_(first: int) -> Pairs:
        for start in range(first * batch_size, size, batch_size):
            some = [part[start : start + batch_size] for part in parts]
            if scale:
                some = [scale(part) for part in some]
            yield inputs.join(some), y[start : start + batch_size]

    return Source(
        open_,
        size=size,
        batches=-(-size // batch_size),
        per_batch=batch_size,
        names=names,
        labels=y,
    )


def _dataset(data: tf.data.Dataset, inputs: InputReader) -> Source:
    x_spec, y_spec = _split(data.element_spec)
    if isinstance(y_spec, (tf.RaggedTensorSpec, tf.SparseTensorSpec)):
        raise DataError("The labels of the dataset are ragged or sparse. Make them dense first.")
    if not isinstance(y_spec, tf.TensorSpec):
        raise DataError("The dataset gives labels of several outputs. Map it to one: (x, y[0]).")
    inputs.check_spec(inputs.parts(x_spec), alone=y_spec.shape.rank == 0)
    batches: int | None = int(data.cardinality())
    if batches == tf.data.INFINITE_CARDINALITY:
        raise DataError(
            "The dataset never ends (.repeat()). Say how many batches to read: data.take(100)."
        )
    if batches == 0:
        raise DataError("The data is empty: the dataset has no batch.")
    batches = None if batches == tf.data.UNKNOWN_CARDINALITY else batches
    per_batch = y_spec.shape[0] if y_spec.shape.rank else None

    def open_(first: int) -> Pairs:
        for item in data.skip(first) if first else data:
            yield item[0], item[1]

    return Source(
        open_,
        size=None if per_batch is None or batches is None else per_batch * batches,
        batches=batches,
        per_batch=per_batch,
        names=getattr(data, "class_names", None),
    )


def _py_dataset(data: keras.utils.PyDataset) -> Source:
    batches = data.num_batches
    if batches is None:
        raise DataError(
            "The PyDataset never ends (num_batches is None). Give it a __len__, or pass "
            "[data[i] for i in range(steps)]."
        )
    if batches == 0:
        raise DataError("The data is empty: the PyDataset has no batch.")

    def open_(first: int) -> Pairs:
        numbers = range(first, batches)
        if data.workers <= 1:
            yield from map(_split, map(data.__getitem__, numbers))
            return
        # Threads also where it asks for processes: they need no pickling of the user's data.
        pool = ThreadPoolExecutor(data.workers)
        try:
            ahead = data.workers + 1
            waiting = deque(pool.submit(data.__getitem__, i) for i in numbers[:ahead])
            for i in numbers[ahead:]:
                yield _split(waiting.popleft().result())
                waiting.append(pool.submit(data.__getitem__, i))
            while waiting:
                yield _split(waiting.popleft().result())
        finally:
            pool.shutdown(cancel_futures=True)

    return Source(open_, batches=batches)


def _stream(start: Callable[[], Any], first: int) -> Pairs:
    stream = start()
    if isinstance(stream, (tf.data.Dataset, keras.utils.PyDataset)) or not isinstance(
        stream, Iterable
    ):
        raise DataError(
            "A function given as data must return an iterable of (x, y) batches. "
            f"Received: {type(stream).__name__}."
        )
    return map(_split, itertools.islice(stream, first, None))


def _once(stream: Iterator[Any]) -> Callable[[int], Pairs]:
    left = [stream]

    def open_(first: int) -> Pairs:
        if not left:
            raise DataError(
                "The generator has been read and cannot be read again. Pass the function that "
                "makes it, without calling it, for more than one pass."
            )
        return _stream(left.pop, first)

    return open_


def _path(
    path: str | os.PathLike[str], inputs: InputReader, batch_size: int, part: str | None
) -> Source:
    found = find(path, part=part)
    if isinstance(found, ImageFolder):
        if len(inputs.shapes) != 1 or len(inputs.shapes[0]) != 4:
            raise DataError(
                f"A folder of images needs a model of one image input (batch, height, width, "
                f"channels). Received: a model of inputs {list(inputs.shapes)}."
            )
        return Source(
            found.reader(shape=inputs.shapes[0][1:], batch_size=batch_size),
            size=found.size,
            batches=-(-found.size // batch_size),
            per_batch=batch_size,
            names=found.label_names,
        )
    return _arrays(
        found.x, found.y, inputs, batch_size, scale=found.scaled, names=found.label_names
    )
