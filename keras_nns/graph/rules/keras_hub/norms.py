"""Normalisation layers of KerasHub's backbones."""

from __future__ import annotations

from typing import Any

import keras
from keras_hub.src.models.gemma.rms_normalization import RMSNormalization
from keras_hub.src.models.gemma3.gemma3_layers import RMSNormalization as Gemma3RMSNormalization

from keras_nns.graph.rules.base import Site
from keras_nns.graph.rules.registry import rule


class _Savable:
    """What says of a layer what it was made with: a mixin in front of KerasHub's class."""

    def get_config(self) -> dict[str, Any]:
        """Return what the layer was made with."""
        return _config(self)


@keras.saving.register_keras_serializable("keras_nns")
class SavableGemmaNormalization(_Savable, RMSNormalization):
    """Gemma's normalisation, which can be written down."""


@keras.saving.register_keras_serializable("keras_nns")
class SavableGemma3Normalization(_Savable, Gemma3RMSNormalization):
    """Gemma 3's normalisation, which can be written down."""


def _config(layer: Any) -> dict[str, Any]:
    return {
        "name": layer.name,
        "trainable": layer.trainable,
        "dtype": keras.dtype_policies.serialize(layer.dtype_policy),
        "epsilon": layer.epsilon,
    }


@rule(
    *(RMSNormalization, SavableGemmaNormalization),
    *(Gemma3RMSNormalization, SavableGemma3Normalization),
)
def gemma_normalization(site: Site) -> None:
    """Nothing leaves: its scale counts from 1, which no factor puts right.

    It has no `get_config`, and Keras's own has nothing to say of one made with a dtype policy, as
    those of a model that was read from a file are.
    """
    layer = site.operation
    site.protect_all(f"{site.title} normalises over the features of its stream")
    site.emit(*[{} for _ in site.shapes])
    third = isinstance(layer, Gemma3RMSNormalization)
    savable = SavableGemma3Normalization if third else SavableGemmaNormalization
    site.rebuild(lambda _: (savable, _config(layer)))
