"""Decoders that hold one attention and one feed-forward part: GPT-2, OPT, Bart."""

from __future__ import annotations

from typing import Any

import keras
from keras_hub import layers

from keras_nns.graph.rules.base import Site, rule
from keras_nns.graph.rules.keras_hub.blocks import hidden_units, keep_stream, remake
from keras_nns.graph.rules.records import Keep


@keras.saving.register_keras_serializable("keras_nns")
class SizedTransformerDecoder(layers.TransformerDecoder):
    """A `keras_hub.layers.TransformerDecoder` whose heads do not fill the width of the stream.

    Args:
        num_heads: Number of heads.
        head_dim: Dimensions of each.
        **kwargs: As in the base class.
    """

    def __init__(self, num_heads: int, head_dim: int, **kwargs: Any) -> None:
        self.head_dim = head_dim  # Read by `build`, which the base class calls.
        super().__init__(num_heads=num_heads, **kwargs)

    def build(self, decoder_sequence_shape: Any, encoder_sequence_shape: Any = None) -> None:
        """Make the weights, those of the self-attention for heads of the given size."""
        super().build(decoder_sequence_shape, encoder_sequence_shape)
        config = self._self_attention_layer.get_config()
        sizes = {"key_dim": self.head_dim, "value_dim": self.head_dim}
        attention = type(self._self_attention_layer).from_config({**config, **sizes})
        shapes = (decoder_sequence_shape, decoder_sequence_shape)
        remake(self, "_self_attention_layer", attention, *shapes)

    def get_config(self) -> dict[str, Any]:
        """Return what the layer was made with."""
        return {**super().get_config(), "head_dim": self.head_dim}


@rule(layers.TransformerDecoder, SizedTransformerDecoder)
def transformer_decoder(site: Site) -> None:
    """Heads of the self-attention and hidden units of the feed-forward part (GPT-2, OPT, Bart)."""
    layer = site.operation
    keep_stream(site)
    heads = site.make(layer.num_heads, "heads")
    if layer._cross_attention_layer is not None:
        site.protect(heads, f"{site.title} attends to two sequences with one number of heads")
    attention = layer._self_attention_layer
    for dense in (attention._query_dense, attention._key_dense, attention._value_dense):
        site.bind(dense._kernel, {1: heads})
        site.bind(dense.bias, {0: heads})
    site.bind(attention._output_dense._kernel, {0: heads}, silence=(0,))
    site.reads(heads)
    hidden = hidden_units(site, layer.intermediate_dim, layer.activation)
    up, down = layer._feedforward_intermediate_dense, layer._feedforward_output_dense
    site.bind(up._kernel, {1: hidden})
    site.bind(up.bias, {0: hidden})
    site.bind(down._kernel, {0: hidden}, silence=(0,))

    def make(keep: Keep) -> tuple[type, dict[str, Any]]:
        sizes = {
            "num_heads": keep.count(heads),
            "head_dim": attention.key_dim,
            "intermediate_dim": keep.count(hidden),
        }
        return SizedTransformerDecoder, {**layer.get_config(), **sizes}

    site.rebuild(make)
