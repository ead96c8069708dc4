"""Labels of any container as an array of numbers, booleans or strings."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_nns.errors import DataError

# Whole label arrays are looked through in pieces, so that a memory-mapped one stays on disk.
PIECE = 65_536

RAGGED = (
    "The labels are ragged: samples have different numbers of them. Pass one label number or name "
    "for each sample; or for several a 0/1 row as wide as there are labels, such as "
    "np.stack([np.isin(range(count), some) for some in y]); or labels of steps padded with "
    ".to_tensor(default)."
)


def label_array(y: Any) -> NDArray[Any]:
    """Turn labels of any container into an array of numbers, booleans or `str`.

    Args:
        y: Array, tensor, list or series; `bytes` are read as UTF-8.

    Returns:
        Array of shape `(samples,)` for `(samples,)` and `(samples, 1)`, else of its own shape.

    Raises:
        DataError: There are no labels, or they are not an array of numbers or strings.
    """
    if y is None:
        raise DataError("The data has no labels. Pass (x, y) pairs, or y beside x.")
    if isinstance(y, Mapping):
        raise DataError(
            f"The labels are a dict with the keys {list(y)}: labels of several outputs. Pass the "
            "labels of one output."
        )
    if hasattr(y, "row_splits"):  # Ragged; the backend, which would tell, is not loaded here.
        raise DataError(RAGGED)
    if not isinstance(y, np.ndarray):
        try:
            y = np.asarray(y.numpy() if hasattr(y, "numpy") else y)
        except ValueError as error:
            raise DataError(RAGGED) from error
    if y.dtype.kind in "OST":
        y = _from_objects(y)
    if y.dtype.kind not in "biufU":
        raise DataError(f"Labels must be numbers or strings. Received: dtype {y.dtype}.")
    array: NDArray[Any] = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    return array


def category_names(y: Any) -> tuple[str, ...] | None:
    """Return the categories of pandas labels in their order; None for labels of any other kind.

    Args:
        y: A `Categorical`, or an index, a series or a frame of one column of this dtype.

    Raises:
        DataError: The categories are numbers in an order of their own, so that a number may stand
            for itself or for its place.
    """
    if getattr(y, "ndim", 0) == 2 and hasattr(y, "iloc") and y.shape[1] == 1:
        y = y.iloc[:, 0]
    categories = getattr(getattr(y, "dtype", None), "categories", None)
    if categories is None:
        return None
    names = label_array(np.asarray(categories))
    if names.dtype.kind == "U":
        return tuple(names.tolist())
    if np.array_equal(names, np.sort(names)):
        return None
    raise DataError(
        f"The labels are categories that are numbers in an order of their own ({some_of(names)}). "
        "Pass y.cat.codes where a label's place in this order is its number, or plain numbers."
    )


def _from_objects(y: NDArray[Any]) -> NDArray[Any]:
    values = y.ravel().tolist()
    if all(isinstance(value, (str, bytes)) for value in values):
        try:
            texts = [v.decode() if isinstance(v, bytes) else v for v in values]
        except UnicodeDecodeError as error:
            raise DataError(f"Labels given as bytes must be UTF-8: {error}.") from error
        return np.array(texts, dtype=np.str_).reshape(y.shape)
    if all(isinstance(value, Real) and not _is_missing(value) for value in values):
        return np.array(values).reshape(y.shape)
    if any(_is_missing(value) for value in values):
        raise missing_labels(y)
    kinds = sorted({type(value).__name__ for value in values})
    raise DataError(
        "Labels of dtype object must all be strings or all be whole numbers. "
        f"Received: {', '.join(kinds)}. Convert them, for instance with y.astype(str)."
    )


def _is_missing(value: Any) -> bool:
    """Say whether a value stands for none: None, NaN, or what pandas has for it."""
    missing = type(value).__name__ in ("NAType", "NaTType")
    return value is None or missing or (isinstance(value, Real) and math.isnan(float(value)))


def refuse_missing(y: NDArray[Any]) -> None:
    """Refuse labels or targets that are NaN or infinite.

    Raises:
        DataError: Some are.
    """
    if y.dtype.kind == "f" and not np.isfinite(y).all():
        raise missing_labels(y)


class MissingLabelsError(DataError):
    """Labels or targets of which some are missing."""


def missing_labels(y: Any) -> MissingLabelsError:
    """Say how many labels or targets are missing, and how to leave them out.

    Args:
        y: All of them, or those of a batch, in any form that can be sliced.
    """
    found, dtypes = [], set()
    for start in range(0, len(y), PIECE):
        piece = y[start : start + PIECE]
        piece = np.asarray(piece.numpy() if hasattr(piece, "numpy") else piece)
        found.append(_missing_in(piece))
        dtypes.add(piece.dtype.kind)
    missing = np.concatenate(found)
    what, which = "labels or targets", "NaN or infinite"
    known = "np.isfinite(np.asarray(y, float))"
    if "O" in dtypes:
        what, which, known = "labels", "None, NaN or NA", "pandas.notna(y)"
    if np.ndim(y[:1]) > 1:
        known += ".reshape(len(y), -1).all(axis=1)"
    return MissingLabelsError(
        f"{missing.sum():,} of {len(missing):,} {what} are missing ({which}), first that of sample "
        f"{int(missing.argmax())}. Leave these samples out: known = {known}, then x[known] and "
        "y[known]."
    )


@contextmanager
def missing_counted(y: Any, where: str = "") -> Iterator[None]:
    """Say of missing labels how many they are among all, whatever part of them was looked at.

    Args:
        y: All that are at hand; None for none.
        where: What they are of, as "Batch 0: "; nothing for all of the data.
    """
    try:
        yield
    except MissingLabelsError as error:
        if y is None:
            raise
        raise DataError(f"{where}{missing_labels(y)}") from error


def _missing_in(y: NDArray[Any]) -> NDArray[np.bool_]:
    """Say which samples have something missing, `(samples,)`."""
    if y.dtype.kind == "O":
        gone = np.array([_is_missing(value) for value in y.ravel().tolist()], dtype=bool)
    else:
        gone = ~np.isfinite(y) if y.dtype.kind == "f" else np.zeros(y.shape, dtype=bool)
    return np.asarray(gone.reshape(len(y), -1).any(axis=1))


def some_of(values: Any, most: int = 5) -> str:
    """List the first of some values, for a message."""
    values = list(values)
    shown = ", ".join(repr(v.item() if isinstance(v, np.generic) else v) for v in values[:most])
    return shown + (", …" if len(values) > most else "")
