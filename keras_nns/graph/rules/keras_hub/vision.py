"""Layers of vision transformers."""

from __future__ import annotations

from typing import Any

import keras
from keras_hub.src.models.vit.vit_layers import ViTPatchingAndEmbedding

from keras_nns.graph.rules.base import Site, rule
from keras_nns.graph.rules.keras_hub.blocks import keep_stream


@keras.saving.register_keras_serializable("keras_nns")
class SavableViTPatching(ViTPatchingAndEmbedding):
    """ViT's patching with the configuration that its constructor takes."""

    def get_config(self) -> dict[str, Any]:
        """Return what the layer was made with."""
        return _patching_config(self)


def _patching_config(layer: Any) -> dict[str, Any]:
    """Return what a layer was made with: its own `get_config` names what nobody may pass."""
    config = ViTPatchingAndEmbedding.get_config(layer)
    taken = {key: value for key, value in config.items() if not key.startswith("num_p")}
    return {**taken, "use_patch_bias": layer.use_patch_bias, "data_format": layer.data_format}


@rule(ViTPatchingAndEmbedding, SavableViTPatching)
def vit_patching(site: Site) -> None:
    """Nothing of it can be cut: its output is the stream."""
    layer = site.operation
    keep_stream(site)
    site.rebuild(lambda _: (SavableViTPatching, _patching_config(layer)))
