"""Embeddings of positions."""

from __future__ import annotations

from typing import Any

import keras
from keras_hub import layers
from keras_hub.src.models.deberta_v3.relative_embedding import RelativeEmbedding

from keras_nns.graph.rules.base import Site
from keras_nns.graph.rules.registry import rule


@rule(layers.PositionEmbedding)
def position_embedding(site: Site) -> None:
    """One vector for each position, as wide as the tensor whose length it is told."""
    units = site.input.on(-1)
    site.bind(site.operation.position_embeddings, {1: units})
    site.emit({-1: units})


@keras.saving.register_keras_serializable("keras_nns")
class SavableRelativeEmbedding(RelativeEmbedding):
    """DeBERTa's embedding of distances, which builds all that it holds before a file is read."""

    def build(self, input_shape: Any) -> None:
        """Make the weights."""
        self.layer_norm.build((1, *self.rel_embeddings.shape))


@rule(RelativeEmbedding, SavableRelativeEmbedding)
def relative_embedding(site: Site) -> None:
    """Nothing of it can be cut: it is as wide as the stream."""
    layer = site.operation
    site.protect_all(f"{site.title} only counts the samples of what it is given")
    site.emit({})
    site.rebuild(lambda _: (SavableRelativeEmbedding, RelativeEmbedding.get_config(layer)))
