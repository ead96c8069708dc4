"""Convolutions in one, two and three dimensions."""

from __future__ import annotations

import numpy as np
from keras import config, layers

from keras_nns.errors import SurgeryError
from keras_nns.graph.rules.base import Site
from keras_nns.graph.rules.dense import quantised
from keras_nns.graph.rules.elementwise import apply_activation
from keras_nns.graph.rules.records import Keep, Units
from keras_nns.graph.rules.registry import rule


def channel_axis(site: Site) -> int:
    """Return the axis of the channels in the site's input."""
    # An operation that was not told keeps None and follows Keras when it runs.
    given = site.operation.data_format or config.image_data_format()
    return 1 if given == "channels_first" else site.input.rank - 1


def fix_space(site: Site, what: str) -> Units | None:
    """Protect units that lie along spatial axes; return those of the channels."""
    channels = channel_axis(site)
    for axis, units in site.input.units.items():
        if axis != channels:
            site.protect(units, f"{site.title} {what} along their axis")
    return site.input.on(channels)


def watch_bias(site: Site, filters: Units | None) -> None:
    """Keep a bias of channels in front on its axis.

    `keras.ops.add` takes a vector for the bias of the last axis where it has as many elements, so
    that a layer with `data_format="channels_first"` adds its bias along the width where that
    equals its number of filters. Such a layer keeps all of them, and no other comes to that number.
    """
    layer, width = site.operation, site.shapes[0][-1]
    if layer.bias is None or filters is None or channel_axis(site) != 1:
        return
    if len(filters) == width:
        site.protect(
            filters,
            f"{site.title} has as many filters as its output is wide, and Keras then adds the bias "
            "along the width (use channels_last)",
        )

    def use_bias(keep: Keep) -> bool:
        count = keep.count(filters)
        if count == width and count != len(filters):
            raise SurgeryError(
                f"{site.title} would keep {count} of its {len(filters)} filters, as many as its "
                "output is wide, and Keras would then add the bias along the width instead of the "
                "channels. Keep one more or one less, or use channels_last."
            )
        return True

    site.configure("use_bias", use_bias)


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
    watch_bias(site, filters)
    # An activation such as softmax runs over the last axis, wherever the channels are.
    apply_activation(site, layer.activation)


@rule(layers.DepthwiseConv1D, layers.DepthwiseConv2D)
def depthwise(site: Site) -> None:
    """Kernel `(*window, channels, multiplier)`: output `c * multiplier + m` is of channel c."""
    layer = site.operation
    channels = fix_space(site, "slides a window")
    out = None if channels is None else np.repeat(channels, layer.depth_multiplier)
    site.bind(layer.kernel, {-2: channels})
    site.bind(layer.bias, {0: out})
    site.emit({channel_axis(site): out})
    watch_bias(site, out)
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
    watch_bias(site, filters)
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
    watch_bias(site, filters)
    apply_activation(site, layer.activation)
