"""Inspect: what of a model can be cut, and which widths a device does not like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from keras_nns.extraction.widths import steps_of
from keras_nns.graph.inspection import Inspection, inspected
from keras_nns.surgery.lineage import Composition, origin_of

_NAMED = 8
"""Labels that are named; of more it is said how many."""


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
    found = replace(inspected(model, inputs), origin=_origin(model))
    return found if target is None else replace(found, steps=steps_of(model, target))


def _origin(model: Any) -> str:
    """Say in a sentence where a model was cut from; nothing of one that was not cut."""
    record = origin_of(model)
    if record is None:
        return ""
    if isinstance(record, Composition):
        return f"Composed of {len(record.members)} networks, for {_listed(record.label_names)}."
    plan = record.plan
    kept, whole = sum(map(len, plan.kept.values())), sum(plan.sizes.values())
    told = f"It holds {kept:,} of its parent's {whole:,} units"
    if record.tokens is not None:
        return f"{told}, and knows {len(record.tokens):,} of its tokens."
    if record.taught:
        return f"{told}, and was taught {_listed(record.label_names)} since."
    names = plan.names
    return f"{told}, cut for {_listed(names)}." if names else f"{told}."


def _listed(names: Sequence[str]) -> str:
    told = ", ".join(names[:_NAMED])
    return told if len(names) <= _NAMED else f"{told} and {len(names) - _NAMED:,} more"
