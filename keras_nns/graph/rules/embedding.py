"""Layers that look up a vector for a token."""

from __future__ import annotations

from keras import layers

from keras_nns.graph.partial_layers import PartialEmbedding
from keras_nns.graph.rules.base import Site
from keras_nns.graph.rules.dense import quantised
from keras_nns.graph.rules.records import Units
from keras_nns.graph.rules.registry import rule


@rule(layers.Embedding, PartialEmbedding)
def embedding(site: Site) -> None:
    """Table `(tokens, dimensions)`: dimensions are units, tokens stay (`keep_tokens` cuts them)."""
    units = _table(site)
    site.protect_all(f"{site.title} reads them as token numbers")
    site.emit({site.input.rank: units})


@rule(layers.ReversibleEmbedding)
def reversible_embedding(site: Site) -> None:
    """Look up a vector, or with `reverse=True` score every token by the same table."""
    units = _table(site)
    layer = site.operation
    if not (site.kwargs.get("reverse") or (len(site.args) > 1 and site.args[1])):
        site.protect_all(f"{site.title} reads them as token numbers")
        site.emit({site.input.rank: units})
        return
    features = site.input.on(-1)
    # Untied tables too have one `output_dim` between them, so that both lose the same places.
    site.couple(features, units)
    if not layer.tie_weights:
        site.bind(layer.reverse_embeddings, {0: features})
    site.reads(features)
    rank = site.input.rank
    site.emit({axis: u for axis, u in site.input.units.items() if axis != rank - 1})


def _table(site: Site) -> Units:
    layer = site.operation
    units = site.make(layer.output_dim)
    if layer.quantization_mode is not None:
        quantised(site, units)
        return units
    site.bind(layer._embeddings, {1: units})
    if layer.lora_enabled:
        site.bind(layer.lora_embeddings_b, {1: units})
    site.configure("output_dim", units)
    return units
