"""Small backbones of KerasHub with random weights, for tests and for the table of coverage."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

with warnings.catch_warnings():
    # What KerasHub and TensorFlow Text deprecate while they are imported.
    warnings.simplefilter("ignore")
    from keras_hub import models

TEXT = {"vocabulary_size": 30, "num_layers": 2, "hidden_dim": 16, "intermediate_dim": 24}


def resnet() -> Any:
    return models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[3],
        stackwise_num_filters=[64, 128],
        stackwise_num_blocks=[1, 1],
        stackwise_num_strides=[1, 2],
        block_type="bottleneck_block",
        image_shape=(32, 32, 3),
    )


def mobilenet() -> Any:
    return models.MobileNetBackbone(
        stackwise_expansion=[[40, 56], [64]],
        stackwise_num_blocks=[2, 1],
        stackwise_num_filters=[[16, 16], [24]],
        stackwise_kernel_size=[[3, 3], [5]],
        stackwise_num_strides=[[2, 1], [2]],
        stackwise_se_ratio=[[None, None], [0.25]],
        stackwise_activation=[["relu", "relu"], ["hard_swish", "hard_swish"]],
        stackwise_padding=[[1, 1], [2]],
        output_num_filters=32,
        depthwise_filters=16,
        depthwise_stride=1,
        depthwise_residual=True,
        last_layer_filter=32,
        squeeze_and_excite=0.5,
        image_shape=(32, 32, 3),
    )


def vit() -> Any:
    return models.ViTBackbone(
        image_shape=(16, 16, 3), patch_size=4, num_layers=2, num_heads=4, hidden_dim=16, mlp_dim=24
    )


def bert() -> Any:
    return models.BertBackbone(**TEXT, num_heads=4, max_sequence_length=20)


def gpt2() -> Any:
    return models.GPT2Backbone(**TEXT, num_heads=4, max_sequence_length=20)


def llama() -> Any:
    return models.LlamaBackbone(**TEXT, num_query_heads=4, num_key_value_heads=2)


def gemma() -> Any:
    return models.GemmaBackbone(**TEXT, num_query_heads=4, num_key_value_heads=2, head_dim=4)


# By name: what builds it, whether its blocks are layers to be unfolded first, and how many units
# may go, counted by hand. Every head of ViT and BERT has 4 key and 4 value dimensions; decoders
# lose heads whole, and each block as one unit; of Gemma's 24 hidden numbers 12 make units and 12
# gate them.
BACKBONES: dict[str, tuple[Callable[[], Any], bool, int]] = {
    "ResNet": (resnet, False, 3 * 64 + 256 + 2 * 128),
    "MobileNet": (mobilenet, True, 16 + 8 + (40 + 16) + 56 + (64 + 16 + 24)),
    "ViT": (vit, True, 2 * (4 + 4 + 4 + 24)),
    "BERT": (bert, True, 2 * (4 + 4 + 4 + 24)),
    "GPT-2": (gpt2, False, 2 * (4 + 24 + 1)),
    "Llama": (llama, False, 2 * (2 + 24 + 1)),
    "Gemma": (gemma, False, 2 * (2 + 12 + 1)),
}
