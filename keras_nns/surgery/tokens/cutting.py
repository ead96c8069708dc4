"""Cut the vocabulary of a language model: fewer rows in its tables, and the tokenizer alike."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from keras import tree
from numpy.typing import ArrayLike, NDArray

from keras_nns.errors import DataError, PlanError, ProofError
from keras_nns.files.atomic import Json
from keras_nns.graph.generated_inputs import sample_inputs, vocabularies
from keras_nns.graph.keras_internals import functional
from keras_nns.graph.tracing import trace
from keras_nns.surgery.lineage import Lineage, set_lineage, tokens_of
from keras_nns.surgery.precision import Answers, Side
from keras_nns.surgery.proving import proof_of
from keras_nns.surgery.tokens.counting import TokenCounts, count_tokens, reader_of
from keras_nns.surgery.tokens.models import padding_of, vocabulary_of, with_tokens
from keras_nns.surgery.tokens.pieces import Pieces, closed
from keras_nns.tables import ratio, share

_TEXTS = 4
"""Texts that a proof looks at."""


@dataclass(frozen=True, repr=False)
class VocabularyCut:
    """A language model that knows fewer tokens. Print it for what stayed and why.

    Attributes:
        model: The smaller model, of its parent's class.
        tokenizer: The tokenizer cut alike, a new one; None where none was known. A task of KerasHub
            has it in its preprocessor.
        tokens: For each token of the new model, its number in the parent, rising.
        vocabulary: How many tokens the parent knows.
        asked: How many of those that stay were asked for, or occur often enough.
        special: How many of the others always stay: special ones, single bytes or characters, and
            those that no text is made into.
        covered: Share of what was counted that stays one token; None without counts.
        parameters: Numbers in the weights of the parent and of the new model.

    Example:
        >>> smaller = nns.cut_vocabulary(lm, texts[kinds == 0][:1])
        >>> len(smaller.tokens), smaller.model.output_shape
        (12, (None, 12, 12))
    """

    model: Any
    tokenizer: Any
    tokens: tuple[int, ...]
    vocabulary: int
    asked: int
    special: int
    covered: float | None
    parameters: tuple[int, int]

    def renumbered(self, tokens: ArrayLike) -> NDArray[np.int32]:
        """Return token numbers of the parent as those of the new model.

        Args:
            tokens: Of any shape. Texts with others than those that stay are encoded anew, by the
                new tokenizer.

        Raises:
            DataError: A token did not stay.
        """
        given = np.asarray(tokens)
        places = np.full(self.vocabulary + 1, -1, np.int32)
        places[list(self.tokens)] = np.arange(len(self.tokens))
        known = (given >= 0) & (given < self.vocabulary)
        found: NDArray[np.int32] = places[np.where(known, given, self.vocabulary)]
        if (found < 0).any():
            gone = np.unique(given[found < 0])
            raise DataError(
                f"{gone.size:,} of these tokens did not stay, among them {gone[:5].tolist()}. "
                "Encode the texts themselves with the new tokenizer."
            )
        return found

    def __str__(self) -> str:
        others = len(self.tokens) - self.asked - self.special
        before, after = self.parameters
        lines = [
            f"{self.model.name}: {len(self.tokens):,} of {self.vocabulary:,} tokens stay: "
            f"{self.asked:,} asked for, {self.special:,} that always stay (special ones, bytes or "
            f"characters), {others:,} that others are made of.",
            f"{ratio(after, before)} of all parameters are left: {after:,} of {before:,}.",
        ]
        if self.covered is not None:
            lines.append(f"Of what was counted, {share(self.covered)} stays one token.")
        if self.tokenizer is None:
            lines.append("No tokenizer was cut with it: number your tokens anew (.renumbered).")
        return "\n".join(lines)

    def __repr__(self) -> str:
        return str(self)

    def to_json(self) -> Json:
        """Return the figures as plain data."""
        return {
            "tokens": list(self.tokens),
            "vocabulary": self.vocabulary,
            "asked": self.asked,
            "special": self.special,
            "covered": self.covered,
            "parameters": list(self.parameters),
        }


def cut_vocabulary(
    model: Any,
    keep: Any,
    *,
    min_count: int = 1,
    tokenizer: Any = None,
    layer: str | None = None,
    prove: bool = True,
) -> VocabularyCut:
    """Cut the vocabulary of a language model to the tokens that its texts need.

    What stays of the tables that look tokens up and score them is sliced; the tokenizer is cut with
    them. A text that is made of kept tokens is encoded into the same ones, numbered anew, and the
    scores of kept tokens are the parent's. Every other text is told in smaller tokens: single bytes
    (or characters) always stay, so that none is refused, and so do special tokens. A task or
    backbone of KerasHub comes back as one of its class, with preprocessor, sampler and compile
    settings; it generates, saves and loads as before.

    `cut` can go before or after. What compares the new model with its parent token by token
    (`distill`, `repair`, `perplexity`) belongs before: afterwards the two number them differently.

    Args:
        model: A backbone or task of KerasHub, or a functional model that looks tokens up in an
            `Embedding`; a last `Dense` that scores tokens loses the same ones. It is not changed.
        keep: What the tokens are taken from: texts, or counts of `count_tokens`, of which those
            stay that occur `min_count` times; or the numbers of the tokens that stay.
        min_count: How often a token has to occur in texts or counts.
        tokenizer: The tokenizer of the texts, where the model has none of its own: one of KerasHub,
            or byte pairs of the package `tokenizers`.
        layer: Path of the embedding of tokens, where a functional model has several embeddings.
        prove: Compare what is answered to four short texts with the parent's answers, and raise
            where they differ. It is quick, and tells of a class whose configuration leaves
            something out.

    Returns:
        The new model as `.model`, its tokenizer as `.tokenizer`; print it for what stayed.

    Raises:
        PlanError: No token is left, a number is none of the vocabulary's, or the numbers leave a
            special token out.
        DataError: The texts are no texts, or there are strings and no tokenizer.
        SurgeryError: The tokenizer or the model cannot be cut; the message says why.
        ProofError: The scores of kept tokens are not the parent's.

    Example:
        >>> smaller = nns.cut_vocabulary(lm, texts[kinds == 0], min_count=20)
        >>> print(smaller)
        lm: ... of 40 tokens stay: ...
    """
    size, own = vocabulary_of(model, layer)
    pieces = reader_of(own, tokenizer)
    counts = None
    if _are_numbers(keep):
        asked = _numbers(keep, min_count, size)
    else:
        counts = keep if isinstance(keep, TokenCounts) else None
        counts = counts or count_tokens(model, keep, tokenizer=tokenizer, layer=layer)
        _check_counts(counts, size, pieces)
        asked = set(counts.used(min_count).tolist())
    if not asked:
        raise PlanError("No token is left: none of the texts' occurs so often, or none was named.")
    unknown = [] if pieces is None else sorted(asked.difference(pieces.names))
    if unknown:
        raise PlanError(f"The tokenizer has no tokens {unknown[:10]}; they cannot be asked for.")
    padding = {number: "padding" for number in padding_of(model, size)}
    special = padding if pieces is None else {**padding, **pieces.special}
    if counts is None:
        _refuse_lost(special, asked)
    fixed = {*special, *(() if pieces is None else pieces.fixed)}
    # Rows behind the tokenizer's last token are never looked up.
    kept = sorted(asked | fixed if pieces is None else closed(pieces, asked | fixed))
    if kept[-1] >= size:
        raise PlanError(
            f"The tokenizer has token {kept[-1]}, which has to stay, and {model.name!r} knows "
            f"{size:,}. Give the tokenizer that the model was trained with."
        )
    cut = None if pieces is None else pieces.cut(kept)
    new, record = with_tokens(model, kept, None if own is None else cut, layer)
    set_lineage(new, _remembered(record, model, kept, size))
    if prove:
        _prove(model, new, kept, size)
    return VocabularyCut(
        model=new,
        tokenizer=cut,
        tokens=tuple(kept),
        vocabulary=size,
        asked=len(asked),
        special=len(fixed - asked),
        covered=None if counts is None else counts.covered(kept),
        parameters=(model.count_params(), new.count_params()),
    )


def _are_numbers(keep: Any) -> bool:
    """Return whether tokens themselves are named, and no texts."""
    if isinstance(keep, TokenCounts | Mapping | str | bytes | Iterator):
        return False
    first = next(iter(keep), 0)
    return np.ndim(first) == 0 and not isinstance(first, str)


def _check_counts(counts: TokenCounts, size: int, pieces: Pieces | None) -> None:
    if len(counts.counts) != size:
        raise PlanError(
            f"The counts are of a vocabulary of {len(counts.counts):,} tokens, and the model knows "
            f"{size:,}. Count with this model."
        )
    if counts.pieces is not None and pieces is not None and counts.pieces.names != pieces.names:
        raise PlanError("The counts are of another tokenizer than this one. Count with this one.")


def _numbers(keep: Iterable[Any], min_count: int, size: int) -> set[int]:
    tokens = np.asarray(keep if hasattr(keep, "shape") else list(keep))
    if tokens.size and not np.issubdtype(tokens.dtype, np.integer):
        raise PlanError(
            f"Expected texts, counts, or the numbers of the tokens to keep. Received: "
            f"{tokens[:5]!r}."
        )
    if min_count != 1:
        raise PlanError("min_count= goes with texts or counts; numbers of tokens are all kept.")
    foreign = tokens[(tokens < 0) | (tokens >= size)]
    if foreign.size:
        raise PlanError(f"The vocabulary has {size:,} tokens, and not {foreign[:10].tolist()}.")
    return set(tokens.tolist())


def _refuse_lost(special: Mapping[int, str], asked: set[int]) -> None:
    lost = [f"{name!r} ({number})" for number, name in special.items() if number not in asked]
    if lost:
        more = f" and {len(lost) - 10:,} more" if len(lost) > 10 else ""
        raise PlanError(
            f"These numbers leave out special tokens, which the model goes by: "
            f"{', '.join(lost[:10])}{more}. Add them; counts or texts in place of numbers keep "
            "them by themselves."
        )


def _remembered(record: Lineage, model: Any, kept: list[int], size: int) -> Lineage:
    """Return what the new model remembers: which tokens it knows, in its first parent's numbers."""
    before = tokens_of(model)
    first = tuple(kept) if before is None else tuple(before[number] for number in kept)
    if record.head == "parent" and len(record.labels) == len(record.label_names) == size:
        record = replace(
            record,
            labels=tuple(record.labels[number] for number in kept),
            label_names=tuple(record.label_names[number] for number in kept),
        )
    return replace(record, tokens=first)


def _prove(model: Any, new: Any, kept: list[int], size: int) -> None:
    """Compare scores of kept tokens on random texts of kept tokens.

    Raises:
        ProofError: They differ by more than float32 rounding.
    """
    graph = trace(new)
    drawn = sample_inputs(graph, _TEXTS, seed=0)
    before, after = vocabularies(trace(model)), vocabularies(graph)
    given = [
        np.asarray(kept)[one] if (before.get(i), after.get(i)) == (size, len(kept)) else one
        for i, one in enumerate(tree.flatten(drawn))
    ]

    def of_kept(answers: Answers) -> Answers:
        sizes = [one.shape[-1] for one in functional(new).outputs]
        return [
            _chosen(one, kept) if (one.shape[-1], left) == (size, len(kept)) else one
            for one, left in zip(answers, sizes, strict=True)
        ]

    parent = Side(model, tree.pack_sequence_as(drawn, given), seen=of_kept)
    proof = proof_of(Side(new, drawn), parent)
    if not proof.exact:
        raise ProofError(
            f"The model with fewer tokens than {model.name!r} answers something else: largest "
            f"difference {proof.absolute:.2g}{proof.how}, {proof.relative:.2g} of the scale"
            f"{proof.beside}. Please report this model."
        )


def _chosen(scores: NDArray[np.float64], kept: list[int]) -> NDArray[np.float64]:
    """Return the scores of kept tokens; probabilities as shares of theirs."""
    beside: NDArray[np.float64] = scores[..., kept]
    if np.allclose(scores.sum(axis=-1), 1, atol=1e-4):
        beside = beside / beside.sum(axis=-1, keepdims=True)
    return beside
