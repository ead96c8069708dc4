"""The export variants: one row each.

A row says what the converter is told, whether it must see samples, and how far the
answers of the file may be from the model's. Tolerances live here and nowhere else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from tflite_export.errors import OptionError

__all__ = ["VARIANTS", "Variant", "variant"]

# Yields one list of arrays, batch first, for each representative sample.
Representative = Callable[[], Iterator[list["np.ndarray[Any, Any]"]]]


def _nothing(converter: Any, representative: Representative | None) -> None:
    """Leave the converter as it is."""


@dataclass(frozen=True)
class Variant:
    """One way to store a model.

    Attributes:
        name: What `convert(quantize=...)` is given.
        summary: One line for people.
        tolerance: Largest difference to the Keras model's answer that `verify` accepts,
            as a share of the output's scale (its largest absolute value).
        configure: Sets a `tf.lite.TFLiteConverter` up.
        needs_samples: Whether the ranges of activations must be measured on samples.

    Example:
        >>> VARIANTS["float32"].tolerance
        1e-05
    """

    name: str
    summary: str
    tolerance: float
    configure: Callable[[Any, Representative | None], None] = _nothing
    needs_samples: bool = False


VARIANTS: dict[str, Variant] = {
    row.name: row for row in (Variant("float32", "float32 weights and arithmetic", tolerance=1e-5),)
}


def variant(quantize: str | None) -> Variant:
    """Look a variant up.

    Args:
        quantize: Its name; `None` means float32.

    Raises:
        OptionError: There is no such variant.

    Example:
        >>> variant(None).name
        'float32'
    """
    name = "float32" if quantize is None else quantize
    if name not in VARIANTS:
        known = ", ".join(repr(known) for known in VARIANTS)
        raise OptionError(f"unknown quantize={quantize!r}; expected None or one of {known}.")
    return VARIANTS[name]
