"""Settle by a model's answers in which order it numbers labels that are strings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from keras_nns.data.answers import answers, few_of, gain, tells_labels
from keras_nns.data.inputs import InputReader
from keras_nns.data.labels import LabelReader, answers_labels
from keras_nns.data.named import Splits
from keras_nns.data.scale import check_scale
from keras_nns.data.streams import Stream
from keras_nns.errors import DataError

_SAMPLES, _OF_A_LABEL = 1024, 32
_IMAGES, _OF_A_FOLDER, _FEWEST = 512, 16, 4
_CLEAR = 4.0
"""Standard deviations by which answers must be better than by chance."""


def check_order(
    model: keras.Model,
    labels: LabelReader,
    stream: Stream,
    inputs: InputReader,
    *,
    named: tuple[Any, ...] | None,
) -> None:
    """Make sure by a model's answers that labels numbered by their names are numbered as its own.

    Raises:
        DataError: They are not, or nothing tells.
    """
    take, few = stream.take, stream.few

    def some(most: int) -> Iterator[tuple[Any, NDArray[np.int64]]]:
        for x, y in () if few is None else few(most):
            yield inputs.join(inputs.fit(x)), np.asarray(y)

    if labels.alphabetical and take:
        check_alphabetical(
            model,
            labels.names,
            labels.both(stream.labels)[0],
            lambda places: inputs.join(inputs.fit(take(places))),
        )
    elif few and named in (None, tuple(stream.names or ())):
        check_folders(model, labels.names, some)


def check_alphabetical(
    model: keras.Model,
    names: Sequence[str],
    numbers: NDArray[np.int64],
    take: Callable[[Sequence[int]], Any],
) -> None:
    """Refuse to number strings alphabetically where the model's answers do not bear it out.

    scikit-learn's LabelEncoder and Keras's directories number labels alphabetically, a person or an
    ordered category may number them otherwise, and a model does not say. So it answers up to 32
    samples of every label: as alphabetical labels it must be right more often than by chance, by
    four standard deviations, and for no two labels may the order with these two exchanged fit as
    well or nearly so.

    Args:
        model: The model that answers the labels.
        names: The strings in alphabetical order.
        numbers: The place of each sample's label in `names`, `(samples,)`.
        take: Gives some samples, by their places, in the structure of `model.input`.

    Raises:
        DataError: The order is not borne out, and the message names one that is if there is any;
            or the inputs are scaled wrongly, so that the answers tell nothing.
    """
    count = len(names)
    why = "the model is untrained, or keeps a state, or answers something else than labels"
    if tells_labels(model):
        most = max(1, min(_OF_A_LABEL, _SAMPLES // count))
        places = np.sort(np.concatenate([few_of(numbers, i, most) for i in range(count)]))
        table = np.zeros((count, count), dtype=np.int64)
        inputs = take(places.tolist())
        np.add.at(table, (numbers[places], answers(model, inputs)), 1)
        if gain(table) >= _CLEAR and not _exchanged(table):
            return
        check_scale(model, inputs, numbers[places])
        right = np.trace(table) / table.sum()
        why = f"read alphabetically, the model is right on {right:.0%} of {len(places)} samples"
        if (best := _best(table)) is not None:
            order = [names[i] for i in np.argsort(best)]
            other = np.trace(table[:, best]) / table.sum()
            why += f", and in the order {order} on {other:.0%}"
    shown = ", ".join(map(repr, names[:5])) + (", …" if count > 5 else "")
    raise DataError(
        f"The labels are strings ({shown}) and nothing tells in which order the model answers "
        f"them: {why}. {_ASKED}"
    )


def check_folders(
    model: keras.Model,
    names: Sequence[str],
    some: Callable[[int], Iterable[tuple[Any, NDArray[np.int64]]]],
) -> None:
    """Refuse to number folders alphabetically where the model clearly numbers them otherwise.

    Keras numbers folders alphabetically, so that holds until the model's answers to 16 images of
    every folder speak against it: another order fits them by four standard deviations (McNemar's
    test), and none with two folders exchanged fits nearly as well. Nothing is said about a model
    that has not been trained or keeps a state, nor of more than 128 folders, of which too few
    images would be looked at.

    Args:
        model: The model that answers the labels.
        names: The folders' names, sorted.
        some: Gives up to so many images of every folder in batches, in the structure of
            `model.input`, and the place of each one's folder in `names`.

    Raises:
        DataError: Another order is meant; the message names it.
    """
    count = len(names)
    if _IMAGES // count < _FEWEST or not tells_labels(model):
        return
    table = np.zeros((count, count), dtype=np.int64)
    for inputs, numbers in some(min(_OF_A_FOLDER, _IMAGES // count)):
        np.add.at(table, (numbers, answers(model, inputs)), 1)
    best = _best(table)
    if best is None:
        return
    moved = best != np.arange(count)
    right, wrong = np.trace(table[:, best][moved][:, moved]), np.trace(table[moved][:, moved])
    if right - wrong <= _CLEAR * np.sqrt(right + wrong):
        return
    order = [names[i] for i in np.argsort(best)]
    raise DataError(
        f"The folders are not in the order of the model's outputs: numbered alphabetically, it is "
        f"right on {np.trace(table) / table.sum():.0%} of {table.sum()} images, and in the order "
        f"{order} on {np.trace(table[:, best]) / table.sum():.0%}. {_ASKED}"
    )


def check_splits(model: keras.Model, splits: Splits) -> None:
    """Make sure that a loaded data set numbers its labels as a model does, where neither told.

    Args:
        model: The model that is to answer them.
        splits: The data set; its training part is looked at.

    Raises:
        DataError: It does not, or nothing tells; or its inputs do not fit.
    """
    x, y, names = splits.x_train, splits.y_train, splits.label_names
    if splits.sorted_by is None or y.ndim != 1 or not answers_labels(model, len(names)):
        return
    inputs = InputReader(model)

    def take(places: Sequence[int]) -> Any:
        return inputs.join(inputs.fit(x[list(places)]))

    def some(most: int) -> Iterator[tuple[Any, NDArray[np.int64]]]:
        places = np.concatenate([few_of(y, i, most) for i in range(len(names))])
        yield take(places.tolist()), y[places]

    if splits.sorted_by == "strings":
        check_alphabetical(model, names, y, take)
    else:
        check_folders(model, names, some)


_ASKED = (
    "Pass label_names=[…] (--label-names in a shell), every label in the order of the model's "
    "outputs."
)


def _best(table: NDArray[np.int64]) -> NDArray[np.int64] | None:
    """Return the output that stands for each name, where the answers clearly tell.

    Args:
        table: How many samples of each name had each answer, `(names, names)`.
    """
    counts = np.maximum(table.sum(axis=1, keepdims=True), 1)
    _, best = linear_sum_assignment(-table / counts)
    other = table[:, best]
    clear = gain(other) >= _CLEAR and not _exchanged(other)
    return np.asarray(best, dtype=np.int64) if clear else None


def _exchanged(table: NDArray[np.int64]) -> bool:
    """Say whether two labels may be exchanged: less by a standard deviation does not tell them."""
    right = np.diag(table)[:, None] + np.diag(table)
    wrong = table + table.T
    np.fill_diagonal(wrong, 0)
    return bool(((wrong > 0) & (right - wrong < np.sqrt(right + wrong))).any())
