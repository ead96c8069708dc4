"""Decoders of the Gemma family, which are told how many dimensions a head has."""

from __future__ import annotations

from keras_hub.src.models.gemma.gemma_decoder_block import GemmaDecoderBlock
from keras_hub.src.models.gemma3.gemma3_decoder_block import Gemma3DecoderBlock

from keras_nns.graph.rules.base import Site
from keras_nns.graph.rules.keras_hub.blocks import PUBLIC_DENSE, Block
from keras_nns.graph.rules.registry import rule


@rule(GemmaDecoderBlock, Gemma3DecoderBlock)
def gemma_decoder(site: Site) -> None:
    """Key and value heads with their query heads, and hidden units of the gated part.

    Where its configuration counts both factors of the gate, that is twice the hidden units.
    """
    layer = site.operation
    block = Block(site, padding="padding_mask")
    block.attention("attention", PUBLIC_DENSE)
    times = getattr(layer, "gate_dim_reduction", 2)
    block.hidden(["gating_ffw", "gating_ffw_2"], "ffw_linear", times=times)
    block.residual(added=not (layer.use_post_attention_norm or layer.use_post_ffw_norm))
    block.finish()
