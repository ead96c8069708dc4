"""Which variant would pass where one was refused: tried, not guessed."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from tflite_export.converter import convert
from tflite_export.errors import ExportError
from tflite_export.operators import anatomy

_ORDER = ("weight_int4", "int8", "dynamic", "weight_int8", "int16x8", "float16", "float32")
"""From the coarsest on; `int8_float` computes as `int8` does."""


def passing(
    model: Any,
    samples: Any,
    targets: Any,
    *,
    instead_of: str,
    passes: Callable[[bytes], bool],
    micro: bool,
) -> list[tuple[str, int]]:
    """Try finer variants until one passes that runs where the refused one did.

    Args:
        model: The Keras model.
        samples: Inputs, to measure ranges on too.
        targets: Their labels, where known.
        instead_of: The variant that was refused, or `recipe:` and one.
        passes: Whether a file is accepted.
        micro: Whether the refused file runs on TFLite Micro.

    Returns:
        Names of the variants that pass and the bytes of their files: the coarsest, and, where that
        does not run on TFLite Micro and the refused one does, the coarsest that does.
    """
    refused = instead_of.removeprefix("recipe:")
    refused = {"int8_float": "int8", "dynamic_int4": "weight_int4"}.get(refused, refused)
    # A recipe may have left layers out that the variant as such gets right.
    start = _ORDER.index(refused) + (not instead_of.startswith("recipe:"))
    found: list[tuple[str, int]] = []
    for name in _ORDER[start:]:
        try:
            with warnings.catch_warnings():
                # The samples are those of a check, of which there may be few.
                warnings.simplefilter("ignore")
                flat = convert(model, quantize=name, samples=samples, targets=targets)
            runs = not micro or anatomy(flat).runs_on_micro
            if (runs or not found) and passes(flat):
                found.append((name, len(flat)))
                if runs:
                    break
        except ExportError:
            # No form in that variant, or a package is missing.
            continue
    return found
