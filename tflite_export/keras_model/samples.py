"""Samples as the user gives them, turned into one array per input."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tflite_export.errors import ExportError
from tflite_export.keras_model.ports import Port

Array = np.ndarray[Any, Any]


def arrays(samples: Any, inputs: Sequence[Port], error: type[ExportError]) -> list[Array]:
    """Check samples against a model's inputs and put them in the inputs' order.

    Args:
        samples: An array for a model with one input; a list, tuple or dict of arrays for
            several. Sample axis first.
        inputs: The model's inputs.
        error: The class to raise.

    Returns:
        One array of shape (samples, ...) per input, in the input's dtype.
    """
    if hasattr(samples, "element_spec") or hasattr(samples, "__next__"):
        raise error(
            f"samples is a {type(samples).__name__}; expected arrays. Take some out of it, such as "
            "np.concatenate([x for x, y in dataset.take(10)])."
        )
    given = _in_order(samples, inputs, error)
    checked = [_checked(array, port, error) for array, port in zip(given, inputs, strict=True)]
    lengths = {port.name: len(array) for port, array in zip(inputs, checked, strict=True)}
    if len(set(lengths.values())) > 1:
        raise error(f"the inputs have different numbers of samples: {lengths}.")
    if not len(checked[0]):
        raise error("samples is empty; at least one sample is needed.")
    return checked


def _in_order(samples: Any, inputs: Sequence[Port], error: type[ExportError]) -> list[Any]:
    names = [port.name for port in inputs]
    if isinstance(samples, Mapping):
        if set(samples) != set(names):
            raise error(
                f"samples has the keys {sorted(map(str, samples))}; the model's inputs are {names}."
            )
        return [samples[name] for name in names]
    if len(inputs) == 1:
        if isinstance(samples, (list, tuple)) and len(samples) == 1:
            # [x] means the one input's array, unless it is a list of one sample.
            inner = np.asarray(samples[0])
            return [inner if inner.ndim == len(inputs[0].shape) else np.asarray(samples)]
        return [samples]
    if not isinstance(samples, (list, tuple)) or len(samples) != len(inputs):
        count = len(samples) if isinstance(samples, (list, tuple)) else 1
        raise error(
            f"the model has {len(inputs)} inputs ({', '.join(names)}); samples holds {count}. "
            "Pass a list in that order, or a dict by name."
        )
    return list(samples)


def _checked(given: Any, port: Port, error: type[ExportError]) -> Array:
    try:
        array = np.asarray(given)
    except ValueError as cause:
        raise error(f"samples for input {port.name!r} are no regular array: {cause}.") from cause
    if array.dtype.kind not in "biuf":
        raise error(
            f"samples for input {port.name!r} are of type {array.dtype}; expected numbers "
            f"({port.dtype})."
        )
    if array.ndim != len(port.shape) or any(
        size is not None and size != got
        for size, got in zip(port.shape[1:], array.shape[1:], strict=True)
    ):
        expected = ("samples", *("any" if size is None else size for size in port.shape[1:]))
        raise error(
            f"samples for input {port.name!r} have shape {array.shape}; expected "
            f"({', '.join(map(str, expected))})."
        )
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        bad = int(np.flatnonzero(~np.isfinite(array).all(axis=tuple(range(1, array.ndim))))[0])
        raise error(
            f"samples for input {port.name!r} hold NaN or infinite values (first in sample {bad})."
        )
    if np.dtype(port.dtype).kind in "iu" and array.dtype.kind == "f":
        whole = np.rint(array)
        if not np.array_equal(whole, array):
            raise error(
                f"samples for input {port.name!r} are fractions of type {array.dtype}; the "
                f"input takes whole numbers ({port.dtype})."
            )
    return array.astype(port.dtype)
