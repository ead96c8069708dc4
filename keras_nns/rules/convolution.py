"""Convolutions in one, two and three dimensions."""

from __future__ import annotations

import numpy as np
from keras import layers

from keras_nns.rules.base import Site, rule
from keras_nns.rules.dense import quantised
from keras_nns.rules.elementwise import apply_activation
from keras_nns.rules.records import Units


def channel_axis(site: Site) -> int:
    """Return the axis of the channels in the site's input."""
    return 1 if site.operation.data_format == "channels_first" else site.input.rank - 1


def fix_space(site: Site, what: str) -> Units | None:
    """Protect units that lie along spatial axes; return those of the channels."""
    channels = channel_axis(site)
    for axis, units in site.input.units.items():
        if axis != channels:
            site.protect(units, f"{site.title} {what} along their axis")
    return site.input.on(channels)


@rule(layers.Conv1D, layers.Conv2D, layers.Conv3D)
def convolution(site: Site) -> None:
    """Kernel `(*window, channels / groups, filters)`, bias `(filters,)`.

    With groups, every group must lose the same channels and the same filters. When a group has one
    input channel (a depthwise convolution) whole groups leave instead.
    """
    layer = site.operation
    channels = fix_space(site, "slides a window")
    filters = site.make(layer.filters)
    if layer.quantization_mode is not None:
        quantised(site, filters)
        site.emit({channel_axis(site): filters})
        return
    read: Units | None = channels
    if layer.groups > 1:
        by_group = filters.reshape(layer.groups, -1)
        width = site.input.shape[channel_axis(site)]
        assert width is not None
        if width == layer.groups:
            read = None
            for column in by_group.T:
                site.couple(channels, column)
            site.configure("groups", by_group[:, 0])
        else:
            for row in by_group[1:]:
                site.couple(by_group[0], row)
            if channels is not None:
                rows = channels.reshape(layer.groups, -1)
                for row in rows[1:]:
                    site.couple(rows[0], row)
                read = rows[0]
    kernel = layer._kernel
    site.bind(
        kernel, {-1: filters} if layer.groups > 1 and read is None else {-2: read, -1: filters}
    )
    if getattr(layer, "lora_enabled", False):
        site.bind(layer.lora_kernel_a, {-2: read})
        site.bind(layer.lora_kernel_b, {1: filters})
    site.bind(layer.bias, {0: filters})
    site.reads(read)
    site.configure("filters", filters)
    site.emit({channel_axis(site): filters})
    axis = channel_axis(site)
    apply_activation(site, layer.activation, axis=axis if axis == 1 else -1)


@rule(layers.DepthwiseConv1D, layers.DepthwiseConv2D)
def depthwise(site: Site) -> None:
    """Kernel `(*window, channels, multiplier)`: output `c * multiplier + m` is of channel c."""
    layer = site.operation
    channels = fix_space(site, "slides a window")
    out = None if channels is None else np.repeat(channels, layer.depth_multiplier)
    site.bind(layer.kernel, {-2: channels})
    site.bind(layer.bias, {0: out})
    site.emit({channel_axis(site): out})
    site.passes()
    apply_activation(site, layer.activation)


@rule(layers.SeparableConv1D, layers.SeparableConv2D)
def separable(site: Site) -> None:
    """A depthwise kernel `(*window, channels, multiplier)`, then a pointwise one to the filters."""
    layer = site.operation
    channels = fix_space(site, "slides a window")
    wide = None if channels is None else np.repeat(channels, layer.depth_multiplier)
    filters = site.make(layer.filters)
    site.bind(layer.depthwise_kernel, {-2: channels})
    site.bind(layer.pointwise_kernel, {-2: wide, -1: filters})
    site.bind(layer.bias, {0: filters})
    site.reads(channels)
    site.configure("filters", filters)
    site.emit({channel_axis(site): filters})
    apply_activation(site, layer.activation)


@rule(layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose)
def transposed(site: Site) -> None:
    """Kernel `(*window, filters, channels)`: the two last axes are the other way round."""
    layer = site.operation
    channels = fix_space(site, "slides a window")
    filters = site.make(layer.filters)
    site.bind(layer.kernel, {-1: channels, -2: filters})
    site.bind(layer.bias, {0: filters})
    site.reads(channels)
    site.configure("filters", filters)
    site.emit({channel_axis(site): filters})
    apply_activation(site, layer.activation)
