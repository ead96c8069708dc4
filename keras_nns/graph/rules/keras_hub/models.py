"""Classes of KerasHub's models: what a smaller model of the same class is made of.

A backbone has one number of heads and of hidden units for all of its blocks. Its row says from
which weights of a block these numbers are read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from keras_hub import models, samplers
from keras_hub.src.models.backbone import Backbone

from keras_nns.graph.rules.model_classes import (
    Made,
    Make,
    Part,
    UnlikeError,
    register_class,
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


def backbone(sizes: Sizes, *, filled: str | None = None) -> Make:
    """Return the row of a backbone; the arguments are those of `stock_config`."""

    def make(model: Any, parts: Sequence[Part]) -> Made:
        config = stock_config(model, parts, sizes, filled=filled)
        return type(model).from_config, {"config": config}

    return make


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
    return type(task), task_config(task, parts)


def sampler_of(task: Any) -> dict[str, Any]:
    """Return the sampler that a task was compiled with, as `compile` takes it."""
    return {"sampler": samplers.deserialize(samplers.serialize(task.sampler))}


register_class(
    models.GemmaBackbone,
    make=backbone(
        {
            "num_query_heads": Size("attention.query_dense", 0),
            "num_key_value_heads": Size("attention.key_dense", 0),
            "intermediate_dim": Size("gating_ffw", 1, times=2),
        }
    ),
)
register_class(
    models.GPT2Backbone,
    make=backbone(
        {
            "num_heads": Size("_self_attention_layer._query_dense", 1),
            "head_dim": Size("_self_attention_layer._query_dense", 2),
            "intermediate_dim": Size("_feedforward_intermediate_dense", 1),
        },
        filled="num_heads",
    ),
)
register_class(models.GemmaCausalLM, models.GPT2CausalLM, make=_task, compile=sampler_of)
# Tasks of other classes come back where nothing but tokens leaves (`cut_vocabulary`).
register_settings(models.Task, lambda task: {})
register_settings(models.CausalLM, sampler_of)
