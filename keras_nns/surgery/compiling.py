"""How a subnetwork is compiled: as its parent is, with a loss that fits what it answers."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from typing import Any

import keras

from keras_nns.surgery.heads import Answer

_BINARY = {
    "crossentropy": "binary_crossentropy",
    "focal_crossentropy": "binary_focal_crossentropy",
    "accuracy": "accuracy",
}
"""What takes the place of a categorical loss or metric, by its name without `categorical`."""


def carry_compile_settings(parent: Any, new: Any, answer: Answer | None = None) -> None:
    """Compile a new model as its parent is compiled, where that can be written down.

    Args:
        parent: The model whose optimizer, loss and metrics are copied.
        new: The model to compile.
        answer: What the new model answers, where that is not what the parent does. A yes/no head
            gets the binary loss in place of the categorical one, and a head that gives
            probabilities behind a parent that gives logits a loss that does not expect logits.
            Metrics are treated alike; those that make no sense for yes or no are left out.
    """
    if not parent.compiled:
        return
    try:
        config = parent.get_compile_config()
        for entry in ("loss", "metrics", "weighted_metrics"):
            given = _each(config.get(entry), _named)
            if answer is not None:
                given = _fitting(given, answer, len(new.outputs))
            config[entry] = given
        new.compile_from_config(config)
    except Exception as error:  # a user's own loss or metric may not survive serialisation
        warnings.warn(
            f"The compile settings of {parent.name!r} could not be copied ({error}); call "
            "compile() on the subnetwork before training it.",
            stacklevel=3,
        )


def is_sparse(loss: Any) -> bool | None:
    """Tell whether a loss compares label numbers, or rows; None for a user's own."""
    name = _name(loss)
    if "sparse" in name:
        return True
    module = getattr(loss, "__module__", None) or type(loss).__module__
    return False if isinstance(loss, str) or module.startswith("keras.") else None


def _name(item: Any) -> str:
    """Return the name of a loss or metric in Keras's words: `sparse_categorical_crossentropy`."""
    if isinstance(item, dict):
        item = item.get("class_name", "")
    if not isinstance(item, str):
        item = getattr(item, "__name__", None) or type(item).__name__
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", item).lower()


def _fitting(entry: Any, answer: Answer, outputs: int) -> Any:
    """Change a serialised loss or list of metrics, only that of the output that answers."""
    changes: dict[str, Callable[[Any], Any]] = {"binary": _binary, "other": _of_probabilities}
    change = changes.get(answer.head)
    if change is None or (answer.head == "other" and answer.kind != "linear"):
        return entry
    if outputs > 1 and isinstance(entry, (list, tuple)):
        return [_each(e, change) if i == answer.index else e for i, e in enumerate(entry)]
    if outputs > 1 and isinstance(entry, dict) and "class_name" not in entry:
        return {k: _each(e, change) if k == answer.output else e for k, e in entry.items()}
    return _each(entry, change)


def _each(entry: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(entry, (list, tuple)):
        return [new for item in entry if (new := _each(item, change)) is not None]
    if isinstance(entry, dict) and "class_name" not in entry:
        return {key: _each(item, change) for key, item in entry.items()}
    return None if entry is None else change(entry)


def _named(item: Any) -> Any:
    """Return a loss or metric that is one of Keras's functions by its name.

    Models from `.h5` files have metrics that wrap a function's name; Keras writes them down, and
    what it reads again calls the name.
    """
    if not isinstance(item, dict):
        return item
    name = item.get("config")
    if item.get("registered_name") == "function" and isinstance(name, str):
        return name if _known(name) else item
    if item.get("class_name") != "MeanMetricWrapper":
        return item
    function = _named(item["config"].get("fn"))
    if not (isinstance(function, str) and _known(function)):
        return item
    own = item["config"].get("name")
    # By these two names Keras finds the function again that fits the loss.
    return own if own in ("accuracy", "acc") else function


def _known(name: str) -> bool:
    found = getattr(keras.losses, name, None) or getattr(keras.metrics, name, None)
    return callable(found)


def _binary(item: Any) -> Any:
    """Return what fits one probability: None where nothing does."""
    name = _name(item)
    if "categorical" not in name:
        return item
    short = name.removeprefix("sparse_").removeprefix("categorical_")
    return _BINARY.get(short)


def _of_probabilities(item: Any) -> Any:
    if isinstance(item, dict) and item.get("config", {}).get("from_logits"):
        return {**item, "config": {**item["config"], "from_logits": False}}
    return item
