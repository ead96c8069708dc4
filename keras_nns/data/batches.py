"""Any data that Keras takes, as batches of inputs and labels that fit a model."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_nns.data.batch_sizes import check_batch_size
from keras_nns.data.encodings import missing_counted
from keras_nns.data.inputs import InputReader, first_not_finite
from keras_nns.data.labels import (
    LabelReader,
    answers_labels,
    check_labels,
    label_reader,
    output_label_count,
)
from keras_nns.data.order import check_order
from keras_nns.data.outputs import of_one_position, of_output, targets_of
from keras_nns.data.preprocessing import rescaled_by
from keras_nns.data.ranges import within
from keras_nns.data.shards import Shard
from keras_nns.data.streams import Stream, first_targets, open_stream
from keras_nns.data.targets import (
    EVERYTHING,
    Kind,
    PositionReader,
    ValueReader,
    kind_of_targets,
    may_be_dense,
    single_positions,
)
from keras_nns.data.weights import checked_weights
from keras_nns.errors import DataError

Reader = LabelReader | PositionReader | ValueReader


@dataclass(frozen=True, eq=False)
class Batch:
    """Some samples.

    Attributes:
        inputs: Array or tensor of shape `(samples, …)`, or a list, tuple or dict of them, as
            `model.input` has it. Their dtype is the data's own.
        labels: Label numbers, int64 of shape `(samples,)`; or bool of shape `(samples, labels)`
            where the data is one-hot or multi-hot, and where each position has a label: which of
            them a sample has anywhere.
        weights: How much each sample counts, float64 `(samples,)`, above 0; None where all count
            alike. Samples of weight 0 are left out of the data.
        targets: What the model is to answer, where that is not the labels: label numbers, int32
            `(samples, *positions)`, -1 where nothing counts; bool `(samples, *positions, labels)`;
            or numbers, float32 of the shape of the model's output.
    """

    inputs: Any
    labels: NDArray[Any]
    weights: NDArray[np.float64] | None = None
    targets: NDArray[Any] | None = None

    @property
    def size(self) -> int:
        """Number of samples."""
        return len(self.labels)

    @property
    def each(self) -> NDArray[np.float64]:
        """How much each sample counts, float64 `(samples,)`."""
        return np.ones(self.size) if self.weights is None else self.weights

    def has(self, labels: Sequence[int]) -> NDArray[np.bool_]:
        """Say which samples have one of these labels, `(samples,)`."""
        table, wanted = self.labels, list(labels)
        return np.asarray(
            table[:, wanted].any(axis=1) if table.ndim == 2 else np.isin(table, wanted)
        )

    def only(self, chosen: NDArray[Any]) -> Batch:
        """Return some of the samples, by a mask or by their places."""
        return Batch(
            keras.tree.map_structure(lambda t: np.asarray(t)[chosen], self.inputs),
            self.labels[chosen],
            None if self.weights is None else self.weights[chosen],
            None if self.targets is None else self.targets[chosen],
        )


def unweighted(batches: Iterable[Batch], verb: str) -> Iterator[Batch]:
    """Pass on batches whose samples all count alike.

    Args:
        batches: The data.
        verb: What counts every sample once, for the error.

    Raises:
        DataError: Some samples count more than others.
    """
    first = None
    for batch in batches:
        if batch.weights is None:
            weights, alike = np.ones(1), True
        else:
            weights = batch.weights
            alike = bool((weights == weights[0]).all())
        first = weights[0] if first is None else first
        if not alike or weights[0] != first:
            odd = weights[weights != first][0]
            raise DataError(
                f"{verb} counts every sample once, and the data has sample weights that differ "
                f"({first:g} and {odd:g}). Pass (x, y) alone if they do not matter here; weights "
                "of 0 and 1 leave out samples and are taken."
            )
        yield batch


class Batches:
    """Data as an iterable of `Batch`, made by `as_batches`.

    Every pass is in the container's own order, one batch in memory at a time.

    Attributes:
        label_names: Name of every label, in the order of the model's outputs.
        kind: What the model is to answer, in what form (`targets.Kind`).
        size: Number of samples, when it is known beforehand.
        batches: Number of batches, when it is known beforehand.
        repeatable: Whether there can be a second pass; false for a generator.
        alphabetical: Whether the names are the data's own strings in alphabetical order.
        notes: What was done to the data on the way: how pixels in files were scaled.
        divisor: What pixels in files were divided by (`Stream.divisor`).
        constant: Whether every pass gives the same samples in the same order, as arrays do.
        truths: Whether the labels were given as booleans, one for each sample.
        marks: What tells the data from others without reading it all (`Stream.marks`); None where
            it can only be gone through.
    """

    def __init__(
        self,
        stream: Stream,
        inputs: InputReader,
        labels: Reader,
        *,
        check_finite: bool,
        start: int = 0,
    ) -> None:
        self.label_names = labels.names
        self.kind = labels.kind
        self.alphabetical = labels.alphabetical
        self.notes = stream.notes
        self.divisor = stream.divisor
        self.size = stream.size
        self.batches = stream.batches
        self.repeatable = stream.repeatable
        self.constant = stream.labels is not None
        self.marks = stream.marks
        first = None if stream.labels is None else np.asarray(stream.labels[:1])
        self.truths = first is not None and first.dtype == np.bool_ and first.size == len(first)
        self._stream = stream
        self._inputs = inputs
        self._labels = labels
        self._check_finite = check_finite
        self._start = start
        self._read_already: Callable[[], Iterable[Batch]] | None = None
        self._when_read: Callable[[Batches, NDArray[np.int64]], None] | None = None

    @property
    def plain(self) -> bool:
        """Whether labels are numbers to which the data gives no names, as far as it was read."""
        reader = self._labels
        return self._stream.names is None and isinstance(reader, LabelReader) and reader.plain

    def when_read(self, look: Callable[[Batches, NDArray[np.int64]], None]) -> None:
        """Say what is called once all has been read: with how many samples each label has."""
        self._when_read = look

    def __iter__(self) -> Iterator[Batch]:
        if self._read_already is not None:
            yield from itertools.islice(self._read_already(), self._start, None)
            return
        number, look = self._start - 1, self._when_read
        counts = np.zeros(len(self.label_names), dtype=np.int64)
        for number, (x, y, *weights) in enumerate(self._stream.open(self._start), self._start):
            try:
                batch = _weighted(self._read(x, y), *weights)
            except DataError as error:
                raise DataError(f"Batch {number}: {error}") from error
            if look is not None:
                rows = batch.labels.ndim > 1
                own = np.flatnonzero(batch.labels.any(axis=0)) if rows else batch.labels
                counts += np.bincount(own, minlength=len(counts))
            if batch.size:
                yield batch
        if number < 0:
            raise DataError("The data is empty: it gave no batch.")
        if look is not None and self._when_read is look:
            look(self, counts)
            self._when_read = None

    def of(self, batches: Callable[[], Iterable[Batch]]) -> Batches:
        """Return samples of this data that were read already, to pass on as data.

        Args:
            batches: Starts a pass over them.
        """
        found = copy(self)
        found._read_already = batches
        found.size = found.batches = None
        return found

    def shard(self, shard: Shard) -> Batches:
        """Return the samples of one shard, of data that has `marks`; it alone is read.

        Raises:
            DataError: There is no sample in it.
        """
        found = copy(self)
        found._stream = within(self._stream, shard)
        found.size, found.batches = found._stream.size, found._stream.batches
        return found

    def skip(self, batches: int) -> Batches:
        """Leave out the first batches, to go on where an earlier pass ended.

        Arrays and `PyDataset`s start there at once, a `tf.data.Dataset` through its own `skip`, and
        an iterator by going over what comes before. The data must come in the same order in every
        pass: a dataset that shuffles anew does not.

        Args:
            batches: How many to leave out.

        Raises:
            DataError: `batches` is negative.
        """
        if batches < 0:
            raise DataError(f"skip takes a number of batches, 0 or more. Received: {batches}.")
        rest = Batches(
            self._stream,
            self._inputs,
            self._labels,
            check_finite=self._check_finite,
            start=self._start + batches,
        )
        rest._read_already = self._read_already
        if self.batches is not None:
            rest.batches = max(self.batches - batches, 0)
        per_batch = self._stream.per_batch
        if self.size is not None:
            rest.size = max(self.size - batches * per_batch, 0) if per_batch else None
        return rest

    def _read(self, x: Any, y: Any) -> Batch:
        parts = self._inputs.fit(x)
        labels, targets = self._labels.both(y)
        for part, name in zip(parts, self._inputs.names, strict=True):
            if len(part) != len(labels):
                raise DataError(
                    f"Input {name!r} has {len(part)} samples and there are {len(labels)} labels."
                )
            if self._check_finite and (sample := first_not_finite(part)) is not None:
                raise DataError(
                    f"Input {name!r} holds NaN or infinity, first in sample {sample} of the batch. "
                    "Clean the data, for instance with np.nan_to_num, or drop such samples."
                )
        return Batch(self._inputs.join(parts), labels, targets=targets)


def _weighted(batch: Batch, weights: Any = None) -> Batch:
    """Give the samples of a batch their weights, and leave out those of weight 0."""
    if weights is None:
        return batch
    given = checked_weights(weights, batch.size)
    used = given > 0
    weighted = replace(batch, weights=given)
    return weighted if used.all() else weighted.only(used)


def as_batches(
    data: Any,
    y: Any = None,
    *,
    model: keras.Model,
    batch_size: int = 256,
    label_names: Sequence[Any] | None = None,
    label_count: int | None = None,
    part: str | None = None,
    check_finite: bool = True,
    own_labels: bool = False,
    output: str | None = None,
) -> Batches:
    """Read any data that Keras takes as batches of inputs and labels that fit a model.

    What the targets mean is found once, from their shape and values and the model's output
    (`targets.kind_of_targets`): labels of a sample, a label at every position, or numbers. Labels
    may be whole numbers of any dtype, `(samples,)` or `(samples, 1)`; strings or bytes;
    one-hot or multi-hot rows of 0 and 1. Samples of weight 0, the third entry of `(x, y, w)`, are
    left out.

    Args:
        data: `(x, y)` arrays, with x one array, or a list, tuple or dict of them for a model of
            several inputs; x alone with `y` beside it; a batched `tf.data.Dataset`; a
            `keras.utils.PyDataset`; an iterable of `(x, y)` batches (read once if it is an
            iterator) or a function that returns one (can be read again); the path of a folder with
            one sub-folder of images for each class, of an `.npz`, or of IDX files, with pixels
            scaled to 0..1 where the model does not scale them itself; or `Batches`, which are given
            back.
        y: Labels, when `data` is x alone.
        model: The built model that the data is for.
        batch_size: Samples in a batch, for arrays and paths; other data has its own batches.
        label_names: Name of every label, in the order of the model's outputs. Without it: the
            container's own names or the order of pandas categories; the strings of an array in
            alphabetical order, where the model's answers bear it out; or "0", "1", ….
        label_count: Number of labels; by default as many as the model's output tells apart.
        part: "train" or "test", for a path that holds both.
        check_finite: Whether inputs are searched for NaN and infinity. It costs up to a few percent
            of a small model's time; a caller that looks at the activations may do without.
        own_labels: Whether the labels are the data's own, and not what the model answers.
        output: Name of the output that answers the labels, where the model has several. Targets
            that are a dictionary, list or tuple of those of all outputs are read as its own.

    Returns:
        The batches. What can be checked without reading the inputs has been checked.

    Raises:
        DataError: The data does not fit the model. The message says what to change.
        FileError: A file is missing, damaged or foreign.
        ModelError: The model has no known inputs.

    Example:
        >>> import keras, numpy as np
        >>> model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        >>> batches = as_batches((np.ones((5, 4)), [0, 1, 2, 0, 1]), model=model, batch_size=2)
        >>> [batch.labels.tolist() for batch in batches]
        [[0, 1], [2, 0], [1]]
    """
    if isinstance(data, Batches):
        return data
    check_batch_size(batch_size)
    inputs = InputReader(model)
    data, y = targets_of(data, y, model, output)
    answering = of_output(model, output)
    stream = open_stream(
        data,
        y,
        columns=inputs.names,
        image=inputs.image_shape,
        batch_size=batch_size,
        part=part,
        rescaled=partial(rescaled_by, model),
    )
    if axes := single_positions(answering):
        stream = of_one_position(stream, axes)
    if stream.inputs is not None:
        samples = stream.size if stream.labels is not None else None
        inputs.check(stream.inputs, samples=samples, single=stream.single)
    inputs.carried.check(stream.per_batch, stream.size)
    if 0 in (stream.size, stream.batches):
        raise DataError("The data is empty: it has no samples.")
    told = None if label_names is None else tuple(label_names)
    count = len(told) if told and label_count is None else label_count
    dense = told != (EVERYTHING,) and not own_labels and stream.names is None
    first = stream.labels
    if dense and may_be_dense(answering, counted=count is not None):
        first, stream = first_targets(stream)
    else:
        dense = False
    labels: Reader
    with missing_counted(first, "Batch 0: " if stream.labels is None else ""):
        kind: Kind = "values" if told == (EVERYTHING,) else "labels"
        if dense:
            kind = kind_of_targets(answering, first, count=count)
        if kind == "values":
            labels = ValueReader(answering)
        elif kind == "positions":
            labels = PositionReader(answering, told, count=label_count)
        else:
            labels = label_reader(
                outputs=None if own_labels else output_label_count(answering),
                names=label_names,
                count=label_count,
                found=stream.names,
                alphabetical=stream.alphabetical,
                y=stream.labels,
            )
        if stream.labels is not None:
            check_labels(labels, stream.labels)
    if (
        isinstance(labels, LabelReader)
        and not own_labels
        and answers_labels(model, len(labels.names))
    ):
        check_order(model, labels, stream, inputs, named=told)
    return Batches(stream, inputs, labels, check_finite=check_finite)
