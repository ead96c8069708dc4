"""Llama's models of any sizes: what a cut of a KerasHub Llama comes back as.

KerasHub's class has one number of heads and of hidden units for all of its blocks, and divides the
width by the number of query heads. Where that says what is left, a cut is of that class; else of
its subclass here, which is told its blocks and generates, saves and loads as its parent class does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops
from keras_hub.src.models.backbone import Backbone
from keras_hub.src.models.llama.llama_backbone import LlamaBackbone
from keras_hub.src.models.llama.llama_causal_lm import LlamaCausalLM
from keras_hub.src.models.llama.llama_layernorm import LlamaLayerNorm
from keras_hub.src.models.llama3.llama3_backbone import Llama3Backbone
from keras_hub.src.models.llama3.llama3_causal_lm import Llama3CausalLM

from keras_nns.graph.rules.keras_hub.models import (
    Size,
    blocks_of,
    sampler_of,
    stock_config,
    task_config,
    width_of,
)
from keras_nns.graph.rules.model_classes import Made, Make, Part, UnlikeError, register_class

_SIZES = {
    "num_query_heads": Size("_self_attention_layer._query_dense", 1),
    "num_key_value_heads": Size("_self_attention_layer._key_dense", 1),
    "head_dim": Size("_self_attention_layer._query_dense", 2),
    "intermediate_dim": Size("_feedforward_gate_dense", 1),
}


class _Sized:
    """A Llama backbone that is told its blocks.

    Args:
        vocabulary_size: Number of tokens.
        hidden_dim: Width of the residual stream.
        blocks: Its blocks as Keras writes layers down.
        num_query_heads: Query heads of each block.
        num_key_value_heads: Key and value heads of each.
        head_dim: Dimensions of each head, the same in all blocks.
        intermediate_dim: Hidden units of each block's feed-forward part.
        layer_norm_epsilon: As in the base class.
        tie_word_embeddings: Whether one table looks tokens up and scores them.
        dtype: Type or policy of computations and weights.
        **kwargs: As in the base class.
    """

    def __init__(
        self,
        *,
        vocabulary_size: int,
        hidden_dim: int,
        blocks: Sequence[dict[str, Any]],
        num_query_heads: Sequence[int],
        num_key_value_heads: Sequence[int],
        head_dim: int,
        intermediate_dim: Sequence[int],
        layer_norm_epsilon: float,
        tie_word_embeddings: bool,
        dtype: Any = None,
        **kwargs: Any,
    ) -> None:
        own = {key: kwargs.pop(key) for key in _SETTINGS if key in kwargs}
        self.token_embedding = keras.layers.ReversibleEmbedding(
            vocabulary_size,
            hidden_dim,
            tie_weights=tie_word_embeddings,
            embeddings_initializer=keras.initializers.RandomNormal(stddev=0.01),
            dtype=dtype,
            name="token_embedding",
        )
        # Of a policy that a preset is read with, they are told by the backbone as any other layer.
        self.transformer_layers = [_block(written, dtype) for written in blocks]
        self.layer_norm = LlamaLayerNorm(
            epsilon=layer_norm_epsilon, dtype=dtype, name="sequence_output_layernorm"
        )
        inputs = {
            name: keras.Input((None,), dtype="int32", name=name)
            for name in ("token_ids", "padding_mask")
        }
        x = self.token_embedding(inputs["token_ids"])
        for layer in self.transformer_layers:
            x = layer(x, decoder_padding_mask=inputs["padding_mask"])
        Backbone.__init__(self, inputs=inputs, outputs=self.layer_norm(x), dtype=dtype, **kwargs)
        self.vocabulary_size = vocabulary_size
        self.hidden_dim = hidden_dim
        self.blocks = list(blocks)
        self.num_layers = len(self.blocks)
        self.num_query_heads = list(num_query_heads)
        self.num_key_value_heads = list(num_key_value_heads)
        self.head_dim = head_dim
        self.intermediate_dim = list(intermediate_dim)
        self.layer_norm_epsilon = layer_norm_epsilon
        self.tie_word_embeddings = tie_word_embeddings
        for key, value in own.items():
            setattr(self, key, value)

    def get_config(self) -> dict[str, Any]:
        """Return what the backbone was made with."""
        config = super().get_config()  # type: ignore[misc]
        del config["num_layers"]
        lists = {key: list(getattr(self, key)) for key in _SIZES if key != "head_dim"}
        told = {
            "blocks": [dict(block) for block in self.blocks],
            "head_dim": self.head_dim,
            "tie_word_embeddings": self.tie_word_embeddings,
        }
        return {**config, **lists, **told}


_SETTINGS = (
    "rope_max_wavelength",
    "rope_position_scaling_factor",
    "rope_frequency_adjustment_factor",
    "rope_low_freq_factor",
    "rope_high_freq_factor",
    "rope_pretraining_sequence_length",
    "dropout",
)


def _block(written: dict[str, Any], dtype: Any) -> Any:
    told = {} if dtype is None else {"dtype": keras.dtype_policies.serialize(_policy(dtype))}
    return keras.layers.deserialize({**written, "config": {**written["config"], **told}})


def _policy(dtype: Any) -> Any:
    return keras.dtype_policies.get(dtype)


@keras.saving.register_keras_serializable("keras_nns")
class SizedLlamaBackbone(_Sized, LlamaBackbone):
    """A `keras_hub.models.LlamaBackbone` that is told its blocks."""


@keras.saving.register_keras_serializable("keras_nns")
class SizedLlama3Backbone(_Sized, Llama3Backbone):
    """A `keras_hub.models.Llama3Backbone` that is told its blocks."""


class _Generating:
    """A Llama task that generates with blocks of any sizes.

    The cache has room for the most key and value heads of any block, so that it stays one tensor,
    which samplers repeat and reorder.
    """

    def call_with_cache(self, token_ids: Any, cache: Any, cache_update_index: Any) -> Any:
        """Score the next token, and keep keys and values; as in the base class.

        Args:
            token_ids: `(batch, tokens)`.
            cache: `(batch, blocks, 2, length, heads, head_dim)`.
            cache_update_index: Where the tokens stand in the whole sequence.

        Returns:
            Logits, what the last block gives, and the new cache.
        """
        backbone = self.backbone  # type: ignore[attr-defined]
        x = backbone.token_embedding(token_ids)
        room, updated = cache.shape[-2], []
        for i, layer in enumerate(backbone.transformer_layers):
            heads = backbone.num_key_value_heads[i]
            x, own = layer(
                x,
                self_attention_cache=cache[:, i, ..., :heads, :],
                self_attention_cache_update_index=cache_update_index,
            )
            updated.append(ops.pad(own, [[0, 0]] * 3 + [[0, room - heads], [0, 0]]))
        hidden_states = x = backbone.layer_norm(x)
        logits = backbone.token_embedding(x, reverse=True)
        return logits, hidden_states, ops.stack(updated, axis=1)

    def _build_cache(self, token_ids: Any) -> Any:
        backbone = self.backbone  # type: ignore[attr-defined]
        batch, length = ops.shape(token_ids)
        room = max(backbone.num_key_value_heads)
        shape = [batch, backbone.num_layers, 2, length, room, backbone.head_dim]
        cache = ops.zeros(shape, dtype=self.compute_dtype)  # type: ignore[attr-defined]
        _, hidden_states, cache = self.call_with_cache(token_ids, cache, 0)
        return hidden_states, cache


@keras.saving.register_keras_serializable("keras_nns")
class SizedLlamaCausalLM(_Generating, LlamaCausalLM):
    """A `keras_hub.models.LlamaCausalLM` over a backbone that is told its blocks."""

    backbone_cls = SizedLlamaBackbone


@keras.saving.register_keras_serializable("keras_nns")
class SizedLlama3CausalLM(_Generating, Llama3CausalLM):
    """A `keras_hub.models.Llama3CausalLM` over a backbone that is told its blocks."""

    backbone_cls = SizedLlama3Backbone


def _sized(kind: Any) -> Make:
    """Return what makes the subclass that is told its blocks."""

    def make(model: Any, parts: Sequence[Part]) -> Made:
        blocks, width = blocks_of(model, parts), width_of(model, parts)
        config = type(model).get_config(model)
        config |= {key: [size.of(block) for block in blocks] for key, size in _SIZES.items()}
        config.pop("num_layers", None)
        config |= {
            "hidden_dim": width,
            "blocks": [_written(*block.made()) for block in blocks],
            "head_dim": config["head_dim"][0],
            "layer_norm_epsilon": model.layer_norm_epsilon * model.hidden_dim / width,
            "tie_word_embeddings": model.tie_word_embeddings,
        }
        return kind.from_config, {"config": config}

    return make


def _written(kind: Any, config: dict[str, Any]) -> dict[str, Any]:
    """Write a layer down as Keras does, without making it."""
    name = keras.saving.get_registered_name(kind)
    return {
        "module": kind.__module__,
        "class_name": kind.__name__,
        "config": config,
        "registered_name": name,
    }


def _stock_or_sized(kind: Any) -> Make:
    """Return what makes KerasHub's own class, or where that cannot say what is left, its subclass.

    KerasHub's class leaves `tie_word_embeddings` out of what it saves, and a tied model cannot be
    read again (0.32); so a tied one is of the subclass.
    """
    sized = _sized(kind)

    def make(model: Any, parts: Sequence[Part]) -> Made:
        try:
            config = stock_config(model, parts, _SIZES, filled="num_query_heads")
        except UnlikeError:
            return sized(model, parts)
        if model.tie_word_embeddings and "tie_word_embeddings" not in config:
            return sized(model, parts)
        config["layer_norm_epsilon"] *= model.hidden_dim / config["hidden_dim"]
        return type(model).from_config, {"config": config}

    return make


def _task(stock: Any, sized: Any) -> Make:
    """Return what makes a task over whichever backbone there is."""

    def make(task: Any, parts: Sequence[Part]) -> Made:
        config = task_config(task, parts)
        return sized if isinstance(config["backbone"], _Sized) else stock, config

    return make


for _stock, _told, _lm, _told_lm in (
    (LlamaBackbone, SizedLlamaBackbone, LlamaCausalLM, SizedLlamaCausalLM),
    (Llama3Backbone, SizedLlama3Backbone, Llama3CausalLM, SizedLlama3CausalLM),
):
    register_class(_stock, make=_stock_or_sized(_told))
    register_class(_told, make=_sized(_told))
    register_class(_lm, _told_lm, make=_task(_lm, _told_lm), compile=sampler_of)
