"""Classes of KerasHub's models: what a smaller model of the same class is made of.

A backbone has one number of heads and of hidden units for all of its blocks. Its constructor is
told the numbers that its blocks have in common; whether it made what is left is seen by the weights
and the settings of its layers.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from keras_hub import models, samplers
from keras_hub.src.models.backbone import Backbone

from keras_nns.graph.rules.keras_hub.sized import Sized, config_of
from keras_nns.graph.rules.keras_hub.sized_models import (
    SizedBackbone,
    blocks_by_name,
    sized_task,
    wrap,
)
from keras_nns.graph.rules.model_classes import (
    Made,
    Part,
    UnlikeError,
    register_base,
    register_settings,
)


@dataclass(frozen=True)
class Size:
    """Where a number of a backbone's configuration is read from its blocks.

    Attributes:
        path: Of a projection in the block, dotted.
        axis: Of its kernel.
        times: How often the configuration counts each.
    """

    path: str
    axis: int
    times: int = 1

    def of(self, part: Part) -> int:
        """Return the number of a block that stays."""
        found = part.layer
        for step in self.path.split("."):
            found = getattr(found, step)
        return self.times * int(part.left(found._kernel)[self.axis] or 0)


Sizes = Mapping[str, Size]

_CALLED = {"intermediate_size": "intermediate_dim"}
"""What a backbone calls numbers that its layers call otherwise."""


def blocks_of(model: Any, parts: Sequence[Part]) -> list[Part]:
    """Return the blocks of a backbone that stay.

    Raises:
        UnlikeError: None does.
    """
    own = {id(layer) for layer in model.transformer_layers}
    found = [part for part in parts if id(part.layer) in own]
    if not found:
        raise UnlikeError("none of its blocks stays")
    return found


def width_of(model: Any, parts: Sequence[Part]) -> int:
    """Return how many features of the residual stream stay."""
    embedding = next(part for part in parts if part.layer is model.token_embedding)
    return int(embedding.made()[1]["output_dim"])


def common(blocks: Sequence[Part], key: str, size: Size) -> int:
    """Return a number that all blocks have in common.

    Raises:
        UnlikeError: They differ.
    """
    first, *others = blocks
    for other in others:
        if size.of(other) != size.of(first):
            raise UnlikeError(
                f"{key} is {size.of(first)} in {first.layer.name!r} and {size.of(other)} in "
                f"{other.layer.name!r}, and its class has one for all; "
                "keep=nns.uniform(…) keeps the same number in every block"
            )
    return size.of(first)


def stock_config(
    model: Any, parts: Sequence[Part], sizes: Sizes, *, filled: str | None = None
) -> dict[str, Any]:
    """Return the configuration of a backbone with the sizes of what stays.

    Args:
        model: The user's backbone.
        parts: Its layers that stay.
        sizes: Where each number is read.
        filled: Of a class that divides its width by a number of heads, that number's name; the
            size of a head is then read as `head_dim`, and checked.

    Raises:
        UnlikeError: The blocks differ, or heads do not fill the width.
    """
    blocks, width = blocks_of(model, parts), width_of(model, parts)
    for stock, block in zip(model.transformer_layers, blocks, strict=False):
        _check_alike(stock, block.layer)
    found = {key: common(blocks, key, size) for key, size in sizes.items()}
    if filled is not None:
        heads, head_dim = found[filled], found.pop("head_dim")
        if heads * head_dim != width:
            raise UnlikeError(
                f"{heads} heads of {head_dim} do not fill its width of {width}, by which its class "
                "tells the size of a head; let width and heads shrink together"
            )
    config = {**type(model).get_config(model), **found}
    return {**config, "num_layers": len(blocks), "hidden_dim": width}


def _check_alike(stock: Any, layer: Any) -> None:
    """Make sure that a block is what its class makes at that place, sizes aside.

    Raises:
        UnlikeError: A setting that goes by the place of a block differs, such as its window.
    """
    one, other = (
        {k: v for k, v in vars(each).items() if isinstance(v, bool | int | float | str)}
        for each in (stock, layer)
    )
    for key in one.keys() & other.keys() - {"name", "_name"}:
        if one[key] != other[key] and "path" not in key:
            raise UnlikeError(
                f"its class makes {stock.name!r} with {key}={one[key]!r}, and {layer.name!r}, "
                f"which would stand there, has {other[key]!r}"
            )


def backbone(model: Any, parts: Sequence[Part]) -> Made:
    """Return what makes a backbone of the user's class with the sizes of what stays.

    Raises:
        UnlikeError: Its class has no numbers for them.
    """
    if isinstance(model, SizedBackbone):
        raise UnlikeError("its class has sizes of its own")
    config = type(model).get_config(model)
    config |= _in_common(config, parts)
    kept = {id(part.layer) for part in parts}
    for blocks in blocks_by_name(model).values():
        left = [block for block in blocks if id(block) in kept]
        for stock, block in zip(blocks, left, strict=False):
            _check_alike(stock, block)
        if config.get("num_layers") == len(blocks) != len(left):
            config["num_layers"] = len(left)
    return partial(_verified, model, kept), {"config": config}


def _in_common(config: Mapping[str, Any], parts: Sequence[Part]) -> dict[str, Any]:
    """Return the numbers of a backbone's configuration that its layers have another of now.

    A number of a layer is the backbone's where the two are called alike and are the same.
    """
    found: dict[str, dict[Any, str]] = {}
    for part in parts:
        kind, new = part.made()
        if issubclass(kind, Sized) and not new["sizes"].get("told"):
            raise UnlikeError(f"{part.layer.name!r} has sizes that its class cannot be told")
        for own, old in _settings(part.layer).items():
            key = own if own in config else _CALLED.get(own, own)
            told = not isinstance(old, bool) and isinstance(old, int | None)
            if told and key in config and config[key] == old and own in new:
                found.setdefault(key, {}).setdefault(new[own], part.layer.name)
    for key, values in found.items():
        if len(values) > 1:
            (one, first), (other, second), *_ = values.items()
            raise UnlikeError(
                f"{key} is {one} in {first!r} and {other} in {second!r}, and its class has one for "
                "all; keep=nns.uniform(…) keeps the same number in every block"
            )
    return {key: next(iter(values)) for key, values in found.items()}


def _settings(layer: Any) -> dict[str, Any]:
    try:
        return config_of(layer)
    except NotImplementedError:  # Gemma's normalisation says nothing of itself.
        return {}


def _verified(model: Any, kept: Collection[int], config: dict[str, Any]) -> Any:
    """Make a backbone, and make sure that its blocks are set as those of the user's.

    A class may leave a setting out of what it saves, and makes a block with its default then.
    """
    new = type(model).from_config(config)
    made = blocks_by_name(new)
    for name, blocks in blocks_by_name(model).items():
        left = [block for block in blocks if id(block) in kept]
        for old, block in zip(left, made.get(name, ()), strict=False):
            _check_set(old, block)
    return new


def _check_set(old: Any, new: Any) -> None:
    for key, value in vars(old).items():
        if isinstance(value, bool | float | str) and key not in ("name", "_name", "_path"):
            found = vars(new).get(key, value)
            if found != value:
                raise UnlikeError(
                    f"{old.name!r} has {key}={value!r} and its class, told what it saves, makes "
                    f"one with {found!r}"
                )


def task_config(task: Any, parts: Sequence[Part]) -> dict[str, Any]:
    """Return what the constructor of a task takes, with the new backbone.

    The preprocessor is a new one over the same tokenizer, which nothing changes.
    """
    return {
        "backbone": next(part.new for part in parts if isinstance(part.layer, Backbone)),
        "preprocessor": _preprocessor(task.preprocessor),
        "name": task.name,
        "compile": False,
    }


def _preprocessor(given: Any) -> Any:
    tokenizer = getattr(given, "tokenizer", None)
    if tokenizer is None:
        return given
    return type(given).from_config({**given.get_config(), "tokenizer": tokenizer})


def _task(task: Any, parts: Sequence[Part]) -> Made:
    if not any(isinstance(part.layer, Backbone) for part in parts):
        raise UnlikeError("its backbone is none of its layers")
    own = {**type(task).get_config(task), **_own_sizes(task, parts), **task_config(task, parts)}
    if isinstance(own["backbone"], SizedBackbone):
        return sized_task(type(task)), own
    return type(task), own


def _own_sizes(task: Any, parts: Sequence[Part]) -> dict[str, int]:
    """Return the numbers of a task's own that layers behind its backbone have another of now.

    A number is taken for that of an axis which had as many places; the weights of what is made
    show whether it was.
    """
    config = type(task).get_config(task)
    numbers = {key: value for key, value in config.items() if type(value) is int}
    changed: dict[int, set[int]] = {}
    for part in parts:
        for variable in () if part.new is not None else part.layer.variables:
            for old, new in zip(variable.shape, part.left(variable), strict=True):
                if old != new and old in numbers.values():
                    changed.setdefault(old, set()).add(int(new or 0))
    if any(len(sizes) > 1 for sizes in changed.values()):
        raise UnlikeError("layers behind its backbone have other sizes than one another")
    return {key: min(changed[old]) for key, old in numbers.items() if old in changed}


def sampler_of(task: Any) -> dict[str, Any]:
    """Return the sampler that a task was compiled with, as `compile` takes it."""
    return {"sampler": samplers.deserialize(samplers.serialize(task.sampler))}


register_base(Backbone, make=backbone, wrap=wrap)
register_base(models.Task, make=_task)
register_settings(models.Task, lambda task: {})
register_settings(models.CausalLM, sampler_of)
register_settings(models.Seq2SeqLM, sampler_of)
