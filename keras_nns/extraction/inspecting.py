"""Inspect: what of a model can be cut, and which widths a device does not like."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from keras_nns.extraction.widths import steps_of
from keras_nns.graph.inspection import Inspection, inspected


def inspect(model: Any, *, inputs: Any = None, target: str | None = None) -> Inspection:
    """List the unit groups of a model: where they live, what a unit costs, what is protected.

    Args:
        model: A built Sequential or functional `keras.Model`. It is not changed.
        inputs: A batch as the model takes it. Only its shapes are read, for multiply-adds of a
            model that leaves dimensions open.
        target: An NPU, one of `tflite_export.NPU_TARGETS`, whose compiler is asked which groups
            stand just behind a step of it: a few of their units cost more than twice what one costs
            on average. Some ten widths of each group are tried, in int8; `npu_widths` tries them
            all.

    Returns:
        The groups; print it for a table.

    Raises:
        ModelError: The model has no graph to read.
        SelectionError: Nothing of the model runs on the NPU.
        tflite_export.ExportError: There is no such NPU, its compiler is missing, or there is no
            int8 file of the model.

    Example:
        >>> print(nns.inspect(model))
         group     layers   can be cut   parameters each   multiply-adds each   watched ...
         ...
         dense          1     32 of 32                81                   80   yes
         dense_1        1     16 of 16                43                   42   yes
         digit          1      0 of 10                17                   16 ...
        digits: 48 units can be cut; 2,778 parameters, 2,720 multiply-adds.
    """
    found = inspected(model, inputs)
    return found if target is None else replace(found, steps=steps_of(model, target))
