"""A score that looks at units together: which next one adds most to those already chosen."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

from keras_nns.data.batches import Batches, as_batches, unweighted
from keras_nns.engine import operations
from keras_nns.engine.accumulators import Accumulator
from keras_nns.errors import SelectionError
from keras_nns.graph.tracing import trace
from keras_nns.observation.activity import Activity
from keras_nns.observation.passes import run_compiled
from keras_nns.observation.probing import run_taps, taps_of
from keras_nns.observation.unit_values import Tap
from keras_nns.selection.activations import Score, Scores

Float = NDArray[np.float64]

_MOST = 2**27
"""Numbers of one layer's moments that may be held, 1 GiB in float64."""


def forward_selection(
    model: Any,
    data: Any,
    y: Any = None,
    *,
    batch_size: int = 256,
    label_names: Sequence[Any] | None = None,
    jointly: bool = False,
) -> Score:
    """Make the score that ranks units by how well they tell a label from the rest together.

    `contrast` looks at each unit by itself, so it may keep ten that say the same. Here a label's
    first unit is the one from which a line best predicts the label; each further one adds most
    to the line through those before it, the label's samples weighing as much as all others (forward
    selection by orthogonal least squares: Chen, Billings and Luo 1989, *Int. J. Control* 50). The
    rank is the score: 1 for the first unit, down to 0.

    It needs the second moments of every label, `labels × units²` numbers for each layer, taken in
    one streaming pass. Use it with `top(k)` or `fraction(p)`; a threshold on ranks says little.

    Args:
        model: The model that was observed.
        data: Labelled data, as `keras_nns.observe` takes it.
        y: Labels, when `data` is inputs alone.
        batch_size: Samples in a batch, for arrays.
        label_names: Name of every label, in the order of the model's outputs.
        jointly: Rank the units once, by how well they tell all labels from each other, for a
            network that answers all of them. Every label then has the same scores.

    Returns:
        A score to pass to `select`.

    Raises:
        SelectionError: A layer's moments would be too large to hold.
        DataError: The data does not fit the model.

    Example:
        >>> score = nns.scores.forward_selection(model, (x, y))
        >>> nns.select(activity, labels=3, score=score, keep=nns.top(8))
        <Plan for 3: 16 of 48 units>
    """
    graph = trace(model)
    taps = taps_of(graph, blocks=False)
    batches = as_batches(data, y, model=model, batch_size=batch_size, label_names=label_names)
    count = len(batches.label_names)
    for tap in taps:
        if count * tap.units**2 > _MOST:
            raise SelectionError(
                f"forward_selection would hold {count} × {tap.units}² numbers for layer "
                f"{tap.name!r}, above {_MOST:,}. Use contrast for this model."
            )
    sums = _LabelMoments(taps, count)

    def add(inputs: Any, table: Any) -> None:
        values = run_taps(graph, taps, inputs)
        sums.update([v.signed for v in values], table)

    run_compiled(add, _with_tables(batches), models=[model])
    ranks = sums.ranks(jointly=jointly)

    def score(activity: Activity) -> Scores:
        if activity.fingerprint.structure != graph.structure:
            raise SelectionError(
                f"forward_selection was given model {model.name!r}, and the activity is of another."
            )
        found = {}
        for group in activity.layout.prunable:
            watched = [m for m in group.members if m.layer in activity.layers]
            members = [m for m in watched if m.layer in ranks]
            if members:
                placed = np.full((count, group.size), -np.inf)
                for member in members:
                    for unit, column in zip(member.units, ranks[member.layer].T, strict=True):
                        placed[:, unit] = np.maximum(placed[:, unit], column)
                found[group.name] = placed
        return found

    score.__name__ = "forward_selection(jointly=True)" if jointly else "forward_selection"
    return score


def _with_tables(batches: Batches) -> Iterator[tuple[Any, NDArray[np.bool_]]]:
    """Give inputs with which sample has which label, `(batch, labels)`."""
    numbers = np.arange(len(batches.label_names))
    for batch in unweighted(batches, "forward_selection"):
        table = batch.labels
        yield batch.inputs, table if table.ndim == 2 else table[:, None] == numbers


class _LabelMoments:
    """Sums and products of each layer's units, label by label and over all samples, in float64."""

    def __init__(self, taps: Sequence[Tap], labels: int) -> None:
        self._taps = tuple(taps)
        # The last row is all samples: with several labels each, labels do not add up to it.
        rows = labels + 1
        self._count = Accumulator((rows,))
        self._first = [Accumulator((rows, t.units)) for t in taps]
        self._second = [Accumulator((rows, t.units, t.units)) for t in taps]

    def update(self, values: Sequence[Any], table: Any) -> None:
        table = ops.cast(table, "float64")
        table = ops.concatenate([table, ops.ones_like(table[:, :1])], axis=1)
        self._count.add(ops.sum(table, axis=0))
        for value, first, second in zip(values, self._first, self._second, strict=True):
            x = ops.cast(value, "float64")
            first.add(operations.columns_product(table, x))
            products = [
                operations.columns_product(x * table[:, row : row + 1], x)
                for row in range(table.shape[1])
            ]
            second.add(ops.stack(products))

    def ranks(self, *, jointly: bool) -> dict[str, Float]:
        """Rank the units of each layer, `(labels, units)`."""
        count = self._count.numpy()
        labels = range(len(count) - 1)
        found = {}
        for tap, first, second in zip(self._taps, self._first, self._second, strict=True):
            sums, products = first.numpy(), second.numpy()
            if jointly:
                rows = [_ranks(*_alike(count, sums, products))] * len(labels)
            else:
                rows = [_ranks(*_balanced(count, sums, products, label)) for label in labels]
            found[tap.name] = np.stack(rows)
        return found


def _alike(count: Float, sums: Float, products: Float) -> tuple[Float, Float]:
    """Return covariances of the units, and of the units with each label, all labels alike."""
    seen = np.flatnonzero(count[:-1])
    share = count[seen] * len(seen)
    mean = (sums[seen] / share[:, None]).sum(axis=0)
    second = (products[seen] / share[:, None, None]).sum(axis=0)
    each = sums[seen] / count[seen][:, None]
    return second - np.outer(mean, mean), (each - mean).T / len(seen)


def _balanced(count: Float, sums: Float, products: Float, label: int) -> tuple[Float, Float]:
    """Return covariances of the units, and of the units with the label, half of it all."""
    own, rest = count[label], count[-1] - count[label]
    if own == 0 or rest == 0:
        return np.full(products.shape[1:], np.nan), np.full((sums.shape[1], 1), np.nan)
    inside, outside = sums[label] / own, (sums[-1] - sums[label]) / rest
    second = products[label] / own / 2 + (products[-1] - products[label]) / rest / 2
    mean = (inside + outside) / 2
    return second - np.outer(mean, mean), (inside - outside)[:, None] / 4


def _ranks(gram: Float, cross: Float) -> Float:
    """Rank units by forward selection: each next one is what reduces the error most."""
    size = len(cross)
    if np.isnan(cross).any():
        return np.full(size, np.nan)
    gram, cross = gram.copy(), cross.copy()
    least = 1e-7 * np.maximum(np.diag(gram), np.diag(gram).max() * 1e-9)
    ranks = np.zeros(size)
    left = np.ones(size, dtype=bool)
    for place in range(size):
        spread = np.diag(gram)
        fresh = left & (spread > least)
        gain = np.where(fresh, (cross**2).sum(axis=1) / np.where(fresh, spread, 1.0), -1.0)
        gain[~left] = -np.inf
        best = int(gain.argmax())
        ranks[best] = (size - place) / size
        left[best] = False
        if fresh[best]:
            row = gram[best] / spread[best]
            cross = cross - np.outer(row, cross[best])
            gram = gram - np.outer(row, gram[best])
    return ranks
