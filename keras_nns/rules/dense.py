"""Layers that multiply by a matrix."""

from __future__ import annotations

from keras import layers

from keras_nns.rules.base import Site, rule
from keras_nns.rules.elementwise import apply_activation


@rule(layers.Dense)
def dense(site: Site) -> None:
    """Kernel `(features, units)`, bias `(units,)`; other axes pass through.

    With LoRA the kernel is `kernel + lora_kernel_a @ lora_kernel_b`: its factors
    `(features, rank)` and `(rank, units)` are sliced alike.
    """
    layer = site.operation
    features, units = site.input.on(-1), site.make(layer.units)
    if layer.quantization_mode is not None:
        quantised(site)
        return
    site.bind(layer._kernel, {0: features, 1: units})
    if layer.lora_enabled:
        site.bind(layer.lora_kernel_a, {0: features})
        site.bind(layer.lora_kernel_b, {1: units})
    site.bind(layer.bias, {0: units})
    site.reads(features)
    site.configure("units", units)
    last = site.input.rank - 1
    site.emit({**site.input.units, last: units})
    apply_activation(site, layer.activation)


def quantised(site: Site) -> None:
    """Protect everything around a quantised layer: its scales belong to its full shape."""
    site.protect_all(f"{site.title} is quantised; cut first, quantise the subnetwork afterwards")
    site.emit({})
