"""What networks are to answer, and how they are made from their plans."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import keras
import numpy as np

from keras_nns.data.outputs import output_place
from keras_nns.data.targets import Kind
from keras_nns.errors import PlanError, SurgeryError
from keras_nns.graph.estimates import Estimates
from keras_nns.graph.rules import Keep
from keras_nns.graph.tracing import Graph, hidden_layout, trace
from keras_nns.plans.kept_units import Choice, Plan
from keras_nns.repairing.head_fit import calibrate_head
from keras_nns.repairing.last_dense import find_head, with_plain_head
from keras_nns.repairing.least_squares import least_squares
from keras_nns.repairing.patient import Step, record_of
from keras_nns.selection.choosing import Label, label_numbers
from keras_nns.selection.greedy import forward_selection
from keras_nns.selection.ranking import least_of
from keras_nns.surgery.cleaning.branches import Branch, branches_of
from keras_nns.surgery.cleaning.constants import decide
from keras_nns.surgery.copying import copied
from keras_nns.surgery.cutting import cut
from keras_nns.surgery.heads import Answer, answer_of, answers_labels_alone
from keras_nns.surgery.lineage import Head, Lineage, set_lineage
from keras_nns.surgery.operating_points import BalancedDecisions, OperatingPoint
from keras_nns.training.augmentation import Augment, Augmentation, moves_targets

_LONG = -1.2345678901234567e-100
"""A number that is as long as any when it is written."""

_MANY = 999_999
"""Samples, as many as a head is usually set on at most."""


@dataclass(frozen=True, eq=False)
class Task:
    """What networks are to answer.

    Attributes:
        graph: The traced parent.
        labels: Numbers of the labels they are for, sorted.
        label_names: Names of all the parent's labels.
        head: What they answer.
        output: Name of the parent's output that answers, where the user named it.
        answer: How their answers come from that output.
        asked: What the data has targets of (`Division.asked`).
    """

    graph: Graph
    labels: tuple[int, ...]
    label_names: tuple[str, ...]
    head: Head
    output: str | None
    answer: Answer
    asked: Kind | None = "labels"
    _last: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def branches(self) -> tuple[Branch, ...]:
        """What networks can do without as a whole."""
        units = np.arange(self.graph.unit_count)
        return branches_of(self.graph, self.keep(self.everything()).mask(units))

    @property
    def model(self) -> Any:
        """The parent."""
        return self.graph.model

    @property
    def alone(self) -> bool:
        """Whether networks have no answer for samples of other labels."""
        return self.asked == "labels" and answers_labels_alone(self.head, self.answer.kind)

    def keep(self, plan: Plan) -> Keep:
        """Return which of the parent's units the network of a plan has."""
        return self.graph.keep(plan, outputs=self.answer.narrowed)

    def measured(self, plan: Plan) -> keras.Model:
        """Return the network of a plan as it is cut, to be looked at and not to be changed.

        It is kept, since plans are measured before their networks are made.
        """
        if self._last.get("plan") != plan:
            self._last.update(plan=plan, model=self.cut(plan))
        return self._last["model"]

    def cut(self, plan: Plan) -> keras.Model:
        """Return the network of a plan as it is cut, which is nobody else's."""
        if self._last.get("plan") == plan:
            model = self._last["model"]
            self._last.clear()
            return model
        empty = bool(plan.empty)
        return cut(self.model, plan, head=self.head, output=self.output, allow_empty=empty)

    def everything(self) -> Plan:
        """Return the plan that keeps every unit."""
        return everything(self.graph, self.labels, self.label_names)

    def one_of_each(self) -> Plan:
        """Return the plan that keeps one unit of every layer.

        Which ones is not known before the parent is observed, and makes no difference to what the
        network costs, but for what its record takes in a file: it is as long as can be.
        """
        groups = self.graph.layout.prunable
        last = {group.name: least_of(group, np.arange(float(group.size))) for group in groups}
        kept = {name: tuple(np.flatnonzero(mask).tolist()) for name, mask in last.items()}
        thresholds = tuple((name, _LONG) for name in sorted(kept))
        choice = Choice(self.labels, forward_selection.__name__, "budget, share", thresholds)
        return replace(self.everything(), kept=kept, choices=(choice,))

    def possible(self, plan: Plan) -> bool:
        """Return whether a network of a plan can be cut: whether the signal gets through."""
        try:
            decide(self.graph, self.keep(plan).mask(np.arange(self.graph.unit_count)), units=False)
        except PlanError:
            return False
        return True

    def emptied(self, plan: Plan) -> Plan:
        """Return a plan without the groups that networks can do without, one after another.

        That is so where the signal goes round them, as in a residual block.
        """
        kept = dict(plan.kept)
        free = [name for name in plan.kept if not self.graph.layout[name].protected]
        for name in free:
            fewer = replace(plan, kept={**kept, name: ()})
            units = self.keep(fewer).mask(np.arange(self.graph.unit_count))
            with suppress(PlanError):
                decide(self.graph, units, units=False)
                kept[name] = ()
        return replace(plan, kept=kept)


def set_task(
    model: keras.Model,
    labels: Label | Sequence[Label],
    *,
    label_names: Sequence[str],
    head: Head | None,
    output: str | None,
    asked: Kind | None = "labels",
) -> Task:
    """Say what networks of a parent are to answer.

    Args:
        model: The parent.
        labels: The labels they are for.
        label_names: Names of all the parent's labels.
        head: What they answer; None for what is usual.
        output: Name of the output that answers, where the parent has several.
        asked: What the data has targets of (`Division.asked`).

    Raises:
        SelectionError: A label is unknown.
        SurgeryError: The head does not fit the output.
        PlanError: There is no such output.
        ModelError: The model has no graph, or nothing that can be cut.
    """
    graph = trace(model)
    hidden_layout(graph)
    names = tuple(label_names)
    numbers = tuple(label_numbers(names, labels))
    kind = graph.output(output).kind
    usual: Head = "parent"
    if asked in ("labels", "positions"):
        usual = _usual_head(len(numbers), len(names), kind)
    chosen = usual if head is None else head
    answer = answer_of(graph, everything(graph, numbers, names), chosen, output)
    return Task(graph, numbers, names, chosen, output, answer, asked)


def everything(graph: Graph, labels: tuple[int, ...], names: tuple[str, ...]) -> Plan:
    """Return the plan that keeps every unit."""
    sizes = {group.name: group.size for group in graph.layout.prunable}
    kept = {name: tuple(range(size)) for name, size in sizes.items()}
    return Plan(graph.fingerprint, sizes, kept, labels, names)


def _usual_head(labels: int, known: int, kind: str) -> Head:
    if labels == known:
        return "parent"
    if labels == 1:
        return "binary"
    return "labels" if kind == "sigmoid" and known > 2 else "other"


@dataclass(frozen=True)
class Recipe:
    """What is done to a network behind the cut.

    Attributes:
        steps: The steps of the repair.
        epochs: For how many epochs it is distilled from its parent.
        augment: What changes inputs as that goes over them.
    """

    steps: tuple[Step, ...] = ()
    epochs: int = 0
    augment: Augment | None = None

    @property
    def for_head(self) -> tuple[Step, ...]:
        """The steps that fit the head, which are done once more behind distillation."""
        return tuple(step for step in self.steps if step.for_head)

    @property
    def nothing(self) -> bool:
        """Whether a network stays as it was cut."""
        return not self.steps and not self.epochs


def write_recipe(
    task: Task,
    repair: bool | Step | Sequence[Step],
    epochs: int,
    augment: Augment | None = None,
) -> Recipe:
    """Say what is done to the networks of a task behind the cut.

    Args:
        task: What they answer.
        repair: Whether to repair them in the usual way; or the steps.
        epochs: For how many epochs to distil them.
        augment: What changes inputs as that goes over them.

    Raises:
        SurgeryError: `augment` is none; there is no distillation that it could be for; or targets
            would have to move with it.
    """
    if augment is not None:
        Augmentation(augment, 0)
        if not epochs:
            raise SurgeryError(
                "augment changes inputs as distillation goes over them, and there is none. Pass "
                "distill_epochs beside it, such as distill_epochs=10."
            )
        place = output_place(task.model, task.answer.output) or 0
        if moves_targets(task.asked, task.model.outputs[place]):
            raise SurgeryError(
                "augment changes inputs alone, and the data's targets of pixels or steps would no "
                "longer lie where they belong. Leave it out, and distil what extract gave with "
                "nns.distill(..., augment=..., alpha=1): by what the parent answers alone."
            )
    if repair is False:
        return Recipe((), epochs, augment)
    if repair is not True:
        steps = tuple(repair) if isinstance(repair, Sequence) else (repair,)
        return Recipe(steps, epochs, augment)
    usual = Recipe((least_squares(), calibrate_head()), epochs, augment)
    if task.asked != "labels":
        return replace(usual, steps=usual.steps[:1])
    try:
        skeleton(task, usual, task.one_of_each())
    except SurgeryError as error:
        # What lies before the head can be repaired.
        why = getattr(error, "because", str(error))
        warnings.warn(
            f"The head of {task.model.name!r} is not refitted, and decides where its parent did: "
            f"{why}. To train it instead, pass distill_epochs.",
            stacklevel=4,
        )
        return replace(usual, steps=usual.steps[:1])
    return usual


def skeleton(task: Task, recipe: Recipe, plan: Plan) -> keras.Model:
    """Return a model of the shape that the network of a plan will have in the end."""
    small = task.measured(plan)
    if not recipe.for_head:
        return small
    one, record = _to_be_headed(task, small)
    headed = with_plain_head(one, record)
    if headed is small:
        headed = copied(small)
    set_lineage(headed, replace(record, balanced=_decided(task)))
    return headed


def estimates_of(task: Task, recipe: Recipe) -> Estimates:
    """Return what networks of a task will cost, as functions of the units that stay.

    Raises:
        SurgeryError: The recipe refits a head, and there is none that can be refitted.
    """
    heads = {}
    if recipe.for_head:
        one, record = _to_be_headed(task, task.measured(task.one_of_each()))
        head = find_head(one, record, anew=record.head in ("binary", "other"))
        heads = {head.path: head.answers} if head.replaced else {}
    branches = [(branch.units, branch.layers) for branch in task.branches]
    return Estimates(task.graph, heads=heads, branches=branches)


def _to_be_headed(task: Task, small: keras.Model) -> tuple[keras.Model, Lineage]:
    """Return a network of which the head can be looked at, and where it comes from."""
    # Adding a layer to a Sequential leaves its layers called twice.
    one = copied(small) if isinstance(small, keras.Sequential) else small
    return one, record_of(small, task.model)


def _decided(task: Task) -> BalancedDecisions | None:
    """Return what a network remembers of how its head was set, as long as it can be in a file."""
    if task.head not in ("binary", "other"):
        return None
    numbers = (_LONG,) * len(task.answer.label_names)
    binary = task.head == "binary"
    point = OperatingPoint(
        _MANY, thresholds=numbers if binary else None, offsets=None if binary else numbers
    )
    return BalancedDecisions(_MANY, point)
