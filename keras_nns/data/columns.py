"""Inputs and labels that are at hand whole, made what can be sliced batch by batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_nns.data.encodings import RAGGED
from keras_nns.engine.tensors import is_ragged, is_sparse
from keras_nns.errors import DataError


def sliceable(array: Any) -> Any:
    """Leave what can be sliced as it is, so that a file behind it is read batch by batch."""
    if isinstance(array, np.ma.MaskedArray) and np.ma.is_masked(array):
        raise DataError(
            f"{int(np.ma.getmaskarray(array).sum())} values are masked, which nothing here looks "
            "at. Leave their samples out: known = ~np.ma.getmaskarray(y), then x[known] and "
            "y[known]; or fill them with .filled(value)."
        )
    if is_sparse(array):
        return array
    if isinstance(array, np.ndarray) or hasattr(array, "iloc"):
        return np.asarray(array)
    if hasattr(array, "shape") and hasattr(array, "dtype") and hasattr(array, "__getitem__"):
        return array
    try:
        return np.asarray(array)
    except ValueError as error:
        raise DataError(
            f"The samples do not have one shape: {error}. Pad them to one length."
        ) from error


def targets(y: Any) -> Any:
    """Leave labels that can be sliced as they are; ragged ones cannot be read.

    Raises:
        DataError: Samples have different numbers of labels.
    """
    if is_ragged(y) or (isinstance(y, (list, tuple)) and _differ_in_length(y)):
        raise DataError(RAGGED)
    return sliceable(y)


def _differ_in_length(y: Sequence[Any]) -> bool:
    lengths = {len(some) if isinstance(some, (list, tuple, np.ndarray)) else -1 for some in y}
    return len(lengths) > 1


def columns_of(x: Any, columns: Sequence[str]) -> Any:
    """Make every array of the inputs one that can be sliced; a dict has the model's inputs only."""
    if isinstance(x, Mapping):
        known = all(name in x for name in columns)
        return {name: sliceable(x[name]) for name in columns} if known else x
    if isinstance(x, (list, tuple)) and all(hasattr(part, "shape") for part in x):
        return [sliceable(part) for part in x]
    return sliceable(x)
