"""A score that asks what the answers lose without a unit when all that read it are refitted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_nns.data.batches import Batches, as_batches
from keras_nns.data.labels import answers_labels, label_number
from keras_nns.data.outputs import of_output
from keras_nns.errors import SelectionError
from keras_nns.graph.tracing import Graph, TracedCall, trace
from keras_nns.observation.activity import Activity
from keras_nns.observation.gradients import gradients_of
from keras_nns.observation.input_moments import (
    Question,
    Reading,
    linear_calls,
    readings,
    units_read,
)
from keras_nns.observation.label_losses import (
    Objective,
    answering_of,
    decision_margin,
    label_count_of,
    projection,
)
from keras_nns.plans.units import Group
from keras_nns.progress import stage
from keras_nns.selection.activations import Score, Scores
from keras_nns.selection.choosing import Label
from keras_nns.selection.elimination import Reader, eliminate, rising

Float = NDArray[np.float64]

_WIDE = 256
"""Of a group of twice as many units two are removed before losses are reckoned anew, and so on."""
_STAGES = 2
"""What layers read is summed up; and units are removed one by one."""


def reconstruction(
    model: Any,
    data: Any,
    y: Any = None,
    *,
    labels: Label | Sequence[Label],
    alone: bool = False,
    output: str | None = None,
    batch_size: int = 256,
    label_names: Sequence[Any] | None = None,
) -> Score:
    """Make the score that is what a decision loses without a unit when its readers are refitted.

    Units are removed one by one, each time the one whose loss is least, all layers that read it
    refitted by least squares, as `repair` does. A unit that others can stand in for costs little,
    however loud it is. The loss is the expected squared change of the decision's margin: the logit
    of the answer that wins less that of the runner-up, to first order, with errors of a layer's
    outputs weighed by the margin's gradients there (both moments taken as independent of each
    other, as in Martens and Grosse 2015, *K-FAC*). So losses of different layers are in one unit of
    measure, and `balance="cost"` of `extract` can set them against what units cost. Where a model
    decides at every position the changes of all are added up; where it gives numbers, or answers
    none of the labels, the loss is the expected squared change of all that it gives.

    Units that something else than a Dense or a plain convolution reads, such as recurrent and
    attention layers, are not refitted: their loss is the expected square of what the margin loses
    to first order when they are set to zero, as in `fisher`.

    Needs the second moments of what layers read, `(kernel window × channels)²` numbers for each
    layer, from one streaming pass with gradients; where all together are too many, several.

    Args:
        model: The model that was observed.
        data: Labelled data, as `keras_nns.observe` takes it, that can be gone over several
            times.
        y: Labels, where `data` is inputs alone.
        labels: The labels that the subnetwork answers. Samples of them, together, weigh as much as
            all others.
        alone: Whether it answers them and nothing else, as with `head="labels"`. Other samples are
            left out then.
        output: Name of the output that answers the labels, where the model has several.
        batch_size: Samples in a batch, for arrays.
        label_names: Name of every label, in the order of the model's outputs.

    Returns:
        A score to pass to `select` or `extract`, the same for every label. The higher, the more is
        lost; 0 where nothing is, -inf for units that were not watched.

    Raises:
        SelectionError: A label is unknown, or a layer's moments would be too large to hold.
        DataError: The data does not fit, or has no sample of the labels.
        ModelError: The output that answers has no fixed width.

    Example:
        >>> score = nns.scores.reconstruction(model, (x, y), labels=[3, 8])
        >>> nns.select(activity, labels=[3, 8], score=score, keep=nns.top(8))
        <Plan for 3, 8: 16 of 48 units>
    """
    graph = trace(model)
    answering = answering_of(graph, output, once=False)
    batches = as_batches(
        data,
        y,
        model=model,
        batch_size=batch_size,
        label_names=label_names,
        label_count=label_count_of(graph, answering),
        output=answering.name,
    )
    names = batches.label_names
    asked: Sequence[Label] = [labels] if isinstance(labels, int | np.integer | str) else labels
    numbers = sorted({label_number(label, names) for label in asked})
    if not numbers:
        raise SelectionError("`labels` is empty. Name at least one label.")
    objective: Objective = projection
    at_once = batches.kind == "labels" and answers_labels(
        of_output(model, answering.name), len(names)
    )
    if at_once or batches.kind == "positions":
        objective = decision_margin(answering, numbers, alone=alone)
    question = Question(graph, answering, objective, tuple(numbers), alone)
    values = _losses(question, batches, batch_size)

    def score(activity: Activity) -> Scores:
        if activity.fingerprint != graph.fingerprint:
            raise SelectionError(
                f"reconstruction was given model {model.name!r}, and the activity is of another, "
                "or of the same with other weights."
            )
        found = {}
        for group in activity.layout.prunable:
            watched = [m.units for m in group.members if m.layer in activity.layers]
            if group.name in values and watched:
                units = np.unique(np.concatenate(watched))
                found[group.name] = np.full((len(names), group.size), -np.inf)
                found[group.name][:, units] = values[group.name][units]
        return found

    score.__name__ = "reconstruction"
    return score


def _losses(question: Question, batches: Batches, batch_size: int) -> dict[str, Float]:
    """Return the loss of every unit of every group, `(units,)`."""
    graph = question.graph
    layers = linear_calls(graph)
    groups = graph.layout.prunable
    classes = {group.name: _classes(graph, group) for group in groups}
    loose = _read_otherwise(graph, layers)
    refitted = [
        group
        for group in groups
        if not np.isin(classes[group.name], loose).any()
        and _read_alike(graph, layers, classes[group.name])
    ]
    wanted = [
        path
        for path, traced in layers.items()
        if any(np.isin(units_read(graph, traced), classes[g.name]).any() for g in refitted)
    ]
    stage(0, _STAGES)
    readers = readings(question, {path: layers[path] for path in wanted}, batches)
    found = {}
    for place, group in enumerate(refitted):
        stage(1 + place / len(refitted), _STAGES, group.name)
        numbers = classes[group.name]
        here = [one for r in readers.values() if (one := _of_group(r, numbers)) is not None]
        free = [u for u in range(group.size) if u not in group.protected]
        order, losses = eliminate(here, free, at_once=max(1, group.size // _WIDE))
        found[group.name] = np.full(group.size, losses.max(initial=0.0))
        found[group.name][order] = rising(losses)
    others = [group for group in groups if group.name not in found]
    if others:
        found |= _unfitted(question, others, batches, batch_size)
    return {group.name: found[group.name] for group in groups if group.name in found}


# Who reads what -------------------------------------------------------------------------------


def _classes(graph: Graph, group: Group) -> NDArray[np.int64]:
    """Return for every unit of a group the number of its set in the graph."""
    found = np.full(group.size, -1, dtype=np.int64)
    for member in group.members:
        found[list(member.units)] = graph.class_of[graph.families[member.layer].units]
    return found


def _read_otherwise(graph: Graph, layers: dict[str, TracedCall]) -> NDArray[np.int64]:
    """Return sets of units that end in something that is not refitted, or that feed back."""
    found: list[NDArray[np.int64]] = []
    for traced in graph.calls.values():
        given = [graph.class_of[u] for s in traced.inputs for u in s.units.values()]
        passed = [graph.class_of[u] for s in traced.outputs for u in s.units.values()]
        ended = np.setdiff1d(np.concatenate([*given, []]), np.concatenate([*passed, []]))
        if traced.call.path in layers:
            ended = np.setdiff1d(ended, units_read(graph, layers[traced.call.path]))
        found.append(ended.astype(np.int64))
    for blueprint in graph.blueprints.values():
        for binding in blueprint.bindings.values():
            sets = [graph.class_of[units] for units in binding.axes.values()]
            for i, one in enumerate(sets):
                # A weight from units to themselves; or units that act inside a layer alone.
                found.extend(np.intersect1d(one, other) for other in sets[i + 1 :])
    return np.unique(np.concatenate(found)) if found else np.empty(0, np.int64)


def _read_alike(graph: Graph, layers: dict[str, TracedCall], classes: NDArray[np.int64]) -> bool:
    """Return whether layers read these units, and each reads all of them equally often."""
    times = [
        counts[counts > 0]
        for traced in layers.values()
        if (counts := (units_read(graph, traced)[:, None] == classes).sum(axis=0)).any()
    ]
    return bool(times) and all((count == count[0]).all() for count in times)


def _of_group(reading: Reading, classes: NDArray[np.int64]) -> Reader | None:
    """Return what a layer reads of one group's units."""
    pairs = [(u, np.flatnonzero(reading.sets == number)) for u, number in enumerate(classes)]
    pairs = [(u, columns) for u, columns in pairs if columns.size]
    if not pairs:
        return None
    units = np.array([u for u, _ in pairs])
    columns = np.stack([columns for _, columns in pairs])
    return Reader(reading.covariance, reading.kernel, reading.importance, units, columns)


def _unfitted(
    question: Question, groups: Sequence[Group], batches: Batches, batch_size: int
) -> dict[str, Float]:
    """Return the mean square of what the margin loses without each unit, nothing refitted."""
    seen = gradients_of(
        question.graph,
        question.answering,
        question.margin,
        (batches, None),
        batch_size=batch_size,
        label_names=batches.label_names,
        verbose=False,
        of_labels=False,
    )
    own = list(question.labels)
    rest = [label for label in range(len(seen.samples)) if label not in own]
    found = {}
    for group in groups:
        total = np.zeros(group.size)
        watched = [member for member in group.members if member.layer in seen.layers]
        for member in watched:
            square = seen.layers[member.layer].square
            parts = [p for p in ([own] if question.alone else [own, rest]) if seen.samples[p].sum()]
            mean = sum(square[p].sum(axis=0) / seen.samples[p].sum() for p in parts) / len(parts)
            np.add.at(total, list(member.units), mean)
        if watched:
            found[group.name] = total
    return found
