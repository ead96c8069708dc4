"""Whether a plan fits a model: made for it, and possible in it."""

from __future__ import annotations

from typing import Any

from keras_nns.errors import PlanError
from keras_nns.graph.tracing import Graph, hidden_layout, trace
from keras_nns.plans.kept_units import Plan


def traced_for(model: Any, plan: Plan, *, retrained: bool, allow_empty: bool = False) -> Graph:
    """Trace a model and make sure that a plan fits it.

    Args:
        model: The parent.
        plan: Which of its units stay.
        retrained: Accept a parent that was trained further since the plan was made.
        allow_empty: Accept a plan that keeps nothing of a layer.

    Returns:
        The traced model.

    Raises:
        ModelError: The model has no graph to read, or nothing in it can be cut.
        PlanError: The plan is of another model, names other groups, empties a layer, or leaves a
            mixture fewer experts than it sends a token to.
    """
    if not isinstance(plan, Plan):
        several = " Cut them one by one, or unite them with merge(plans)."
        hint = several if isinstance(plan, list) else ""
        raise PlanError(f"Expected a Plan. Received: {type(plan).__name__}.{hint}")
    graph = trace(model)
    hidden_layout(graph)
    if graph.structure != plan.fingerprint.structure:
        raise PlanError(
            f"The plan was made for another model than {model.name!r}: its layers, their sizes or "
            "its unit groups differ. Observe this model and select again."
        )
    if not retrained and graph.fingerprint.weights != plan.fingerprint.weights:
        raise PlanError(
            f"The plan was made with other weights than those of {model.name!r}: for another model "
            "of the same shape, or before this one was trained further. Observe this model and "
            "select again; or, where it is the same one trained further, pass retrained=True "
            "(--retrained in a shell)."
        )
    sizes = {group.name: group.size for group in graph.layout.prunable}
    if dict(plan.sizes) != sizes:
        raise PlanError(_other_groups(graph, plan, sizes))
    without = graph.within(graph.skipped(graph.keep(plan)))
    groups = [graph.layout[name] for name in plan.empty if name not in without]
    empty = [group.name for group in groups if not (group.protected or group.optional)]
    if empty and not allow_empty:
        raise PlanError(
            f"The plan would empty {', '.join(map(repr, empty))}: nothing of the signal would get "
            "through. Keep at least one unit (select keeps one unless min_units=0); or pass "
            "allow_empty=True where it goes round them, as in a residual block."
        )
    if not allow_empty:
        _refuse_empty_members(graph, plan)
    for group in graph.layout.prunable:
        stays = group.protected.union(plan.kept[group.name])
        if group.name in without:
            continue
        if len(stays) < group.least and group.least > 1:
            raise PlanError(
                f"The plan keeps {len(stays)} units of group {group.name!r}, whose layer uses "
                f"{group.least} of them at once (experts that a token is sent to). Keep at least "
                f"{group.least}."
            )
    return graph


def _other_groups(graph: Graph, plan: Plan, sizes: dict[str, int]) -> str:
    """Say why a plan that was written by hand speaks of other groups than the model has."""
    for group in graph.layout.groups:
        for name in [member.layer for member in group.members if member.layer in plan.sizes]:
            if not group.prunable:
                return (
                    f"The plan removes units of {name!r}, all of which must stay: "
                    f"{group.reasons[0]}. Leave that layer out of the plan."
                )
            if name != group.name:
                others = [repr(m.layer) for m in group.members if m.layer != name]
                return (
                    f"The plan says which units of {name!r} stay. They stay or go together with "
                    f"those of {', '.join(others)}, because {'; '.join(graph.joints(name)[:3])}. "
                    f"Say it once, for group {group.name!r} of {group.size} units."
                )
    odd = [name for name in {**plan.sizes, **sizes} if plan.sizes.get(name) != sizes.get(name)]
    return (
        f"The plan's groups are not those of {graph.model.name!r}. By group, the plan's units and "
        f"the model's: {', '.join(f'{n!r} {plan.sizes.get(n)}, {sizes.get(n)}' for n in odd[:5])}. "
        "Name every group that inspect(model) lists as one that can be cut."
    )


def _refuse_empty_members(graph: Graph, plan: Plan) -> None:
    """Refuse a plan that keeps units of a group, and none that one of its layers makes or reads."""
    keep = graph.keep(plan)
    without = graph.within(graph.skipped(keep))
    for group in graph.layout.prunable:
        if group.name in without:
            continue
        stays = group.protected.union(plan.kept[group.name])
        empty = [m.layer for m in group.members if stays.isdisjoint(m.units)]
        if empty:
            raise PlanError(
                f"The plan keeps {len(stays)} units of group {group.name!r}, and none of those "
                f"that {', '.join(map(repr, empty))} makes. Keep at least one of the units "
                f"{list(next(m.units for m in group.members if m.layer == empty[0]))[:10]}."
            )
    unread = graph.unread(keep)
    if unread:
        kept = {name: set(units) for name, units in plan.kept.items()}
        parts = [
            f"units {list(part)[:10]} of {group.name!r}"
            for group in graph.layout.prunable
            for part in group.parts
            if kept[group.name].isdisjoint(part)
        ]
        raise PlanError(
            f"The plan keeps none of the units that {unread[0]} reads, a part of a group behind a "
            f"split. Keep at least one of {' and one of '.join(parts) or 'them'}."
        )
