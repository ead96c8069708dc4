"""A language model as a file that generates: `prefill` and `decode` over a key and value cache.

Names and shapes are those that LiteRT-LM reads: `tokens`, `input_pos`, `kv_cache_k_0` and so on,
`logits`. The steps lie on the last axis but one of a cache, where LiteRT-LM looks for its length.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

from tflite_export import recipes
from tflite_export.conversion import saved_model
from tflite_export.conversion.left_in_float import left_in_float
from tflite_export.errors import ConversionError, ExportError, FlatbufferError, OptionError
from tflite_export.files import read
from tflite_export.flatbuffer import container, packing
from tflite_export.flatbuffer.metadata_types import Files, Metadata
from tflite_export.keras_model.decoding import Decoding, decoding
from tflite_export.keras_model.elsewhere import on_tensorflow
from tflite_export.recipes import Recipe
from tflite_export.running.silence import captured
from tflite_export.variants import Variant, variant

__all__ = ["Generator", "convert_generative"]

Array = np.ndarray[Any, Any]
PREFILL, DECODE = "prefill", "decode"
_PREFILL = 32
_TOKENS, _PLACES, _SCORES = "tokens", "input_pos", "logits"


@on_tensorflow
def convert_generative(
    model: Any,
    *,
    cache_length: int,
    prefill_length: int | None = None,
    quantize: str | Recipe | None = None,
    name: str | None = None,
    description: str = "",
    files: Files | None = None,
) -> bytes:
    """Convert a language model of KerasHub to a file that generates.

    The file has two signatures. `prefill` reads `prefill_length` tokens of a prompt at a time,
    `decode` reads one and scores the next. Both take and give keys and values of all tokens before.
    `Generator` runs it, `verify` compares it, and `to_litertlm` packs it for LiteRT-LM.

    Args:
        model: A task that generates, such as `keras_hub.models.LlamaCausalLM`, or a cut of one.
        cache_length: How many tokens a prompt and its answer have together at most. The cache is as
            large from the beginning.
        prefill_length: Tokens of a prompt read at a time; 32 by default, or as many as the cache
            takes. The last ones of a prompt, if they are fewer, take as long.
        quantize: The variant, or a recipe, as for `convert`; variants that measure ranges on
            samples are refused.
        name: The model's name in the metadata; the Keras name by default.
        description: Text for the metadata.
        files: Files to pack, as for `convert`.

    Returns:
        The flatbuffer.

    Raises:
        OptionError: The model is no such task, knows fewer positions, or an argument is unknown.
        ConversionError: The model has no such form; `.log` holds the converter's words.
        MetadataError: Files do not fit.

    Example:
        >>> flat = tflite_export.convert_generative(llama, cache_length=16, prefill_length=4)
        >>> tflite_export.Generator(flat).generate([3, 1, 4], max_new_tokens=2).shape
        (5,)
    """
    if not isinstance(cache_length, int) or cache_length < 1:
        raise OptionError(f"cache_length must be at least 1. Received: {cache_length!r}.")
    prefill = min(_PREFILL, cache_length) if prefill_length is None else prefill_length
    if not isinstance(prefill, int) or not 1 <= prefill <= cache_length:
        raise OptionError(
            f"prefill_length must be from 1 to cache_length, {cache_length}. Received: "
            f"{prefill_length!r}."
        )
    wanted: str | Recipe = "float32" if quantize is None else quantize
    row = variant(wanted) if isinstance(wanted, str) else variant(None)
    with captured():
        # The last tokens of a prompt may reach over the cache's end, padding and all.
        told = decoding(model, cache_length + prefill - 1)
    rules = None
    if not isinstance(wanted, str):
        rules = recipes.rules(wanted, told.origin)
    elif row.tool == "quantizer":
        rules = recipes.rules(row, told.origin)
    if row.needs_samples or (rules is not None and recipes.needs_samples(rules)):
        raise OptionError(
            "a file that generates has no variants whose ranges are measured on samples. Take "
            "'dynamic', 'weight_int8', 'weight_int4', 'dynamic_int4' or 'float16'."
        )
    stamp = row.name if isinstance(wanted, str) else f"recipe:{recipes.loosest(wanted).name}"
    finished = _run(told, row, rules, (cache_length, prefill), stamp)
    container.share(finished)
    about = Metadata(name=name or told.origin.name, description=description, quantize=stamp)
    return packing.pack(finished, packing.describe(about, finished, files=files))


class Generator:
    """Runs a file of `convert_generative` in LiteRT's interpreter.

    Args:
        flat: The file, or its path.
        threads: CPU threads the interpreter may use.

    Attributes:
        cache_length: How many tokens a prompt and its answer have together at most.
        prefill_length: Tokens of a prompt that are read at a time.
        vocabulary: How many tokens are scored.

    Raises:
        FlatbufferError: It is damaged, or does not generate.
        ExportFileError: The path cannot be read.

    Example:
        >>> flat = tflite_export.convert_generative(llama, cache_length=16, prefill_length=4)
        >>> generator = tflite_export.Generator(flat)
        >>> generator.cache_length, generator.prefill_length, generator.vocabulary
        (16, 4, 30)
    """

    def __init__(self, flat: bytes | str | os.PathLike[str], *, threads: int = 1) -> None:
        data = read(flat) if isinstance(flat, (str, os.PathLike)) else flat
        container.check(data)
        if not generates(container.parse(data)):
            raise FlatbufferError(
                "this file does not generate: it lacks the signatures prefill and decode with a "
                "cache. Make one with tflite_export.convert_generative."
            )
        failure: Exception | None = None
        with captured():
            try:
                # The runners hold the interpreter, which reads the weights where they lie.
                made = Interpreter(model_content=bytes(data), num_threads=threads)
                self._prefill = made.get_signature_runner(PREFILL)
                self._decode = made.get_signature_runner(DECODE)
            except (RuntimeError, ValueError) as error:
                failure = error
        if failure is not None:
            raise FlatbufferError(f"LiteRT cannot run this model: {failure}") from failure
        details = self._prefill.get_input_details()
        self._caches = {
            name: tuple(int(size) for size in detail["shape"])
            for name, detail in details.items()
            if name not in (_TOKENS, _PLACES)
        }
        self.prefill_length = int(details[_TOKENS]["shape"][1])
        self.cache_length = int(next(iter(self._caches.values()))[2])
        self.vocabulary = int(self._decode.get_output_details()[_SCORES]["shape"][-1])

    def generate(
        self,
        tokens: Sequence[int] | Array,
        *,
        max_new_tokens: int | None = None,
        stop_tokens: Sequence[int] = (),
        choose: Callable[[Array], int] | None = None,
    ) -> Array:
        """Continue a prompt.

        Args:
            tokens: The prompt, `(tokens,)`.
            max_new_tokens: How many to add at most; as many as the cache takes by default.
            stop_tokens: Tokens that end it; the one that did is part of what comes back.
            choose: Takes the scores of all tokens, `(vocabulary,)`, and gives the next; by default
                the likeliest.

        Returns:
            Prompt and answer, int32 `(tokens,)`.

        Raises:
            OptionError: The prompt is empty or too long, or holds unknown tokens.

        Example:
            >>> flat = tflite_export.convert_generative(llama, cache_length=16, prefill_length=4)
            >>> generator = tflite_export.Generator(flat)
            >>> len(generator.generate([5, 6, 7, 8, 9, 10]))
            16
        """
        prompt = self._checked(tokens)
        added = self.stream(
            prompt, max_new_tokens=max_new_tokens, stop_tokens=stop_tokens, choose=choose
        )
        return np.concatenate([prompt, np.fromiter(added, np.int32)])

    def stream(
        self,
        tokens: Sequence[int] | Array,
        *,
        max_new_tokens: int | None = None,
        stop_tokens: Sequence[int] = (),
        choose: Callable[[Array], int] | None = None,
    ) -> Iterator[int]:
        """Give the tokens behind a prompt one after another, as `generate` adds them.

        Raises:
            OptionError: The prompt is empty or too long, or holds unknown tokens.
        """
        prompt = self._checked(tokens)
        most = self.cache_length - len(prompt)
        count = most if max_new_tokens is None else min(max_new_tokens, most)
        caches = self._read(prompt[:-1])
        token, choose = int(prompt[-1]), choose or _likeliest
        for place in range(len(prompt) - 1, len(prompt) - 1 + count):
            scores, caches = self._next(token, place, caches)
            token = int(choose(scores))
            yield token
            if token in stop_tokens:
                return

    def scores(self, tokens: Sequence[int] | Array, *, start: int) -> Array:
        """Score the token behind each of a text's, but for a beginning that is prefilled.

        Args:
            tokens: The text, `(tokens,)`.
            start: How many of them are prefilled.

        Returns:
            Logits, float32 `(tokens - start, vocabulary)`.

        Raises:
            OptionError: The text is empty or too long, holds unknown tokens, or ends where it is
                prefilled.
        """
        text = self._checked(tokens)
        if not 0 <= start < len(text):
            raise OptionError(
                f"`start` must leave a token to score, 0 to {len(text) - 1}. Received: {start!r}."
            )
        caches, found = self._read(text[:start]), []
        for place in range(start, len(text)):
            scores, caches = self._next(int(text[place]), place, caches)
            found.append(scores)
        return np.stack(found)

    def _read(self, tokens: Array) -> dict[str, Array]:
        """Prefill tokens, and give the caches after them."""
        caches = {name: np.zeros(shape, np.float32) for name, shape in self._caches.items()}
        for start in range(0, len(tokens), self.prefill_length):
            part = tokens[start : start + self.prefill_length]
            padded = np.zeros((1, self.prefill_length), np.int32)
            padded[0, : len(part)] = part
            places = np.arange(start, start + self.prefill_length, dtype=np.int32)
            caches = self._prefill(**{_TOKENS: padded, _PLACES: places, **caches})
        return caches

    def _next(
        self, token: int, place: int, caches: dict[str, Array]
    ) -> tuple[Array, dict[str, Array]]:
        """Read a token, and score what comes behind it."""
        asked = {_TOKENS: np.array([[token]], np.int32), _PLACES: np.array([place], np.int32)}
        answers = self._decode(**asked, **caches)
        return answers.pop(_SCORES)[0, -1], answers

    def _checked(self, tokens: Sequence[int] | Array) -> Array:
        """Read a prompt."""
        text = np.asarray(tokens)
        if text.ndim != 1 or not text.size or text.dtype.kind not in "iu":
            raise OptionError(
                "expected a prompt of one token or more, whole numbers (tokens,). Received: shape "
                f"{text.shape}, type {text.dtype}."
            )
        if not 0 <= text.min() <= text.max() < self.vocabulary:
            raise OptionError(
                f"this file knows {self.vocabulary:,} tokens. Received: numbers from {text.min()} "
                f"to {text.max()}."
            )
        if len(text) > self.cache_length:
            raise OptionError(
                f"this file holds {self.cache_length:,} tokens. Received: {len(text):,}; convert "
                "with a larger cache_length."
            )
        return text.astype(np.int32)


def generates(model: Any) -> bool:
    """Whether a flatbuffer has the two signatures of a file that generates."""
    known = {container.text(item.signatureKey) for item in model.signatureDefs or ()}
    return {PREFILL, DECODE} <= known


def _likeliest(scores: Array) -> int:
    return int(scores.argmax())


def _names(widths: Sequence[int]) -> list[str]:
    return [f"kv_cache_{'kv'[at % 2]}_{at // 2}" for at in range(len(widths))]


def _run(
    told: Decoding,
    row: Variant,
    rules: list[dict[str, Any]] | None,
    lengths: tuple[int, int],
    stamp: str,
) -> Any:
    """Convert in silence; a failure is one error that holds what was silenced."""
    failure: Exception | None = None
    with captured() as log:
        try:
            return _converted(told, row, rules, lengths)
        # Tracing runs KerasHub's own layers: anything can come out of it.
        except Exception as error:
            failure = error
    if isinstance(failure, ExportError):
        raise failure
    message = saved_model.explain(told.origin, stamp, failure, log.text)
    raise ConversionError(message, log=f"{failure}\n{log.text}") from failure


def _converted(
    told: Decoding,
    row: Variant,
    rules: list[dict[str, Any]] | None,
    lengths: tuple[int, int],
) -> Any:
    cache, prefill = lengths
    names = _names(told.widths)

    def function(steps: int, scored: bool) -> saved_model.Function:
        specs = {
            _TOKENS: tf.TensorSpec((1, steps), "int32", name=_TOKENS),
            _PLACES: tf.TensorSpec((steps,), "int32", name=_PLACES),
        } | {
            name: tf.TensorSpec((1, 1, cache, width), "float32", name=name)
            for name, width in zip(names, told.widths, strict=True)
        }

        def serve(**given: Any) -> dict[str, Any]:
            # Tokens that only fill a prompt's last part up may reach over the end.
            room = [[0, 0], [0, 0], [0, steps - 1], [0, 0]]
            caches = [tf.pad(given[name], room) if steps > 1 else given[name] for name in names]
            scores, after = told.step(given[_TOKENS], given[_PLACES][0], caches)
            answers = dict(zip(names, (part[:, :, :cache] for part in after), strict=True))
            return answers | ({_SCORES: scores} if scored else {})

        return serve, specs

    flat = saved_model.convert_functions(
        {PREFILL: function(prefill, scored=False), DECODE: function(1, scored=True)},
        told.origin,
        row if rules is None else variant(None),
    )
    model = _ordered(container.parse(flat))
    if rules is None:
        # The converter leaves small kernels in float32.
        left = row.name == "dynamic" and recipes.installed()
        if not (left and left_in_float(model, told.origin.layers)):
            return model
        return _converted(told, row, recipes.rules(row, told.origin), lengths)
    return _ordered(container.parse(recipes.apply(container.serialize(model), rules, None)))


def _ordered(model: Any) -> Any:
    """Let the first signature be that of the first graph, which readers of one graph look at."""
    model.signatureDefs = sorted(model.signatureDefs, key=lambda item: item.subgraphIndex)
    return model
