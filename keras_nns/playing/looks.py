"""What a model and its networks say of one sample."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from keras_nns.tables import Table, Tabular, share

_DASH = "–"


@dataclass(frozen=True)
class Said:
    """What one network says of a sample.

    Attributes:
        name: Names of the labels that the network is for.
        file: Where it came from.
        size: What it weighs, in words.
        answer: The answer that it decided for.
        sure: Its probability of that answer; None where its outputs are no probabilities.
        parent: What the parent answers when it is asked the same.

    Example:
        >>> said = nns.play(model, [three]).look(x[0]).said[0]
        >>> said.name, said.parent
        ('3', 'not 3')
    """

    name: str
    file: str
    size: str
    answer: str
    sure: float | None
    parent: str


@dataclass(frozen=True, eq=False)
class Look(Tabular):
    """What a model and its networks say of one sample, and which units fire.

    Attributes:
        answer: The parent's answer, or its answers, joined by commas.
        scores: The parent's output for each label.
        said: What each network says.
        units: Of each watched layer, what its units give to the sample, `(units,)`.
        kept: By name of a network and of a layer, which of the units it holds, `(units,)` booleans.

    Example:
        >>> look = nns.play(model, [three]).look(x[0])
        >>> look.answer, sorted(look.units)
        ('6', ['dense', 'dense_1'])
    """

    answer: str
    scores: Mapping[str, float]
    said: tuple[Said, ...]
    units: Mapping[str, NDArray[np.float32]]
    kept: Mapping[str, Mapping[str, NDArray[np.bool_]]]

    def to_table(self) -> Table:
        """Return a row for each network."""
        rows = tuple(
            (
                one.name,
                one.answer,
                _DASH if one.sure is None else share(one.sure),
                one.parent,
                one.size,
                one.file,
            )
            for one in self.said
        )
        columns = ("network for", "says", "surely", "parent, asked the same", "size", "file")
        return Table(columns, rows, caption=f"The parent says: {self.answer}.")
