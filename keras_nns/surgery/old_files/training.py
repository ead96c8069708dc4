"""How a model of Keras 1 or 2 was compiled, for Keras 3."""

from __future__ import annotations

from typing import Any

import keras

from keras_nns.surgery.old_files.arguments import accepted_by
from keras_nns.surgery.old_files.mended import Mended

Config = dict[str, Any]

_NAMED = ("accuracy", "acc", "crossentropy", "ce")
"""Metrics that `compile` itself understands, by what the model answers."""


def compile_as_written(model: Any, written: Config, custom: Config, mended: Mended) -> None:
    """Compile a model as its file says, or leave that out where it cannot be read.

    Args:
        model: The model.
        written: The section of the file.
        custom: Classes and functions of the user, by name.
        mended: Where to write what was left out.
    """
    try:
        with keras.saving.custom_object_scope(custom):
            model.compile(**_arguments(model, written, mended))
    except Exception as error:  # Whatever the names in the file provoke.
        reason = " ".join(str(error).split())[:120]
        mended.add(
            f"how the model was compiled was left out, since it cannot be read ({reason}); compile "
            "it before training or evaluating with Keras"
        )


def _arguments(model: Any, written: Config, mended: Mended) -> Config:
    optimizer = written.get("optimizer_config") or written["optimizer"]
    one = len(model.outputs) == 1
    found = {
        "optimizer": _optimizer(optimizer, mended),
        "loss": _each(_loss, written.get("loss")),
        "loss_weights": written.get("loss_weights"),
    }
    for key in ("metrics", "weighted_metrics"):
        given = _each(_metric, written.get(key))
        if one and isinstance(given, list) and len(given) == 1 and isinstance(given[0], list):
            (given,) = given
        found[key] = given
    if written.get("sample_weight_mode"):
        mended.add("`sample_weight_mode`, which Keras 3 lacks, was left out")
    return found


def _optimizer(config: Any, mended: Mended) -> Any:
    if not isinstance(config, dict):
        return keras.optimizers.get(config)
    name = str(config["class_name"]).rsplit(">", 1)[-1]
    kind = getattr(keras.optimizers, name, None)
    if kind is None:
        return keras.optimizers.deserialize(config)
    given = {"learning_rate" if key == "lr" else key: one for key, one in config["config"].items()}
    decay = given.pop("decay", None)
    if isinstance(given.get("learning_rate"), dict):
        rate = keras.optimizers.schedules.deserialize(given["learning_rate"])
    else:
        rate = given.get("learning_rate")
    if decay:
        # lr / (1 + decay · steps), which Keras 3 has as a schedule.
        rate = keras.optimizers.schedules.InverseTimeDecay(rate, 1, decay)
    known = accepted_by(kind) | accepted_by(keras.optimizers.Optimizer)
    kept = {key: one for key, one in given.items() if key in known and one is not None}
    lost = [key for key, one in given.items() if key not in known and one]
    if lost:
        mended.add(f"{', '.join(lost)} of the optimizer, which Keras 3 lacks, was left out", name)
    return kind(**{**kept, "learning_rate": rate})


def _each(read: Any, value: Any) -> Any:
    if isinstance(value, list):
        return [_each(read, one) for one in value]
    if isinstance(value, dict) and "class_name" not in value:
        return {key: _each(read, one) for key, one in value.items()}
    return None if value is None else read(value)


def _loss(value: Any) -> Any:
    if isinstance(value, dict) and isinstance(value.get("config"), dict):
        config = {key: one for key, one in value["config"].items() if key != "fn"}
        if config.get("reduction") in ("auto", "sum_over_batch_size"):
            config["reduction"] = "sum_over_batch_size"
        value = {**value, "config": config}
    found = keras.losses.get(value)
    return found if not isinstance(value, str) else value


def _metric(value: Any) -> Any:
    if isinstance(value, dict) and value.get("class_name") == "MeanMetricWrapper":
        fn, name = value["config"].get("fn"), value["config"].get("name")
        value = name if name in _NAMED else fn
    if value in _NAMED:
        return value
    return keras.metrics.get(value)
