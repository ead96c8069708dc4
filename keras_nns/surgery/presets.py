"""Folders in which KerasHub keeps a model: what it is made of, and its weights in files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import keras

from keras_nns.errors import FileError
from keras_nns.graph.rules import load_extras

_CONFIG, _TASK = "config.json", "task.json"
_WEIGHTS = ("model.weights.h5", "model.weights.json")
_TASK_WEIGHTS = "task.weights.h5"


def is_preset(name: str) -> bool:
    """Return whether a path is a folder that describes a model, by KerasHub or Hugging Face."""
    return (Path(name) / _CONFIG).is_file()


def is_in_pieces(name: str) -> bool:
    """Return whether a preset has its weights by the layers of Keras."""
    return any((Path(name) / weights).is_file() for weights in _WEIGHTS)


def from_preset(name: str, *, weights: bool = True) -> Any:
    """Build the task that a preset is of, or the backbone where it is of none.

    Args:
        name: The folder.
        weights: Whether it gets its weights.

    Raises:
        FileError: KerasHub is not installed.
    """
    try:
        hub = import_module("keras_hub")
    except ImportError as error:
        raise FileError(
            f"{name!r} is a preset of KerasHub. Install it: pip install 'keras-nns[hub]'."
        ) from error
    load_extras()
    kind = hub.models.Backbone
    task = Path(name) / _TASK
    if task.is_file():
        kind = keras.saving.get_registered_object(json.loads(task.read_text())["registered_name"])
    return kind.from_preset(name, load_weights=weights)


def parts_of(model: Any, name: str) -> Iterator[tuple[Any, str, list[Any]]]:
    """Say what of a model lies in which file of its preset.

    Args:
        model: What `from_preset` built.
        name: The folder.

    Yields:
        The model or its backbone, a path, and layers of which nothing is in that file.
    """
    backbone = getattr(model, "backbone", model)
    head = Path(name) / _TASK_WEIGHTS
    if backbone is not model and head.is_file():
        yield model, str(head), list(backbone._flatten_layers())
    path = next(Path(name) / one for one in _WEIGHTS if (Path(name) / one).is_file())
    yield backbone, str(path), []
