"""Which columns of a data set are a model's inputs and labels, and rows of them as arrays."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_nns.errors import DataError

Named = str | Sequence[str]
Inputs = Named | Mapping[str, Named] | None

_LABELS = ("y", "label", "labels")
"""Names by which a column is taken for the labels, where the user names none."""


@dataclass(frozen=True)
class Columns:
    """Where inputs and labels are.

    Attributes:
        x: The column of the one input; several whose numbers are its features; or either for each
            input, by name.
        y: The column of the labels.
    """

    x: Named | Mapping[str, Named]
    y: str

    @property
    def names(self) -> list[str]:
        """All columns, each once."""
        return list(dict.fromkeys([*_flat(self.x), self.y]))

    def of(self, table: Mapping[str, NDArray[Any]]) -> tuple[Any, NDArray[Any]]:
        """Return inputs and labels of some rows.

        Args:
            table: Columns by name, `(rows, …)`.

        Raises:
            DataError: Samples of a column have different shapes.
        """
        if isinstance(self.x, Mapping):
            x: Any = {name: _joined(table, some) for name, some in self.x.items()}
        else:
            x = _joined(table, self.x)
        return x, _stacked(self.y, table[self.y])


def check_named(x: Inputs, y: str | None, there: Sequence[str]) -> None:
    """Raise where a column that the user named is not in the data set.

    Raises:
        DataError: It is not.
    """
    named = [*([] if x is None else _flat(x)), *([] if y is None else [y])]
    missing = [name for name in named if name not in there]
    if missing:
        raise DataError(
            f"The data set has no column {missing[0]!r}. Its columns: {', '.join(there)}. Name "
            'those of inputs and labels: x="image", y="label".'
        )


def choose(x: Inputs, y: str | None, there: Sequence[str], inputs: Sequence[str]) -> Columns:
    """Return which columns are inputs and labels, by what the user says or by their names.

    Args:
        x: As `Columns` has it; None for the columns that are called as the model's inputs, or the
            only one beside the labels.
        y: As `Columns` has it; None for the only one called y, label or labels.
        there: Columns of the data set.
        inputs: Names of the model's inputs.

    Raises:
        DataError: A column is not there, or none can be told.
    """
    check_named(x, y, there)
    if y is None:
        found = [name for name in there if name in _LABELS]
        if len(found) != 1:
            raise DataError(
                f"Which column has the labels? Those of the data set: {', '.join(there)}. Pass its "
                'name: y="label".'
            )
        (y,) = found
    if x is None:
        others = [name for name in there if name != y]
        if len(inputs) > 1 and set(inputs) <= set(others):
            return Columns({name: name for name in inputs}, y)
        if len(inputs) == 1 and inputs[0] in others:
            return Columns(inputs[0], y)
        if len(inputs) != 1 or len(others) != 1:
            raise DataError(
                f"Which columns have the inputs? Those of the data set: {', '.join(there)}; the "
                f"model's inputs: {', '.join(inputs)}. Pass a name, names of numbers that are the "
                'features of one input, or a dict of either for each input: x="image", '
                'x=["width", "height"], x={"photo": "image"}.'
            )
        (x,) = others
    if isinstance(x, Mapping):
        odd = sorted(set(x) ^ set(inputs))
        if odd:
            raise DataError(
                f"x must have a column for each of the model's inputs, {', '.join(inputs)}. "
                f"Received: {', '.join(x)}."
            )
        if len(inputs) == 1:
            (x,) = x.values()
    elif len(inputs) > 1:
        raise DataError(
            f"The model has {len(inputs)} inputs. Say which column is which, as x="
            f"{{{inputs[0]!r}: …, {inputs[1]!r}: …}}. Received: x={x!r}."
        )
    return Columns(x, y)


def batches(
    tables: Iterator[Mapping[str, NDArray[Any]]], columns: Columns, size: int
) -> Iterator[tuple[Any, NDArray[Any]]]:
    """Give inputs and labels in batches of one size, the last one smaller, across tables.

    Args:
        tables: Columns by name, `(rows, …)`.
        columns: Which are what.
        size: Samples in a batch.
    """
    held: list[dict[str, NDArray[Any]]] = []
    rows = 0
    for table in tables:
        own = {name: _stacked(name, table[name]) for name in columns.names}
        held.append(own)
        rows += len(own[columns.y])
        if rows < size:
            continue
        joined = _concatenated(held)
        for start in range(0, rows - size + 1, size):
            yield columns.of({n: a[start : start + size] for n, a in joined.items()})
        left = rows % size
        held = [{n: a[rows - left :] for n, a in joined.items()}] if left else []
        rows = left
    if rows:
        yield columns.of(_concatenated(held))


def _concatenated(tables: list[dict[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
    if len(tables) == 1:
        return tables[0]
    for name in tables[0]:
        shapes = {table[name].shape[1:] for table in tables}
        if len(shapes) > 1:
            raise _ragged(name, sorted(shapes)[0], sorted(shapes)[1])
    return {name: np.concatenate([table[name] for table in tables]) for name in tables[0]}


def _flat(x: Named | Mapping[str, Named]) -> list[str]:
    if isinstance(x, str):
        return [x]
    if isinstance(x, Mapping):
        return [name for some in x.values() for name in _flat(some)]
    return list(x)


def _joined(table: Mapping[str, NDArray[Any]], some: Named) -> NDArray[Any]:
    if isinstance(some, str):
        return _stacked(some, table[some])
    parts = [_stacked(name, table[name]) for name in some]
    return np.stack(parts, axis=-1)


def _stacked(name: str, column: NDArray[Any]) -> NDArray[Any]:
    """Make one array of a column whose values are arrays or lists of one shape."""
    if column.dtype != object or not len(column) or not isinstance(column[0], np.ndarray | list):
        return column
    parts = [np.asarray(value) for value in column]
    if parts[0].dtype == object:  # Lists of lists come as arrays of arrays.
        parts = [_stacked(name, part) for part in parts]
    for part in parts:
        if part.shape != parts[0].shape:
            raise _ragged(name, parts[0].shape, part.shape)
    return np.stack(parts)


def _ragged(name: str, one: tuple[int, ...], other: tuple[int, ...]) -> DataError:
    return DataError(
        f"Samples of column {name!r} have different shapes, such as {one} and {other}. Bring them "
        "to one: read_images(path, size=(height, width)) for images, data.map_batches(…) for "
        "anything else."
    )
