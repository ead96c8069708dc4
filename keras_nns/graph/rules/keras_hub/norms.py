"""Normalisation layers of KerasHub's backbones."""

from __future__ import annotations

from typing import Any

import keras
from keras_hub.src.models.gemma.rms_normalization import RMSNormalization

from keras_nns.graph.rules.base import Site
from keras_nns.graph.rules.registry import rule


@rule(RMSNormalization)
def gemma_normalization(site: Site) -> None:
    """Nothing leaves: its scale counts from 1, which no factor puts right.

    It has no `get_config`, and Keras's own has nothing to say of one made with a dtype policy, as
    those of a model that was read from a file are.
    """
    layer = site.operation
    site.protect_all(f"{site.title} normalises over the features of its stream")
    site.emit(*[{} for _ in site.shapes])

    def config() -> dict[str, Any]:
        return {
            "name": layer.name,
            "trainable": layer.trainable,
            "dtype": keras.dtype_policies.serialize(layer.dtype_policy),
            "epsilon": layer.epsilon,
        }

    site.rebuild(lambda _: (RMSNormalization, config()))
