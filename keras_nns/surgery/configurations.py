"""A layer's configuration, made ready for the smaller layer that is built from it."""

from __future__ import annotations

import types
from collections.abc import Iterator
from typing import Any

import keras


def copied(value: Any) -> Any:
    """Copy the dictionaries and lists of a configuration, so that the user keeps theirs."""
    if isinstance(value, dict):
        return {key: copied(item) for key, item in value.items()}
    return [copied(item) for item in value] if type(value) is list else value


def hand_over(operation: Any, config: dict[str, Any]) -> None:
    """Put what is of the user's own into a configuration as it is.

    A function (an activation, an initializer, a regularizer) or an object of a class of theirs that
    is not registered with Keras can be written to a config, and not always be read back.
    """
    for key, written in config.items():
        value = getattr(operation, key, None)
        if isinstance(value, types.FunctionType) or _is_of_the_users(value):
            config[key] = value
        elif isinstance(value, keras.Layer) and isinstance(written, dict) and "config" in written:
            hand_over(value, written["config"])


def _is_of_the_users(value: Any) -> bool:
    kinds = (
        keras.initializers.Initializer,
        keras.regularizers.Regularizer,
        keras.constraints.Constraint,
    )
    return isinstance(value, kinds) and type(value).__module__.split(".")[0] != "keras"


def forget_values(config: dict[str, Any]) -> None:
    """Start weights that lose units from zeros where a config says by which array.

    The array has the parent's shape. What it says is replaced by the kept weights at once.
    """
    for key, value in config.items():
        if key.endswith("initializer"):
            inside = value.get("config", {}) if isinstance(value, dict) else {}
            array = isinstance(inside, dict) and isinstance(inside.get("value"), dict | list)
            own = isinstance(value, types.FunctionType | keras.initializers.Initializer)
            if array or own:
                config[key] = "zeros"
    for value in _inside(config):
        forget_values(value)


def forget_build(config: dict[str, Any]) -> None:
    """Drop recorded build shapes: they are the parent's, and the new layer finds its own."""
    config.pop("build_config", None)
    for value in _inside(config):
        forget_build(value)


def set_dtype(config: dict[str, Any], dtype: str) -> None:
    """Give a layer and the layers inside it another dtype policy, where theirs is a float."""
    for key, value in config.items():
        # A quantised policy such as "int8_from_float32" says what the weights are: it stays.
        if key.endswith("dtype") and "float" in str(value) and "_from_" not in str(value):
            config[key] = dtype
    for value in _inside(config):
        set_dtype(value, dtype)


def _inside(config: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the dictionaries that lie directly in a configuration, or in a list in it."""
    for value in config.values():
        for item in value if isinstance(value, list | tuple) else [value]:
            if isinstance(item, dict):
                yield item
