"""A language model and its file on the same texts: differences, and what the next token costs."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from tflite_export.keras_model.decisions import Array
from tflite_export.keras_model.source import Source
from tflite_export.running.outcome import OutputDifference, TokenComparison

_RANK = 3
_LEAST = 1.2e-38
"""The least that a probability is taken to be: the smallest normal float32."""

_TOKENS, _PADDING = "token_ids", "padding_mask"


@dataclass(frozen=True)
class Asked:
    """Where a language model's inputs hold what it is asked.

    Attributes:
        tokens: Place of the tokens.
        padding: Place of what is true where tokens count; `None` without such an input.
    """

    tokens: int
    padding: int | None

    def counted(self, values: Sequence[Array]) -> Array:
        """Which tokens count that come behind another, `(texts, steps - 1)`."""
        ids = values[self.tokens]
        kept = np.ones(ids.shape, bool) if self.padding is None else values[self.padding] != 0
        return np.asarray(kept[:, 1:] & kept[:, :-1])


def asked(origin: Source) -> Asked | None:
    """Tell a language model, which looks tokens up and scores the same vocabulary at every step.

    Returns:
        What it is asked; `None` for another model.
    """
    if len(origin.outputs) != 1 or not origin.tables:
        return None
    shape = origin.outputs[0].shape
    if len(shape) != _RANK or shape[-1] not in origin.tables:
        return None
    names = [port.name for port in origin.inputs]
    rows = [place for place, port in enumerate(origin.inputs) if len(port.shape) == _RANK - 1]
    if len(names) > 1 and _TOKENS not in names:
        return None
    place = names.index(_TOKENS) if _TOKENS in names else 0
    padding = names.index(_PADDING) if _PADDING in names else None
    return Asked(place, padding) if place in rows else None


def costs(scores: Array, wanted: Array) -> Array:
    """Negative log likelihoods of tokens, in nats.

    Args:
        scores: Logits or probabilities of a vocabulary, `(…, vocabulary)`.
        wanted: The tokens, `(…)`.
    """
    values = scores.astype(np.float64)
    picked = np.take_along_axis(values, wanted[..., None].astype(np.int64), axis=-1)[..., 0]
    if values.min(initial=0.0) >= 0 and np.allclose(values.sum(axis=-1), 1, atol=1e-3):
        return np.asarray(-np.log(np.maximum(picked, _LEAST)))
    top = values.max(axis=-1, keepdims=True)
    return np.asarray(np.log(np.exp(values - top).sum(axis=-1)) + top[..., 0] - picked)


class Tally:
    """Sums up, text by text, how far a file is from its model."""

    def __init__(self) -> None:
        self.largest = self.scale = self.squares = 0.0
        self.numbers = self.decisions = self.same = self.tokens = 0
        self.costs = [0.0, 0.0]

    def add(self, expected: Array, answer: Array, wanted: Array, counted: Array) -> None:
        """Add texts.

        Args:
            expected: What the model gives for the token behind each step,
                `(texts, steps, vocabulary)`.
            answer: What the file gives.
            wanted: The token behind each step but the last, `(texts, steps - 1)`.
            counted: Which of them count.
        """
        left, right = expected.astype(np.float32), answer.astype(np.float32)
        apart = np.abs(left - right)
        # A NaN must stay one.
        self.largest = float(np.maximum(self.largest, apart.max(initial=0.0)))
        self.scale = max(self.scale, float(np.abs(left).max(initial=0.0)))
        self.squares += float(np.square(apart, dtype=np.float64).sum())
        self.numbers += apart.size
        same = left.argmax(axis=-1) == right.argmax(axis=-1)
        self.same, self.decisions = self.same + int(same.sum()), self.decisions + same.size
        for side, scores in enumerate((left, right)):
            self.costs[side] += float((costs(scores[:, :-1], wanted) * counted).sum())
        self.tokens += int(counted.sum())

    def difference(self, name: str) -> OutputDifference:
        """How far the file is, as the output of a name."""
        unit = self.scale or 1.0
        rms = math.sqrt(self.squares / max(self.numbers, 1))
        agreement = self.same / max(self.decisions, 1)
        return OutputDifference(
            name,
            self.largest,
            self.largest / unit,
            rms / unit,
            self.scale,
            agreement,
            self.decisions,
        )

    @property
    def comparison(self) -> TokenComparison | None:
        """Both perplexities; `None` where no token could be foretold."""
        if not self.tokens:
            return None
        model, file = (float(np.exp(cost / self.tokens)) for cost in self.costs)
        return TokenComparison(model, file, self.tokens)


def tallied(
    told: Asked,
    values: Sequence[Array],
    expected: Callable[[list[Array]], Array],
    answers: Callable[[list[Array]], Array],
) -> Tally:
    """Ask a model and its file about one text after another.

    A vocabulary is scored at every step of each: all texts at once would not fit into memory.

    Args:
        told: Where the inputs hold what.
        values: The inputs, text axis first.
        expected: Gives the model's answers to a text, `(1, steps, vocabulary)`.
        answers: Gives the file's, of all steps or of the last ones.
    """
    tally = Tally()
    for text in _each(values):
        right = answers(text)
        # A file that was read a beginning answers behind it.
        behind = text[told.tokens].shape[1] - right.shape[1]
        left = expected(text)[:, behind:]
        wanted = text[told.tokens][:, behind + 1 :]
        tally.add(left, right, wanted, told.counted(text)[:, behind:])
    return tally


def _each(values: Sequence[Array]) -> Iterator[list[Array]]:
    for number in range(len(values[0])):
        yield [array[number : number + 1] for array in values]
