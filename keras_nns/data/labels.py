"""Labels in whatever form they come, as label numbers or as a multi-hot table."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from keras_nns.data import imagenet
from keras_nns.data.encodings import PIECE, label_array, refuse_missing, some_of
from keras_nns.errors import DataError, SelectionError

if TYPE_CHECKING:
    from keras_nns.data.targets import Kind, PositionReader, ValueReader


def label_number(label: int | str, names: Sequence[str]) -> int:
    """Return the number of a label given by number or name.

    Args:
        label: The label.
        names: Names of all labels.

    Raises:
        SelectionError: There is no such label.
    """
    if isinstance(label, str):
        if label in names:
            return names.index(label)
    elif (
        isinstance(label, int | np.integer)
        and not isinstance(label, bool)
        and 0 <= label < len(names)
    ):
        return int(label)
    shown = ", ".join(names[:20]) + (" …" if len(names) > 20 else "")
    raise SelectionError(
        f"No label {label!r}. Expected a number from 0 to {len(names) - 1} or one of: {shown}."
    )


def output_label_count(model: Any) -> int | None:
    """Return how many labels a model's output tells apart, or None when it does not show.

    One output of width 1 tells two labels apart; any other width is one label per column. A model
    with several outputs, whose output has no static width, or which answers at every step or pixel
    (a language model), does not show it: the labels of its samples are something else.

    Args:
        model: A built `keras.Model`.
    """
    outputs: Sequence[Any] = getattr(model, "outputs", None) or []
    if len(outputs) != 1 or not answers_once(outputs[0].shape) or outputs[0].shape[-1] is None:
        return None
    width = int(outputs[0].shape[-1])
    return max(width, 2)


def answers_once(shape: Sequence[int | None]) -> bool:
    """Return whether an output has one row for each sample: it has one position, or none.

    Args:
        shape: The output's, with the samples' axis: `(None, labels)`, `(None, 1, 1, labels)`.
    """
    return len(shape) > 1 and all(size == 1 for size in shape[1:-1])


def answers_labels(model: Any, count: int) -> bool:
    """Return whether a model may answer which of some labels a sample has.

    Args:
        model: A built `keras.Model`.
        count: How many labels there are.
    """
    outputs: Sequence[Any] = getattr(model, "outputs", None) or []
    widths = {output.shape[-1] for output in outputs if answers_once(output.shape)}
    return count in widths or (count == 2 and 1 in widths)


class LabelReader:
    """Reads batches of labels as numbers of the model's outputs.

    Args:
        names: Name of every label, in the order of the model's outputs.
        coded: Names that label *numbers* in the data stand for, when the data numbers them in an
            order of its own (a folder of images does). None when they are numbers of `names`.
        named: Whether `names` are real names, so that labels given as strings can be looked up.
        alphabetical: Whether the names are the data's own strings in alphabetical order, and
            nothing tells that the model answers them in this order.

    Attributes:
        plain: Whether what was read were numbers to which the data gives no names.
    """

    kind: Kind = "labels"
    plain = False

    def __init__(
        self,
        names: Sequence[str],
        *,
        coded: Sequence[str] | None = None,
        named: bool = True,
        alphabetical: bool = False,
    ) -> None:
        self.names = tuple(names)
        self.alphabetical = alphabetical
        self._named = named
        self._coded = coded is not None
        self._count = len(self.names if coded is None else coded)
        self._renumber: NDArray[np.int64] | None = None
        if coded is not None and tuple(coded) != self.names:
            self._renumber = np.array([self.names.index(name) for name in coded], dtype=np.int64)
        self._order = np.argsort(np.array(self.names, dtype=np.str_), kind="stable")
        self._sorted = np.array(self.names, dtype=np.str_)[self._order]

    def read(self, y: Any) -> NDArray[Any]:
        """Read the labels of one batch.

        Args:
            y: Whole numbers or strings of shape `(samples,)` or `(samples, 1)`, or 0/1 rows of
                shape `(samples, labels)`.

        Returns:
            int64 label numbers of shape `(samples,)`, or a bool table of shape
            `(samples, labels)` where 0/1 rows were given.

        Raises:
            DataError: The labels are none of these, or are outside the model's outputs.
        """
        y = label_array(y)
        refuse_missing(y)
        if y.ndim == 1:
            return self._look_up(y) if y.dtype.kind == "U" else self._numbers(y)
        if y.ndim == 2 and y.dtype.kind != "U":
            return self._rows(y)
        raise DataError(
            "Labels must have the shape (samples,), (samples, 1) or (samples, labels). "
            f"Received: shape {y.shape}, dtype {y.dtype}."
        )

    def both(self, y: Any) -> tuple[NDArray[Any], None]:
        """Read the labels of one batch; there are no other targets than they."""
        return self.read(y), None

    def _numbers(self, y: NDArray[Any]) -> NDArray[np.int64]:
        if y.dtype.kind == "f" and not np.array_equal(y, np.rint(y)):
            odd = y[~(y == np.rint(y))]
            raise DataError(
                "Label numbers must be whole. Received: "
                f"{some_of(odd)}. Round them, or pass class numbers instead of a regression target."
            )
        if y.size and y.dtype.kind != "b" and (y.min() < 0 or y.max() >= self._count):
            odd = np.unique(y[(y < 0) | (y >= self._count)])
            hint = ""
            if y.min() >= 1 and y.max() == self._count:
                hint = " If your labels start at 1, subtract 1."
            elif self._count == 2 and set(np.unique(y).tolist()) == {-1, 1}:
                hint = " If -1 means no and 1 yes, pass y > 0."
            elif y.min() == -1 and y.max() < self._count:
                hint = (
                    " If -1 marks samples without a label, leave them out: known = y >= 0, then "
                    "x[known] and y[known]."
                )
            raise DataError(
                f"Labels {some_of(odd)} are outside the model's {self._count} labels "
                f"(0 to {self._count - 1}).{hint}"
            )
        self.plain = not self._coded
        numbers = y.astype(np.int64, copy=False)
        return numbers if self._renumber is None else self._renumber[numbers]

    def _rows(self, y: NDArray[Any]) -> NDArray[np.bool_]:
        if y.shape[1] != self._count:
            raise DataError(
                f"One-hot or multi-hot labels must have {self._count} columns, one for each of the "
                f"model's labels. Received: shape {y.shape}."
            )
        rows = y.astype(np.bool_, copy=False)
        if rows is not y and not np.array_equal(rows, y):
            raise DataError(
                "One-hot or multi-hot labels must be 0 or 1. Received: "
                f"{some_of(np.unique(y[rows != y]))}. Soft labels name no label: pass y.argmax(-1) "
                "or y > 0.5."
            )
        if self._renumber is None:
            return rows
        table = np.zeros((len(rows), len(self.names)), dtype=np.bool_)
        table[:, self._renumber] = rows
        return table

    def _look_up(self, y: NDArray[np.str_]) -> NDArray[np.int64]:
        if not self._named:
            raise DataError(
                f"The labels are strings ({some_of(np.unique(y))}) and the data comes in a stream: "
                "pass label_names, in the order of the model's outputs."
            )
        place = np.minimum(np.searchsorted(self._sorted, y), len(self._sorted) - 1)
        if not np.array_equal(self._sorted[place], y):
            odd = np.unique(y[self._sorted[place] != y])
            raise DataError(
                f"Labels {some_of(odd)} are none of the label names ({some_of(self.names)}). Pass "
                "label_names with every name, in the order of the model's outputs."
            )
        return self._order[place]


def label_reader(
    *,
    outputs: int | None,
    names: Sequence[Any] | None = None,
    count: int | None = None,
    found: Sequence[str] | None = None,
    alphabetical: bool = False,
    y: Any = None,
) -> LabelReader:
    """Settle the names of the labels, from the most to the least certain source.

    Args:
        outputs: How many labels the model tells apart (`output_label_count`).
        names: What the caller passed as `label_names`.
        count: What the caller passed as `label_count`; it overrules `outputs`.
        found: Names that the data's container knows, in the order in which it numbers them.
        alphabetical: Whether these are strings in alphabetical order for want of another.
        y: All the labels, where they are at hand and can be sliced.

    Raises:
        DataError: The names do not fit the model, or nothing tells how many labels there are.
    """
    if count is not None and count < 1:
        raise DataError(f"label_count must be at least 1. Received: label_count={count}.")
    expected = outputs if count is None else int(count)
    strings = _distinct_strings(y) if y is not None and _are_strings(y) else None
    # A part of ImageNet, as its folders are called, is read among all 1,000.
    part = next((some for some in (names, found, strings) if some is not None), ())
    if expected == imagenet.COUNT != len(part) and imagenet.are_synsets(part):
        names = imagenet.synsets()
    if names is not None:
        given = _given_names(names, expected)
        # Strings are looked up; what numbers stand for is nothing to them.
        coded = None if strings is not None else _coded(given, found)
        return LabelReader(given, coded=coded)
    if found is not None:
        _must_match(found, expected)
        return LabelReader(found, alphabetical=alphabetical)
    if y is not None:
        if strings is not None:
            _must_match(strings, expected)
            return LabelReader(strings, alphabetical=True)
        if expected is None:
            expected = _highest(y)
    if expected is None:
        raise DataError(
            "Nothing shows how many labels there are: the model does not (it has several outputs, "
            "one without a static width, or one for every step; or it answers other labels), and "
            "the data comes in a stream. Pass label_names or label_count."
        )
    return LabelReader([str(i) for i in range(expected)], named=False)


def _given_names(names: Sequence[Any], expected: int | None) -> tuple[str, ...]:
    if isinstance(names, (str, bytes)):
        raise DataError(f"label_names must be a list of names. Received: {names!r}.")
    given = tuple(str(name) for name in names)
    if not given or len(set(given)) < len(given):
        raise DataError(f"label_names must name every label once. Received: {list(given)}.")
    if expected is not None and len(given) != expected:
        raise DataError(
            f"label_names has {len(given)} names ({some_of(given)}) and the model tells {expected} "
            "labels apart. Name every output, or pass label_count if the outputs are not labels."
        )
    return given


def _coded(given: Sequence[str], found: Sequence[str] | None) -> Sequence[str] | None:
    """Say what the data's own label numbers stand for among the names that were given."""
    if found is None or set(found) <= set(given):
        return found
    if len(found) == len(given) and not set(found) & set(given):
        return None  # Other words for the same labels, in the same order.
    odd = sorted(set(found) - set(given))
    raise DataError(f"The data has labels that label_names does not name: {some_of(odd)}.")


def _must_match(names: Sequence[str], expected: int | None) -> None:
    if expected is not None and len(names) != expected:
        raise DataError(
            f"The data has {len(names)} different labels ({some_of(names)}) and the model tells "
            f"{expected} apart, so their order is unknown. Pass label_names (--label-names in a "
            f"shell), all {expected} in the order of the model's outputs; the data may have some."
        )


def _pieces(y: Any) -> Iterator[NDArray[Any]]:
    return (label_array(y[start : start + PIECE]) for start in range(0, len(y), PIECE))


def _are_strings(y: Any) -> bool:
    return label_array(y[:1]).dtype.kind == "U"


def _distinct_strings(y: Any) -> list[str]:
    return sorted(set().union(*(np.unique(piece).tolist() for piece in _pieces(y))))


def _highest(y: Any) -> int:
    first = label_array(y[:1])
    if first.ndim > 1:
        return int(first.shape[1])
    # A label that is not whole or below zero is the reader's to refuse, whatever the count is.
    return max(1, int(np.nanmax([np.max(piece) for piece in _pieces(y)])) + 1)


def check_labels(reader: LabelReader | PositionReader | ValueReader, y: Any) -> None:
    """Read all labels once, in pieces, so that a wrong one is known before the first batch.

    Raises:
        DataError: Some label is wrong.
    """
    for start in range(0, len(y), PIECE):
        reader.both(y[start : start + PIECE])
