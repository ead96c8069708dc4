"""Transplant a few labels of a large network into a small architecture of the user's choice."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from inspect import signature
from typing import Any

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from keras_nns import tables
from keras_nns.errors import ModelError, SelectionError, SurgeryError
from keras_nns.files.atomic import Json
from keras_nns.graph.keras_internals import functional
from keras_nns.graph.linear import layers_of
from keras_nns.graph.tracing import Graph, trace
from keras_nns.observation.activity import Activity
from keras_nns.observation.forward import parents_batches
from keras_nns.observation.holdout import Division
from keras_nns.observation.streaming import observe
from keras_nns.plans.kept_units import Plan
from keras_nns.repairing import steps
from keras_nns.repairing.least_squares import least_squares
from keras_nns.selection.activations import contrast
from keras_nns.selection.naming import as_score
from keras_nns.surgery.copying import copied
from keras_nns.surgery.cutting import cut
from keras_nns.surgery.heads import Answer, answer_of
from keras_nns.surgery.lineage import Head, Lineage, set_lineage
from keras_nns.training.distillation import distill
from keras_nns.training.outcome import Trained

Label = int | str
Score = Callable[[Activity], Mapping[str, NDArray[np.float64]]]

_UNITS = ("units", "filters")
_FREE = ("initializer", "regularizer", "constraint", "dtype", "trainable", "name", "build_config")
"""Parts of a layer's configuration in which two that compute alike may differ, by how they end."""


@dataclass(frozen=True)
class Origin:
    """Where the weights of one layer started.

    Attributes:
        layer: Path of the layer in the small architecture.
        parents: Path of the parent's layer that it started from; None for one that started from
            the weights it came with.
        units: How many of that layer's units it has.
        of: How many units that layer has.
        why: Why it has nothing of the parent's.
    """

    layer: str
    parents: str | None
    units: int = 0
    of: int = 0
    why: str = ""


@dataclass(frozen=True, repr=False, eq=False)
class Transplanted(tables.Tabular):
    """A small architecture that answers some labels as a large network does.

    Printing it gives two tables: where each layer started, and what training gained.

    Attributes:
        model: The trained network. `evaluate` and `compare` know what it answers.
        origins: Where each layer with weights started.
        trained: What the distillation gained.

    Example:
        >>> done = nns.transplant(model, tiny, x, y, labels=[3, 8], epochs=1)
        >>> [origin.layer for origin in done.origins]
        ['dense', 'answer']
    """

    model: keras.Model
    origins: tuple[Origin, ...]
    trained: Trained

    def to_table(self) -> tables.Table:
        """Return where each layer started, as a table."""
        none = tables.UNDEFINED
        rows = tuple(
            (o.layer, o.parents or none, f"{o.units} of {o.of}" if o.parents else none, o.why)
            for o in self.origins
        )
        started = sum(one.parents is not None for one in self.origins)
        caption = f"{started} of {len(rows)} layers start from the parent's weights."
        columns = ("layer", "from the parent's", "units", "why not")
        return tables.Table(columns, rows, caption, prose=(0, 1, 3))

    def to_json(self) -> Json:
        """Return what happened as plain data."""
        return {
            "origins": [asdict(one) for one in self.origins],
            "trained": self.trained.to_json(),
        }

    def __str__(self) -> str:
        return f"{self.to_table()}\n\n{self.trained}"


def transplant(
    parent: keras.Model,
    small: keras.Model,
    data: Any,
    y: Any = None,
    *,
    labels: Label | Sequence[Label],
    head: Head = "labels",
    score: Score | str = contrast,
    repair: bool = True,
    epochs: int = 5,
    held_out: float = 0.1,
    seed: int = 0,
    label_names: Sequence[Any] | None = None,
    **options: Any,
) -> Transplanted:
    """Teach a small architecture what a large network knows of some labels.

    Its layers are laid beside the parent's, in the order of the graphs, from the inputs on. As long
    as two are of the same kind and configuration but for the number of units, the small one starts
    from the parent's units that the labels need most, as many as it has: what `cut` gives and least
    squares repair, whose weights have its shapes. From the first that does not fit on, layers start
    from the weights they came with. Then all of it is distilled from the parent (`distill`). What
    is held out has no part in any of it: no unit is chosen on it, no weight fitted or trained.

    Args:
        parent: The large network. It is not changed.
        small: A built Sequential or functional model of any layers that takes the parent's inputs
            and ends in what `head` answers: `"labels"`, one value for each label, in the order of
            their numbers; `"other"`, one more, behind a softmax; `"binary"`, one behind a sigmoid;
            `"parent"`, all the parent's. It is not changed.
        data: Training data with the parent's labels, as `keras_nns.observe` takes it. It is
            gone over several times.
        y: Labels, where `data` is inputs alone.
        labels: Labels to transplant, by name or number.
        head: What the small network shall answer.
        score: How much a label needs a unit, as in `select`.
        repair: Whether what is cut is repaired before it is the beginning: one pass over the data
            for each layer of the parent that lost inputs.
        epochs: How often to go over the data, as in `distill`.
        held_out: Share of the samples that only judge: the epochs, and what came of it.
        seed: Which samples those are, the order of the others, and dropout.
        label_names: Name of every label of the parent, in the order of its outputs.
        **options: The other options of `distill`.

    Returns:
        The trained network, where each of its layers started, and what training gained. In
        `lineage`, the plan tells of which of the parent's units the beginning was made.

    Raises:
        ModelError: The small architecture takes other inputs than the parent, or has several
            outputs.
        SurgeryError: It ends in something else than `head` takes.
        SelectionError: A label is unknown, or no sample of it was seen.
        DataError: The data does not fit, or there are too few samples.

    Example:
        >>> done = nns.transplant(model, tiny, x, y, labels=[3, 8], epochs=1)
        >>> nns.compare(model, done.model, x_test, y_test).costs.parameters
        538
    """
    shared: dict[str, Any] = {"held_out": held_out, "seed": seed}
    how = {"epochs": epochs, **shared, **options}
    # An option that is misspelt is refused before any work.
    signature(distill).bind(small, parent, data, **how)
    graph = trace(parent)
    _check_inputs(parent, small)
    batches = parents_batches(parent, None, data, y, batch_size=256, label_names=label_names)
    division = Division(
        batches, None, model=parent, batch_size=256, label_names=label_names, **shared
    )
    activity = observe(parent, division.fitted, verbose=False)
    wanted = [labels] if isinstance(labels, str | int) else list(labels)
    numbers = tuple(sorted({activity.label(label) for label in wanted}))
    unseen = [activity.label_names[i] for i in numbers if not activity.samples[i]]
    if unseen or not numbers:
        raise SelectionError(
            f"No sample of {unseen} is in the data, beside what is held out."
            if unseen
            else "`labels` is empty. Name at least one label."
        )
    values = {name: part[list(numbers)] for name, part in as_score(score, parent)(activity).items()}
    pairs = _beside(graph, small, values)
    plan = _plan(graph, activity, numbers, values, {p.group: p.units for p in pairs if p.group})
    answer = answer_of(graph, plan, head, None)
    _check_head(small, answer)
    new = copied(small)
    beginnings = [cut(parent, plan, head=head)]
    if repair and any(pair.theirs for pair in pairs):
        fixed = steps.repair(
            beginnings[0],
            parent,
            division.fitted,
            steps=least_squares(),
            held_out=0,
        )
        beginnings.insert(0, fixed.model)
    origins = _started(new, beginnings, pairs)
    set_lineage(new, Lineage(plan, head, answer.labels, answer.label_names, answer.output))
    trained = distill(new, parent, batches, **how)
    return Transplanted(trained.model, origins, trained)


@dataclass(frozen=True)
class _Pair:
    """A layer of the small architecture and the parent's that stands beside it, or why none."""

    path: str
    theirs: str = ""
    group: str = ""
    units: int = 0
    of: int = 0
    why: str = ""


def _check_inputs(parent: keras.Model, small: keras.Model) -> None:
    theirs, ours = (
        [(tuple(t.shape[1:]), str(t.dtype)) for t in functional(model).inputs]
        for model in (parent, small)
    )
    if theirs != ours:
        raise ModelError(
            f"A transplant's architecture takes its parent's inputs: {parent.name!r} takes "
            f"{theirs} and {small.name!r} {ours}. Begin it with keras.Input of that shape, and "
            "with a Resizing or Reshape layer where it works on another."
        )
    if len(functional(small).outputs) != 1:
        raise ModelError(
            f"A transplant's architecture has one output. Received: {small.name!r} with "
            f"{len(functional(small).outputs)}."
        )


def _check_head(small: keras.Model, answer: Answer) -> None:
    found = trace(small).outputs[0]
    count = len(answer.labels)
    if answer.kind == "sigmoid" and count == 2 and answer.head == "parent":
        count = found.size if found.size in (1, 2) else 2
    kind = {"binary": "sigmoid", "other": "softmax"}.get(answer.head, answer.kind)
    if found.size != count or found.kind != kind:
        names = ", ".join(answer.label_names)
        raise SurgeryError(
            f"With head={answer.head!r} the architecture ends in {count} output(s), {kind}, for "
            f"{names}. {small.name!r} ends in {found.size}, {found.kind}."
        )


def _beside(
    graph: Graph, small: keras.Model, values: Mapping[str, NDArray[np.float64]]
) -> list[_Pair]:
    """Lay the layers with weights of two models beside each other until two do not fit."""
    theirs = [(path, one) for path, one in layers_of(graph.model).items() if _weighted(one)]
    ours = [(path, one) for path, one in layers_of(small).items() if _weighted(one)]
    found: list[_Pair] = []
    why = ""
    sizes: dict[str, int] = {}
    for number, (path, _) in enumerate(ours):
        if not why and number >= len(theirs):
            why = "the parent has no further layer"
        if why:
            found.append(_Pair(path, why=why))
            continue
        pair, why = _paired(graph, ours[number], theirs[number], values, sizes)
        found.append(pair)
        if why:
            why = "behind one that does not fit"
    return found


def _paired(
    graph: Graph,
    ours: tuple[str, Any],
    theirs: tuple[str, Any],
    values: Mapping[str, NDArray[np.float64]],
    sizes: dict[str, int],
) -> tuple[_Pair, str]:
    """Lay two layers beside each other, or say why they do not fit; note their group's size."""
    (path, own), (name, layer) = ours, theirs
    why = _unlike(own, layer)
    units, of = _units(own), _units(layer)
    if why:
        return _Pair(path, why=f"{name!r} {why}"), why
    last = any(output.name == layer.name for output in graph.outputs)
    if not units or last:
        size = int(layer.weights[0].shape[-1])
        return _Pair(path, name, "", int(own.weights[0].shape[-1]), size), ""
    group, member = graph.layout.of_layer(name)
    whole = sorted(member.units) == list(range(group.size))
    if units > of:
        why = f"{name!r} has {of} units"
    elif units < of and not (group.prunable and whole and group.name in values):
        why = f"units of {name!r} cannot leave"
    elif sizes.get(group.name, units) != units:
        why = f"{name!r} shares its units with a layer of {sizes[group.name]}"
    elif units < len(group.protected):
        why = f"{len(group.protected)} units of {name!r} have to stay"
    if why:
        return _Pair(path, why=why), why
    sizes[group.name] = units
    return _Pair(path, name, group.name, units, of), ""


def _weighted(layer: Any) -> bool:
    return isinstance(layer, layers.Layer) and bool(layer.weights)


def _units(layer: Any) -> int:
    config = layer.get_config()
    return next((int(config[key]) for key in _UNITS if isinstance(config.get(key), int)), 0)


def _unlike(own: Any, theirs: Any) -> str:
    """Say in what two layers differ, beside their number of units."""
    if type(own) is not type(theirs):
        return f"is a {type(theirs).__name__}, this a {type(own).__name__}"
    configs = [
        {
            key: value
            for key, value in layer.get_config().items()
            if key not in _UNITS and not key.endswith(_FREE)
        }
        for layer in (own, theirs)
    ]
    odd = sorted(key for key in configs[0] if configs[0][key] != configs[1].get(key))
    return f"has another {odd[0]}" if odd else ""


def _plan(
    graph: Graph,
    activity: Activity,
    numbers: tuple[int, ...],
    values: Mapping[str, NDArray[np.float64]],
    sizes: dict[str, int],
) -> Plan:
    """Keep as many units of each group as the small architecture has, the labels' best in turn."""
    kept = {}
    for group in graph.layout.prunable:
        count = sizes.get(group.name, group.size)
        if count == group.size:
            kept[group.name] = tuple(range(group.size))
            continue
        scores = np.nan_to_num(values[group.name], neginf=0.0)
        places = (-scores).argsort(axis=1, kind="stable").argsort(axis=1).min(axis=0)
        # What must stay comes first; then each label's best, its second best, and so on.
        places[list(group.protected)] = -1
        order = np.lexsort((-scores.max(axis=0), places))
        kept[group.name] = tuple(sorted(order[:count].tolist()))
    return Plan(
        fingerprint=graph.fingerprint,
        sizes={group.name: group.size for group in graph.layout.prunable},
        kept=kept,
        labels=numbers,
        label_names=activity.label_names,
        seen=activity.seen,
    )


def _started(
    new: keras.Model, beginnings: Sequence[keras.Model], pairs: Sequence[_Pair]
) -> tuple[Origin, ...]:
    """Give layers the weights of a cut parent's, until the first of another shape.

    Args:
        new: What gets them.
        beginnings: The cut parent, after its repair, where some layer may have got a bias, and
            before.
        pairs: Which layers stand beside each other.
    """
    ours = layers_of(new)
    theirs = [layers_of(model) for model in beginnings]
    origins, why = [], ""
    for pair in pairs:
        if pair.why or why:
            origins.append(Origin(pair.path, None, why=pair.why or why))
            continue
        own, others = ours[pair.path], [layers[pair.theirs] for layers in theirs]
        other = next((one for one in others if _shapes(one) == _shapes(own)), None)
        if other is None:
            shape = _shapes(others[-1])[0]
            origins.append(Origin(pair.path, None, why=f"{pair.theirs!r} has weights of {shape}"))
            why = "behind one that does not fit"
            continue
        own.set_weights(other.get_weights())
        origins.append(Origin(pair.path, pair.theirs, pair.units, pair.of))
    return tuple(origins)


def _shapes(layer: Any) -> list[tuple[int, ...]]:
    return [tuple(weight.shape) for weight in layer.weights]
