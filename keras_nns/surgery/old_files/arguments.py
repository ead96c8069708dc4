"""Arguments and classes of Keras 2 that Keras 3 lacks or names otherwise.

Sources: `get_config` of the layers in Keras 2.3.1 and tf_keras 2.21, `__init__` of those in Keras
3.15.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import cache
from typing import Any

import keras

ANYTHING = object()
"""Stands for every value: the argument has no effect on what is computed."""

_NO_EFFECT = (
    "batch_input_shape",  # Its place is an InputLayer's, which is put in where there is none.
    "input_dtype",
    "input_length",
    "input_dim",
    "input_shape",
    "implementation",
    "query_shape",
    "key_shape",
    "value_shape",
    "build_input_shape",
    "rng_type",
    "fused",
    "function_type",
    "module",
    "output_shape_type",
    "output_shape_module",
    "jit_compile",
    "is_legacy_optimizer",
    "vocabulary_size",
)

MEANINGLESS: Mapping[str, tuple[Any, ...]] = {
    **dict.fromkeys(_NO_EFFECT, (ANYTHING,)),
    "time_major": (False,),
    "groups": (1,),
    "trainable": (ANYTHING,),  # Only classes without weights do not take it.
    "kernel_initializer": (ANYTHING,),  # Only separable convolutions, which have no kernel.
    "kernel_regularizer": (ANYTHING,),
    "kernel_constraint": (ANYTHING,),
    "renorm": (False,),
    "causal": (False,),
    "dynamic": (False,),
    "softmax_robust_masking": (False,),
    "interpolation": ("nearest",),
    "sparse": (False,),
    "ragged": (False,),
    "optional": (False,),
}
"""Arguments that Keras 3 does not take, with the values that say nothing. None never does."""

QUIET = frozenset(_NO_EFFECT) | {"trainable", "optional", "sparse", "ragged"}
"""Those of which it is not said that they were left out."""

RENAMED: Mapping[str, str] = {
    "BatchNormalizationV1": "BatchNormalization",
    "BatchNormalizationV2": "BatchNormalization",
    "Model": "Functional",
    "UnifiedLSTM": "LSTM",
    "UnifiedGRU": "GRU",
}

ACTIVATIONS: Mapping[str, str] = {"softmax_v2": "softmax", "relu_v2": "relu"}
"""Names under which TensorFlow 2.0 and 2.1 wrote activations."""

MODELS = ("Sequential", "Functional")

RECURRENT = ("SimpleRNN", "LSTM", "GRU", "RNN", "ConvLSTM1D", "ConvLSTM2D", "ConvLSTM3D")


def _threshold(config: dict[str, Any]) -> dict[str, Any]:
    return {**config, "threshold": config["theta"], "theta": None}


def _slope(config: dict[str, Any]) -> dict[str, Any]:
    return {**config, "negative_slope": config.get("alpha", 0.3), "alpha": None}


def _cudnn(config: dict[str, Any]) -> dict[str, Any]:
    return {**config, "activation": "tanh", "recurrent_activation": "sigmoid"}


def _cudnn_gru(config: dict[str, Any]) -> dict[str, Any]:
    return {**_cudnn(config), "reset_after": True}


def _synchronized(config: dict[str, Any]) -> dict[str, Any]:
    return {**config, "synchronized": True}


def _one_axis(config: dict[str, Any]) -> dict[str, Any]:
    axis = config.get("axis", -1)
    return {**config, "axis": axis[0] if isinstance(axis, list) and len(axis) == 1 else axis}


REPLACED: Mapping[str, tuple[str, Any, bool]] = {
    "ThresholdedReLU": ("ReLU", _threshold, True),
    "CuDNNLSTM": ("LSTM", _cudnn, True),
    "CuDNNGRU": ("GRU", _cudnn_gru, True),
    "SyncBatchNormalization": ("BatchNormalization", _synchronized, True),
    "BatchNormalization": ("BatchNormalization", _one_axis, False),
    "LeakyReLU": ("LeakyReLU", _slope, False),
}
"""By class: the class that computes the same, how its configuration is got, and whether to say."""


@cache
def accepted_by(kind: type) -> frozenset[str]:
    """Return the arguments that a class takes when it is made, its bases' included."""
    names: set[str] = set()
    for one in kind.__mro__:
        if "__init__" not in vars(one):
            continue
        given = inspect.signature(one.__init__).parameters.values()  # type: ignore[misc]
        names.update(parameter.name for parameter in given if parameter.kind is not _REST)
        if one is keras.layers.Layer or all(parameter.kind is not _REST for parameter in given):
            break
    return frozenset(names - {"self", "args"})


_REST = inspect.Parameter.VAR_KEYWORD
