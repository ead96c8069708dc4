"""Layers of KerasHub backbones that `unfold` cannot write out: decoders, and one broken config.

Imported by `rules.load_extras` when the user has imported `keras_hub`; the package does not need
it. Heads and feed-forward units can be cut. The residual stream stays: what normalises it takes
statistics over all of its features.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
from keras.layers import EinsumDense
from keras_hub import layers
from keras_hub.src.models.gemma.gemma_decoder_block import GemmaDecoderBlock
from keras_hub.src.models.llama.llama_attention import LlamaAttention
from keras_hub.src.models.llama.llama_decoder import LlamaTransformerDecoder
from keras_hub.src.models.vit.vit_layers import ViTPatchingAndEmbedding
from keras_hub.src.utils.keras_utils import gelu_approximate

from keras_nns.graph.rules.base import Site, rule
from keras_nns.graph.rules.elementwise import is_elementwise, register_elementwise
from keras_nns.graph.rules.records import Keep, Units

register_elementwise(gelu_approximate)


def _remake(holder: Any, name: str, new: Any, *shapes: Any) -> None:
    """Put a sublayer in the place of one that the base class has built too wide.

    KerasHub divides the width of the stream by the number of heads, which fits no layer that lost
    some of its heads, and takes no other size. So its own `build` runs, and what holds heads is
    made again. It stays at its place among the sublayers, which is the order of the weights.

    Args:
        holder: The layer that holds it.
        name: The attribute that it is.
        new: What takes its place, not yet built.
        *shapes: What `new` is built for.
    """
    old = getattr(holder, name)
    place = next(i for i, layer in enumerate(holder._layers) if layer is old)
    new.build(*shapes)
    holder._tracker.untrack(old)
    setattr(holder, name, new)
    holder._layers.insert(place, holder._layers.pop())


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
        _remake(self, "_self_attention_layer", attention, *shapes)

    def get_config(self) -> dict[str, Any]:
        """Return what the layer was made with."""
        return {**super().get_config(), "head_dim": self.head_dim}


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
            _remake(self, name, EinsumDense.from_config({**config, **sizes}), inputs_shape)
        output = EinsumDense.from_config(self._output_dense.get_config())
        shape = (None, None, self.num_query_heads, self.head_dim)
        _remake(self, "_output_dense", output, shape)


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
        _remake(self, "_self_attention_layer", attention, decoder_sequence_shape)

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


@keras.saving.register_keras_serializable("keras_nns")
class SavableViTPatching(ViTPatchingAndEmbedding):
    """ViT's patching with the configuration that its constructor takes."""

    def get_config(self) -> dict[str, Any]:
        """Return what the layer was made with."""
        return _patching_config(self)


def _patching_config(layer: Any) -> dict[str, Any]:
    """Return what a layer was made with: its own `get_config` names what nobody may pass."""
    config = ViTPatchingAndEmbedding.get_config(layer)
    taken = {key: value for key, value in config.items() if not key.startswith("num_p")}
    return {**taken, "use_patch_bias": layer.use_patch_bias, "data_format": layer.data_format}


@rule(layers.TransformerDecoder, SizedTransformerDecoder)
def transformer_decoder(site: Site) -> None:
    """Heads of the self-attention and hidden units of the feed-forward part (GPT-2, OPT, Bart)."""
    layer = site.operation
    _keep_stream(site)
    heads = site.make(layer.num_heads, "heads")
    if layer._cross_attention_layer is not None:
        site.protect(heads, f"{site.title} attends to two sequences with one number of heads")
    attention = layer._self_attention_layer
    for dense in (attention._query_dense, attention._key_dense, attention._value_dense):
        site.bind(dense._kernel, {1: heads})
        site.bind(dense.bias, {0: heads})
    site.bind(attention._output_dense._kernel, {0: heads}, silence=(0,))
    site.reads(heads)
    hidden = _hidden(site, layer.intermediate_dim, layer.activation)
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


@rule(LlamaTransformerDecoder, SizedLlamaTransformerDecoder)
def llama_decoder(site: Site) -> None:
    """Key and value heads with their query heads, and hidden units of the gated part."""
    layer = site.operation
    _keep_stream(site)
    queries, heads = _shared_heads(site, layer.num_query_heads, layer.num_key_value_heads)
    attention = layer._self_attention_layer
    site.bind(attention._query_dense._kernel, {1: queries})
    site.bind(attention._key_dense._kernel, {1: heads})
    site.bind(attention._value_dense._kernel, {1: heads})
    site.bind(attention._output_dense._kernel, {0: queries}, silence=(0,))
    hidden = _hidden(site, layer.intermediate_dim, layer.activation)
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


@rule(GemmaDecoderBlock)
def gemma_decoder(site: Site) -> None:
    """Key and value heads with their query heads, and hidden units of the gated part.

    Its configuration counts both factors of the gate: twice the hidden units.
    """
    layer = site.operation
    _keep_stream(site)
    queries, heads = _shared_heads(site, layer.num_query_heads, layer.num_key_value_heads)
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


@rule(ViTPatchingAndEmbedding, SavableViTPatching)
def vit_patching(site: Site) -> None:
    """Nothing of it can be cut: its output is the stream."""
    layer = site.operation
    _keep_stream(site)
    site.rebuild(lambda _: (SavableViTPatching, _patching_config(layer)))


@rule(layers.PositionEmbedding)
def position_embedding(site: Site) -> None:
    """One vector for each position, as wide as the tensor whose length it is told."""
    units = site.input.on(-1)
    site.bind(site.operation.position_embeddings, {1: units})
    site.emit({-1: units})


def _keep_stream(site: Site) -> None:
    site.protect_all(f"{site.title} normalises over the features of its stream")
    site.emit(*[{} for _ in site.shapes])


def _shared_heads(site: Site, query_heads: int, heads: int) -> tuple[Units, Units | None]:
    """Make heads; one key and value head for all stays, and each query head leaves by itself."""
    made = site.make(query_heads if heads == 1 else heads, "heads")
    site.reads(made)
    return (made, None) if heads == 1 else (np.repeat(made, query_heads // heads), made)


def _hidden(site: Site, count: int, activation: Any) -> Units:
    hidden = site.make(count, "hidden")
    site.reads(hidden)
    if not is_elementwise(activation):
        site.protect(hidden, f"{site.title} has an activation that may mix units")
    return hidden
