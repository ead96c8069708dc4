"""Embeddings of positions."""

from __future__ import annotations

from keras_hub import layers

from keras_nns.graph.rules.base import Site, rule


@rule(layers.PositionEmbedding)
def position_embedding(site: Site) -> None:
    """One vector for each position, as wide as the tensor whose length it is told."""
    units = site.input.on(-1)
    site.bind(site.operation.position_embeddings, {1: units})
    site.emit({-1: units})
