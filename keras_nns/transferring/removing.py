"""Take a label away, and prove that the logits of the others are what they were."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import activations, ops
from numpy.typing import NDArray

from keras_nns.errors import ProofError, SelectionError, SurgeryError
from keras_nns.graph.generated_inputs import sample_inputs
from keras_nns.graph.keras_internals import model_of, structure
from keras_nns.graph.tracing import Graph, trace
from keras_nns.plans.kept_units import Plan
from keras_nns.surgery.copying import copied
from keras_nns.surgery.cutting import cut
from keras_nns.surgery.endings import head_of, names_of, whole_lineage
from keras_nns.surgery.proving import Proof, difference
from keras_nns.training.loop import random_untouched
from keras_nns.transferring.features import output_of

SAMPLES = 64
"""How many inputs logits are compared on."""


@dataclass(frozen=True, eq=False)
class Removal:
    """A network with a label less.

    Attributes:
        model: The new model.
        name: The label that was removed.
        logits: How far the other labels' logits are from what they were.
        removed: How many parameters left.

    Example:
        >>> removed = nns.remove_label(model, 9)
        >>> removed.name, removed.removed, removed.logits.exact
        ('9', 17, True)
    """

    model: keras.Model
    name: str
    logits: Proof
    removed: int

    def __str__(self) -> str:
        return (
            f"Removed {self.name!r} and {self.removed:,} parameters. On {self.logits.samples} "
            f"samples the other labels' logits moved by at most {self.logits.absolute:.2g}, "
            f"{self.logits.relative:.2g} of their scale{self.logits.how}{self.logits.beside}."
        )


@random_untouched()
def remove_label(
    model: keras.Model,
    label: int | str,
    *,
    samples: Any = SAMPLES,
    label_names: Sequence[Any] | None = None,
) -> Removal:
    """Take a label away, and prove that the logits of the others are what they were.

    Its output leaves, and with it the units that only this output read: those `add_label` gave it.
    Labels in data stay those of the model before, and samples of the removed label are left out.

    Args:
        model: Any Sequential or functional model that ends in a Dense. It is not changed.
        label: Number of the output, or name of the label.
        samples: Inputs to prove it on, as the model takes them, or how many to generate.
        label_names: Names of the labels, where the model does not remember them.

    Returns:
        The new model, with lineage and compile settings, and the proof.

    Raises:
        SelectionError: The model has no such label.
        SurgeryError: The output cannot leave, or only one label would be left.
        ProofError: The other labels' logits moved by more than float rounding.

    Example:
        >>> removed = nns.remove_label(model, 9)
        >>> print(removed)
        Removed '9' and 17 parameters. On 64 samples the other labels' logits moved by at most ...
        >>> removed.model.output_shape
        (None, 9)
    """
    graph = trace(model)
    record = whole_lineage(model)
    dense, _, _ = head_of(model, record)
    names = names_of(record, int(dense.kernel.shape[-1]), label_names)
    number = _number(label, names, model.name)
    left = tuple(i for i in range(len(names)) if i != number)
    if len(left) < 2:
        raise SurgeryError(
            f"Model {model.name!r} tells {len(names)} labels apart, and of one that is left there "
            "is nothing to tell. Keep two at least."
        )
    dead = _unread(graph, dense, list(left))
    sizes = {group.name: group.size for group in graph.layout.prunable}
    kept = {
        group: tuple(i for i in range(size) if i not in dead.get(group, set()))
        for group, size in sizes.items()
    }
    plan = Plan(
        graph.fingerprint, sizes, kept, labels=left, label_names=names, seen=record.plan.seen
    )
    new = cut(model, plan, head="labels", allow_empty=not all(kept.values()))
    logits = logits_apart(new, model, list(left), samples)
    if not logits.exact:
        raise ProofError(
            f"Without {names[number]!r} the other labels' logits moved by {logits.relative:.2g} of "
            f"their scale{logits.how}{logits.beside}. Please report this model's layers."
        )
    return Removal(new, names[number], logits, model.count_params() - new.count_params())


def _number(label: int | str, names: tuple[str, ...], model: str) -> int:
    if isinstance(label, str) and label in names:
        return names.index(label)
    if isinstance(label, int) and not isinstance(label, bool) and 0 <= label < len(names):
        return label
    raise SelectionError(
        f"Model {model!r} has no label {label!r}. Expected one of {list(names)}, or a number from "
        f"0 to {len(names) - 1}."
    )


def _unread(graph: Graph, dense: Any, left: list[int]) -> dict[str, set[int]]:
    """Find the units that nothing reads but outputs that leave: of each group, their numbers."""
    classes = graph.class_of
    head = graph.blueprints.get(id(dense))
    binding = head.bindings.get(0) if head is not None else None
    if head is None or binding is None or 0 not in binding.axes:
        return {}
    rows = binding.axes[0]
    silent = ~np.asarray(dense.kernel)[:, left].any(axis=1) & (rows >= 0)
    known: NDArray[np.int64] = classes[rows[silent]]
    loud: NDArray[np.int64] = classes[rows[~silent & (rows >= 0)]]
    read = set(loud.tolist())
    for blueprint in graph.blueprints.values():
        made = [f.units for f in graph.families.values() if f.layer == blueprint.path]
        own = np.concatenate(made) if made else np.zeros(0, dtype=np.int64)
        for bound in blueprint.bindings.values() if blueprint is not head else ():
            for units in bound.axes.values():
                read |= set(classes[units[(units >= 0) & ~np.isin(units, own)]].tolist())
    dead = set(known.tolist()) - read
    found: dict[str, set[int]] = {}
    for group in graph.layout.prunable:
        for member in group.members:
            units = classes[graph.families[member.layer].units].tolist()
            gone = {n for n, unit in zip(member.units, units, strict=True) if unit in dead}
            found.setdefault(group.name, set()).update(gone - set(group.protected))
    return found


def logits_apart(one: keras.Model, other: keras.Model, places: list[int], samples: Any) -> Proof:
    """Measure how far all logits of one model are from some of another's."""
    inputs = sample_inputs(trace(one), samples, seed=0) if isinstance(samples, int) else samples
    whole = _logits(other)
    some = model_of(structure(whole)[0], ops.take(whole.outputs[0], places, axis=-1))
    return difference(some, _logits(one), inputs)


def _logits(model: keras.Model) -> keras.Model:
    """Return a copy that answers before its last activation."""
    new = copied(model)
    dense, _, _ = head_of(new, whole_lineage(new))
    dense.activation = activations.linear
    return keras.Model(structure(new)[0], output_of(new, dense.name))
