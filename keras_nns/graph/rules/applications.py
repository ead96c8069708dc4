"""Layers that `keras.applications` brings along for its own architectures."""

from __future__ import annotations

from keras.src.applications.convnext import LayerScale, StochasticDepth
from keras.src.applications.inception_resnet_v2 import CustomScaleLayer

from keras_nns.graph.rules.base import Site
from keras_nns.graph.rules.merging import merge
from keras_nns.graph.rules.registry import rule


@rule(LayerScale)
def layer_scale(site: Site) -> None:
    """Multiply every channel by its own factor (ConvNeXt)."""
    layer = site.operation
    units = site.input.on(-1)
    site.bind(layer.gamma, {0: units})
    site.configure("projection_dim", units)
    site.emit(site.input.units)
    site.passes()


@rule(StochasticDepth)
def stochastic_depth(site: Site) -> None:
    """Skip a block at random while training (ConvNeXt)."""
    site.emit(site.input.units)
    site.passes()


@rule(CustomScaleLayer)
def scaled_sum(site: Site) -> None:
    """Add a tensor and a multiple of another (Inception-ResNet)."""
    merge(site)
