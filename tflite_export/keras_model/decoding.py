"""Read a KerasHub task that generates as a pure step over a cache of keys and values."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import tensorflow as tf

from tflite_export.errors import ConversionError, OptionError
from tflite_export.keras_model.source import Source, source

_ASKED = ("call_with_cache", "_build_cache")
_POSITIONS = "PositionEmbedding"
_STACKED, _SINGLE = 6, 4
"""Axes of a cache of all layers, `(1, layers, 2, length, heads, size)`, and of one's keys."""


@dataclass(frozen=True)
class Decoding:
    """A language model, ready to be traced token by token.

    Attributes:
        origin: The model as a whole.
        length: Tokens that the cache holds.
        widths: Numbers of a token in the keys, and in the values, of each layer: `(k_0, v_0, k_1,
            …)`.
        vocabulary: Scores of a next token.
        step: From tokens `(1, steps)`, the place of the first of them, a scalar, and caches `(1, 1,
            length, width)` to scores `(1, steps, vocabulary)` and the caches after them.
    """

    origin: Source
    length: int
    widths: tuple[int, ...]
    vocabulary: int
    step: Callable[[Any, Any, Sequence[Any]], tuple[Any, list[Any]]]


def decoding(model: Any, length: int) -> Decoding:
    """Check that a model can be asked token by token, and describe it.

    Args:
        model: A task of KerasHub that generates, such as `keras_hub.models.LlamaCausalLM`.
        length: Tokens that the cache holds.

    Raises:
        OptionError: It is no such task, or cannot read so many tokens.
        ConversionError: It computes outside float32, or keeps something else than keys and values.
    """
    origin = source(model)
    if not all(
        callable(getattr(model, name, None)) for name in ("call_with_cache", "_build_cache")
    ):
        raise OptionError(
            f"model {model.name!r} ({type(model).__name__}) cannot be asked token by token. "
            "Expected a task of KerasHub that generates, such as keras_hub.models.LlamaCausalLM; "
            "tflite_export.convert makes a file of any other model's forward pass."
        )
    if model.compute_dtype != "float32":
        raise ConversionError(
            f"model {model.name!r} computes in {model.compute_dtype}. Load it with dtype='float32'."
        )
    tables = [layer for layer in model._flatten_layers() if type(layer).__name__ == _POSITIONS]
    longest = min((int(layer.sequence_length) for layer in tables), default=None)
    if longest is not None and length > longest:
        raise OptionError(
            f"model {model.name!r} knows {longest:,} positions, and {length:,} are asked for: "
            "cache_length and what prefill_length reaches beyond it. Ask for fewer."
        )
    cache, vocabulary = _traced(model, length)
    leaves = keras.tree.flatten(cache)
    stacked = len(leaves) == 1 and len(leaves[0].shape) == _STACKED
    known = (
        leaves[0].shape[2:4] == (2, length)
        if stacked
        else len(leaves) > 1
        and len(leaves) % 2 == 0
        and all(len(leaf.shape) == _SINGLE and leaf.shape[1] == length for leaf in leaves)
    )
    if not known:
        shapes = sorted({str(tuple(leaf.shape)) for leaf in leaves})
        raise ConversionError(
            f"model {model.name!r} ({type(model).__name__}) keeps something else than the keys and "
            f"values of all tokens while it generates (shapes {', '.join(shapes)}). "
            "tflite_export.convert makes a file of its forward pass."
        )
    ends = [tuple(int(size) for size in leaf.shape[-2:]) for leaf in leaves]
    if stacked:
        ends *= 2 * int(leaves[0].shape[1])

    def step(tokens: Any, place: Any, caches: Sequence[Any]) -> tuple[Any, list[Any]]:
        # What a runtime takes has one axis of steps; longer ones are for the last tokens.
        parts = [tf.reshape(part, (1, -1, *end)) for part, end in zip(caches, ends, strict=True)]
        if stacked:
            pairs = [tf.stack(parts[at : at + 2], axis=1) for at in range(0, len(parts), 2)]
            given: Any = tf.stack(pairs, axis=1)
        else:
            given = keras.tree.pack_sequence_as(cache, parts)
        with keras.StatelessScope():
            scores, _, after = model.call_with_cache(tokens, given, place)
        found = keras.tree.flatten(after)
        if stacked:
            found = [found[0][:, at // 2, at % 2] for at in range(len(ends))]
        return scores, [
            tf.reshape(part, (1, 1, -1, heads * size))
            for part, (heads, size) in zip(found, ends, strict=True)
        ]

    widths = tuple(heads * size for heads, size in ends)
    return Decoding(origin, length, widths, vocabulary, step)


def _traced(model: Any, length: int) -> tuple[Any, int]:
    """Find what a model keeps while it generates, and how many tokens it scores."""
    wanted = list(inspect.signature(model._build_cache).parameters.values())[1:]
    rest = [None for one in wanted if one.default is inspect.Parameter.empty]

    def build(tokens: Any) -> tuple[Any, Any]:
        with keras.StatelessScope():
            cache = model._build_cache(tokens, *rest)[-1]
            scores = model.call_with_cache(tokens[:, :1], cache, 0)[0]
        return cache, scores

    spec = tf.TensorSpec((1, length), "int32")
    try:
        traced = tf.function(build, autograph=False).get_concrete_function(spec)
    except Exception as error:  # KerasHub's own code: anything can come out of it.
        said = " ".join(str(error).split())[:200]
        raise ConversionError(
            f"model {model.name!r} ({type(model).__name__}) cannot be asked for a cache of "
            f"{length:,} tokens: {type(error).__name__}: {said}"
        ) from error
    cache, scores = traced.structured_outputs
    return cache, int(scores.shape[-1])
