"""Scores of what lies inside residual blocks, by what the ends of their branches read of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_nns.data.batches import as_batches
from keras_nns.errors import ModelError, SelectionError
from keras_nns.graph.tracing import Graph, trace
from keras_nns.observation.activity import Activity
from keras_nns.observation.branch_moments import End, Read, ends_of, minded, reads_of
from keras_nns.observation.holdout import Division
from keras_nns.observation.next_token import NextToken
from keras_nns.plans.units import Group
from keras_nns.progress import stage
from keras_nns.selection.activations import Score, Scores
from keras_nns.selection.choosing import Label, label_numbers
from keras_nns.selection.elimination import Reader, eliminate, rising

Float = NDArray[np.float64]
Columns = tuple[NDArray[np.int64], NDArray[np.int64]]
"""Units, and the features of the end that are theirs, `(units, features of one)`."""

_AT_ONCE = 16
"""How many units of a group leave at most before their losses are reckoned anew."""


def branch_reconstruction(
    model: Any,
    data: Any,
    y: Any = None,
    *,
    labels: Label | Sequence[Label] = "all",
    batch_size: int = 8,
    label_names: Sequence[Any] | None = None,
    label_count: int | None = None,
    tokens: str = "token_ids",
    padding: str = "padding_mask",
    output: str | None = None,
) -> Score:
    """Make the score that is what a language model's loss rises by without a unit, ends refitted.

    Units inside a block are read by the end of one of its branches: heads by the projection behind
    the attention, hidden units by the one behind them. They are removed one after another, always
    those whose loss is least when the end is refitted by least squares to what is left, as
    `repair` does it (Hassibi and Stork 1993; for structures of language models Kurtic et al. 2023,
    *ZipLM*, and Ling et al. 2024, *SlimGPT*). What the end is off by then counts by the squared
    gradient of the next token's loss at its outputs (the diagonal of the Fisher information), so
    that heads and hidden units of all blocks can be compared: half of it is about how many nats a
    token more the text costs.

    One pass with gradients and one without; moments are of one block at a time.

    Args:
        model: The language model that was observed.
        data: Texts in tokens with the kind of each, as `keras_nns.perplexity` takes them, which
            can be gone over several times.
        y: Kinds of text, where `data` is inputs alone.
        labels: The kinds that the network is for. Texts of others are left out.
        batch_size: Texts in a batch, for arrays.
        label_names: Name of every kind.
        label_count: How many kinds there are, where neither names nor data tell.
        tokens: As in `perplexity`.
        padding: As in `perplexity`.
        output: As in `perplexity`.

    Returns:
        A score to pass to `select` or `extract`, the same for every label. Units that stand for
        whole blocks have none, and stay.

    Raises:
        ModelError: The model scores no vocabulary, or has no blocks that are watched inside.
        DataError: The data does not fit, or has no text of these kinds.
        SelectionError: A label is unknown.

    Example:
        >>> activity = nns.observe(writer, (texts, kinds), label_names=("code", "prose"))
        >>> score = nns.scores.branch_reconstruction(
        ...     writer, (texts, kinds), labels="code", label_names=("code", "prose")
        ... )
        >>> nns.select(activity, "code", score=score, groups="*:hidden")
        <Plan for code: 32 of 64 units, and all 2 of which nothing is known>
    """
    graph, division, names = _opened(
        model,
        (data, y),
        labels,
        "branch_reconstruction",
        {"batch_size": batch_size, "label_names": label_names, "label_count": label_count},
    )
    ends = ends_of(graph)
    asked = NextToken(model, tokens, padding, output)
    stage(0, 2, "gradients")
    weights = minded(graph, division, ends, asked)
    importance = {id(end): one for end, one in zip(ends, weights, strict=True)}

    def of_end(read: Read, columns: Columns) -> Float:
        units, own = columns
        kernel = read.end.projection.matrix()
        mattering = np.diag(importance[id(read.end)])
        reader = Reader(read.covariance, kernel, mattering, units, own)
        order, losses = eliminate([reader], units.tolist(), at_once=_AT_ONCE)
        found = np.zeros(int(units.max()) + 1)
        found[order] = rising(losses)
        return found

    stage(1, 2, "what branches read")
    values = _by_group(graph, division, ends, of_end)
    return _score(graph, values, len(names), "branch_reconstruction")


def fluctuation(
    model: Any,
    data: Any,
    y: Any = None,
    *,
    labels: Label | Sequence[Label] = "all",
    batch_size: int = 8,
    label_names: Sequence[Any] | None = None,
    label_count: int | None = None,
) -> Score:
    """Make the score that is how much a unit fluctuates, by the weights of what reads it.

    An et al. 2024 (*Fluctuation-based Adaptive Structured Pruning for Large Language Models*,
    eq. 4): the variance of a feature over all positions, times the sum of its squared weights in
    the projection at the end of its branch; of a head, summed over its features. What hardly
    fluctuates can be stood in for by its mean, which the paper adds to the projection's bias:
    that is `steps.fold_means`, where the projection has a bias.

    Args:
        model: The model that was observed, with blocks that are watched inside.
        data: Texts in tokens with the kind of each, as `keras_nns.observe` takes them, which can
            be gone over several times.
        y: Kinds of text, where `data` is inputs alone.
        labels: The kinds that the network is for. Texts of others are left out.
        batch_size: Texts in a batch, for arrays.
        label_names: Name of every kind.
        label_count: How many kinds there are, where neither names nor data tell.

    Returns:
        A score to pass to `select` or `extract`, the same for every label. Units that stand for
        whole blocks have none, and stay.

    Raises:
        ModelError: The model has no blocks that are watched inside.
        DataError: The data does not fit, or has no text of these kinds.
        SelectionError: A label is unknown.

    Example:
        >>> activity = nns.observe(writer, (texts, kinds), label_names=("code", "prose"))
        >>> score = nns.scores.fluctuation(
        ...     writer, (texts, kinds), labels="code", label_names=("code", "prose")
        ... )
        >>> nns.select(activity, "code", score=score, groups="*:hidden")
        <Plan for code: 32 of 64 units, and all 2 of which nothing is known>
    """
    graph, division, names = _opened(
        model,
        (data, y),
        labels,
        "fluctuation",
        {"batch_size": batch_size, "label_names": label_names, "label_count": label_count},
    )

    def of_end(read: Read, columns: Columns) -> Float:
        units, own = columns
        squares = (read.end.projection.matrix() ** 2).sum(axis=1)
        each = np.diag(read.covariance).clip(0) * squares
        found = np.zeros(int(units.max()) + 1)
        found[units] = each[own].sum(axis=1)
        return found

    values = _by_group(graph, division, ends_of(graph), of_end)
    return _score(graph, values, len(names), "fluctuation")


def _opened(
    model: Any,
    data: tuple[Any, Any],
    labels: Label | Sequence[Label],
    score: str,
    told: dict[str, Any],
) -> tuple[Graph, Division, tuple[str, ...]]:
    """Trace a model and open the texts of some kinds."""
    graph = trace(model)
    if not ends_of(graph):
        raise ModelError(
            f"{score} is for models of residual blocks that are watched inside, such as KerasHub's "
            f"language models, and {model.name!r} has none. For others there is reconstruction."
        )
    batches = as_batches(*data, model=model, own_labels=True, **told)
    division = Division(
        batches,
        None,
        model=model,
        held_out=0,
        seed=0,
        batch_size=told["batch_size"],
        label_names=told["label_names"],
    )
    names = batches.label_names
    return graph, division.of_labels(label_numbers(names, labels)), names


def _by_group(
    graph: Graph,
    division: Division,
    ends: Sequence[End],
    of_end: Callable[[Read, Columns], Float],
) -> dict[str, Float]:
    """Return the scores of every group whose units one end alone reads, `(units,)`."""
    found: dict[str, Float] = {}
    groups = [group for group in graph.layout.prunable if not group.optional]
    columns = {
        (id(end), group.name): own
        for end in ends
        for group in groups
        if (own := _columns(graph, end, group)) is not None
    }
    read_by = {
        group.name: sum((id(end), group.name) in columns for end in ends) for group in groups
    }
    for read in reads_of(graph, division, ends):
        for group in groups:
            own = columns.get((id(read.end), group.name))
            if own is None or read_by[group.name] > 1:
                continue
            values = of_end(read, own)
            known = np.full(group.size, -np.inf)
            known[own[0]] = values[own[0]]
            found[group.name] = known
    return found


def _columns(graph: Graph, end: End, group: Group) -> Columns | None:
    """Return which features of an end are of the units of a group; None where none is."""
    blueprint = graph.blueprints[id(end.layer)]
    kernel = end.projection.kernel
    place = next(i for i, known in enumerate(end.layer.variables) if known is kernel)
    binding = blueprint.bindings.get(place)
    if binding is None:
        return None
    reads = end.projection.reads
    shape = [int(kernel.shape[axis]) for axis in reads]
    numbers = np.arange(int(np.prod(shape))).reshape(shape)
    rank = len(kernel.shape)
    bound = {axis % rank: graph.class_of[units] for axis, units in binding.axes.items()}
    classes: dict[int, int] = {}
    for member in group.members:
        sets = graph.class_of[graph.families[member.layer].units]
        classes |= dict(zip(sets.tolist(), member.units, strict=True))
    for position, axis in enumerate(reads):
        here = bound.get(axis)
        if here is None or not np.isin(here, list(classes)).all():
            continue
        by_unit: dict[int, list[NDArray[np.int64]]] = {}
        for at, number in enumerate(here.tolist()):
            by_unit.setdefault(classes[number], []).append(numbers.take(at, position).reshape(-1))
        units = sorted(by_unit)
        rows = [np.concatenate(by_unit[unit]) for unit in units]
        if len({len(row) for row in rows}) == 1:
            return np.array(units), np.stack(rows)
    return None


def _score(graph: Graph, values: Mapping[str, Float], labels: int, name: str) -> Score:
    def score(activity: Activity) -> Scores:
        if activity.fingerprint != graph.fingerprint:
            raise SelectionError(
                f"{name} was given model {graph.model.name!r}, and the activity is of another, or "
                "of the same with other weights."
            )
        if len(activity.label_names) != labels:
            raise SelectionError(
                f"{name} knows {labels} labels, and the activity {len(activity.label_names)}."
            )
        return {group: np.repeat(row[None], labels, axis=0) for group, row in values.items()}

    score.__name__ = name
    return score
