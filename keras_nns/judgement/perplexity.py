"""Judge language models: the perplexity of the next token, for each kind of text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_nns.data.batches import Batch, as_batches
from keras_nns.errors import DataError, ModelError
from keras_nns.files.atomic import Json
from keras_nns.judgement.bootstrap import Interval, Weights, check_confidence, intervals
from keras_nns.judgement.leakage import Guard
from keras_nns.judgement.token_losses import TokenLosses
from keras_nns.observation.next_token import tables_of
from keras_nns.surgery.lineage import tokens_of
from keras_nns.tables import UNDEFINED, Table, Tabular

Float = NDArray[np.float64]

MOST_TEXTS = 8
"""Texts in a batch, unless fewer are asked for: a vocabulary is scored at every step of each."""


@dataclass(frozen=True)
class TextFigures:
    """How well a model foretells the next token of some texts.

    Attributes:
        model: Name of the model.
        label: Kind of text; None for all texts together.
        texts: How many there are.
        tokens: How many tokens were foretold: of each text all that count but its first.
        perplexity: Exponential of the mean negative log likelihood of a token, in nats.
        interval: Bounds of it over resampled texts; None where no confidence was asked for.
        next_token: Share of tokens that the model holds the most likely.
    """

    model: str
    label: str | None
    texts: int
    tokens: int
    perplexity: float
    interval: Interval | None
    next_token: float


@dataclass(frozen=True)
class Size:
    """What a model weighs, and how fast it read the texts.

    Attributes:
        parameters: Numbers in its weights.
        without_embeddings: The same without tables that tokens or positions are looked up in.
        tokens_per_second: Positions of its batches behind the first, by the time they took on this
            machine; NaN for a single batch. A measured figure: it differs every time.
    """

    parameters: int
    without_embeddings: int
    tokens_per_second: float


@dataclass(frozen=True, repr=False)
class Perplexity(Tabular):
    """Perplexities of models, for each kind of text and for all. Printing it gives a table.

    Attributes:
        rows: Figures by model, and of each by kind of text, all texts last.
        sizes: By model.
        confidence: What intervals are for, or None.

    Example:
        >>> figures = nns.perplexity({"whole": lm}, texts, kinds, label_names=("code", "prose"))
        >>> figures["whole", "code"].perplexity < 40  # tokens, of which one comes next
        True
    """

    rows: tuple[TextFigures, ...]
    sizes: Mapping[str, Size]
    confidence: float | None

    def __getitem__(self, key: tuple[str, str | None]) -> TextFigures:
        """Return the figures of a model for a kind of text; `None` for all texts.

        Raises:
            KeyError: There is no such model, or no such kind.
        """
        for row in self.rows:
            if (row.model, row.label) == key:
                return row
        known = [(row.model, row.label) for row in self.rows]
        raise KeyError(f"{key!r} is none of {known}.")

    def to_table(self) -> Table:
        """Return the figures, a row for each model and kind of text."""
        rows = []
        for row in self.rows:
            size = self.sizes[row.model]
            speed = size.tokens_per_second
            interval = [] if row.interval is None else ["{:.2f} to {:.2f}".format(*row.interval)]
            weight = [
                f"{size.parameters:,}",
                f"{size.without_embeddings:,}",
                UNDEFINED if math.isnan(speed) else f"{speed:,.0f}",
            ]
            rows.append(
                (
                    row.model,
                    "all" if row.label is None else row.label,
                    f"{row.texts:,}",
                    f"{row.tokens:,}",
                    f"{row.perplexity:.2f}",
                    *interval,
                    f"{row.next_token:.3f}",
                    *(weight if row.label is None else [""] * len(weight)),
                )
            )
        bounds = [] if self.confidence is None else ["interval"]
        columns = (
            *("model", "texts of", "texts", "tokens", "perplexity", *bounds, "next token"),
            *("parameters", "without embeddings", "tokens/s here"),
        )
        caption = "Perplexity of a token, and the share of next tokens foretold right."
        if self.confidence is not None:
            caption += f" Intervals at {self.confidence:.0%}, over resampled texts."
        return Table(columns, tuple(rows), caption, prose=(0, 1))

    def to_json(self) -> Json:
        """Return the figures as plain data."""
        return {
            "confidence": self.confidence,
            "rows": [
                {**vars(row), "interval": row.interval and [*row.interval]} for row in self.rows
            ],
            "sizes": {
                name: {
                    "parameters": size.parameters,
                    "without_embeddings": size.without_embeddings,
                    "tokens_per_second": None
                    if math.isnan(size.tokens_per_second)
                    else size.tokens_per_second,
                }
                for name, size in self.sizes.items()
            },
        }


def perplexity(
    models: keras.Model | Mapping[str, keras.Model],
    data: Any,
    y: Any = None,
    *,
    label_names: Sequence[Any] | None = None,
    label_count: int | None = None,
    tokens: str = "token_ids",
    padding: str = "padding_mask",
    output: str | None = None,
    batch_size: int = 8,
    confidence: float | None = 0.95,
    seed: int = 0,
    allow_overlap: bool = False,
) -> Perplexity:
    """Judge language models by how well they foretell the next token, for each kind of text.

    Models are run side by side over the same texts, in one pass. A token counts where it and the
    one before it do: by the `padding` input, else by the Keras mask of what the model gives (as
    `Embedding(mask_zero=True)` makes it), else everywhere.

    Args:
        models: A model that gives logits or probabilities `(texts, steps, vocabulary)` of the token
            behind each step, or several by name.
        data: Texts in tokens with the kind of each, as `keras_nns.observe` takes them: `(inputs,
            kinds)` arrays, a batched `tf.data.Dataset`, …
        y: Kinds of text, where `data` is inputs alone; one kind for all is `np.zeros(n, int)`.
        label_names: Name of every kind.
        label_count: How many kinds there are, where neither names nor data tell.
        tokens: Which input holds the tokens, `(texts, steps)`, for models of several inputs.
        padding: Which input is true where tokens count; it need not be there.
        output: Name of the output that is meant, for models with several.
        batch_size: Texts in a batch, for arrays.
        confidence: Give perplexities an interval that would hold the true one in this share of
            cases: percentiles of a bootstrap over whole texts. None gives none.
        seed: Which resamples those are from.
        allow_overlap: Judge a subnetwork even on texts that it was made from.

    Returns:
        The figures. Printing them gives a table.

    Raises:
        DataError: The data does not fit, has no kinds of text, no token that can be foretold, or
            texts that a subnetwork was made from; tokens that a model does not know; or one gives
            NaN.
        ModelError: A model does not score a vocabulary at every step, or one of several numbers
            its tokens otherwise than the others (`cut_vocabulary`).

    Example:
        >>> activity = nns.observe(lm, (texts, kinds), label_names=("code", "prose"))
        >>> keep = nns.top(2, scope="global")
        >>> plan = nns.select(activity, "code", score="block_influence", keep=keep)
        >>> models = {"whole": lm, "cut": nns.cut(lm, plan)}
        >>> figures = nns.perplexity(models, (texts, kinds), allow_overlap=True,
        ...                          label_names=("code", "prose"))
        >>> figures["cut", "prose"].perplexity > figures["whole", "prose"].perplexity  # forgotten
        True
    """
    check_confidence(confidence)
    named = dict(models) if isinstance(models, Mapping) else {models.name: models}
    if not named:
        raise ModelError("There is no model to judge: pass one, or a dictionary of several.")
    _refuse_other_numbers(named)
    _refuse_targets(data[1] if y is None and isinstance(data, tuple) and data[1:] else y)
    first = next(iter(named.values()))
    batches = as_batches(
        data,
        y,
        model=first,
        batch_size=batch_size,
        label_names=label_names,
        label_count=label_count,
        own_labels=True,
    )
    readers = {name: TokenLosses(m, tokens, padding, output) for name, m in named.items()}
    guard = Guard(list(named.values()), allow_overlap=allow_overlap)
    labels: list[NDArray[np.bool_]] = []
    weights: list[Float] = []
    for batch in guard.watch(batches):
        labels.append(_table(batch, len(batches.label_names)))
        weights.append(batch.each)
        for reader in readers.values():
            reader.read(batch)
    if not labels:
        raise DataError("The data is empty: there is nothing to judge.")
    table, each = np.concatenate(labels), np.concatenate(weights)
    rows: list[TextFigures] = []
    for name, reader in readers.items():
        rows += _figures(
            name, reader, table, each, batches.label_names, confidence=confidence, seed=seed
        )
    sizes = {name: _size(reader) for name, reader in readers.items()}
    return Perplexity(tuple(rows), sizes, confidence)


def refuse_for_texts(verb: str, given: Mapping[str, Any]) -> None:
    """Refuse options of models that answer labels, where one foretells tokens.

    Args:
        verb: What was called.
        given: The options, None where they were not given.

    Raises:
        DataError: One was given.
    """
    asked = [f"{name}={value!r}" for name, value in given.items() if value is not None]
    if asked:
        raise DataError(
            f"{verb} of a language model gives the perplexity of every kind of text, and "
            f"{', '.join(asked)} is for models that answer labels. Leave it out."
        )


def _refuse_other_numbers(models: Mapping[str, keras.Model]) -> None:
    """Refuse models of which a token's number means another token to each."""
    found = {name: tokens_of(model) for name, model in models.items()}
    if len(set(found.values())) > 1:
        cut = [name for name, tokens in found.items() if tokens is not None]
        raise ModelError(
            f"These models number tokens differently, since some left: {', '.join(cut)}. Judge "
            "each by itself, on texts in its own tokens, and compare what texts cost by the byte: "
            "log2(perplexity) * tokens / bytes of the text."
        )


def _refuse_targets(y: Any) -> None:
    """Refuse what `fit` takes: the next token at every step, beside the texts."""
    values = y if isinstance(y, np.ndarray) else None
    if values is not None and values.ndim > 1 and values.dtype.kind in "iu" and values.max() > 1:
        raise DataError(
            "perplexity takes texts and the kind of each, one label a text; what a token should be "
            f"it reads from the texts. Received: targets of shape {values.shape}, one at every "
            "step. Pass (inputs, kinds)."
        )


def _table(batch: Batch, count: int) -> NDArray[np.bool_]:
    """Return which text is of which kind, `(texts, kinds)`."""
    if batch.labels.ndim == 1:
        return np.asarray(batch.labels[:, None] == np.arange(count))
    return np.asarray(batch.labels, dtype=bool)


def _figures(
    name: str,
    reader: TokenLosses,
    table: NDArray[np.bool_],
    each: Float,
    kinds: Sequence[str],
    *,
    confidence: float | None,
    seed: int,
) -> list[TextFigures]:
    """Return the figures of a model for each kind of text, and for all."""
    losses, counts, right = map(np.concatenate, (reader.losses, reader.counts, reader.right))
    if not (counts @ each) > 0:
        raise DataError(
            "No text has a token that could be foretold: each has to have two that count. Look at "
            "the padding, and at how texts were put into tokens."
        )
    everything = np.ones((len(table), 1), dtype=bool)
    parts = dict(enumerate(np.concatenate([table, everything], axis=1).T))

    def resampled(drawn: Weights) -> dict[str, Float]:
        found = {}
        for place, own in parts.items():
            weight = drawn[:, own]
            with np.errstate(invalid="ignore", divide="ignore"):
                found[str(place)] = np.exp((weight @ losses[own]) / (weight @ counts[own]))
        return found

    bounds: dict[str, Interval] = {}
    if confidence is not None:
        strata = table.argmax(axis=1)
        bounds = intervals(resampled, strata, confidence=confidence, seed=seed, weights=each)
    point = resampled(each[None])
    rows = []
    for place, own in parts.items():
        weight, total = each[own], float(each[own] @ counts[own])
        rows.append(
            TextFigures(
                model=name,
                label=kinds[place] if place < len(kinds) else None,
                texts=int(own.sum()),
                tokens=int(counts[own].sum()),
                perplexity=float(point[str(place)][0]),
                interval=bounds.get(str(place)),
                next_token=float(weight @ right[own]) / total if total else math.nan,
            )
        )
    return rows


def _size(reader: TokenLosses) -> Size:
    """Return what a model weighs, and how fast it was behind its first batch."""
    model = reader.model
    looked_up = {id(w): math.prod(w.shape) for layer in tables_of(model) for w in layer.weights}
    positions, seconds = (sum(part) for part in zip((0, 0.0), *reader.times[1:], strict=True))
    whole = int(model.count_params())
    speed = positions / seconds if seconds else math.nan
    return Size(whole, whole - sum(looked_up.values()), speed)
