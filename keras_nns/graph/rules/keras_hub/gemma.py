"""Decoders of the Gemma family, which are told how many dimensions a head has."""

from __future__ import annotations

from keras_hub.src.models.gemma.gemma_decoder_block import GemmaDecoderBlock

from keras_nns.graph.rules.base import Site, rule
from keras_nns.graph.rules.keras_hub.blocks import keep_stream, shared_heads


@rule(GemmaDecoderBlock)
def gemma_decoder(site: Site) -> None:
    """Key and value heads with their query heads, and hidden units of the gated part.

    Its configuration counts both factors of the gate: twice the hidden units.
    """
    layer = site.operation
    keep_stream(site)
    queries, heads = shared_heads(site, layer.num_query_heads, layer.num_key_value_heads)
    attention = layer.attention
    site.bind(attention.query_dense._kernel, {0: queries})
    site.bind(attention.key_dense._kernel, {0: heads})
    site.bind(attention.value_dense._kernel, {0: heads})
    site.bind(attention.output_dense._kernel, {0: queries}, silence=(0,))
    hidden = site.make(layer.intermediate_dim // 2, "hidden")
    site.bind(layer.gating_ffw._kernel, {1: hidden})
    site.bind(layer.gating_ffw_2._kernel, {1: hidden})
    site.bind(layer.ffw_linear._kernel, {0: hidden}, silence=(0,))
    site.reads(hidden)
    site.configure("num_query_heads", queries)
    site.configure("num_key_value_heads", heads)
    site.configure("intermediate_dim", lambda keep: 2 * keep.count(hidden))
