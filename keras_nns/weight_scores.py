"""Scores of the weights that compute a unit, alike for every label."""

from __future__ import annotations

from typing import Any

import numpy as np

from keras_nns.activity import Activity, Float
from keras_nns.errors import SelectionError
from keras_nns.graph import Graph, trace
from keras_nns.scores import Join, Score, Scores, by_group


def magnitude(model: Any, *, norm: float = 2, join: Join = "max") -> Score:
    """Make the score that is the norm of the weights which compute a unit, alike for every label.

    Filter pruning of Li et al. 2017 (*Pruning Filters for Efficient ConvNets*), there `norm=1`.

    Args:
        model: The model that was observed.
        norm: Which norm, a number above 0.
        join: As in `mean_activation`.

    Returns:
        A score to pass to `select`.

    Raises:
        SelectionError: `norm` is not a number above 0.

    Example:
        >>> nns.select(activity, labels=3, score=nns.magnitude(model))  # doctest: +SKIP
    """
    if not 0 < norm < np.inf:
        raise SelectionError(f"`norm` must be a number above 0. Received: norm={norm!r}.")
    graph = trace(model)

    def score(activity: Activity) -> Scores:
        if activity.fingerprint.structure != graph.structure:
            raise SelectionError(
                f"magnitude was given model {model.name!r}, and the activity is of another model."
            )

        def norms(layer: str) -> Float:
            each = _weight_norms(graph, layer, norm)
            return np.broadcast_to(each, (len(activity.samples), len(each)))

        return by_group(activity, norms, join)

    score.__name__ = f"magnitude(norm={norm:g})"
    return score


def _weight_norms(graph: Graph, layer: str, norm: float) -> Float:
    family = graph.families[layer]
    powers = np.zeros(len(family.units))
    for blueprint in graph.blueprints.values():
        if blueprint.path != family.layer:
            continue
        for index, binding in blueprint.bindings.items():
            weight = np.abs(np.asarray(blueprint.operation.variables[index], dtype=np.float64))
            if weight.ndim < 2:
                continue
            for axis, units in binding.axes.items():
                own = np.isin(units, family.units)
                if axis in binding.silence or not own.any():
                    continue
                others = tuple(a for a in range(weight.ndim) if a != axis)
                sums = (weight**norm).sum(axis=others)
                np.add.at(powers, units[own] - family.units[0], sums[own])
    return np.asarray(powers ** (1 / norm))
