"""Decoders with as many key and value heads as query heads, and one way into the hidden units."""

from __future__ import annotations

from typing import Any

from keras_hub import layers
from keras_hub.src.models.bloom.bloom_decoder import BloomDecoder
from keras_hub.src.models.falcon.falcon_transformer_decoder import FalconTransformerDecoder
from keras_hub.src.models.gpt_neo_x.gpt_neo_x_decoder import GPTNeoXDecoder
from keras_hub.src.models.whisper.whisper_decoder import WhisperDecoder

from keras_nns.graph.rules.base import Site
from keras_nns.graph.rules.keras_hub.blocks import DENSE, PUBLIC_DENSE, Block
from keras_nns.graph.rules.keras_hub.sized import at, sized
from keras_nns.graph.rules.records import Units
from keras_nns.graph.rules.registry import rule

_UP, _DOWN = "_feedforward_intermediate_dense", "_feedforward_output_dense"


@rule(
    *(layers.TransformerDecoder, sized(layers.TransformerDecoder)),
    *(WhisperDecoder, sized(WhisperDecoder)),
)
def transformer_decoder(site: Site) -> None:
    """Heads of each attention by themselves, and hidden units (GPT-2, OPT, Bart, Whisper)."""
    layer = site.operation
    block = Block(site, padding="decoder_padding_mask")
    block.attention("_self_attention_layer", DENSE)
    if layer._cross_attention_layer is not None:
        block.attention("_cross_attention_layer", DENSE, kind="cross_heads")
    block.hidden([_UP], _DOWN, activation=layer.activation)
    if getattr(layer, "normalize_first", True) and layer._cross_attention_layer is None:
        block.residual()
    block.finish()


def _neox_config(layer: Any) -> dict[str, Any]:
    """Return what a layer was made with: its own `get_config` names what nobody may pass."""
    config: dict[str, Any] = GPTNeoXDecoder.get_config(layer)
    del config["decoder_sequence_shape"]
    return config


@rule(GPTNeoXDecoder, sized(GPTNeoXDecoder, _neox_config))
def neox_decoder(site: Site) -> None:
    """Heads, of which one projection makes queries, keys and values, and hidden units."""
    block = Block(site, padding="decoder_padding_mask")
    block.attention("_self_attention_layer", ("_qkv_dense", "_output_dense"), merged=["hidden_dim"])
    block.hidden([_UP], _DOWN, activation=site.operation.activation)
    block.residual()
    block.finish()


@rule(BloomDecoder, sized(BloomDecoder))
def bloom_decoder(site: Site) -> None:
    """Heads, each with the slope of its bias (ALiBi), and hidden units."""
    block = Block(site, padding="decoder_padding_mask")
    heads = block.attention("_self_attention_layer", DENSE)
    _keep_slopes(block, site, "_self_attention_layer._alibi_layer", heads)
    block.hidden(["_mlp_intermediate_dense"], "_mlp_output_dense")
    block.residual()
    block.finish()


@rule(FalconTransformerDecoder, sized(FalconTransformerDecoder))
def falcon_decoder(site: Site) -> None:
    """Heads, each with the slope of its bias (ALiBi), and hidden units."""
    block = Block(site, padding="decoder_padding_mask")
    heads = block.attention("attention_layer", PUBLIC_DENSE)
    _keep_slopes(block, site, "", heads)
    block.hidden(["dense_h_to_4h"], "dense_4h_to_h")
    block.residual()
    block.finish()


def _keep_slopes(block: Block, site: Site, path: str, heads: Units) -> None:
    """Let heads keep the slopes of the parent: a class computes them from the number of heads."""
    slopes = at(site.operation, path)._get_slopes(len(heads))
    block.answer(path, "_get_slopes", lambda keep: [slopes[head] for head in keep.where(heads)])
