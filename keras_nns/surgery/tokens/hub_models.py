"""Backbones and tasks of KerasHub with fewer tokens: of their own class, by its configuration.

A class is told how many tokens there are. What it makes for fewer has the same weights, of which
those that carry tokens are shorter along one axis: tables, tied or not, and biases of heads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from keras_hub.models import Backbone, Task

from keras_nns.engine import operations
from keras_nns.engine.tensors import as_tensor, unshared
from keras_nns.errors import SurgeryError
from keras_nns.graph.rules.keras_hub.sized_models import told, told_anew
from keras_nns.surgery.copying import copied

_SIZES = ("vocabulary_size", "vocab_size")


def is_hub(model: Any) -> bool:
    """Return whether a model is a backbone or a task of KerasHub."""
    return isinstance(model, Backbone | Task)


def vocabulary(model: Any) -> tuple[int, Any]:
    """Return how many tokens a model knows, and its tokenizer or None.

    Raises:
        SurgeryError: Its configuration does not say how many, or says it in several places.
    """
    tokenizer = getattr(getattr(model, "preprocessor", None), "tokenizer", None)
    return int(told(_backbone(model))[_size_key(model)]), tokenizer


def _backbone(model: Any) -> Any:
    return model if isinstance(model, Backbone) else model.backbone


def _size_key(model: Any) -> str:
    """Return by which name a backbone is told how many tokens there are.

    Raises:
        SurgeryError: By none, or it is told of tokens in other ways too.
    """
    backbone = _backbone(model)
    keys = [key for key in told(backbone) if "vocab" in key]
    if len(keys) != 1 or keys[0] not in _SIZES:
        raise SurgeryError(
            f"{type(backbone).__name__} is told the size of its vocabulary as "
            f"{' and '.join(keys) or 'nothing that is known here'}. Only backbones with one "
            f"{_SIZES[0]} can lose tokens."
        )
    return str(keys[0])


def smaller(model: Any, kept: Sequence[int], tokenizer: Any) -> Any:
    """Build a model of the same class that knows some of the tokens, not compiled yet.

    Args:
        model: The user's backbone or task.
        kept: Numbers of the tokens that stay, rising.
        tokenizer: The tokenizer cut alike, for the preprocessor of a task that has one.

    Raises:
        SurgeryError: The class makes other weights than it has, such as LoRA factors.
    """
    places = {number: place for place, number in enumerate(kept)}
    model = _told(model)
    backbone = _renumbered(_backbone(model), _size_key(model), places)
    new = backbone
    if isinstance(model, Task):
        config = {**model.get_config(), "backbone": backbone, "compile": False}
        config["preprocessor"] = _preprocessor(model.preprocessor, tokenizer)
        new = type(model).from_config(config)
    old, fresh = model.weights, new.weights
    if len(old) != len(fresh):
        raise SurgeryError(
            f"{model.name!r} has {len(old)} weights, and its class makes {len(fresh)}: it "
            "carries LoRA factors or something else that its configuration does not tell. Merge "
            "those first."
        )
    before, _ = vocabulary(model)
    for source, target in zip(old, fresh, strict=True):
        target.assign(_rows(source, target, before, kept))
    for source, target in zip(
        model._flatten_layers(), new._flatten_layers(), strict=False
    ):  # Outer ones first: setting it reaches everything inside.
        if target.trainable != source.trainable:
            target.trainable = source.trainable
    return new


def _told(model: Any) -> Any:
    """Return a model, or its equal of a class that writes down what the model's does not.

    KerasHub's Llama leaves out that its embeddings are tied (0.32).
    """
    backbone = _backbone(model)
    tied = getattr(backbone, "tie_word_embeddings", False)
    return copied(model) if tied and "tie_word_embeddings" not in told(backbone) else model


def _renumbered(backbone: Any, key: str, places: Mapping[int, int]) -> Any:
    """Return a new backbone, told its tokens anew: how many, and which are special."""
    config = told(backbone)
    for name, value in config.items():
        if name.endswith("token_id") and isinstance(value, int) and value >= 0:
            if value not in places:
                raise SurgeryError(
                    f"{type(backbone).__name__} is told that {name} is {value}. It is a special "
                    "token, and has to stay."
                )
            config[name] = places[value]
    policy = config.get("dtype")
    if isinstance(policy, dict) and policy.get("class_name") == "DTypePolicy":
        # By name, as users give it: layers of T5 cannot be written down with the object.
        config["dtype"] = policy["config"]["name"]
    return told_anew(backbone, {**config, key: len(places)}, (config[key], len(places)))


def _preprocessor(given: Any, tokenizer: Any) -> Any:
    if getattr(given, "tokenizer", None) is None:
        return given
    return type(given).from_config({**given.get_config(), "tokenizer": tokenizer})


def _rows(source: Any, target: Any, before: int, kept: Sequence[int]) -> Any:
    """Return a weight of the parent for the tokens that stay.

    Raises:
        SurgeryError: Its shape is no shorter one of the parent's.
    """
    value = as_tensor(source.value)
    old, new = tuple(source.shape), tuple(target.shape)
    if old == new:
        return unshared(value)
    axes = [axis for axis, pair in enumerate(zip(old, new, strict=False)) if pair[0] != pair[1]]
    if len(old) != len(new) or [(old[a], new[a]) for a in axes] != [(before, len(kept))]:
        raise SurgeryError(
            f"Weight {source.path!r} is {old}, and of {len(kept):,} of {before:,} tokens its class "
            f"makes it {new}: its vocabulary cannot be cut."
        )
    return operations.gather(value, kept, axis=axes[0])
