"""Merge label subnetworks of one parent: plans into a plan, models into a model."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, overload

import keras

from keras_nns.errors import SelectionError
from keras_nns.plans.kept_units import Plan, union
from keras_nns.repairing.patient import record_of
from keras_nns.repairing.writing_back import Rest, Shared, several, write_back
from keras_nns.surgery.cutting import cut
from keras_nns.surgery.lineage import Head


@overload
def merge(subnets: Iterable[Plan]) -> Plan: ...


@overload
def merge(
    subnets: Iterable[keras.Model],
    parent: keras.Model,
    *,
    rest: Rest = ...,
    shared: Shared = ...,
    head: Head = ...,
    output: str | None = ...,
    retrained: bool = ...,
) -> keras.Model: ...


def merge(
    subnets: Iterable[Any],
    parent: Any = None,
    *,
    rest: Rest = "parent",
    shared: Shared = "error",
    head: Head = "parent",
    output: str | None = None,
    retrained: bool = False,
) -> Any:
    """Unite subnetworks of one parent into one that holds all their units: the paper's integration.

    Plans become the plan of their union, as `plan_a | plan_b` does for two. Models, also fine-tuned
    ones, become a model: they are written back into the parent's shape and cut to the union of
    their plans. Models that were not trained since they were cut give what
    `cut(parent, merge(plans))` gives, bit for bit. To put models side by side instead, each with
    its own units, see `compose`.

    Args:
        subnets: Plans of one parent; or models that `cut` gave, with the parent beside them.
        parent: The model that subnetworks were cut from. For plans it is left out, and so is
            everything after it.
        rest: Weights between units of which one subnetwork holds the one and another the other:
            the parent's, or zero for networks that do not act on one another.
        shared: As in `write_back`.
        head: As in `cut`.
        output: As in `cut`.
        retrained: As in `write_back`.

    Returns:
        A `Plan` for plans, else a `keras.Model`; `lineage(model)` tells the units it holds.

    Raises:
        PlanError: No plan was given, or they are of different parents. For models as in
            `write_back`.
        SelectionError: Plans and models are mixed, models come without their parent, or plans with
            one. For models as in `write_back`.
        SurgeryError: As in `write_back` and `cut`.

    Example:
        >>> plan = nns.merge(nns.select(activity, labels="each"))
        >>> plan.labels
        (0, 1, 2, 3, 4, 5, 6, 7, 8, 9)
        >>> both = nns.merge([three, eight], model)
        >>> nns.lineage(both).plan.labels
        (3, 8)
    """
    given = [subnets] if isinstance(subnets, (Plan, keras.Model)) else list(subnets)
    plans = [one for one in given if isinstance(one, Plan)]
    if plans and len(plans) == len(given):
        if parent is not None:
            raise SelectionError(
                "`merge` of plans takes the plans alone. Leave the model out, and cut it to what "
                "merge gives: cut(model, merge(plans))."
            )
        return union(plans)
    if plans:
        raise SelectionError(
            f"`merge` takes plans or models, not both. Received: {len(plans)} plans among "
            f"{len(given)} subnetworks."
        )
    if given and parent is None:
        raise SelectionError(
            "`merge` of models needs the model they were cut from: merge(models, parent)."
        )
    models = several(given)
    plan = union([record_of(model, parent, retrained=retrained).plan for model in models])
    full = write_back(models, parent, rest=rest, shared=shared, retrained=retrained)
    return cut(full, plan, head=head, output=output, retrained=True)
