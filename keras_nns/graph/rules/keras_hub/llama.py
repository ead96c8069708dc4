"""Decoders with grouped heads, rotated positions and a gated feed-forward part: Llama."""

from __future__ import annotations

from typing import Any

import keras
from keras.layers import EinsumDense
from keras_hub.src.models.llama.llama_attention import LlamaAttention
from keras_hub.src.models.llama.llama_decoder import LlamaTransformerDecoder

from keras_nns.graph.rules.base import Site, rule
from keras_nns.graph.rules.keras_hub.blocks import (
    hidden_units,
    keep_stream,
    remake,
    shared_heads,
)
from keras_nns.graph.rules.records import Keep

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


class _SizedLlamaAttention(LlamaAttention):
    """Llama's attention, its heads not filling the width of the stream.

    Args:
        head_dim: Dimensions of each head.
        **kwargs: As in the base class.
    """

    def __init__(self, head_dim: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.head_dim = head_dim

    def build(self, inputs_shape: Any) -> None:
        """Make the weights for heads of the given size."""
        super().build(inputs_shape)
        self._inv_norm_factor = self.head_dim**-0.5
        for name in ("_query_dense", "_key_dense", "_value_dense"):
            config = getattr(self, name).get_config()
            _, heads, _ = config["output_shape"]
            sizes = {"output_shape": (None, heads, self.head_dim)}
            remake(self, name, EinsumDense.from_config({**config, **sizes}), inputs_shape)
        output = EinsumDense.from_config(self._output_dense.get_config())
        shape = (None, None, self.num_query_heads, self.head_dim)
        remake(self, "_output_dense", output, shape)


@keras.saving.register_keras_serializable("keras_nns")
class SizedLlamaTransformerDecoder(LlamaTransformerDecoder):
    """Llama's decoder layer, its heads not filling the width of the stream.

    Args:
        num_query_heads: Number of query heads.
        head_dim: Dimensions of each.
        **kwargs: As in the base class.
    """

    def __init__(self, num_query_heads: int, head_dim: int, **kwargs: Any) -> None:
        super().__init__(num_query_heads=num_query_heads, **kwargs)
        self.head_dim = head_dim

    def build(self, decoder_sequence_shape: Any) -> None:
        """Make the weights, those of the self-attention for heads of the given size."""
        super().build(decoder_sequence_shape)
        config = {
            "num_query_heads": self.num_query_heads,
            "num_key_value_heads": self.num_key_value_heads,
            **{key: getattr(self, key) for key in _LLAMA if key != "layer_norm_epsilon"},
            "kernel_initializer": self.kernel_initializer,
            "dtype": self.dtype_policy,
            "name": self._self_attention_layer.name,
        }
        attention = _SizedLlamaAttention(self.head_dim, **config)
        remake(self, "_self_attention_layer", attention, decoder_sequence_shape)

    def get_config(self) -> dict[str, Any]:
        """Return what the layer was made with."""
        return {**_llama_config(self), "head_dim": self.head_dim}


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


@rule(LlamaTransformerDecoder, SizedLlamaTransformerDecoder)
def llama_decoder(site: Site) -> None:
    """Key and value heads with their query heads, and hidden units of the gated part."""
    layer = site.operation
    keep_stream(site)
    queries, heads = shared_heads(site, layer.num_query_heads, layer.num_key_value_heads)
    attention = layer._self_attention_layer
    site.bind(attention._query_dense._kernel, {1: queries})
    site.bind(attention._key_dense._kernel, {1: heads})
    site.bind(attention._value_dense._kernel, {1: heads})
    site.bind(attention._output_dense._kernel, {0: queries}, silence=(0,))
    hidden = hidden_units(site, layer.intermediate_dim, layer.activation)
    site.bind(layer._feedforward_intermediate_dense._kernel, {1: hidden})
    site.bind(layer._feedforward_gate_dense._kernel, {1: hidden})
    site.bind(layer._feedforward_output_dense._kernel, {0: hidden}, silence=(0,))

    def make(keep: Keep) -> tuple[type, dict[str, Any]]:
        sizes = {
            "num_query_heads": keep.count(queries),
            "num_key_value_heads": 1 if heads is None else keep.count(heads),
            "head_dim": attention._query_dense._kernel.shape[-1],
            "intermediate_dim": keep.count(hidden),
        }
        return SizedLlamaTransformerDecoder, {**_llama_config(layer), **sizes}

    site.rebuild(make)
