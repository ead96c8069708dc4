"""Normalisation layers."""

from __future__ import annotations

from keras import layers

from keras_nns.rules.base import Site, rule


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
    layer = site.operation
    axes = layer.axis if isinstance(layer.axis, list | tuple) else [layer.axis]
    for axis in axes:
        site.protect(
            site.input.on(axis),
            f"{site.title} takes mean and variance over them, which change when one leaves",
        )
    site.emit(site.input.units)
    site.passes()
