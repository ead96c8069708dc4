"""Names and arguments of Keras 1 in those of Keras 2.

Sources: `get_config` of the layers in Keras 1.2.2, and `legacy/interfaces.py` of Keras 2.3.1, which
translated calls.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

Config = dict[str, Any]

_NAMES: Mapping[str, str] = {
    "init": "kernel_initializer",
    "inner_init": "recurrent_initializer",
    "inner_activation": "recurrent_activation",
    "W_regularizer": "kernel_regularizer",
    "U_regularizer": "recurrent_regularizer",
    "b_regularizer": "bias_regularizer",
    "W_constraint": "kernel_constraint",
    "b_constraint": "bias_constraint",
    "bias": "use_bias",
    "border_mode": "padding",
    "dim_ordering": "data_format",
    "nb_filter": "filters",
    "filter_length": "kernel_size",
    "subsample": "strides",
    "subsample_length": "strides",
    "atrous_rate": "dilation_rate",
    "pool_length": "pool_size",
    "stride": "strides",
    "length": "size",
    "p": "rate",
    "sigma": "stddev",
    "dropout_W": "dropout",
    "dropout_U": "recurrent_dropout",
}

_OWN_NAMES: Mapping[str, Mapping[str, str]] = {
    "Embedding": {
        "output_dim": "output_dim",
        "init": "embeddings_initializer",
        "W_regularizer": "embeddings_regularizer",
        "W_constraint": "embeddings_constraint",
    },
    "PReLU": {"init": "alpha_initializer"},
    "SeparableConv2D": {"init": "depthwise_initializer"},
}

_KINDS: Mapping[str, str] = {
    "Convolution1D": "Conv1D",
    "Convolution2D": "Conv2D",
    "Convolution3D": "Conv3D",
    "AtrousConvolution1D": "Conv1D",
    "AtrousConvolution2D": "Conv2D",
    "SeparableConvolution2D": "SeparableConv2D",
    "TimeDistributedDense": "Dense",
}

_MERGES: Mapping[str, str] = {
    "sum": "Add",
    "mul": "Multiply",
    "ave": "Average",
    "max": "Maximum",
    "concat": "Concatenate",
}

_INITIALIZERS: Mapping[str, str] = {
    "zero": "zeros",
    "one": "ones",
    "normal": "random_normal",
    "uniform": "random_uniform",
    "identity": "Identity",
}

_ORDERS: Mapping[str, str] = {"tf": "channels_last", "th": "channels_first"}

_SIZES = (("nb_row", "nb_col"), ("kernel_dim1", "kernel_dim2", "kernel_dim3"))

_DROPPED = ("consume_less", "forget_bias_init")
"""How a layer ran, and where its training began."""


def translated(name: str, config: Config, refuse: Callable[[str], Exception]) -> tuple[str, Config]:
    """Translate a layer of Keras 1.

    Args:
        name: Its class.
        config: Its configuration.
        refuse: Makes the error of what cannot be read, from words on what.

    Returns:
        Its class and configuration in Keras 2.
    """
    if name == "Merge":
        return _merge(config, refuse)
    kind = _KINDS.get(name, name)
    config = {key: value for key, value in config.items() if key not in _DROPPED}
    for sizes in _SIZES:
        if sizes[0] in config:
            config["kernel_size"] = [config.pop(size) for size in sizes]
    names = {**_NAMES, **_OWN_NAMES.get(kind, {})}
    if kind in ("Dense", "SimpleRNN", "LSTM", "GRU"):
        names["output_dim"] = "units"
    found = {names.get(key, key): value for key, value in config.items()}
    if kind == "BatchNormalization" and found.pop("mode", 0) != 0:
        raise refuse("a BatchNormalization of mode 1 or 2, which Keras 3 does not have")
    if kind == "Embedding":
        found.pop("dropout", None)  # Of whole words, in training alone.
    if kind == "ZeroPadding2D" and isinstance(found.get("padding"), dict):
        raise refuse("a ZeroPadding2D with names for its sides")
    return kind, {key: _value(key, value) for key, value in found.items()}


def _value(key: str, value: Any) -> Any:
    if key == "data_format":
        return _ORDERS.get(value, value)
    if key.endswith("_initializer"):
        return _INITIALIZERS.get(value, value)
    if isinstance(value, dict) and key.endswith(("_regularizer", "_constraint")):
        given = {one: other for one, other in value.items() if one != "name"}
        name = value.get("name", "")
        if name in ("L1L2Regularizer", "WeightRegularizer"):
            return {"class_name": "L1L2", "config": given}
        kept = {_CONSTRAINT.get(one, one): other for one, other in given.items()}
        return {"class_name": name, "config": kept}
    return value


_CONSTRAINT = {"m": "max_value", "low": "min_value", "high": "max_value"}


def _merge(config: Config, refuse: Callable[[str], Exception]) -> tuple[str, Config]:
    mode = config.get("mode")
    if mode not in _MERGES or config.get("layers"):
        raise refuse(f"a Merge of mode {mode!r} in a form that Keras 3 does not have")
    kept: Config = {key: one for key, one in config.items() if key in ("name", "trainable")}
    if mode == "concat":
        kept["axis"] = config.get("concat_axis", -1)
    return _MERGES[str(mode)], kept
