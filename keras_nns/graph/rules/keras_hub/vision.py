"""Encoders of images, and of texts beside them."""

from __future__ import annotations

from typing import Any

import keras
from keras_hub.src.models.clip.clip_layers import CLIPEncoderLayer
from keras_hub.src.models.clip.clip_layers import quick_gelu as clip_gelu
from keras_hub.src.models.deit.deit_layers import DeiTEmbeddings, DeiTEncoder
from keras_hub.src.models.metaclip_2.metaclip_2_layers import MetaCLIP2EncoderLayer
from keras_hub.src.models.metaclip_2.metaclip_2_layers import quick_gelu as metaclip_gelu
from keras_hub.src.models.siglip.siglip_layers import (
    SigLIPEncoderLayer,
    SigLIPMultiHeadAttentionPooling,
)
from keras_hub.src.models.vit.vit_layers import ViTEncoder, ViTPatchingAndEmbedding

from keras_nns.graph.rules.base import Site
from keras_nns.graph.rules.elementwise import register_elementwise
from keras_nns.graph.rules.keras_hub.blocks import DENSE, Block
from keras_nns.graph.rules.keras_hub.sized import sized, stock_of
from keras_nns.graph.rules.registry import rule

register_elementwise(clip_gelu)
register_elementwise(metaclip_gelu)


def _patching_config(layer: Any) -> dict[str, Any]:
    """Return what a layer was made with: its own `get_config` names what nobody may pass."""
    config = stock_of(layer).get_config(layer)  # type: ignore[attr-defined]
    taken = {key: value for key, value in config.items() if not key.startswith("num_p")}
    bias = {"use_patch_bias": layer.use_patch_bias} if hasattr(layer, "use_patch_bias") else {}
    return {**taken, **bias, "data_format": layer.data_format}


@rule(
    *(ViTPatchingAndEmbedding, sized(ViTPatchingAndEmbedding, _patching_config)),
    *(DeiTEmbeddings, sized(DeiTEmbeddings, _patching_config)),
)
def patching(site: Site) -> None:
    """Nothing of it can be cut: its output is the stream."""
    Block(site).finish()


@rule(ViTEncoder, sized(ViTEncoder), unfolds=True)
def vit_encoder(site: Site) -> None:
    """Heads and hidden units of each block."""
    block = Block(site)
    for index, one in enumerate(site.operation.encoder_layers):
        path, part = f"encoder_layers.{index}", f"{one.name}."
        block.attention(f"{path}.mha", DENSE, part=part, holders=[path])
        up, down = f"{path}.mlp.dense_1", f"{path}.mlp.dense_2"
        block.hidden([up], down, activation=one.mlp.dense_1.activation, key=None, part=part)
    block.finish()


_DEIT = (
    *("num_layers", "num_heads", "hidden_dim", "intermediate_dim"),
    *("use_mha_bias", "dropout_rate", "attention_dropout", "layer_norm_epsilon"),
)


def _deit_config(layer: Any) -> dict[str, Any]:
    """Return what a layer was made with: its own `get_config` reads a field it does not have."""
    return {**keras.layers.Layer.get_config(layer), **{key: getattr(layer, key) for key in _DEIT}}


@rule(DeiTEncoder, sized(DeiTEncoder, _deit_config))
def deit_encoder(site: Site) -> None:
    """Heads and hidden units of each block."""
    block = Block(site)
    for index, one in enumerate(site.operation.encoder_layers):
        path, part = f"encoder_layers.{index}", f"{one.name}."
        block.attention(f"{path}.mha", DENSE, part=part, holders=[path])
        up, down = f"{path}.mlp.dense", f"{path}.output_layer.dense"
        block.hidden([up], down, activation=one.mlp.dense.activation, key=None, part=part)
    block.finish()


@rule(
    *(CLIPEncoderLayer, sized(CLIPEncoderLayer)),
    *(MetaCLIP2EncoderLayer, sized(MetaCLIP2EncoderLayer)),
    unfolds=True,
)
def clip_encoder(site: Site) -> None:
    """Heads and hidden units of an encoder of images or of texts."""
    block = Block(site)
    block.attention("attention", DENSE)
    block.hidden(["dense_1"], "dense_2", activation=site.operation.activation.activation)
    block.finish()


@rule(SigLIPEncoderLayer, sized(SigLIPEncoderLayer), unfolds=True)
def siglip_encoder(site: Site) -> None:
    """Heads and hidden units of an encoder of images or of texts."""
    block = Block(site)
    block.attention("self_attn", DENSE)
    block.hidden(["mlp.fc1"], "mlp.fc2", activation=site.operation.mlp.fc1.activation)
    block.finish()


@rule(SigLIPMultiHeadAttentionPooling, sized(SigLIPMultiHeadAttentionPooling))
def siglip_pooling(site: Site) -> None:
    """Heads and hidden units of what pools the patches of an image."""
    block = Block(site)
    block.attention("attention", DENSE)
    block.hidden(["mlp.fc1"], "mlp.fc2", activation=site.operation.mlp.fc1.activation)
    block.finish()
