"""Containers of data, each opened as a stream of `(x, y)` batches."""

from __future__ import annotations

import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_nns.data.columns import columns_of, targets
from keras_nns.data.encodings import RAGGED, category_names
from keras_nns.data.formats import ImageFolder
from keras_nns.data.named import few_of_each, find
from keras_nns.engine import datasets
from keras_nns.engine.replicas import is_distributed
from keras_nns.errors import DataError

_ACCEPTED = (
    "Pass (x, y) arrays, a batched tf.data.Dataset, a keras.utils.PyDataset, an iterable of (x, y) "
    "batches or a function that returns one, or the path of a folder of images per class, an .npz "
    "or IDX files."
)
Pairs = Iterator[tuple[Any, ...]]

_MARKED, _MOST_MARKS = 64, 2**20
"""Samples and labels that tell arrays from others."""


@dataclass(frozen=True, eq=False)
class Stream:
    """A container of data, opened.

    Attributes:
        open: Starts a pass at a batch number; gives `(x, y)` as the container has them, or
            `(x, y, sample_weight)`.
        inputs: What shows how inputs look before the first batch: the arrays themselves, or a
            `datasets.Spec` for each, in the container's own structure. None where only the batches
            show it.
        single: Whether it shows that samples come one at a time.
        size: Number of samples, when known.
        batches: Number of batches, when known.
        per_batch: Samples in every batch but the last, when known.
        repeatable: Whether there can be a second pass.
        names: What label numbers stand for, where the container knows.
        alphabetical: Whether `names` are strings in alphabetical order, since nothing told another.
        labels: All labels, where they are at hand and can be sliced.
        take: Gives the inputs of some samples, by their places, where samples can be had out of
            turn.
        few: Gives up to so many samples of every folder, where these are the labels.
        notes: What was done to it on the way.
        divisor: What pixels in files are divided by before the model is given them, 1 where it
            takes them as they are stored; None for data that are no pictures in files.
        marks: Gives arrays that tell these data from others, the same on every machine, without
            reading it all; None where it can only be gone through: `open` then starts nowhere but
            at the first batch, and goes over what comes before another.
    """

    open: Callable[[int], Pairs]
    inputs: Any = None
    single: bool = False
    size: int | None = None
    batches: int | None = None
    per_batch: int | None = None
    repeatable: bool = True
    names: Sequence[str] | None = None
    alphabetical: bool = False
    labels: Any = None
    take: Callable[[Sequence[int]], Any] | None = None
    few: Callable[[int], Pairs] | None = None
    notes: tuple[str, ...] = ()
    divisor: float | None = None
    marks: Callable[[], Iterable[Any]] | None = None


def open_stream(
    data: Any,
    y: Any = None,
    *,
    columns: Sequence[str] = (),
    image: Sequence[int | None] | None = None,
    batch_size: int = 256,
    part: str | None = None,
    rescaled: Callable[[float], str | None] = lambda white: None,
) -> Stream:
    """Recognise a container and open it.

    Args:
        data: As `batches.as_batches` takes it, with `y`, `batch_size` and `part`.
        y: Labels, when `data` is x alone.
        columns: Names of the model's inputs, of which a dict of arrays may hold more.
        image: Height, width and channels that a folder's images are given in, None for a free one;
            None where the model takes no image.
        batch_size: Samples in a batch, for arrays and paths.
        part: "train" or "test", for a path that holds both.
        rescaled: Says what in the model scales pictures itself whose white is so much, None for
            nothing: then pixels in files are scaled to 0..1.

    Raises:
        DataError: The container is of no known kind, endless or without labels.
        FileError: A file is missing, damaged or foreign.
    """
    if isinstance(data, (str, os.PathLike)) and y is None:
        return _path(data, image, batch_size, part, rescaled)
    if part is not None:
        raise DataError(f"part is for a path that holds several. Received: part={part!r}.")
    if y is not None:
        return _beside(data, y, columns, batch_size)
    if is_distributed(data):
        raise DataError(
            "The data set has been dealt out by a strategy. Pass the set that it was made of, and "
            "strategy=… beside it."
        )
    if datasets.is_dataset(data):
        return _dataset(data)
    if isinstance(data, keras.utils.PyDataset):
        return _py_dataset(data)
    if isinstance(data, tuple):
        x, y, *weights = _split(data)
        return _arrays(x, y, columns, batch_size, weights=weights)
    if isinstance(data, Mapping) or hasattr(data, "shape"):
        raise DataError("The data has no labels: pass y as well, or a tuple (x, y).")
    if isinstance(data, list) and not all(isinstance(item, tuple) for item in data):
        raise DataError(
            "A list is read as (x, y) batches, each a tuple. For arrays pass a tuple (x, y)."
        )
    if isinstance(data, Iterator):
        return Stream(_once(data), repeatable=False)
    if isinstance(data, Iterable):
        size = len(data) if isinstance(data, (list, Sequence)) else None
        return Stream(partial(_stream, data.__iter__), batches=size)
    if callable(data):
        return Stream(partial(_stream, data))
    raise DataError(f"Data of type {type(data).__name__} cannot be read. {_ACCEPTED}")


def first_targets(stream: Stream) -> tuple[Any, Stream]:
    """Return all targets where they are at hand, else those of the first batch.

    Returns:
        The targets, and the stream to go on with: the pass that was begun is its next.
    """
    if stream.labels is not None:
        return stream.labels, stream
    begun = stream.open(0)
    first = next(begun, None)
    if first is None:
        return np.zeros(0), stream
    held = [itertools.chain([first], begun)]

    def open_(start: int) -> Pairs:
        if held and (start == 0 or not stream.repeatable):
            return itertools.islice(held.pop(), start, None)
        held.clear()
        return stream.open(start)

    return first[1], replace(stream, open=open_)


def _beside(x: Any, y: Any, columns: Sequence[str], batch_size: int) -> Stream:
    whole = (keras.utils.PyDataset, Iterator, str, os.PathLike)
    called = callable(x) and not hasattr(x, "shape")
    if datasets.is_dataset(x) or isinstance(x, whole) or called:
        raise DataError(
            f"y is for arrays: data of type {type(x).__name__} must bring its own labels, as "
            "(x, y) batches."
        )
    return _arrays(x, y, columns, batch_size)


def _split(item: Any) -> tuple[Any, ...]:
    if isinstance(item, (tuple, list)) and len(item) in (2, 3):
        if item[1] is None:
            raise DataError("The data has no labels: y is None.")
        return tuple(item[:2]) if item[-1] is None else tuple(item)
    got = f"{len(item)} of them" if isinstance(item, (tuple, list)) else type(item).__name__
    raise DataError(
        f"Expected (x, y) or (x, y, sample_weight), inputs with their labels. Received: {got}."
    )


def _arrays(
    x: Any,
    y: Any,
    columns: Sequence[str],
    batch_size: int,
    *,
    scale: Callable[[NDArray[Any]], NDArray[Any]] | None = None,
    names: Sequence[str] | None = None,
    weights: Sequence[Any] = (),
) -> Stream:
    if isinstance(y, Mapping):
        raise DataError(
            f"The targets are a dict, with keys {list(y)}, and the model has one output. Pass its "
            "targets alone."
        )
    names = category_names(y) if names is None else names
    x, y = columns_of(x, columns), targets(y)
    size = len(y) if y.shape else 0
    beside = [np.asarray(some) for some in weights]
    if any(len(some) != size for some in beside):
        raise DataError(
            f"There must be a weight for each sample. Received: {len(beside[0])} weights and "
            f"{size} samples."
        )

    def open_(first: int) -> Pairs:
        for start in range(first * batch_size, size, batch_size):
            here = slice(start, start + batch_size)
            some = keras.tree.map_structure(lambda part, here=here: part[here], x)
            yield scale(some) if scale else some, y[here], *(part[here] for part in beside)

    def take(places: Sequence[int]) -> Any:
        # One by one: not everything that can be sliced takes a list of places.
        some = keras.tree.map_structure(
            lambda part: np.concatenate([np.asarray(part[i : i + 1]) for i in places]), x
        )
        return scale(some) if scale else some

    return Stream(
        open_,
        inputs=x,
        size=size,
        batches=-(-size // batch_size),
        per_batch=batch_size,
        names=names,
        labels=y,
        take=take,
        marks=lambda: _marks(y, take),
    )


def _marks(y: Any, take: Callable[[Sequence[int]], Any]) -> Iterator[Any]:
    """Give the labels, a million of them at most, and the inputs of some samples."""
    size = len(y)
    yield np.array(size)
    yield np.asarray(y[:: -(-size // _MOST_MARKS)])
    places = np.linspace(0, size - 1, min(size, _MARKED)).astype(int)
    yield from keras.tree.flatten(take(places.tolist()))


def _dataset(data: Any) -> Stream:
    x, y, *_ = _split(datasets.element_spec(data))
    kind = y.kind if isinstance(y, datasets.Spec) else "other"
    if kind in ("ragged", "sparse"):
        raise DataError(
            RAGGED
            if kind == "ragged"
            else "The labels of the dataset are sparse. "
            "Map them: data.map(lambda x, y: (x, tf.sparse.to_dense(y)))."
        )
    if kind == "other":
        raise DataError("The dataset gives labels of several outputs. Map it to one: (x, y[0]).")
    if datasets.is_endless(data):
        raise DataError(
            "The dataset never ends (.repeat()). Say how many batches to read: data.take(100)."
        )
    batches = datasets.cardinality(data)
    per_batch = y.shape[0] if y.shape else None

    def open_(first: int) -> Pairs:
        yield from map(_split, datasets.elements(data, first=first))

    return Stream(
        open_,
        inputs=x,
        single=y.shape == (),
        size=None if per_batch is None or batches is None else per_batch * batches,
        batches=batches,
        per_batch=per_batch,
        names=datasets.class_names(data),
    )


def _py_dataset(data: keras.utils.PyDataset) -> Stream:
    batches = data.num_batches
    if batches is None:
        raise DataError(
            "The PyDataset never ends (num_batches is None). Give it a __len__, or pass "
            "[data[i] for i in range(steps)]."
        )

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

    def marks() -> Iterator[Any]:
        yield np.array(batches)
        for i in (0, batches - 1):
            yield from keras.tree.flatten(data[i])

    return Stream(open_, batches=batches, marks=marks)


def _stream(start: Callable[[], Any], first: int) -> Pairs:
    stream = start()
    whole = datasets.is_dataset(stream) or isinstance(stream, keras.utils.PyDataset)
    if whole or not isinstance(stream, Iterable):
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
    path: str | os.PathLike[str],
    image: Sequence[int | None] | None,
    batch_size: int,
    part: str | None,
    rescaled: Callable[[float], str | None],
) -> Stream:
    found = find(path, part=part)
    white = 255.0 if isinstance(found, ImageFolder) else found.divisor
    why = rescaled(white) if white else None
    notes = (scale_note(white, why),) if white else ()
    divisor = (1.0 if why else white) if white else None
    if not isinstance(found, ImageFolder):
        stream = _arrays(
            found.x, found.y, (), batch_size, scale=None if why else found.scaled,
            names=found.label_names,
        )  # fmt: skip
        return replace(stream, alphabetical=found.alphabetical, notes=notes, divisor=divisor)
    if image is None:
        raise DataError(
            "A folder of images needs a model of one image input (batch, height, width, channels)."
        )
    read = partial(ImageFolder.reader, shape=image, batch_size=batch_size, scale=why is None)
    return Stream(
        read(found),
        size=found.size,
        batches=-(-found.size // batch_size),
        per_batch=batch_size,
        names=found.label_names,
        few=lambda most: read(few_of_each(found, most))(0),
        marks=found.marks,
        notes=notes,
        divisor=divisor,
    )


def scale_note(white: float, why: str | None) -> str:
    """Say how pixels of 0..white are given to a model, and what in it scales them, if anything."""
    if why is None:
        return f"Pixels of 0..{white:g} are scaled to 0..1."
    return f"Pixels are left in 0..{white:g}, as the model takes them: {why}."
