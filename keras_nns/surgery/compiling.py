"""How a subnetwork is compiled: as its parent is, with a loss that fits what it answers."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import keras

from keras_nns.data.outputs import output_keys
from keras_nns.graph.keras_internals import functional
from keras_nns.graph.rules.model_classes import settings_of
from keras_nns.surgery.class_settings import Classes, NoPlaceError, fitted, name_of
from keras_nns.surgery.heads import Answer


def carry_compile_settings(parent: Any, new: Any, answer: Answer | None = None) -> None:
    """Compile a new model as its parent is compiled, where that can be written down.

    Args:
        parent: The model whose optimizer, loss and metrics are copied.
        new: The model to compile.
        answer: What the new model answers, where that is not what the parent does. Settings that
            count classes (`class_id`, `num_classes`, weights by class, …) are renumbered. A yes/no
            head gets the binary loss in place of the categorical one, and a head that gives
            probabilities behind a parent that gives logits a loss that does not expect logits. What
            has no meaning for the new answers is left out, with a warning that names it.
    """
    if not parent.compiled:
        return
    left: list[str] = []
    told: list[str] = []
    try:
        config = parent.get_compile_config()
        for entry in ("loss", "metrics", "weighted_metrics"):
            given = _each(config.get(entry), _named)
            if answer is not None and answer.head != "parent":
                key = output_keys(functional(parent))[answer.index]
                classes = _classes(parent, new, answer)
                change = _change(classes, entry.replace("_", " "), left, told)
                given = _fitting(given, change, answer, key, len(new.outputs))
            config[entry] = given or None
        _compile(parent, new, config)
    except Exception as error:  # a user's own loss or metric may not survive serialisation
        warnings.warn(
            f"The compile settings of {parent.name!r} could not be copied ({error}); call "
            "compile() on the subnetwork before training it.",
            stacklevel=3,
        )
    if left:
        told.insert(0, f"left out what its subnetwork cannot have: {'; '.join(left)}")
    if told:
        warnings.warn(
            f"In the compile settings of {parent.name!r}: {'; '.join(told)}. Call compile() on the "
            "subnetwork where you want others.",
            stacklevel=3,
        )


def _compile(parent: Any, new: Any, config: dict[str, Any]) -> None:
    settings = settings_of(parent)
    if settings is None or not isinstance(new, type(parent)):
        new.compile_from_config(config)
        return
    # Keras reads no settings back into a class whose `compile` takes more than its own, nor what
    # its optimizer remembers: that takes its memory when it is trained.
    given = keras.saving.deserialize_keras_object(config)
    new.compile(**given, **settings(parent))


def is_sparse(loss: Any) -> bool | None:
    """Tell whether a loss compares label numbers, or rows; None for a user's own."""
    if "sparse" in name_of(loss):
        return True
    module = getattr(loss, "__module__", None) or type(loss).__module__
    return False if isinstance(loss, str) or module.startswith("keras.") else None


def _classes(parent: Any, new: Any, answer: Answer) -> Classes:
    count = int(functional(parent).outputs[answer.index].shape[-1] or 1)
    # The one value of a yes/no parent is that of its label 1.
    positions = {0: None, 1: 0} if count == 1 else {i: i for i in range(count)}
    return Classes(
        answer.head,
        count,
        tuple(None if label is None else positions[label] for label in answer.labels),
        len(functional(new).outputs[answer.index].shape),
    )


def _change(classes: Classes, word: str, left: list[str], told: list[str]) -> Callable[[Any], Any]:
    """Return what makes a loss or metric fit; what has no place is noted, and becomes None."""

    def change(item: Any) -> Any:
        try:
            return fitted(item, classes, told)
        except NoPlaceError as reason:
            config = item.get("config") if isinstance(item, dict) else None
            own = config.get("name") if isinstance(config, dict) else None
            left.append(f"{word} {own or name_of(item)!r} ({reason})")
            return None

    return change


def _fitting(entry: Any, fit: Callable[[Any], Any], answer: Answer, key: str, outputs: int) -> Any:
    """Change a serialised loss or list of metrics, only that of the output that answers."""

    def change(item: Any) -> Any:
        new = fit(item)
        summed = answer.head in ("other", "binary") and answer.kind == "linear"
        return _of_probabilities(new) if summed else new

    if outputs > 1 and isinstance(entry, (list, tuple)):
        return [_each(e, change) if i == answer.index else e for i, e in enumerate(entry)]
    if outputs > 1 and isinstance(entry, dict) and "class_name" not in entry:
        own = (answer.output, key)
        return {k: _each(e, change) if k in own else e for k, e in entry.items()}
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


def _of_probabilities(item: Any) -> Any:
    if isinstance(item, dict) and item.get("config", {}).get("from_logits"):
        return {**item, "config": {**item["config"], "from_logits": False}}
    return item
