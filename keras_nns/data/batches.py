"""Any data that Keras takes, as batches of inputs and labels that fit a model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_nns.data.containers import Source, open_source
from keras_nns.data.inputs import InputReader, first_not_finite
from keras_nns.data.labels import LabelReader, check_labels, label_reader, output_label_count
from keras_nns.errors import DataError


@dataclass(frozen=True, eq=False)
class Batch:
    """Some samples.

    Attributes:
        inputs: Array or tensor of shape `(samples, …)`, or a list, tuple or dict of them, as
            `model.input` has it. Their dtype is the data's own.
        labels: Label numbers, int64 of shape `(samples,)`; or bool of shape `(samples, labels)`
            where the data is one-hot or multi-hot.
    """

    inputs: Any
    labels: NDArray[Any]

    @property
    def size(self) -> int:
        """Number of samples."""
        return len(self.labels)


class Batches:
    """Data as an iterable of `Batch`, made by `as_batches`.

    Every pass is in the container's own order, one batch in memory at a time.

    Attributes:
        label_names: Name of every label, in the order of the model's outputs.
        size: Number of samples, when it is known beforehand.
        batches: Number of batches, when it is known beforehand.
        repeatable: Whether there can be a second pass; false for a generator.
        constant: Whether every pass gives the same samples in the same order, as arrays do.
    """

    def __init__(
        self,
        source: Source,
        inputs: InputReader,
        labels: LabelReader,
        *,
        check_finite: bool,
        start: int = 0,
    ) -> None:
        self.label_names = labels.names
        self.size = source.size
        self.batches = source.batches
        self.repeatable = source.repeatable
        self.constant = source.labels is not None
        self._source = source
        self._inputs = inputs
        self._labels = labels
        self._check_finite = check_finite
        self._start = start

    def __iter__(self) -> Iterator[Batch]:
        number = self._start - 1
        for number, (x, y) in enumerate(self._source.open(self._start), self._start):
            try:
                batch = self._read(x, y)
            except DataError as error:
                raise DataError(f"Batch {number}: {error}") from error
            if batch.size:
                yield batch
        if number < 0:
            raise DataError("The data is empty: it gave no batch.")

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
            self._source,
            self._inputs,
            self._labels,
            check_finite=self._check_finite,
            start=self._start + batches,
        )
        if self.batches is not None:
            rest.batches = max(self.batches - batches, 0)
        per_batch = self._source.per_batch
        if self.size is not None:
            rest.size = max(self.size - batches * per_batch, 0) if per_batch else None
        return rest

    def _read(self, x: Any, y: Any) -> Batch:
        parts = self._inputs.fit(x)
        labels = self._labels.read(y)
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
        return Batch(self._inputs.join(parts), labels)


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
) -> Batches:
    """Read any data that Keras takes as batches of inputs and labels that fit a model.

    Labels may be whole numbers of any dtype, `(samples,)` or `(samples, 1)`; strings or bytes;
    one-hot or multi-hot rows of 0 and 1. Sample weights, the third entry of `(x, y, w)`, are
    accepted and ignored.

    Args:
        data: `(x, y)` arrays, with x one array, or a list, tuple or dict of them for a model of
            several inputs; x alone with `y` beside it; a batched `tf.data.Dataset`; a
            `keras.utils.PyDataset`; an iterable of `(x, y)` batches (read once if it is an
            iterator) or a function that returns one (can be read again); the path of a folder with
            one sub-folder of images for each class, of an `.npz`, or of IDX files, with pixels
            scaled to 0..1 as in `load_dataset`.
        y: Labels, when `data` is x alone.
        model: The built model that the data is for.
        batch_size: Samples in a batch, for arrays and paths; other data has its own batches.
        label_names: Name of every label, in the order of the model's outputs. Without it: the
            container's own names, the sorted distinct strings of an array, or "0", "1", ….
        label_count: Number of labels; by default as many as the model's output tells apart.
        part: "train" or "test", for a path that holds both.
        check_finite: Whether inputs are searched for NaN and infinity. It costs up to a few percent
            of a small model's time; a caller that looks at the activations may do without.
        own_labels: Whether the labels are the data's own, and not what the model answers.

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
    if batch_size < 1:
        raise DataError(f"batch_size must be at least 1. Received: batch_size={batch_size}.")
    inputs = InputReader(model)
    source = open_source(data, y, inputs=inputs, batch_size=batch_size, part=part)
    labels = label_reader(
        outputs=None if own_labels else output_label_count(model),
        names=label_names,
        count=label_count,
        found=source.names,
        y=source.labels,
    )
    if source.labels is not None:
        check_labels(labels, source.labels)
    return Batches(source, inputs, labels, check_finite=check_finite)


_LEAST_SAMPLES, _MOST_SAMPLES, _LEAST_LABELS = 16, 64, 5
_CLEAR_GAIN = 0.3


def check_scale(model: keras.Model, batch: Batch) -> None:
    """Refuse inputs on which a trained model fails only because they are scaled wrongly.

    The evidence is the model's own answers. When it is right on less than half of the samples as
    they are, those of x / 255, x / 127.5 - 1 and x * 255 are tried that the range of values allows.
    One of them must be right on at least half of the samples, on 0.3 more of them than the inputs
    as they are, on twice as many, and on 0.3 more than the commonest label alone would be; and on
    half of the samples of at least 5 labels, since with fewer a model that knows nothing is too
    often right by luck.

    Nothing is said about a model that has not been trained, has several inputs or outputs, embeds
    tokens or keeps state between calls, nor from fewer than 16 samples.

    Args:
        model: A built model whose output answers the labels.
        batch: Samples with their labels; the first 64 are used.

    Raises:
        DataError: The scale is wrong. The message says by how much and what to pass instead.
    """
    count = output_label_count(model)
    if count is None or not hasattr(batch.inputs, "shape") or not _scale_shows(model):
        return
    given = np.asarray(batch.inputs[:_MOST_SAMPLES])
    truth = _truth(batch.labels[:_MOST_SAMPLES], count)
    if truth is None or len(given) < _LEAST_SAMPLES or given.dtype.kind not in "biuf":
        return
    x = given.astype(np.float32)
    as_given = _right(model, x, truth).mean()
    if as_given >= 0.5:
        return
    commonest = float(truth.mean(axis=0).max())
    least = max(0.5, as_given + _CLEAR_GAIN, 2 * as_given, commonest + _CLEAR_GAIN)
    tried = [(_right(model, other, truth), words, how) for words, how, other in _other_scales(x)]
    if not tried:
        return
    right, words, how = max(tried, key=lambda one: one[0].sum())
    known = 2 * truth[right].sum(axis=0) >= np.maximum(truth.sum(axis=0), 1)
    if right.mean() >= least and known.sum() >= _LEAST_LABELS:
        raise DataError(
            f"The inputs look wrongly scaled: as given (range {x.min():g} to {x.max():g}) the "
            f"model is right on {as_given:.0%} of {len(x)} samples, {words} on {right.mean():.0%}. "
            f"Pass {how}, as the model was trained."
        )


def _other_scales(x: NDArray[np.float32]) -> Iterator[tuple[str, str, NDArray[np.float32]]]:
    """Give the scales that the data may have been meant to have: words, remedy, inputs."""
    low, high = float(x.min()), float(x.max())
    if low >= 0 and 1 < high <= 255:
        yield "divided by 255", "x / 255", x / np.float32(255)
        yield "scaled to -1..1", "x / 127.5 - 1", x / np.float32(127.5) - 1
    elif low >= 0 and high <= 1:
        yield "multiplied by 255", "x * 255", x * np.float32(255)


def _scale_shows(model: keras.Model) -> bool:
    """Say whether a model's answers tell anything about the scale of its inputs."""
    layers = list(_leaves(model))
    if any(isinstance(layer, keras.layers.Embedding) for layer in layers):
        return False
    if any(getattr(layer, "stateful", False) for layer in layers):
        return False  # To call it would change the user's model.
    if len(model.inputs) != 1 or len(model.outputs[0].shape) != 2:
        return False
    weighted = [layer for layer in layers if layer.weights]
    return bool(weighted) and not _as_initialized(weighted)


def _leaves(model: keras.Model) -> Iterator[keras.Layer]:
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _leaves(layer)
        else:
            yield layer


def _as_initialized(layers: Sequence[keras.Layer]) -> bool:
    """Tell an untrained model, or one with an untrained head, whose answers are arbitrary.

    Biases and the weights of normalization start as zeros and ones, and training moves them.
    """
    vectors = [[np.asarray(w) for w in layer.weights if len(w.shape) == 1] for layer in layers]
    head = vectors[-1] or [vector for some in vectors for vector in some]
    return all(np.isin(vector, (0, 1)).all() for vector in head)


def _truth(labels: NDArray[Any], count: int) -> NDArray[np.bool_] | None:
    """Give a table of which outputs are right, or None where labels are not the outputs."""
    if labels.ndim == 2:
        return labels if labels.shape[1] == count else None
    table: NDArray[np.bool_] = labels[:, None] == np.arange(count)
    return table


def _right(
    model: keras.Model, x: NDArray[np.float32], truth: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    # A model saved with a list of one input warns when it gets an array, and not for a tensor.
    outputs = model(keras.ops.convert_to_tensor(x), training=False)
    answers = np.asarray(outputs[0] if isinstance(outputs, list) else outputs, dtype=np.float32)
    if answers.shape[1] == 1:
        # A probability, or a logit.
        edge = 0.5 if answers.min() >= 0 and answers.max() <= 1 else 0.0
        chosen = (answers[:, 0] > edge).astype(np.int64)
    else:
        chosen = answers.argmax(axis=1)
    right: NDArray[np.bool_] = truth[np.arange(len(x)), chosen]
    return right
