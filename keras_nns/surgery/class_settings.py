"""Settings of losses and metrics that count classes, renumbered for what a subnetwork answers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_nns.surgery.lineage import Head

Config = dict[str, Any]


class NoPlaceError(Exception):
    """A loss or metric has no meaning for what a subnetwork answers."""


@dataclass(frozen=True)
class Classes:
    """Where the classes of a parent are among the answers of its subnetwork.

    Attributes:
        head: The subnetwork's head.
        count: How many values the parent answers.
        positions: For each answer, the position of the parent that it stands for, or None.
        rank: Number of axes of the answers, the samples' included.
    """

    head: Head
    count: int
    positions: tuple[int | None, ...]
    rank: int = 2

    @property
    def width(self) -> int:
        """How many values the subnetwork answers."""
        return len(self.positions)

    def number(self, old: int, setting: str) -> int:
        """Return the new number of a class.

        Raises:
            NoPlaceError: It is none of those answered.
        """
        if old not in self.positions:
            raise NoPlaceError(f"{setting}={old!r} is a class that it does not answer")
        return self.positions.index(old)

    def values(self, old: Any, setting: str) -> list[float]:
        """Return the numbers that stand for each class, of those that are answered.

        Raises:
            NoPlaceError: An answer is no single class of the parent.
        """
        if any(position is None for position in self.positions):
            raise NoPlaceError(f"{setting} has no value for its answer 'other' or for several")
        return [float(old[position]) for position in self.positions if position is not None]


def name_of(item: Any) -> str:
    """Return the name of a loss or metric in Keras's words: `sparse_categorical_crossentropy`."""
    if isinstance(item, dict):
        item = item.get("class_name", "")
    if not isinstance(item, str):
        item = getattr(item, "__name__", None) or type(item).__name__
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", item).lower()


def fitted(item: Any, classes: Classes, told: list[str]) -> Any:
    """Return a serialised loss or metric that means for a subnetwork what it meant for its parent.

    Args:
        item: Its name, or what Keras writes of it.
        classes: Which classes are answered.
        told: Gets what was taken for granted.

    Raises:
        NoPlaceError: There is none; the message says why.
    """
    own = isinstance(item, dict) and not str(item.get("module")).startswith("keras")
    if classes.head == "binary" and not own:
        item = _of_one_probability(item)
    if isinstance(item, dict) and isinstance(item.get("config"), dict):
        item = {**item, "config": _renumbered(item, classes, told, own=own)}
    elif name_of(item) in _BEST_OF and _BEST_OF[name_of(item)] >= classes.width:
        raise NoPlaceError(f"each of its {classes.width} answers is among the best ones")
    if own:
        _try(item, classes)
    return item


_BEST_OF = {"top_k_categorical_accuracy": 5, "sparse_top_k_categorical_accuracy": 5}
"""Metrics of the best answers by name, with how many that means."""

_ONE_PROBABILITY = {
    "categorical_crossentropy": "BinaryCrossentropy",
    "sparse_categorical_crossentropy": "BinaryCrossentropy",
    "kl_divergence": "BinaryCrossentropy",
    "categorical_focal_crossentropy": "BinaryFocalCrossentropy",
    "categorical_accuracy": "accuracy",
    "sparse_categorical_accuracy": "accuracy",
}
"""What takes the place of what compares distributions over classes.

KL(y ‖ p) over the two answers yes and no is the binary crossentropy less the entropy of y, which is
0 for labels.
"""

_ROWS = (
    "categorical_hinge",
    "categorical_generalized_cross_entropy",
    "circle",
    "concordance_correlation",
    "cosine_similarity",
    "ctc",
    "io_u",
    "mean_io_u",
    "one_hot_io_u",
    "one_hot_mean_io_u",
    "pearson_correlation",
    "sparse_top_k_categorical_accuracy",
    "top_k_categorical_accuracy",
)
"""What reads several values of a sample, and nothing from one."""

_KEPT_SETTINGS = ("reduction", "label_smoothing", "gamma")


def _of_one_probability(item: Any) -> Any:
    """Return what a loss or metric of Keras becomes for one probability.

    Raises:
        NoPlaceError: Nothing.
    """
    name = _full_name(item)
    if name in _ROWS:
        raise NoPlaceError("it compares several answers, and yes or no is one")
    config = item.get("config", {}) if isinstance(item, dict) else {}
    kind = {"f1score": "F1Score", "fbeta_score": "FBetaScore"}.get(name)
    if kind is not None and config.get("threshold") is None:
        # Without a threshold the largest answer counts as yes, which one always is.
        return _of_keras("metrics", kind, {**config, "threshold": 0.5})
    new = _ONE_PROBABILITY.get(name)
    if new is None:
        return item
    if config.get("ignore_class") is not None:
        raise NoPlaceError("a yes/no answer has no ignore_class")
    if not isinstance(item, dict) or item["module"] == "keras.metrics":
        return name_of(new)
    return _of_keras("losses", new, {k: config[k] for k in _KEPT_SETTINGS if k in config})


def _of_keras(module: str, name: str, config: Config) -> Config:
    """Write down a loss or metric as Keras does."""
    return {
        "module": f"keras.{module}",
        "class_name": name,
        "config": config,
        "registered_name": None,
    }


def _full_name(item: Any) -> str:
    """Return the full name of a loss or metric that may be given by a short one, `"kld"`."""
    if isinstance(item, str):
        for get in (keras.losses.get, keras.metrics.get):
            try:
                return _full_name(get(item))
            except ValueError:
                continue
    return name_of(item).replace("kldivergence", "kl_divergence")


def _renumbered(item: Config, classes: Classes, told: list[str], *, own: bool) -> Config:
    config: Config = dict(item["config"])
    if item.get("class_name") == "BinaryIoU":  # Its classes are no and yes.
        return config
    for setting, renumber in SETTINGS.items():
        if config.get(setting) is not None:
            config |= renumber(_plain(config[setting]), config, classes)
    if own:
        for setting in config.keys() - SETTINGS.keys():
            value = _plain(config[setting])
            if _is_sequence(value) and len(value) == classes.count > 1:
                config[setting] = classes.values(value, setting)
                told.append(f"{setting} of {name_of(item)!r} was taken to be one value per class")
            elif setting not in _NO_CLASS and _may_move(value, classes):
                told.append(
                    f"{setting}={value!r} of {name_of(item)!r} stays as it is, and if it numbers "
                    f"classes, these have other numbers now: {_moves(value, classes)}"
                )
    return config


_NO_CLASS = (
    "axis",
    "seed",
    "num_thresholds",
    "window",
    "window_size",
    "epochs",
    "steps",
    "batch_size",
)
"""Settings of whole numbers that are not taken to number classes, whatever loss has them."""


def _may_move(value: Any, classes: Classes) -> bool:
    """Whether a setting of unknown meaning may number classes that have other numbers now."""
    numbers = value if isinstance(value, (list, tuple)) and value else [value]
    if not all(type(number) is int and 0 <= number < classes.count for number in numbers):
        return False
    return any(_moved(number, classes) != number for number in numbers)


def _moved(number: int, classes: Classes) -> int | None:
    return classes.positions.index(number) if number in classes.positions else None


def _moves(value: Any, classes: Classes) -> str:
    numbers = value if isinstance(value, (list, tuple)) else [value]
    new = {number: _moved(number, classes) for number in dict.fromkeys(numbers)}
    return ", ".join(f"{old} is {'none' if now is None else now}" for old, now in new.items())


def _plain(value: Any) -> Any:
    """Return a setting as Python numbers: arrays are written down as objects of their own."""
    if isinstance(value, dict) and "class_name" in value:
        value = keras.saving.deserialize_keras_object(value)
    if isinstance(value, np.ndarray) or keras.ops.is_tensor(value):
        return keras.ops.convert_to_numpy(value).tolist()
    return value


def _is_sequence(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and all(isinstance(v, (int, float)) for v in value)


def _class_id(old: int, config: Config, classes: Classes) -> Config:
    new = classes.number(old, "class_id")
    return {"class_id": None if classes.head == "binary" else new}


def _target_class_ids(old: Sequence[int], config: Config, classes: Classes) -> Config:
    return {"target_class_ids": [classes.number(i, "target_class_ids") for i in old]}


def _ignore_class(old: int, config: Config, classes: Classes) -> Config:
    if old in classes.positions:
        return {"ignore_class": classes.positions.index(old)}
    if 0 <= old < classes.count:
        if classes.head == "other":
            raise NoPlaceError(f"ignore_class={old!r} is a part of its answer 'other'")
        return {"ignore_class": None}  # Data for its labels alone has none of that class.
    return {"ignore_class": old}


def _num_labels(old: int, config: Config, classes: Classes) -> Config:
    return {"num_labels": classes.width}


def _multi_label(old: bool, config: Config, classes: Classes) -> Config:
    if not old or classes.head != "binary":
        return {}
    return {"multi_label": False, "num_labels": None, "label_weights": None}


def _by_class(setting: str) -> Callable[[Any, Config, Classes], Config]:
    """Return what picks a setting that has one number for each class; one for all stays."""

    def pick(old: Any, config: Config, classes: Classes) -> Config:
        if not _is_sequence(old):
            return {}
        return {setting: classes.values(old, setting)}

    return pick


def _best(setting: str) -> Callable[[Any, Config, Classes], Config]:
    def check(old: int, config: Config, classes: Classes) -> Config:
        if old >= classes.width:
            raise NoPlaceError(
                f"{setting}={old} is no choice where it answers {classes.width} value(s)"
            )
        return {}

    return check


SETTINGS: Mapping[str, Callable[[Any, Config, Classes], Config]] = {
    "multi_label": _multi_label,
    "class_id": _class_id,
    "target_class_ids": _target_class_ids,
    "num_classes": lambda old, config, classes: {"num_classes": classes.width},
    "ignore_class": _ignore_class,
    "num_labels": _num_labels,
    "label_weights": _by_class("label_weights"),
    "alpha": _by_class("alpha"),
    "k": _best("k"),
    "top_k": _best("top_k"),
}
"""How each setting that counts classes is renumbered. The first may empty those that follow."""


def _try(item: Any, classes: Classes) -> None:
    """Call a loss or metric of the user's own as training would.

    Raises:
        NoPlaceError: It fails on the shapes of the subnetwork, or reads label numbers of one value.
    """
    width, between = classes.width, (1,) * (classes.rank - 2)
    one_hot = np.eye(max(width, 2), dtype="float32")[:, :width].reshape(-1, *between, width)
    numbers = np.arange(len(one_hot)).reshape(-1, *between)
    given = np.full(one_hot.shape, 1 / max(width, 2), dtype="float32")
    if classes.head == "binary" and "sparse" in f"{name_of(item)}{item.get('config')}".lower():
        raise NoPlaceError("it takes label numbers, and yes or no is one probability")
    failed: Exception | None = None
    for wanted in [one_hot] if width == 1 else [one_hot, numbers]:
        try:
            called = keras.saving.deserialize_keras_object(item)
            if isinstance(called, type):
                called = called()
            called(keras.ops.convert_to_tensor(wanted), keras.ops.convert_to_tensor(given))
            return
        except Exception as error:  # the user's own code raises what it likes
            failed = error
    text = " ".join(str(failed).split())[:200]
    raise NoPlaceError(f"it fails on {width} value(s): {text}") from failed
