"""Layers that prepare inputs inside the model: they stand in front of all units."""

from __future__ import annotations

from keras import layers

from keras_nns.graph.rules.base import Site
from keras_nns.graph.rules.registry import rule

_NAMES = (
    "AutoContrast",
    "CategoryEncoding",
    "CenterCrop",
    "Discretization",
    "HashedCrossing",
    "Hashing",
    "IntegerLookup",
    "RandomBrightness",
    "RandomColorDegeneration",
    "RandomColorJitter",
    "RandomContrast",
    "RandomCrop",
    "RandomFlip",
    "RandomGaussianBlur",
    "RandomGrayscale",
    "RandomHue",
    "RandomPosterization",
    "RandomRotation",
    "RandomSaturation",
    "RandomSharpness",
    "RandomTranslation",
    "RandomZoom",
    "Resizing",
    "Solarization",
    "StringLookup",
    "TextVectorization",
)


@rule(*[getattr(layers, name) for name in _NAMES if hasattr(layers, name)])
def prepare(site: Site) -> None:
    """Leave the input as it is; units that come this way all the same must stay."""
    site.protect_all(f"{site.title} prepares inputs and looks at all of them")
    site.emit(*[{} for _ in site.shapes])
