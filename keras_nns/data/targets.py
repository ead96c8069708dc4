"""What a model is to answer for a sample: a label, a label at each position, or numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Literal

import keras
import numpy as np
from numpy.typing import NDArray

from keras_nns.data.encodings import label_array, refuse_missing, some_of
from keras_nns.errors import DataError

Kind = Literal["labels", "positions", "values"]
"""`"labels"`: which labels a sample has. `"positions"`: which label is at every step or pixel.
`"values"`: numbers, as in a regression, an autoencoder or a denoiser."""

IGNORED = -1
"""The number of a position that counts nowhere."""

EVERYTHING = "all"
"""The one label that all samples have whose targets are numbers."""

_PIECE = 1024
_MOST_LABELS = 4096
_ROUNDING = 1e-3
_OF_NUMBERS = (
    "mean_squared_error", "mean_absolute_error", "mean_absolute_percentage_error",
    "mean_squared_logarithmic_error", "huber", "huber_loss", "log_cosh", "poisson",
)  # fmt: skip


def single_positions(model: Any) -> int:
    """Return how many axes of size 1 lie between samples and answers, where all between are so."""
    outputs: Sequence[Any] = getattr(model, "outputs", None) or []
    if len(outputs) != 1 or len(outputs[0].shape) < 2:
        return 0
    between = outputs[0].shape[1:-1]
    return len(between) if all(size == 1 for size in between) else 0


def at_one_position(y: Any, axes: int) -> Any:
    """Leave out the axes of the only position that a model answers at.

    Args:
        y: Targets, with these axes or without.
        axes: How many there are (`single_positions`).

    Returns:
        Targets `(samples,)` or `(samples, answers)` where they had the axes; else as they are.
    """
    if hasattr(y, "row_splits"):
        return y
    shape = np.shape(y) if isinstance(y, list | tuple) else tuple(getattr(y, "shape", ()))
    if len(shape) not in (axes + 1, axes + 2) or any(size != 1 for size in shape[1 : axes + 1]):
        return y
    if len(shape) == 2:
        return y  # Which may be rows of one label as well.
    rows: NDArray[Any] = np.asarray(y.numpy() if hasattr(y, "numpy") else y)
    return rows.reshape(len(rows), *shape[axes + 1 :])


def may_be_dense(model: keras.Model, *, counted: bool = False) -> bool:
    """Return whether targets of a model may be something else than labels of a sample.

    Args:
        model: A built model.
        counted: Whether the caller says how many labels there are.
    """
    shape = _output_shape(model)
    if shape is None:
        return False
    return len(shape) > 1 or not (counted or _ends_in(model, "softmax"))


def kind_of_targets(model: keras.Model, y: Any, *, count: int | None = None) -> Kind:
    """Find what targets mean, from their shape and values and the model's output.

    Targets of the output's shape that are 0 and 1 are labels; other numbers are values to be
    approximated. A label at every position is a whole number where the output has a row. One number
    for each sample or position is told by the loss that the model is compiled with, where that is
    one of numbers, and else by the values: 0 and 1 are labels.

    Args:
        model: A built model.
        y: Targets of all samples, or of some, in any form that can be sliced.
        count: How many labels the caller says there are: so targets are labels, and rows of as many
            are labels of a sample.
    """
    shape = _output_shape(model)
    if shape is None:
        return "labels"
    first = label_array(y[:1])
    if first.dtype.kind == "U" or not first.size:
        return "labels"
    own, width = tuple(first.shape[1:]), shape[-1]
    if len(shape) == 1:
        if count is not None or own not in ((), (width,)):
            return "labels"
        if width == 1:
            return "values" if _are_numbers(model, y) else "labels"
        rows = own != () and not _are_labels(y) and not _are_shares(first)
        return "values" if rows else "labels"
    axes = len(shape) - 1
    if own == (count,) or not _fits(own[:axes], shape[:-1]):
        return "labels"
    rest = own[axes:]
    if count is not None:
        return "positions" if rest in ((), (1,), (count,)) else "labels"
    if rest in ((), (1,)):
        return "values" if width == 1 and _are_numbers(model, y, dense=True) else "positions"
    if rest != (width,):
        return "labels"
    return "positions" if _are_labels(y) or _are_shares(first) else "values"


class PositionReader:
    """Reads batches of labels of every position.

    Args:
        model: What answers them.
        names: Name of every label, in the order of the outputs; None for numbers.
        count: How many labels there are; None for as many as the model tells apart.

    Attributes:
        names: Name of every label.
        kind: `"positions"`.

    Raises:
        DataError: The names do not fit the model, or there are too many labels.
    """

    kind: Kind = "positions"
    alphabetical = False

    def __init__(
        self, model: keras.Model, names: Sequence[Any] | None, *, count: int | None = None
    ) -> None:
        shape = _output_shape(model)
        assert shape is not None
        width = shape[-1] if count is None else count
        if width is None or width > _MOST_LABELS:
            raise DataError(
                f"The model tells {width} labels apart at every position, and up to "
                f"{_MOST_LABELS:,} are counted one by one. Pass one label for each sample, such as "
                "the kind of text, and judge it at its positions with Keras's own evaluate."
            )
        self._axes = len(shape) - 1
        # Two labels of one output are never given as rows.
        self._width = 1 if shape[-1] == 1 and width <= 2 else int(width)
        count = max(self._width, 2)
        self.names = tuple(map(str, range(count) if names is None else names))
        if len(self.names) != count or len(set(self.names)) < count:
            raise DataError(
                f"label_names has {len(self.names)} names ({some_of(self.names)}) and the model "
                f"tells {count} labels apart at every position. Name each of them once."
            )
        self._ignored = _ignored_class(model)

    def both(self, y: Any) -> tuple[NDArray[Any], NDArray[Any]]:
        """Read the targets of one batch.

        Args:
            y: Whole numbers `(samples, *positions)`, with or without a last axis of 1, or rows of 0
                and 1, `(samples, *positions, labels)`.

        Returns:
            Which labels each sample has anywhere, bool `(samples, labels)`; and the targets: int32
            numbers `(samples, *positions)` with -1 where nothing counts, or bool rows as given.

        Raises:
            DataError: They are none of these.
        """
        y = label_array(y)
        refuse_missing(y)
        if y.ndim == self._axes + 2 and self._width > 1 and y.shape[-1] == self._width:
            rows = y.astype(np.bool_)
            if not np.array_equal(rows, y):
                raise DataError(
                    "Labels of positions are whole numbers, or rows of 0 and 1. Received: "
                    f"{some_of(np.unique(y[rows != y]))}. Soft labels name no label: pass "
                    "y.argmax(-1)."
                )
            return rows.any(axis=tuple(range(1, self._axes + 1))), rows
        if y.ndim == self._axes + 2 and y.shape[-1] == 1:
            y = y[..., 0]
        numbers = np.rint(y).astype(np.int64)
        if y.dtype.kind == "f" and not np.array_equal(numbers, y):
            raise DataError(
                "Labels of positions must be whole numbers. Received: "
                f"{some_of(np.unique(y[numbers != y]))}. Round them, or pass y.argmax(-1)."
            )
        if self._ignored is not None:
            numbers = np.where(numbers == self._ignored, IGNORED, numbers)
        count = len(self.names)
        wrong = (numbers >= count) | (numbers < 0)
        if self._ignored is not None:
            wrong &= numbers != IGNORED
        if wrong.any():
            raise DataError(self._outside(np.unique(numbers[wrong])))
        there = np.zeros((len(y), count), dtype=np.bool_)
        flat = numbers.reshape(len(y), -1)
        sample, position = np.nonzero(flat != IGNORED)
        there[sample, flat[sample, position]] = True
        return there, numbers.astype(np.int32)

    def _outside(self, odd: NDArray[np.int64]) -> str:
        text = (
            f"Labels {some_of(odd)} of positions are outside the model's {len(self.names)} labels "
            f"(0 to {len(self.names) - 1})."
        )
        if self._width == 1:
            return f"{text} If they are pixels of pictures, divide them by 255 as in training."
        lowest = odd.min() < 0 or odd.max() > len(self.names)
        if lowest:
            return (
                f"{text} Where such a number marks positions that do not count, compile the model "
                "with a loss that says so, such as keras.losses.SparseCategoricalCrossentropy("
                f"ignore_class={int(odd[0])})."
            )
        return f"{text} If your labels start at 1, subtract 1."


class ValueReader:
    """Reads batches of numbers that the model is to answer.

    Every sample gets the one label "all": there is nothing by which samples would differ.

    Args:
        model: What answers them.

    Attributes:
        names: `("all",)`.
        kind: `"values"`.
    """

    kind: Kind = "values"
    alphabetical = False
    names = (EVERYTHING,)

    def __init__(self, model: keras.Model) -> None:
        shape = _output_shape(model)
        assert shape is not None
        self._shape = shape
        self._between = (1,) * single_positions(model)

    def both(self, y: Any) -> tuple[NDArray[Any], NDArray[Any]]:
        """Read the targets of one batch.

        Args:
            y: Numbers of the shape of the model's output, or without a last axis of 1.

        Returns:
            Zeros, int64 `(samples,)`; and the targets, float32 of the shape of the output.

        Raises:
            DataError: They have another shape, or are missing.
        """
        y = label_array(y)
        if y.ndim == len(self._shape) and self._shape[-1] == 1:
            y = y[..., None]
        if y.dtype.kind == "U" or not _fits(tuple(y.shape[1:]), self._shape):
            raise DataError(
                f"Targets must have the shape of the model's output, {(None, *self._shape)}. "
                f"Received: shape {y.shape}, dtype {y.dtype}."
            )
        refuse_missing(y)
        whole = (len(y), *self._between, *y.shape[1:])
        return np.zeros(len(y), dtype=np.int64), y.astype(np.float32).reshape(whole)


def _output_shape(model: Any) -> tuple[int | None, ...] | None:
    """Return the shape of a model's one output without the samples; None for several outputs.

    A single position is none.
    """
    outputs: Sequence[Any] = getattr(model, "outputs", None) or []
    if len(outputs) != 1 or len(outputs[0].shape) < 2:
        return None
    *between, width = outputs[0].shape[1:]
    return (width,) if all(size == 1 for size in between) else (*between, width)


def _fits(shape: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    return len(shape) == len(wanted) and all(
        want is None or have == want for have, want in zip(shape, wanted, strict=True)
    )


def _pieces(y: Any) -> Iterator[NDArray[Any]]:
    return (label_array(y[start : start + _PIECE]) for start in range(0, len(y), _PIECE))


def _are_labels(y: Any) -> bool:
    """Say whether all numbers are 0 or 1."""
    return all(((piece == 0) | (piece == 1)).all() for piece in _pieces(y))


def _are_shares(y: NDArray[Any]) -> bool:
    """Say whether rows are probabilities of labels, which are soft labels."""
    rows = y.reshape(-1, y.shape[-1]).astype(np.float64)
    return bool((rows >= 0).all() and (np.abs(rows.sum(axis=-1) - 1) < _ROUNDING).all())


def _are_numbers(model: keras.Model, y: Any, *, dense: bool = False) -> bool:
    """Say whether single numbers are values to approximate, and not the labels 0 and 1."""
    loss = _loss_name(model)
    if loss in _OF_NUMBERS:
        return True
    decides = any(word in loss for word in ("crossentropy", "hinge", "focal"))
    if decides and not dense:
        return False
    ignored = _ignored_class(model)
    whole = labels = True
    for piece in _pieces(y):
        known = piece[np.isfinite(piece)]
        whole &= bool((known == np.rint(known)).all())
        labels &= bool(((known == 0) | (known == 1) | (known == ignored)).all())
    if labels:
        return False
    # A probability is never 2: labels that are counted from 1, or pixels that were not scaled.
    return not (whole and (decides or _ends_in(model, "sigmoid")))


def _loss_name(model: keras.Model) -> str:
    """Return the name of the loss a model is compiled with; nothing for none, or several."""
    loss = getattr(model, "loss", None) if getattr(model, "compiled", False) else None
    if loss is None or isinstance(loss, (list, tuple, dict)):
        return ""
    try:
        found = keras.losses.get(loss)
    except (ValueError, TypeError):
        return ""
    return str(getattr(found, "name", None) or getattr(found, "__name__", ""))


def _ignored_class(model: keras.Model) -> int | None:
    """Return the label that the model's loss leaves out; None for none."""
    loss = getattr(model, "loss", None) if getattr(model, "compiled", False) else None
    found = getattr(loss, "ignore_class", None)
    return None if found is None else int(found)


def _ends_in(model: keras.Model, activation: str) -> bool:
    """Say whether the last layer's activation is one of Keras by this name."""
    last = model.layers[-1] if model.layers else None
    if activation == "softmax" and isinstance(last, keras.layers.Softmax):
        return True
    return getattr(last, "activation", None) is getattr(keras.activations, activation)
