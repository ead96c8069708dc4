"""Pooling over windows and over everything, and images of another size."""

from __future__ import annotations

from keras import layers
from keras.src.ops import image, nn

from keras_nns.graph.rules.base import Site
from keras_nns.graph.rules.convolution import channel_axis, fix_space
from keras_nns.graph.rules.registry import known, rule


@rule(
    layers.MaxPooling1D,
    layers.MaxPooling2D,
    layers.MaxPooling3D,
    layers.AveragePooling1D,
    layers.AveragePooling2D,
    layers.AveragePooling3D,
    *known(
        layers,
        *(f"Adaptive{kind}Pooling{rank}D" for kind in ("Max", "Average") for rank in (1, 2, 3)),
    ),
    nn.MaxPool,
    nn.AveragePool,
)
def window(site: Site) -> None:
    """Pool each channel by itself."""
    site.emit({channel_axis(site): fix_space(site, "pools")})
    site.passes()


@rule(
    layers.GlobalMaxPooling1D,
    layers.GlobalMaxPooling2D,
    layers.GlobalMaxPooling3D,
    layers.GlobalAveragePooling1D,
    layers.GlobalAveragePooling2D,
    layers.GlobalAveragePooling3D,
)
def everything(site: Site) -> None:
    """Pool each channel to one value."""
    axis = channel_axis(site) if site.operation.keepdims else 1
    site.emit({axis: fix_space(site, "pools")})


@rule(image.Resize, image.PadImages, image.CropImages)
def resized(site: Site) -> None:
    """Resize, pad or crop each channel by itself."""
    site.emit({channel_axis(site): fix_space(site, "changes the size")})
    site.passes()
