"""Members of `keras.applications` with few blocks of every kind that is in them."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any

import keras
from keras import applications
from keras.src.applications.convnext import ConvNeXt
from keras.src.applications.densenet import DenseNet
from keras.src.applications.efficientnet import EfficientNet
from keras.src.applications.efficientnet_v2 import EfficientNetV2
from keras.src.applications.nasnet import NASNet
from keras.src.applications.resnet import (
    ResNet,
    stack_residual_blocks_v1,
    stack_residual_blocks_v2,
)

ALL = bool(os.environ.get("KERAS_NNS_ALL_APPLICATIONS"))
"""Whether every architecture runs, as deep as it is."""


def _two_stages(stack: Callable[..., Any], x: Any) -> Any:
    """Blocks with and without a projection, in a stage that keeps the size and one that halves."""
    return stack(stack(x, 64, 2, stride1=1, name="conv2"), 128, 2, name="conv3")


# The others have no number of blocks to choose, or few.
_SHALLOW: dict[str, Callable[..., keras.Model]] = {
    "ConvNeXtTiny": partial(ConvNeXt, [1, 1, 2, 1], [24, 48, 96, 192]),
    "DenseNet121": partial(DenseNet, [2, 2, 3, 2]),
    "EfficientNetB0": partial(EfficientNet, 1.0, 0.3, 224, name="efficientnetb0"),
    "EfficientNetV2B0": partial(EfficientNetV2, 1.0, 0.25, 224, name="efficientnetv2-b0"),
    "NASNetMobile": partial(
        NASNet, penultimate_filters=288, num_blocks=1, stem_block_filters=32, skip_reduction=False
    ),
    "ResNet50": partial(
        ResNet, partial(_two_stages, stack_residual_blocks_v1), False, True, name="resnet50"
    ),
    "ResNet50V2": partial(
        ResNet, partial(_two_stages, stack_residual_blocks_v2), True, True, name="resnet50v2"
    ),
}


def application(name: str, *, shallow: bool, **options: Any) -> keras.Model:
    """Build an architecture; `shallow` takes few blocks of each kind where they can be chosen."""
    make = getattr(applications, name)
    return (_SHALLOW.get(name, make) if shallow else make)(**options)
