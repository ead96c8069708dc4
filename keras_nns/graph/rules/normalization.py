"""Normalisation layers: which of them let a unit go, and what that changes for the others."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
from keras import layers
from numpy.typing import NDArray

from keras_nns.graph.partial_layers import PartialLayerNormalization
from keras_nns.graph.rules.base import Site
from keras_nns.graph.rules.records import Keep, Units
from keras_nns.graph.rules.registry import rule


def axes_of(axis: int | Sequence[int], rank: int) -> list[int]:
    """Return the axes a layer works on as a list of non-negative numbers."""
    given = axis if isinstance(axis, list | tuple) else [axis]
    return [int(one) % rank for one in given]  # type: ignore[arg-type]


@rule(layers.BatchNormalization)
def batch_normalization(site: Site) -> None:
    """Each channel has its own scale, offset, mean and variance; channels do not meet."""
    layer = site.operation
    units = site.input.on(layer.axis)
    for variable in (layer.gamma, layer.beta, layer.moving_mean, layer.moving_variance):
        site.bind(variable, {0: units})
    site.emit(site.input.units)
    site.passes()


@rule(layers.LayerNormalization)
def layer_normalization(site: Site) -> None:
    """Protect what is normalised over: its mean and variance change when a unit leaves."""
    axes = axes_of(site.operation.axis, site.input.rank)
    for axis in axes:
        site.protect(
            site.input.on(axis),
            f"{site.title} takes mean and variance over them, which change when one leaves "
            "(keras_nns.unfold(model, normalizations=True) makes that exact)",
        )
    site.emit(site.input.units)
    site.passes()


@rule(PartialLayerNormalization)
def partial_layer_normalization(site: Site) -> None:
    """Features that leave count as zero: the layer divides by the number there was."""
    layer = site.operation
    units = site.input.on(-1)
    site.bind(layer.gamma, {0: units})
    site.bind(layer.beta, {0: units})
    site.emit(site.input.units)
    site.passes()


@rule(layers.GroupNormalization)
def group_normalization(site: Site) -> None:
    """Channels of one group share mean and variance, so they leave together, as a whole group.

    With as many groups as channels (instance normalisation) every channel is a group.
    """
    layer = site.operation
    axis = layer.axis % site.input.rank
    units = site.input.on(axis)
    for other, numbers in site.input.units.items():
        if other != axis:
            site.protect(numbers, f"{site.title} takes mean and variance along their axis")
    for variable in (layer.gamma, layer.beta):
        site.bind(variable, {0: units})
    if units is not None:
        by_group = units.reshape(layer.groups, -1)
        if layer.groups == 1:
            site.protect(units, f"{site.title} takes mean and variance over all of them")
        for column in by_group.T[1:]:
            site.couple(by_group[:, 0], column)
        # A group that holds a fixed channel stays whole: coupling has protected its first too.
        site.configure("groups", by_group[:, 0])
    site.emit(site.input.units)
    site.passes()


@rule(layers.RMSNormalization)
def rms_normalization(site: Site) -> None:
    """Divide by the root mean square: exact when the count in the mean is put right.

    Over `n` features of which `k` stay, the rest being zero, the mean square is `k / n` of that
    over the `k`. So the cut layer has `scale * sqrt(n / k)` and `epsilon * n / k`.
    """
    layer = site.operation
    axes = axes_of(layer.axis, site.input.rank)
    units = {axis: site.input.on(axis) for axis in axes}
    site.bind(layer.scale, {place: units[axis] for place, axis in enumerate(sorted(axes))})
    carried = [numbers for numbers in units.values() if numbers is not None]
    if carried:
        site.rescale(layer.scale, lambda keep: np.sqrt(_shrinkage(keep, carried)))
        site.configure("epsilon", lambda keep: layer.epsilon * _shrinkage(keep, carried))
    site.emit(site.input.units)
    site.passes()


def _shrinkage(keep: Keep, axes: Sequence[Units]) -> float:
    """Return how many times more elements there were before than after."""
    return float(np.prod([len(units) / keep.count(units) for units in axes]))


@rule(layers.UnitNormalization)
def unit_normalization(site: Site) -> None:
    """Divide by the length of the vector, which zeros do not change."""
    site.emit(site.input.units)
    site.passes()


@rule(layers.Normalization)
def normalization(site: Site) -> None:
    """Protect features: their mean and variance are fixed when the layer is adapted."""
    fixed_statistics(site)


@rule(layers.Rescaling)
def rescaling(site: Site) -> None:
    """Multiply and add: one number for all, or one per feature, which is sliced."""
    layer = site.operation
    for key in ("scale", "offset"):
        _slice_setting(site, key, getattr(layer, key))
    site.emit(site.input.units)
    site.passes()


def _slice_setting(site: Site, key: str, value: Any) -> None:
    array = np.asarray(value)
    if array.ndim > 1:
        site.protect_all(f"{site.title} has a {key} of {array.ndim} axes")
    units = site.input.on(-1)
    if array.ndim == 1 and len(array) > 1 and units is not None:
        site.configure(key, partial(_kept_numbers, array, units))


def _kept_numbers(array: NDArray[Any], units: Units, keep: Keep) -> list[Any]:
    return list(array[keep.where(units)].tolist())


def fixed_statistics(site: Site) -> None:
    """Protect units that a layer treats by numbers which were fixed before training."""
    site.protect_all(f"{site.title} holds statistics of each of them that cannot be cut")
    site.emit(site.input.units)
    site.passes()
