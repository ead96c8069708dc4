"""Settle by a model's answers in which order it numbers labels that are strings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from keras_nns.data.answers import answers, gain, tells_labels
from keras_nns.data.scale import check_scale
from keras_nns.errors import DataError

_SAMPLES, _OF_A_LABEL = 1024, 32
_CLEAR = 4.0
"""Standard deviations by which answers must be better than by chance."""


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
        places = np.sort(np.concatenate([_spread(numbers, i, most) for i in range(count)]))
        table = np.zeros((count, count), dtype=np.int64)
        inputs = take(places.tolist())
        np.add.at(table, (numbers[places], answers(model, inputs)), 1)
        if gain(table) >= _CLEAR and not _exchanged(table):
            return
        check_scale(model, inputs, numbers[places])
        right = np.trace(table) / table.sum()
        why = f"read alphabetically, the model is right on {right:.0%} of {len(places)} samples"
        _, best = linear_sum_assignment(-table / table.sum(axis=1, keepdims=True))
        other = table[:, best]
        if gain(other) >= _CLEAR and not _exchanged(other):
            order = [names[i] for i in np.argsort(best)]
            why += f", and in the order {order} on {np.trace(other) / other.sum():.0%}"
    shown = ", ".join(map(repr, names[:5])) + (", …" if count > 5 else "")
    raise DataError(
        f"The labels are strings ({shown}) and nothing tells in which order the model answers "
        f"them: {why}. Pass label_names=[…] (--label-names in a shell), every label in the order "
        "of the model's outputs."
    )


def _spread(numbers: NDArray[np.int64], label: int, most: int) -> NDArray[np.int64]:
    """Choose samples of a label, evenly over the data."""
    places = np.flatnonzero(numbers == label)
    chosen = np.unique(np.linspace(0, len(places) - 1, min(most, len(places))).astype(int))
    return np.asarray(places[chosen], dtype=np.int64)


def _exchanged(table: NDArray[np.int64]) -> bool:
    """Say whether two labels may be exchanged: less by a standard deviation does not tell them."""
    right = np.diag(table)[:, None] + np.diag(table)
    wrong = table + table.T
    np.fill_diagonal(wrong, 0)
    return bool(((wrong > 0) & (right - wrong < np.sqrt(right + wrong))).any())
