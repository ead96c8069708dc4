"""Scores: how much a label needs a unit, `(labels, units)` for every unit group.

A score is a function of an `Activity`. Scores that need more than activity (weights) are made by a
function that takes it: `magnitude(model)`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from keras_nns.activity import Activity, Float
from keras_nns.errors import SelectionError
from keras_nns.graph import Graph, trace
from keras_nns.layout import Group

Scores = Mapping[str, Float]
Score = Callable[[Activity], Scores]
Join = Literal["max", "mean", "sum"]


def mean_activation(activity: Activity, *, join: Join = "max") -> Scores:
    """Score a unit by its mean activation over the label's samples.

    This is the score of *NNS: neural network surgery*: with `above(zeta)` it is the paper's eq. 1.
    For units that can be negative it is the mean absolute activation; on ReLU the two are the same.

    Args:
        activity: What was observed, with the statistic `"mean"`.
        join: How the layers of a group that share units are brought together; each layer's scores
            are first divided by its label's highest.

    Returns:
        Scores `(labels, units)` by group; NaN for labels without samples, -inf for units of layers
        that were not watched.

    Raises:
        SelectionError: The mean was not watched.
    """
    return _by_group(activity, activity.magnitude, join)


def firing_frequency(activity: Activity, *, join: Join = "max") -> Scores:
    """Score a unit by the share of the label's samples on which it fires, in [0, 1].

    The "frequency of activation" of *NNS: neural network surgery*; its complement is APoZ (Hu et
    al. 2016, *Network Trimming*).

    Args:
        activity: What was observed, with the statistic `"fired"`.
        join: As in `mean_activation`.

    Returns:
        Scores `(labels, units)` by group; NaN for labels without samples.

    Raises:
        SelectionError: Firing was not watched.
    """
    return _by_group(activity, activity.firing_rate, join)


def contrast(activity: Activity, *, signed: bool = False, join: Join = "max") -> Scores:
    """Score a unit by how far its mean activation on the label lies from that on all the rest.

    A unit that is silent for the label and active for the others tells them apart as well as the
    reverse, so the difference counts in both directions. A label's network that keeps only units
    which speak for it says yes to everything.

    Args:
        activity: What was observed, with the statistic `"mean"`, of two labels at least.
        signed: Keep the sign: negative where the unit answers the rest more.
        join: As in `mean_activation`.

    Returns:
        Scores `(labels, units)` by group; NaN for labels without samples.

    Raises:
        SelectionError: The mean was not watched, or only one label has samples.
    """
    seen = np.count_nonzero(activity.samples)
    if seen < 2:
        raise SelectionError(
            f"contrast compares a label with the rest, and {seen} label has samples. Observe data "
            "of at least two."
        )

    def difference(layer: str) -> Float:
        own = activity.mean(layer)
        total = activity.layers[layer].total
        assert total is not None
        rest_samples = activity.samples.sum() - activity.samples
        rest = (total.sum(axis=0) - total) / rest_samples[:, None]
        gap: Float = own - rest
        return gap if signed else np.asarray(np.abs(gap))

    return _by_group(activity, difference, join)


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

        return _by_group(activity, norms, join)

    score.__name__ = f"magnitude(norm={norm:g})"
    return score


def name_of(score: Score) -> str:
    """Return a score's name for a plan's record of why."""
    if isinstance(score, partial):
        settings = ", ".join(f"{key}={value!r}" for key, value in score.keywords.items())
        return f"{name_of(score.func)}({settings})"
    return getattr(score, "__name__", type(score).__name__)


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


def _by_group(activity: Activity, of_layer: Callable[[str], Float], join: Join) -> dict[str, Float]:
    if join not in ("max", "mean", "sum"):
        raise SelectionError(
            f"Expected `join` to be 'max', 'mean' or 'sum'. Received: join={join!r}."
        )
    scores = {}
    for group in activity.layout.prunable:
        members = [m for m in group.members if m.layer in activity.layers]
        if members:
            parts = [_place(group, m.units, of_layer(m.layer)) for m in members]
            scores[group.name] = parts[0] if len(parts) == 1 else _joined(parts, join)
    return scores


def _place(group: Group, units: tuple[int, ...], scores: Float) -> Float:
    """Move a layer's scores to the numbers of the group; -inf where the layer has no such unit."""
    placed = np.full((scores.shape[0], group.size), -np.inf)
    np.maximum.at(placed.T, np.asarray(units), scores.T)
    return placed


def _joined(parts: list[Float], join: Join) -> Float:
    relative = []
    for part in parts:
        finite = np.where(np.isneginf(part), 0.0, np.abs(part))
        highest = finite.max(axis=1, keepdims=True)
        relative.append(part / np.where(highest > 0, highest, 1.0))
    stack = np.stack(relative)
    if join == "max":
        return np.asarray(stack.max(axis=0))
    there = ~np.isneginf(stack)
    count = there.sum(axis=0)
    total: NDArray[np.float64] = np.where(there, stack, 0.0).sum(axis=0)
    joined = total / np.maximum(count, 1) if join == "mean" else total
    return np.where(count > 0, joined, -np.inf)
