"""Encoders of text and of sound."""

from __future__ import annotations

from typing import Any

import keras
from keras_hub import layers
from keras_hub.src.models.deberta_v3.disentangled_attention_encoder import (
    DisentangledAttentionEncoder,
)
from keras_hub.src.models.t5.t5_transformer_layer import T5TransformerLayer
from keras_hub.src.models.whisper.whisper_encoder import WhisperEncoder

from keras_nns.graph.rules.base import Site
from keras_nns.graph.rules.keras_hub.blocks import DENSE, PROJECTORS, Block
from keras_nns.graph.rules.keras_hub.sized import sized
from keras_nns.graph.rules.registry import rule

_UP, _DOWN = "_feedforward_intermediate_dense", "_feedforward_output_dense"


@rule(
    *(layers.TransformerEncoder, sized(layers.TransformerEncoder)),
    *(WhisperEncoder, sized(WhisperEncoder)),
    unfolds=True,
)
def transformer_encoder(site: Site) -> None:
    """Heads and hidden units (BERT, RoBERTa, DistilBERT, ALBERT, Electra, Whisper)."""
    block = Block(site, padding="padding_mask")
    block.attention("_self_attention_layer", DENSE)
    block.hidden([_UP], _DOWN, activation=site.operation.activation)
    block.finish()


@rule(DisentangledAttentionEncoder, sized(DisentangledAttentionEncoder))
def disentangled_encoder(site: Site) -> None:
    """Heads, which project the embedded positions alike, and hidden units (DeBERTa)."""
    block = Block(site, padding="padding_mask")
    block.attention("_self_attention_layer", DENSE, merged=["hidden_dim"])
    block.hidden([_UP], _DOWN, activation=site.operation.activation)
    block.finish()


@rule(layers.FNetEncoder)
def fourier_encoder(site: Site) -> None:
    """Hidden units; what mixes the steps has no weights (FNet)."""
    block = Block(site)
    names = "_intermediate_dense", "_output_dense"
    block.hidden(names[:1], names[1], activation=site.operation.activation)
    block.finish()


@keras.saving.register_keras_serializable("keras_nns")
class SavableT5TransformerLayer(T5TransformerLayer):
    """T5's layer, which builds all that it holds before a file is read."""

    def build(self, input_shape: Any) -> None:
        """Make the weights."""
        stream = (None, None, input_shape[-1])
        attentions = [self.self_attention, *([self.cross_attention] if self.is_decoder else [])]
        norms = ["self_attention_layer_norm", "cross_attention_layer_norm", "layer_norm"]
        for one in attentions:
            for name in PROJECTORS[:-1]:
                getattr(one, name).build(stream)
            one.output_projector.build((None, None, one.inner_dim))
            one.built = True
        for name in norms:
            if hasattr(self, name):
                getattr(self, name).build(stream)
        for name in ("input_projector", "gate_projector"):
            if hasattr(self, name):
                getattr(self, name).build(stream)
        self.output_projector.build((None, None, self.input_projector.units))


@rule(T5TransformerLayer, SavableT5TransformerLayer)
def t5_layer(site: Site) -> None:
    """Hidden units, and heads, which go together in all layers of a stack.

    The first layer hands its bias of positions, one table for each head, to all others, and the
    class has one number of heads for both attentions of a decoder.
    """
    layer = site.operation
    block = Block(site, padding="attention_mask")
    heads = block.attention("self_attention", PROJECTORS)
    if layer.is_decoder:
        site.couple(heads, block.attention("cross_attention", PROJECTORS, kind="cross_heads"))
    if layer.self_attention.use_relative_attention_bias:
        site.bind(layer.self_attention.relative_attention_bias, {1: heads})
    bias = site.kwargs.get("position_bias")
    if bias is not None and bias.on(1) is not None:
        site.couple(heads, bias.on(1))
    up = ["input_projector", *(["gate_projector"] if layer.use_gated_activation else [])]
    block.hidden(up, "output_projector", activation=layer.input_projector.activation)
    reason = f"{site.title} normalises over the features of its stream"
    site.protect_all(reason, [one for one in site.inputs if one is not bias])
    site.emit({}, {1: heads}, *[{} for _ in site.shapes[2:]])
    block.finish(SavableT5TransformerLayer)
