"""Scores of the weights that compute a unit, alike for every label."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from keras import layers

from keras_nns.errors import SelectionError
from keras_nns.graph.rules import FIXED
from keras_nns.graph.tracing import Graph, trace
from keras_nns.observation.activity import Activity
from keras_nns.observation.layer_sums import Float
from keras_nns.selection.activations import Join, Score, Scores, by_group, joined


def magnitude(
    model: Any, *, norm: float = 2, join: Join = "max", unobserved: bool = False
) -> Score:
    """Make the score that is the norm of the weights which compute a unit, alike for every label.

    Filter pruning of Li et al. 2017 (*Pruning Filters for Efficient ConvNets*), there `norm=1`.

    Args:
        model: The model that was observed.
        norm: Which norm, a number above 0.
        join: As in `mean_activation`.
        unobserved: Whether units of layers that were not observed have a score too, such as those
            that act inside a layer and cannot be watched. They stay otherwise.

    Returns:
        A score to pass to `select`.

    Raises:
        SelectionError: `norm` is not a number above 0.

    Example:
        >>> nns.select(activity, labels=3, score=nns.scores.magnitude(model))
        <Plan for 3: 24 of 48 units>
    """
    if not 0 < norm < np.inf:
        raise SelectionError(f"`norm` must be a number above 0. Received: norm={norm!r}.")

    def of_weights(weights: Float) -> Float:
        return np.asarray((np.abs(weights) ** norm).sum(axis=1) ** (1 / norm))

    settings = f"norm={norm:g}, unobserved=True" if unobserved else f"norm={norm:g}"
    return _of_layers(
        model,
        of_weights,
        f"magnitude({settings})",
        join,
        comparable=False,
        unobserved=unobserved,
    )


def geometric_median(model: Any, *, join: Join = "max") -> Score:
    """Make the score that is how far a unit's weights lie from those of the layer's other units.

    FPGM of He et al. 2019 (*Filter Pruning via Geometric Median*): the sum of the Euclidean
    distances to all others. Units near the middle of all can be stood in for by the rest; a small
    norm alone is no reason to go.

    Args:
        model: The model that was observed.
        join: As in `mean_activation`.

    Returns:
        A score to pass to `select`.

    Example:
        >>> nns.select(activity, labels=3, score=nns.scores.geometric_median(model))
        <Plan for 3: 24 of 48 units>
    """

    def of_weights(weights: Float) -> Float:
        squares = (weights**2).sum(axis=1)
        between = squares[:, None] + squares - 2 * weights @ weights.T
        np.fill_diagonal(between, 0.0)
        return np.asarray(np.sqrt(np.maximum(between, 0.0)).sum(axis=1))

    return _of_layers(model, of_weights, "geometric_median", join, comparable=False)


def lamp(model: Any, *, join: Join = "max") -> Score:
    """Make the score that is a unit's share of the weights that would be left with it.

    LAMP of Lee et al. 2021 (*Layer-adaptive Sparsity for the Magnitude-based Pruning*, eq. 2), for
    whole units: the squared norm of its weights, over the sum of those of all units of the layer
    that are as large or larger. Within a layer the order is that of `magnitude`; the shares can be
    compared over layers, so it is for `scope="global"`, and keeps at least one unit of each.

    Args:
        model: The model that was observed.
        join: As in `mean_activation`.

    Returns:
        A score to pass to `select`, in [0, 1].

    Example:
        >>> keep = nns.fraction(0.25, scope="global")
        >>> nns.select(activity, labels=3, score=nns.scores.lamp(model), keep=keep)
        <Plan for 3: 12 of 48 units>
    """

    def of_weights(weights: Float) -> Float:
        squares = (weights**2).sum(axis=1)
        order = np.argsort(-squares, kind="stable")
        left = np.cumsum(squares[order])
        shares = np.zeros(len(squares))
        shares[order] = squares[order] / np.where(left > 0, left, 1.0)
        return shares

    return _of_layers(model, of_weights, "lamp", join, comparable=True)


def batch_norm_scale(model: Any, *, join: Join = "max") -> Score:
    """Make the score that is the size of the scale γ which batch norms give a unit.

    Network slimming of Liu et al. 2017 (*Learning Efficient Convolutional Networks through Network
    Slimming*). It means most for a model that was trained with a penalty on these scales. Units
    that no batch norm with a scale stands behind have no score, and stay.

    Args:
        model: The model that was observed.
        join: How several batch norms on the same units are brought together.

    Returns:
        A score to pass to `select`.

    Raises:
        SelectionError: The model has no batch norm with a scale on hidden units.

    Example:
        >>> activity = nns.observe(resnet, "photos")
        >>> nns.select(activity, labels="cat", score=nns.scores.batch_norm_scale(resnet))
        <Plan for cat: 4 of 8 units>
    """
    graph = trace(model)
    numbers = {
        int(unit): (group, number)
        for group in graph.layout.prunable
        for member in group.members
        for unit, number in zip(graph.families[member.layer].units, member.units, strict=True)
    }
    parts: dict[str, list[Float]] = {}
    for blueprint in graph.blueprints.values():
        layer = blueprint.operation
        if not isinstance(layer, layers.BatchNormalization) or layer.gamma is None:
            continue
        index = next(i for i, v in enumerate(layer.variables) if v is layer.gamma)
        units = blueprint.bindings[index].axes.get(0) if index in blueprint.bindings else None
        if units is None:
            continue
        placed: dict[str, Float] = {}
        for unit, scale in zip(units, np.asarray(layer.gamma), strict=True):
            if unit != FIXED and int(unit) in numbers:
                group, number = numbers[int(unit)]
                row = placed.setdefault(group.name, np.full((1, group.size), -np.inf))
                row[0, number] = max(row[0, number], abs(float(scale)))
        for name, row in placed.items():
            parts.setdefault(name, []).append(row)
    if not parts:
        raise SelectionError(
            f"Model {model.name!r} has no batch norm with a scale on units that can be removed. "
            "Use magnitude, lamp or geometric_median for its weights."
        )

    def score(activity: Activity) -> Scores:
        _check_same(activity, graph, "batch_norm_scale")
        count = len(activity.samples)
        found = {}
        for group in activity.layout.prunable:
            watched = any(member.layer in activity.layers for member in group.members)
            if watched and group.name in parts:
                row = joined(parts[group.name], join, comparable=True)
                found[group.name] = np.repeat(row, count, axis=0)
        return found

    score.__name__ = "batch_norm_scale"
    return score


def wanda(model: Any, *, join: Join = "max") -> Score:
    """Make the score that is what a unit's readers make of it: their weights times its size.

    Sun et al. 2024 (*A Simple and Effective Pruning Approach for Large Language Models*, eq. 1),
    summed over the weights of a structure as An et al. 2024 do (*Fluctuation-based Adaptive
    Structured Pruning*): the sum of absolute weights that read the unit, times the root of its mean
    square over all positions of the label's samples. Of a unit that is seen by what it adds to the
    layer's output, as an attention head, that root alone.

    Args:
        model: The model that was observed.
        join: As in `mean_activation`.

    Returns:
        A score to pass to `select`. It wants the statistic `"mean_square"`. Units that stand for
        whole blocks have no score, and stay.

    Example:
        >>> activity = nns.observe(model, (x, y), statistics=["mean_square"])
        >>> nns.select(activity, labels=3, score=nns.scores.wanda(model))
        <Plan for 3: 24 of 48 units>
    """
    graph = trace(model)

    def score(activity: Activity) -> Scores:
        _check_same(activity, graph, "wanda")

        def of_layer(layer: str) -> Float:
            size = np.sqrt(activity.mean_square(layer))
            return size if _seen_by_share(graph, layer) else size * _read_by(graph, layer)

        found = by_group(activity, of_layer, join)
        blocks = {group.name for group in activity.layout.prunable if group.optional}
        return {name: values for name, values in found.items() if name not in blocks}

    score.__name__ = "wanda"
    return score


def _of_layers(
    model: Any,
    of_weights: Callable[[Float], Float],
    name: str,
    join: Join,
    *,
    comparable: bool,
    unobserved: bool = False,
) -> Score:
    """Make a score of each layer's weights `(units, weights)`."""
    graph = trace(model)

    def score(activity: Activity) -> Scores:
        _check_same(activity, graph, name)

        def of_layer(layer: str) -> Float:
            each = of_weights(_weights_of(graph, layer))
            return np.broadcast_to(each, (len(activity.samples), len(each)))

        layers = graph.families if unobserved else None
        return by_group(activity, of_layer, join, layers=layers, comparable=comparable)

    score.__name__ = name
    return score


def _check_same(activity: Activity, graph: Graph, name: str) -> None:
    if activity.fingerprint.structure != graph.structure:
        raise SelectionError(
            f"{name} was given model {graph.model.name!r}, and the activity is of another model."
        )


def _weights_of(graph: Graph, layer: str) -> Float:
    """Return the weights that compute each unit of a layer, without biases: `(units, weights)`."""
    family = graph.families[layer]
    rows: list[list[Float]] = [[] for _ in family.units]
    for blueprint in graph.blueprints.values():
        if blueprint.path != family.layer:
            continue
        for index, binding in blueprint.bindings.items():
            weight = np.asarray(blueprint.operation.variables[index], dtype=np.float64)
            if weight.ndim < 2:
                continue
            for axis, units in binding.axes.items():
                if axis in binding.silence:
                    continue
                slices = np.moveaxis(weight, axis, 0).reshape(len(units), -1)
                # A recurrent layer's kernel has a unit once for every gate.
                for place in np.flatnonzero(np.isin(units, family.units)):
                    rows[int(units[place] - family.units[0])].append(slices[place])
    found = [np.concatenate(parts) if parts else np.zeros(0) for parts in rows]
    widest = max((len(row) for row in found), default=0)
    return np.stack([np.pad(row, (0, widest - len(row))) for row in found])


def _seen_by_share(graph: Graph, layer: str) -> bool:
    """Return whether units are seen by what they add to their layer's output, weights included."""
    family = graph.families[layer]
    readings = [r for t in graph.calls.values() if t.call.path == family.layer for r in t.readings]
    return any(r.values is not None and np.isin(r.units, family.units).any() for r in readings)


def _read_by(graph: Graph, layer: str) -> Float:
    """Return the sum of absolute weights that read each unit of a layer: `(units,)`."""
    family = graph.families[layer]
    first = int(family.units[0])
    sums = np.zeros(len(family.units))
    for blueprint in graph.blueprints.values():
        own = blueprint.path == family.layer
        for index, binding in blueprint.bindings.items():
            weight = blueprint.operation.variables[index]
            if len(weight.shape) < 2:
                continue
            for axis, units in binding.axes.items():
                inside = np.isin(units, family.units)
                # Of the layer that makes the units only what reads them within it.
                if not inside.any() or (own and axis not in binding.silence):
                    continue
                values = np.abs(np.asarray(weight, dtype=np.float64))
                slices = np.moveaxis(values, axis, 0).reshape(len(units), -1).sum(axis=1)
                np.add.at(sums, units[inside] - first, slices[inside])
    return sums
