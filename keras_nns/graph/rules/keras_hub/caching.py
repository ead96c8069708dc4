"""Caches of keys and values for blocks of any sizes.

A task of KerasHub keeps one tensor for all of its blocks, which samplers repeat and reorder, and
reckons its size from numbers of the backbone. It is given the numbers of the first parent, so that
there is room for as many heads as a block of it had, and each block its own part of the tensor.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

from keras import ops, tree

# Of keyword arguments of a block that hold a cache, where the attention lies that it is of.
_ATTENTIONS = {
    "self_attention_cache": ("_self_attention_layer", "self_attention_layer", "self_attn"),
    "cross_attention_cache": ("_cross_attention_layer",),
    "attention_cache": ("attention", "attention_layer"),
    "cache": ("attention",),
}
_HEADS = (
    *("num_key_value_heads", "_num_key_value_heads"),
    *("num_heads", "_num_heads", "num_attention_heads"),
)


def with_room(task: Any, numbers: Mapping[str, Any], blocks: Mapping[str, Sequence[Any]]) -> Any:
    """Return a task whose methods that go through a cache take its blocks for those of one size.

    Args:
        task: A task with blocks of any sizes.
        numbers: What its backbone says of its sizes, such as heads.
        blocks: Lists of blocks that the backbone has.
    """
    given = {name: [_InRoom(block, {}) for block in held] for name, held in blocks.items()}
    return _StandIn(task, {"backbone": _StandIn(task.backbone, {**numbers, **given})})


class _StandIn:
    """Another object with some attributes of its own."""

    def __init__(self, real: Any, own: Mapping[str, Any]) -> None:
        self._real = real
        vars(self).update(own)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


class _InRoom(_StandIn):
    """A block that is given caches with room for more heads than it has."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        given = [name for name in _ATTENTIONS if kwargs.get(name) is not None]
        full = [kwargs[name] for name in given]
        for name, cache in zip(given, full, strict=True):
            heads = _heads(self._real, name)
            kwargs[name] = tree.map_structure(functools.partial(_of_first, heads), cache)
        found = self._real(*args, **kwargs)
        if not given:
            return found
        answer, *own = found
        return (
            answer,
            *(tree.map_structure(_padded, *pair) for pair in zip(own, full, strict=True)),
        )


def _of_first(heads: int, cache: Any) -> Any:
    return cache[..., :heads, :]


def _padded(own: Any, full: Any) -> Any:
    """Make a cache as long in heads as the one that it was cut out of."""
    absent = full.shape[-2] - own.shape[-2]
    return ops.pad(own, [[0, 0]] * (len(own.shape) - 2) + [[0, absent], [0, 0]])


def _heads(block: Any, cache: str) -> int:
    """Return how many key and value heads a block has."""
    holders = [getattr(block, name) for name in _ATTENTIONS[cache] if hasattr(block, name)]
    for holder in (*holders, block):
        for name in _HEADS:
            if hasattr(holder, name):
                return int(getattr(holder, name))
    raise AttributeError(f"{block.name!r} does not say how many heads it has")
