"""Decoders with grouped heads, rotated positions and a gated feed-forward part."""

from __future__ import annotations

from typing import Any

import keras
from keras_hub.src.models.llama.llama_decoder import LlamaTransformerDecoder
from keras_hub.src.models.mistral.mistral_transformer_decoder import MistralTransformerDecoder
from keras_hub.src.models.phi3.phi3_decoder import Phi3Decoder
from keras_hub.src.models.qwen.qwen_decoder import QwenTransformerDecoder
from keras_hub.src.models.qwen3.qwen3_decoder import Qwen3TransformerDecoder
from keras_hub.src.models.smollm3.smollm3_layers import SmolLM3DecoderLayer

from keras_nns.graph.rules.base import Site
from keras_nns.graph.rules.keras_hub.blocks import DENSE, PUBLIC_DENSE, Block
from keras_nns.graph.rules.keras_hub.sized import sized
from keras_nns.graph.rules.registry import rule

_LLAMA = (
    "rope_max_wavelength",
    "rope_position_scaling_factor",
    "rope_frequency_adjustment_factor",
    "rope_low_freq_factor",
    "rope_high_freq_factor",
    "rope_pretraining_sequence_length",
    "layer_norm_epsilon",
    "dropout",
)


def _llama_config(layer: Any) -> dict[str, Any]:
    """Return what a layer was made with: its own `get_config` reads a field it does not have."""
    return {
        **keras.layers.Layer.get_config(layer),
        **{key: getattr(layer, key) for key in _LLAMA},
        "intermediate_dim": layer.intermediate_dim,
        "num_query_heads": layer.num_query_heads,
        "num_key_value_heads": layer.num_key_value_heads,
        "activation": keras.activations.serialize(layer.activation),
        "kernel_initializer": keras.initializers.serialize(layer.kernel_initializer),
    }


def _qwen3_config(layer: Any) -> dict[str, Any]:
    """Return what a layer was made with: its own `get_config` leaves an argument out."""
    config = Qwen3TransformerDecoder.get_config(layer)
    return {**config, "head_dim": layer._self_attention_layer.head_dim}


@rule(
    *(LlamaTransformerDecoder, sized(LlamaTransformerDecoder, _llama_config)),
    *(MistralTransformerDecoder, sized(MistralTransformerDecoder)),
    *(QwenTransformerDecoder, sized(QwenTransformerDecoder)),
    *(Qwen3TransformerDecoder, sized(Qwen3TransformerDecoder, _qwen3_config)),
    *(Phi3Decoder, sized(Phi3Decoder)),
)
def gated_decoder(site: Site) -> None:
    """Key and value heads with their query heads, and hidden units of the gated part."""
    layer = site.operation
    phi = isinstance(layer, Phi3Decoder)
    block = Block(site, padding="decoder_padding_mask")
    block.attention("attention" if phi else "_self_attention_layer", PUBLIC_DENSE if phi else DENSE)
    feedforward = "feedforward" if phi else "_feedforward"
    block.hidden(
        [f"{feedforward}_intermediate_dense", f"{feedforward}_gate_dense"],
        f"{feedforward}_output_dense",
        activation=layer.activation,
    )
    block.residual()
    block.finish()


_SMOLLM3 = (
    *("hidden_size", "num_attention_heads", "num_key_value_heads", "attention_bias"),
    *("attention_dropout", "rope_layer_enabled_list", "layer_types", "layer_idx"),
    *("max_position_embeddings", "rope_theta", "partial_rotary_factor"),
)


def _smollm3_config(layer: Any) -> dict[str, Any]:
    """Return what a layer was made with: it has no `get_config`."""
    return {
        "name": layer.name,
        "trainable": layer.trainable,
        "dtype": keras.dtype_policies.serialize(layer.dtype_policy),
        **{key: getattr(layer.self_attn, key) for key in _SMOLLM3},
        "intermediate_size": layer.mlp.intermediate_size,
        "mlp_bias": layer.mlp.mlp_bias,
        "layer_norm_epsilon": layer.input_layernorm.epsilon,
    }


@rule(SmolLM3DecoderLayer, sized(SmolLM3DecoderLayer, _smollm3_config))
def smollm3_decoder(site: Site) -> None:
    """Key and value heads with their query heads, and hidden units of the gated part."""
    block = Block(site, padding="decoder_padding_mask")
    block.attention("self_attn", ("q_proj", "k_proj", "v_proj", "o_proj"))
    block.hidden(
        ["mlp.gate_proj", "mlp.up_proj"],
        "mlp.down_proj",
        activation=keras.activations.silu,
        key="intermediate_size",
    )
    block.residual()
    block.finish()
