"""One tiny model of each family of KerasHub, with random weights: for tests and for a table."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

with warnings.catch_warnings():
    # What KerasHub and TensorFlow Text deprecate while they are imported.
    warnings.simplefilter("ignore")
    from keras_hub import models

TEXT = {"vocabulary_size": 30, "num_layers": 2, "hidden_dim": 16, "intermediate_dim": 12}
GROUPED = {**TEXT, "num_query_heads": 4, "num_key_value_heads": 2}
PLAIN = {**TEXT, "num_heads": 4}
IMAGE = {"image_shape": (8, 8, 3), "patch_size": 4}


@dataclass(frozen=True)
class HubFamily:
    """A family.

    Attributes:
        build: Makes its model.
        groups: Its groups of units by name, counted by hand: all of them may go.
    """

    build: Callable[[], Any]
    groups: dict[str, int]


def each(prefix: str = "transformer_layer_", first: int = 0, **kinds: int) -> dict[str, int]:
    """Name what each of two blocks holds."""
    return {
        f"{prefix}{number}{'.' if first else ':'}{kind}": count
        for number in (first, first + 1)
        for kind, count in kinds.items()
    }


def clip_text() -> Any:
    from keras_hub.src.models.clip.clip_text_encoder import CLIPTextEncoder

    return CLIPTextEncoder(30, 16, 16, 2, 4, 12, max_sequence_length=8)


def clip_image() -> Any:
    from keras_hub.src.models.clip.clip_vision_encoder import CLIPVisionEncoder

    return CLIPVisionEncoder(4, 16, 2, 4, 12, image_shape=(8, 8, 3))


def metaclip_text() -> Any:
    from keras_hub.src.models.metaclip_2.metaclip_2_text_encoder import MetaCLIP2TextEncoder

    return MetaCLIP2TextEncoder(30, 16, 16, 2, 4, 12, max_sequence_length=8)


def metaclip_image() -> Any:
    from keras_hub.src.models.metaclip_2.metaclip_2_vision_encoder import MetaCLIP2VisionEncoder

    return MetaCLIP2VisionEncoder(4, 16, 2, 4, 12, image_shape=(8, 8, 3))


def siglip_text() -> Any:
    from keras_hub.src.models.siglip.siglip_text_encoder import SigLIPTextEncoder

    return SigLIPTextEncoder(30, 16, 16, 2, 4, 12, max_sequence_length=8)


def siglip_image() -> Any:
    from keras_hub.src.models.siglip.siglip_vision_encoder import SigLIPVisionEncoder

    return SigLIPVisionEncoder(4, 16, 2, 4, 12, image_shape=(8, 8, 3))


FAMILIES: dict[str, HubFamily] = {
    "Llama": HubFamily(lambda: models.LlamaBackbone(**GROUPED), each(heads=2, hidden=12, block=1)),
    "Llama 3": HubFamily(
        lambda: models.Llama3Backbone(
            **GROUPED,
            rope_frequency_adjustment_factor=8.0,
            rope_low_freq_factor=1.0,
            rope_high_freq_factor=4.0,
            rope_pretraining_sequence_length=16,
        ),
        each(heads=2, hidden=12, block=1),
    ),
    "SmolLM": HubFamily(
        lambda: models.LlamaBackbone(**GROUPED, tie_word_embeddings=True),
        each(heads=2, hidden=12, block=1),
    ),
    "SmolLM 3": HubFamily(
        lambda: models.SmolLM3Backbone(
            **{**TEXT, "num_attention_heads": 4, "num_key_value_heads": 2},
            attention_bias=False,
            attention_dropout=0.0,
            rope_layer_enabled_list=[True, False],
            layer_types=["full_attention", "full_attention"],
            mlp_bias=False,
            layer_norm_epsilon=1e-6,
            max_position_embeddings=64,
            rope_theta=10000.0,
            partial_rotary_factor=1.0,
        ),
        each(heads=2, hidden=12, block=1),
    ),
    "Mistral": HubFamily(
        lambda: models.MistralBackbone(**GROUPED), each(heads=2, hidden=12, block=1)
    ),
    "Qwen 2.5": HubFamily(
        lambda: models.QwenBackbone(**GROUPED), each(heads=2, hidden=12, block=1)
    ),
    "Qwen 3": HubFamily(
        lambda: models.Qwen3Backbone(**GROUPED, head_dim=4), each(heads=2, hidden=12, block=1)
    ),
    "Phi-3": HubFamily(lambda: models.Phi3Backbone(**GROUPED), each(heads=2, hidden=12, block=1)),
    "Gemma": HubFamily(
        lambda: models.GemmaBackbone(**GROUPED, head_dim=4),
        each("decoder_block_", heads=2, hidden=6, block=1),
    ),
    "Gemma 2": HubFamily(
        lambda: models.GemmaBackbone(
            **GROUPED,
            head_dim=4,
            use_post_ffw_norm=True,
            use_post_attention_norm=True,
            attention_logit_soft_cap=50.0,
            final_logit_soft_cap=30.0,
            use_sliding_window_attention=True,
            sliding_window_size=4,
        ),
        each("decoder_block_", heads=2, hidden=6, block=1),
    ),
    "Gemma 3": HubFamily(
        lambda: models.Gemma3Backbone(
            **GROUPED,
            head_dim=4,
            image_size=16,
            use_query_key_norm=True,
            use_post_ffw_norm=True,
            use_post_attention_norm=True,
        ),
        each("decoder_block_", heads=2, hidden=12, block=1),
    ),
    "GPT-2": HubFamily(
        lambda: models.GPT2Backbone(**PLAIN, max_sequence_length=20),
        each(heads=4, hidden=12, block=1),
    ),
    "GPT-NeoX": HubFamily(
        lambda: models.GPTNeoXBackbone(**PLAIN, rotary_percentage=0.5, max_sequence_length=20),
        each(heads=4, hidden=12, block=1),
    ),
    "OPT": HubFamily(
        lambda: models.OPTBackbone(**PLAIN, max_sequence_length=20),
        each(heads=4, hidden=12, block=1),
    ),
    "Bloom": HubFamily(
        lambda: models.BloomBackbone(**PLAIN, max_sequence_length=20),
        each(heads=4, hidden=12, block=1),
    ),
    "Falcon": HubFamily(
        lambda: models.FalconBackbone(**{**TEXT, "num_attention_heads": 4}),
        each(heads=4, hidden=12, block=1),
    ),
    "Mixtral": HubFamily(
        lambda: models.MixtralBackbone(**GROUPED, num_experts=4, top_k=2),
        each(heads=2, experts=4, hidden=12),
    ),
    "Qwen MoE": HubFamily(
        lambda: models.QwenMoeBackbone(
            **GROUPED,
            moe_intermediate_dim=10,
            shared_expert_intermediate_dim=8,
            num_experts=4,
            top_k=2,
        ),
        each(heads=2, experts=4, hidden=10, shared_hidden=8),
    ),
    "Qwen 3 MoE": HubFamily(
        lambda: models.Qwen3MoeBackbone(
            **GROUPED, head_dim=4, moe_intermediate_dim=10, num_experts=4, top_k=2
        ),
        each(heads=2, experts=4, hidden=10),
    ),
    "GPT-OSS": HubFamily(
        lambda: models.GptOssBackbone(**GROUPED, num_experts=4, top_k=2),
        each(heads=2, experts=4, hidden=12),
    ),
    "BERT": HubFamily(
        lambda: models.BertBackbone(**PLAIN, max_sequence_length=20), each(heads=4, hidden=12)
    ),
    "RoBERTa": HubFamily(
        lambda: models.RobertaBackbone(**PLAIN, max_sequence_length=20), each(heads=4, hidden=12)
    ),
    "XLM-RoBERTa": HubFamily(
        lambda: models.XLMRobertaBackbone(**PLAIN, max_sequence_length=20),
        each(heads=4, hidden=12),
    ),
    "DistilBERT": HubFamily(
        lambda: models.DistilBertBackbone(**PLAIN, max_sequence_length=20),
        each(heads=4, hidden=12),
    ),
    "Electra": HubFamily(
        lambda: models.ElectraBackbone(
            30, 2, 4, 16, 8, intermediate_dim=12, max_sequence_length=20
        ),
        each(heads=4, hidden=12),
    ),
    "ALBERT": HubFamily(
        lambda: models.AlbertBackbone(**PLAIN, embedding_dim=8, max_sequence_length=20),
        {"group_0_inner_layer_0:heads": 4, "group_0_inner_layer_0:hidden": 12},
    ),
    "DeBERTa": HubFamily(
        lambda: models.DebertaV3Backbone(**PLAIN, max_sequence_length=20, bucket_size=4),
        each("disentangled_attention_encoder_layer_", heads=4, hidden=12),
    ),
    "FNet": HubFamily(
        lambda: models.FNetBackbone(**TEXT, max_sequence_length=20), each("f_net_layer_", hidden=12)
    ),
    "T5": HubFamily(
        lambda: models.T5Backbone(**PLAIN),
        {
            # One table of positions serves all layers of a stack, so heads go together.
            "transformer_encoder_layer_0:heads": 4,
            "transformer_decoder_layer_0:heads": 4,
            **each("transformer_encoder_layer_", hidden=12),
            **each("transformer_decoder_layer_", hidden=12),
        },
    ),
    "Bart": HubFamily(
        lambda: models.BartBackbone(**PLAIN, max_sequence_length=20),
        {
            **each("transformer_encoder_layer_", heads=4, hidden=12),
            **each("transformer_decoder_layer_", heads=4, cross_heads=4, hidden=12),
        },
    ),
    "Whisper": HubFamily(
        lambda: models.WhisperBackbone(
            **PLAIN, num_mels=8, max_encoder_sequence_length=16, max_decoder_sequence_length=12
        ),
        {
            **each("transformer_encoder_layer_", heads=4, hidden=12),
            **each("transformer_decoder_layer_", heads=4, cross_heads=4, hidden=12),
        },
    ),
    "ViT": HubFamily(
        lambda: models.ViTBackbone(**IMAGE, num_layers=2, num_heads=4, hidden_dim=16, mlp_dim=12),
        each("vit_encoder:transformer_block_", 1, heads=4, hidden=12),
    ),
    "DeiT": HubFamily(
        lambda: models.DeiTBackbone(
            **IMAGE, num_layers=2, num_heads=4, hidden_dim=16, intermediate_dim=12
        ),
        each("deit_encoder:transformer_block_", 1, heads=4, hidden=12),
    ),
    "CLIP, images": HubFamily(clip_image, each("encoder_block_", heads=4, hidden=12)),
    "CLIP, texts": HubFamily(clip_text, each("encoder_block_", heads=4, hidden=12)),
    "MetaCLIP 2, images": HubFamily(metaclip_image, each("encoder_block_", heads=4, hidden=12)),
    "MetaCLIP 2, texts": HubFamily(metaclip_text, each("encoder_block_", heads=4, hidden=12)),
    "SigLIP, images": HubFamily(
        siglip_image,
        {**each("encoder_block_", heads=4, hidden=12), "head:heads": 4, "head:hidden": 12},
    ),
    "SigLIP, texts": HubFamily(siglip_text, each("encoder_block_", heads=4, hidden=12)),
}
