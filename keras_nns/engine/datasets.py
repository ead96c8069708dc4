"""Data sets of TensorFlow, which Keras reads on any backend: described, read, made.

TensorFlow is imported where there is one already, or one is asked for. Other backends are given
arrays of numpy, and for `model.fit` what `passes` makes.
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import keras
import numpy as np
from keras import tree
from numpy.typing import NDArray

from keras_nns.engine.backend import ON_TENSORFLOW, tf
from keras_nns.engine.tensors import dtype_of


def is_dataset(data: Any) -> bool:
    """Return whether something is a `tf.data.Dataset`."""
    tensorflow = sys.modules.get("tensorflow")
    return tensorflow is not None and isinstance(data, tensorflow.data.Dataset)


@dataclass(frozen=True)
class Spec:
    """What an array of a data set's elements looks like.

    Attributes:
        shape: Its shape, None for a free axis; None where even the number of axes is unknown.
        dtype: Name of its dtype; "string" for text.
        kind: "dense"; "ragged" or "sparse"; "other" for what is no array.
    """

    shape: tuple[int | None, ...] | None
    dtype: str = "float32"
    kind: Literal["dense", "ragged", "sparse", "other"] = "dense"


def batch_spec(array: Any) -> Spec:
    """Return what batches look like of which an array is one: their first axis is free."""
    return Spec((None, *array.shape[1:]), dtype_of(array))


def element_spec(data: Any) -> Any:
    """Return what an element looks like: a `Spec` for each array, in the element's structure.

    An entry that is always None is None.
    """
    return tree.map_structure(_described, data.element_spec)


def _described(spec: Any) -> Spec | None:
    if isinstance(spec, tf.NoneTensorSpec):
        return None
    if isinstance(spec, tf.RaggedTensorSpec):
        return Spec(_sizes(spec.shape), dtype_of(spec), "ragged")
    if isinstance(spec, tf.SparseTensorSpec):
        return Spec(_sizes(spec.shape), dtype_of(spec), "sparse")
    if isinstance(spec, tf.TensorSpec):
        return Spec(_sizes(spec.shape), dtype_of(spec))
    return Spec(None, "", "other")


def _sizes(shape: Any) -> tuple[int | None, ...] | None:
    return None if shape.rank is None else tuple(shape)


def cardinality(data: Any) -> int | None:
    """Return how many elements there are; None where that is not known, or without end."""
    count = int(data.cardinality())
    return None if count < 0 else count


def is_endless(data: Any) -> bool:
    """Return whether a data set is known to never end."""
    return bool(int(data.cardinality()) == tf.data.INFINITE_CARDINALITY)


def class_names(data: Any) -> tuple[str, ...] | None:
    """Return the names that a data set's label numbers stand for, where it knows them.

    `keras.utils.image_dataset_from_directory` writes them on the set that it returns. What is made
    of that set has lost them, so they are looked for behind it, through all that leaves labels as
    they are: `prefetch`, `cache`, `shuffle`, `batch` and the like, and a `map` whose compiled
    function hands the labels on, cast or one-hot at most.
    """
    place = _label_place(data)
    while place is not None:
        found = getattr(data, "class_names", None)
        if found is not None:
            return tuple(found) if place == _label_place(data) else None
        kind = type(data).__name__
        if kind in _MAPPED:
            place = _handed_on(data._map_func.function, place)
        elif kind not in _UNCHANGED:
            return None
        data = data._input_dataset
    return None


_MAPPED = ("_MapDataset", "_ParallelMapDataset")
_UNCHANGED = (
    "CacheDataset", "_AssertCardinalityDataset", "_BatchDataset", "_FilterDataset",
    "_IgnoreErrorsDataset", "_OptionsDataset", "_PaddedBatchDataset", "_ParallelBatchDataset",
    "_PrefetchDataset", "_RebatchDataset", "_RepeatDataset", "_RestructuredDataset",
    "_ShardDataset", "_ShuffleDataset", "_SkipDataset", "_TakeDataset", "_TakeWhileDataset",
    "_UnbatchDataset",
)  # fmt: skip


def _label_place(data: Any) -> int | None:
    """Return which of an element's arrays are the labels of `(x, y)` or `(x, y, sample_weight)`."""
    spec = data.element_spec
    if not isinstance(spec, tuple) or len(spec) not in (2, 3):
        return None
    return len(tree.flatten(spec[0]))


def _handed_on(function: Any, place: int) -> int | None:
    """Return which argument a compiled function hands on as one of its results; None for none."""
    tensor = function.graph.outputs[place]
    while tensor.op.type in ("Identity", "Cast", "OneHot"):
        tensor = tensor.op.inputs[0]
    places = [i for i, given in enumerate(function.graph.inputs) if given is tensor]
    return places[0] if places else None


def elements(data: Any, *, first: int = 0) -> Iterator[Any]:
    """Iterate over the elements.

    Args:
        data: The data set.
        first: Number of the element to begin with.
    """
    rest = data.skip(first) if first else data
    yield from rest if ON_TENSORFLOW else rest.as_numpy_iterator()


def only(data: Any, chosen: NDArray[np.bool_]) -> Any:
    """Return a data set of some of the elements, in their order.

    Args:
        data: A data set that comes in the same order in every pass.
        chosen: For each element whether it is one of them.
    """
    mask = tf.constant(chosen)
    some = data.enumerate().filter(lambda i, _: mask[i]).map(lambda _, element: element)
    counted = some.apply(tf.data.experimental.assert_cardinality(int(chosen.sum())))
    counted.class_names = class_names(data)
    return counted


def with_zeros(data: Any) -> Any:
    """Return a data set of `(inputs, zeros)`: a zero, int64, for each sample of a batch of inputs.

    Args:
        data: A data set whose elements are inputs alone, in any structure.
    """

    def beside(*parts: Any) -> Any:
        inputs = parts[0] if len(parts) == 1 else parts
        # Also where nothing but the values tells how many axes there are.
        return inputs, tf.zeros(tf.shape(tree.flatten(inputs)[0])[:1], tf.int64)

    return data.map(beside)


def with_targets(data: Any, change: Callable[[Any], Any]) -> Any:
    """Return a data set whose elements have something else made of their targets.

    Args:
        data: A data set of `(x, y)` or `(x, y, sample_weight)`.
        change: From the targets, in their structure, to others.
    """
    return data.map(lambda x, y, *weights: (x, change(y), *weights))


def from_generator(
    generator: Callable[[], Iterator[Any]], spec: Any, *, cardinality: int | None = None
) -> Any:
    """Return a data set of what a Python generator yields, made anew for every pass.

    Args:
        generator: Starts a pass; yields arrays in one structure.
        spec: A `Spec` for each array, in that structure.
        cardinality: How many elements a pass has, where that is known.

    Returns:
        The data set. A list of arrays comes out of it as a tuple: to `tf.data` a list is one array.
    """
    signature = tree.map_structure(lambda s: tf.TensorSpec(s.shape, s.dtype), _as_tuples(spec))
    made = tf.data.Dataset.from_generator(
        lambda: map(_as_tuples, generator()), output_signature=signature
    )
    if cardinality is None:
        return made
    return made.apply(tf.data.experimental.assert_cardinality(cardinality))


def _as_tuples(structure: Any) -> Any:
    if isinstance(structure, list | tuple):
        return tuple(map(_as_tuples, structure))
    if isinstance(structure, Mapping):
        return {key: _as_tuples(part) for key, part in structure.items()}
    return structure


def passes(generator: Callable[[], Iterator[Any]], spec: Any, *, cardinality: int) -> Any:
    """Return what a Python generator yields as data for `model.fit`, made anew for every pass.

    Args:
        generator: Starts a pass; yields arrays in one structure.
        spec: A `Spec` for each array, in that structure.
        cardinality: How many elements a pass has.

    Returns:
        Data that `fit` and `evaluate` take, with `shuffle=False`, and that can be iterated over.
    """
    if ON_TENSORFLOW:
        return from_generator(generator, spec, cardinality=cardinality)
    return _Passes(generator, cardinality)


class _Passes(keras.utils.PyDataset):
    """Passes of a generator, as Keras asks for batches: one after the other, from the first on."""

    def __init__(self, generator: Callable[[], Iterator[Any]], cardinality: int) -> None:
        super().__init__()
        self._generator, self._cardinality = generator, cardinality
        self._begun: Iterator[Any] = iter(())
        self._next = 0
        self._trained = False
        self._first: Any = None

    def __len__(self) -> int:
        return self._cardinality

    def __getitem__(self, index: int) -> Any:
        # Before training Keras looks at the first batch, which begins no other pass.
        if index == 0 and self._next == 1:
            return self._first
        if index == 0:
            self._begun, self._next = self._generator(), 0
        assert index == self._next
        self._next += 1
        found = next(self._begun)
        self._first = found if index == 0 else None
        return found

    def on_epoch_end(self) -> None:
        """Begin another pass with the batch asked for next; Keras says so once before it trains."""
        self._next = 0 if self._trained else self._next
        self._trained = True

    def __iter__(self) -> Iterator[Any]:
        return self._generator()


def repeated(arrays: Any, times: int) -> Any:
    """Return data for `model.fit` that gives the same arrays again and again, without copying them.

    Args:
        arrays: The one element: arrays in any structure.
        times: How often a pass gives it.
    """
    if ON_TENSORFLOW:
        return tf.data.Dataset.from_tensors(arrays).repeat(times)
    return _Passes(lambda: itertools.repeat(arrays, times), times)


def cached(data: Any, path: str | os.PathLike[str]) -> Any:
    """Return a data set that writes its first pass to files and reads all others from them.

    Args:
        data: The data set.
        path: The beginning of the names of the files.
    """
    return data.cache(os.fspath(path))
