"""Sweep of a language model: what networks of many sizes for some kinds of text are worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np

from keras_nns import tables
from keras_nns.extraction.language import (
    LanguageOptions,
    Timed,
    expect,
    make_writer,
    observe_writer,
    open_texts,
    trace_writer,
)
from keras_nns.extraction.language_outcome import LanguageExtraction
from keras_nns.extraction.language_sizes import parameters_of, sizes_of
from keras_nns.extraction.unfinished import Keeper, left_behind
from keras_nns.files.atomic import Json
from keras_nns.judgement.perplexity import Perplexity
from keras_nns.progress import Verbose, job

_LARGEST, _SMALLEST = 0.9, 0.5
"""Between which shares sizes lie that are asked for by their number: below a half of its decoder a
language model is worth little without much more training than `sweep` gives it."""


@dataclass(frozen=True, eq=False, repr=False)
class LanguageSweep(tables.Tabular):
    """Smaller language models of many sizes, from one observation. Printing it gives a table.

    Attributes:
        labels: Names of the kinds of text that they are for.
        points: The networks with their plans and figures, the smallest first.
        parent_parameters: How many parameters the parent has, all and without embeddings.
        missing: How many sizes were still to be made when the work was cut off; 0 for a whole
            sweep.

    Example:
        >>> found = nns.sweep(writer, (texts, kinds), labels="code", sizes=[0.7, 0.9],
        ...                   label_names=("code", "prose"), repair=False)
        >>> [point.model.count_params() < writer.count_params() for point in found.points]
        [True, True]
    """

    labels: tuple[str, ...]
    points: tuple[LanguageExtraction, ...]
    parent_parameters: tuple[int, int]
    missing: int = 0

    def to_table(self) -> tables.Table:
        """Return the parent and the networks as a table: the perplexity of every kind of text."""
        whole, decoder = self.parent_parameters
        first = self.points[0].figures
        kinds = [row.label for row in first.rows if row.model == "parent" and row.label is not None]
        rows = [("100%", f"{whole:,}", "", *_told(first, "parent", kinds))]
        for point in reversed(self.points):
            share = tables.ratio(int(point.costs["without_embeddings"]), decoder)
            units = sum(map(len, point.plan.kept.values()))
            told = _told(point.figures, "subnetwork", kinds)
            rows.append((share, f"{point.costs['parameters']:,.0f}", f"{units:,}", *told))
        judged = (f"perplexity of {kind}" for kind in kinds)
        columns = ("of the decoder", "parameters", "units", *judged)
        texts = first["parent", None].texts
        caption = (
            f"Networks for {', '.join(self.labels)}; the parent stands above. Judged on {texts:,} "
            "windows of texts held out"
        )
        if first.confidence is not None:
            caption += f", in brackets {first.confidence:.0%} intervals"
        caption += "."
        if self.missing:
            were = "size was" if self.missing == 1 else "sizes were"
            caption += f" Cut off: {self.missing} smaller {were} not made."
        return tables.Table(columns, tuple(rows), caption)

    def to_json(self) -> Json:
        """Return everything but the models as plain data."""
        return {
            "labels": list(self.labels),
            "parent": dict(
                zip(("parameters", "without_embeddings"), self.parent_parameters, strict=True)
            ),
            "missing": self.missing,
            "points": [point.to_json() for point in self.points],
        }


def _told(figures: Perplexity, model: str, kinds: Sequence[str]) -> list[str]:
    """Return the perplexity of each kind of text, with its interval."""
    told = []
    for kind in kinds:
        row = figures[model, kind]
        interval = "" if row.interval is None else " ({:.2f} to {:.2f})".format(*row.interval)
        told.append(f"{row.perplexity:.2f}{interval}")
    return told


def sweep_language(
    model: keras.Model,
    data: Any,
    y: Any,
    sizes: int | Sequence[float],
    options: LanguageOptions,
    *,
    verbose: Verbose = "auto",
) -> LanguageSweep:
    """Make smaller language models of many sizes for some kinds of text; see `sweep`."""
    graph = trace_writer(model, options)
    shares = np.linspace(_LARGEST, _SMALLEST, sizes) if isinstance(sizes, int) else np.array(sizes)
    budgets = [parameters_of(share, graph) for share in sorted(shares.tolist(), reverse=True)]
    opened = open_texts(graph, data, y, options)
    names = tuple(opened.fitted.names[number] for number in opened.numbers)
    whole, looked_up = sizes_of(model)
    made: list[LanguageExtraction] = []

    def found() -> LanguageSweep | None:
        if not made:
            return None
        missing = len(budgets) - len(made)
        return LanguageSweep(names, tuple(reversed(made)), (whole, whole - looked_up), missing)

    with job(verbose) as shown, left_behind(found):
        expect(shown, opened.fitted, options, len(budgets))
        timed = Timed(shown, {})
        writer = observe_writer(graph, opened, options, timed)
        for told, allowed in budgets:
            made.append(make_writer(writer, told, allowed, timed, Keeper(None)))
    done = found()
    assert done is not None
    return done
