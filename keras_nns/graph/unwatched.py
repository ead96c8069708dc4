"""Which units could go and cannot be watched, and why."""

from __future__ import annotations

from collections.abc import Collection

import numpy as np

from keras_nns.graph.tracing import Graph
from keras_nns.graph.watching import watch_points
from keras_nns.plans.units import Group


def unwatched(graph: Graph, watched: Collection[str]) -> dict[str, str]:
    """Say why groups of units that could go are not watched, whatever layers are chosen.

    Args:
        graph: The traced model.
        watched: Names of the layers that are watched.

    Returns:
        Reasons by name of the group; nothing of groups of which some layer can be watched.
    """
    groups = [g for g in graph.layout.prunable if not any(m.layer in watched for m in g.members)]
    if not groups:
        return {}
    points = watch_points(graph)
    return {
        group.name: _reason(graph, group)
        for group in groups
        if not any(member.layer in points for member in group.members)
    }


def _reason(graph: Graph, group: Group) -> str:
    family = graph.families[group.members[0].layer]
    made = graph.class_of[family.units]
    calls = [traced for traced in graph.calls.values() if traced.call.path == family.layer]
    kind = type(calls[0].call.operation).__name__ if calls else "layer"
    shown = any(
        np.isin(graph.class_of[units[units >= 0]], made).any()
        for traced in calls
        for stream in traced.outputs
        for units in stream.units.values()
    )
    if shown:
        return f"what {kind} {family.layer!r} returns does not have one place for each of them"
    return f"they act inside {kind} {family.layer!r}, and what it returns does not show them"
