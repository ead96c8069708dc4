"""For each label the paper's network beside ours, as large and a tenth as large; and one for all.

All are judged as the files that they ship as, on the same held-out samples.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import keras
import numpy as np

from keras_nns import tables
from keras_nns.data.batches import Batches
from keras_nns.errors import DataError
from keras_nns.extraction.networks import Network, make_network
from keras_nns.extraction.observed import (
    ObservedParent,
    Scored,
    form_of,
    observe_parent,
    open_division,
    rank_units,
    score_units,
)
from keras_nns.extraction.tasks import Recipe, Task, estimates_of, set_task, write_recipe
from keras_nns.files.atomic import Json
from keras_nns.graph import costs
from keras_nns.judgement.compared import Comparison
from keras_nns.judgement.comparison import compare_outputs
from keras_nns.observation.forward import run
from keras_nns.plans.kept_units import Plan
from keras_nns.progress import Part, job, stage
from keras_nns.reporting import findings
from keras_nns.shipping.forms import FileForward, Form, Shipped
from keras_nns.surgery.cutting import cut
from keras_nns.tables import Table, Tabular

FLOAT, SMALL = "float32", "int8"
PAPER, SAME, TENTH, MERGED = "paper", "same", "tenth", "merged"

_SHARES = {SAME: 1.0, TENTH: 0.1}
_MERGED_SHARE = 0.5


@dataclass(eq=False)
class Contender:
    """A network and its files.

    Attributes:
        name: The label that it is for, or `"merged"`.
        way: How it was made: `"paper"`, `"same"`, `"tenth"` or `"merged"`.
        model: The network.
        plan: Which of the parent's units it holds.
        files: By variant.
        comparisons: Each file beside the parent, on held-out samples.
    """

    name: str
    way: str
    model: keras.Model
    plan: Plan
    files: dict[str, Shipped]
    comparisons: dict[str, Comparison] = field(default_factory=dict)

    @property
    def parameters(self) -> int:
        """Numbers in its weights."""
        return costs.parameters(self.model)

    def balanced(self, variant: str = FLOAT) -> float:
        """Return the balanced accuracy of a file: for one label as a detector of it."""
        after = self.comparisons[variant].after
        if self.way == PAPER:
            return next(r for r in after.rows if r.name == self.name).balanced_accuracy
        return after.worth

    def auc(self, variant: str = FLOAT) -> float:
        """Return the area under the ROC curve of a file, wherever it decides."""
        after = self.comparisons[variant].after
        if self.way == PAPER:
            return next(r for r in after.rows if r.name == self.name).auc
        return after.mean_auc


@dataclass(frozen=True, repr=False, eq=False)
class Contest(Tabular):
    """Networks side by side. Printing it gives a table, with what it comes to under it.

    Attributes:
        contenders: The paper's and ours for each label, and ours for all.
        parent: The parent, and its files.
        notes: What was done otherwise than usual, in sentences.
    """

    contenders: tuple[Contender, ...]
    parent: Contender
    notes: tuple[str, ...] = ()

    def of(self, way: str) -> dict[str, Contender]:
        """Return the networks made in one way, by label."""
        return {one.name: one for one in self.contenders if one.way == way}

    def to_table(self) -> Table:
        """Return one row for each label, and one for the merged network."""
        rows = []
        ways = [self.of(way) for way in (PAPER, SAME, TENTH)]
        for name in ways[0]:
            cells = [name]
            for way in ways:
                cells += [_bytes(way[name], FLOAT), _worth(way[name])]
            cells += [_bytes(ways[2][name], SMALL), _worth(ways[2][name], SMALL)]
            rows.append(tuple(cells))
        columns = (
            "label",
            *("the paper's rule, bytes", "balanced, AUC"),
            *("ours, as large", "balanced, AUC"),
            *("at most a tenth", "balanced, AUC"),
            *("in int8", "balanced, AUC"),
        )
        lines = [self.headline, self.fairness, self.merged, *self.notes]
        return Table(columns, tuple(rows), "\n".join(lines))

    @property
    def headline(self) -> str:
        """What it comes to, in a sentence."""
        paper, same, tenth = (list(self.of(way).values()) for way in (PAPER, SAME, TENTH))
        parts = sum(one.parameters for one in tenth) / sum(one.parameters for one in paper)
        return (
            f"A network for each label in {parts:.0%} of the parameters that the paper's rule "
            f"leaves: mean balanced accuracy {_mean(tenth, SMALL)} as int8 files, {_mean(tenth)} "
            f"as float32, {_mean(same)} at the paper's size; the paper's have {_mean(paper)}."
        )

    @property
    def fairness(self) -> str:
        """What part of that is where networks decide, in a sentence."""
        paper, same, tenth = (self.of(way).values() for way in (PAPER, SAME, TENTH))
        return (
            "The paper's are as its rule leaves them: not repaired, deciding for the largest "
            "answer. Ours decide where training samples say. Wherever each would decide, mean AUC: "
            f"{_mean_auc(paper)} for the paper's, {_mean_auc(same)} for ours as large, "
            f"{_mean_auc(tenth)} for ours of at most a tenth."
        )

    @property
    def merged(self) -> str:
        """How the network for all labels stands beside its parent, in a sentence."""
        (one,) = self.of(MERGED).values()
        before, after = (one.comparisons[FLOAT].before, one.comparisons[FLOAT].after)
        share = one.parameters / self.parent.parameters
        right = f"{after.accuracy:.1%} ({one.comparisons[SMALL].after.accuracy:.1%} in int8)"
        return (
            f"One network for all labels in {share:.0%} of the parent's parameters answers {right} "
            f"of {findings.plural(after.samples, 'held-out sample')} right, the parent "
            f"{before.accuracy:.1%}: {_bytes(one, FLOAT)} bytes, {_bytes(one, SMALL)} in int8, the "
            f"parent's file {_bytes(self.parent, FLOAT)}."
        )

    def to_json(self) -> Json:
        """Return sizes and figures of every file as plain data."""
        return {
            "parent": {"parameters": self.parent.parameters, "bytes": _sizes(self.parent)},
            "networks": [
                {
                    "label": one.name,
                    "way": one.way,
                    "parameters": one.parameters,
                    "bytes": _sizes(one),
                    "comparisons": {v: c.to_json() for v, c in one.comparisons.items()},
                }
                for one in self.contenders
            ],
            "notes": list(self.notes),
        }


def contest(
    parent: keras.Model,
    plans: Sequence[Plan],
    data: tuple[Any, Any],
    *,
    label_names: Sequence[str],
    seed: int = 0,
) -> Contest:
    """Make for each label the network of the paper's plan, and ours of its size and of a tenth.

    And one for all labels with half the parent's parameters. What ours share is computed once.

    Args:
        parent: The model. It is not changed.
        plans: The paper's plans, one for each label.
        data: Samples and labels to observe and repair on.
        label_names: Name of every label.
        seed: Which of the samples are held out from repairs.

    Raises:
        DataError: The data does not fit.
        SurgeryError: The model cannot be cut.
        tflite_export.ExportError: A network has no file, or one that answers otherwise.
    """
    division = open_division(
        parent, *data, held_out=0.2, seed=seed, batch_size=256, label_names=label_names
    )
    whole = set_task(
        parent, "all", label_names=label_names, head=None, output=None, asked=division.asked
    )
    observed = observe_parent(whole, division, batch_size=256)
    notes: list[str] = []
    found = []
    for number, plan in enumerate(plans):
        name = label_names[plan.labels[0]]
        stage(number, len(plans) + 1, name)
        paper = Network(cut(parent, plan), plan)
        form = form_of(whole, division, FLOAT)
        found.append(_contender(name, PAPER, paper, form, FLOAT))
        task = set_task(
            parent, plan.labels, label_names=label_names, head=None, output=None,
            asked=division.asked,
        )  # fmt: skip
        size = costs.parameters(paper.model)
        form = form_of(task, division, FLOAT)
        ours = _networks(observed, task, {w: s * size for w, s in _SHARES.items()}, notes)
        found.append(_contender(name, SAME, ours[SAME], form, FLOAT))
        found.append(_contender(name, TENTH, ours[TENTH], form, FLOAT, SMALL))
    stage(len(plans), len(plans) + 1, "all labels")
    half = _MERGED_SHARE * costs.parameters(parent)
    form = form_of(whole, division, FLOAT)
    merged = _networks(observed, whole, {MERGED: half}, notes)[MERGED]
    found.append(_contender(MERGED, MERGED, merged, form, FLOAT, SMALL))
    files = {FLOAT: Shipped(parent, form)}
    itself = Contender("parent", "parent", parent, plans[0], files)
    return Contest(tuple(found), itself, tuple(dict.fromkeys(notes)))


def judge(
    contest: Contest,
    batches: Batches,
    *,
    confidence: float | None = None,
) -> None:
    """Run every file over held-out data, and put each beside the parent.

    Args:
        contest: The networks, whose comparisons are filled in.
        batches: The data.
        confidence: As in `compare`, for ours of a tenth and the merged one.
    """
    parent = contest.parent.model
    pairs = [(one, variant) for one in contest.contenders for variant in one.files]
    forwards = []
    for number, (one, variant) in enumerate(pairs):
        stage(number, len(pairs) + 1, f"{one.name}, {variant}")
        forwards.append(FileForward(one.model, one.files[variant].flat))
    ran = run([(parent, None), *forwards], batches, judged=True)
    size = len(contest.parent.files[FLOAT].flat)
    for (one, variant), answers in zip(pairs, ran.outputs[1:], strict=True):
        told = one.way in (TENTH, MERGED) and variant == FLOAT
        one.comparisons[variant] = compare_outputs(
            parent,
            one.model,
            replace(ran, outputs=[ran.outputs[0], answers]),
            label_names=batches.label_names,
            confidence=confidence if told else None,
            parent_tflite_bytes=size,
            tflite_bytes=len(one.files[variant].flat),
        )


def _networks(
    observed: ObservedParent, task: Task, sizes: Mapping[str, float], notes: list[str]
) -> dict[str, Network]:
    """Make the networks of a task whose parameters are at most so many, the smallest at least."""
    with job(verbose=False) as shown:
        shown.expect(score=Part("scoring", 1), repair=Part("repairing", 2, len(sizes)))
        with shown.part("score"):
            scored = score_units(observed, task, None, None)
        usual = _Sized(observed, task, scored, write_recipe(task, repair=True, epochs=0))
        made = {}
        for way, size in sizes.items():
            with shown.part("repair"):
                made[way] = _repaired(usual, size, notes)
    return made


class _Sized:
    """Makes networks of a task by one recipe, each of a number of parameters."""

    def __init__(
        self, observed: ObservedParent, task: Task, scored: Scored, recipe: Recipe
    ) -> None:
        # By the head that they will have in the end, which may be another than the parent's.
        self._estimates = estimates_of(task, recipe)
        self._of = observed, task, scored
        self._added = 0.0
        if not recipe.for_head:
            # What sums up the parent's answers is one layer more.
            one = task.one_of_each()
            self._added = costs.parameters(task.measured(one)) - self._parameters(one)
        self._ranking = rank_units(observed, task, scored, self._parameters)
        self.recipe = recipe

    def _parameters(self, plan: Plan) -> float:
        return self._added + self._estimates.of("parameters", self._of[1].keep(plan))

    def make(self, size: float) -> Network:
        """Make one of at most so many parameters; the smallest has what it has.

        Raises:
            DataError: There are too few samples for the recipe.
        """
        observed, task, _ = self._of
        size = max(size, self._parameters(self._ranking.smallest))
        return make_network(observed, task, self.recipe, self._ranking.fit(self._parameters, size))

    def without_head(self) -> _Sized:
        """Return what makes networks whose heads stay as least squares leave them."""
        return _Sized(*self._of, Recipe(self.recipe.steps[:1]))


def _repaired(usual: _Sized, size: float, notes: list[str]) -> Network:
    """Make a network with the repair that there are samples enough for."""
    try:
        return usual.make(size)
    except DataError as error:
        notes.append(f"Heads were left as least squares leave them: {error}")
        return usual.without_head().make(size)


def _contender(name: str, way: str, network: Network, form: Form, *variants: str) -> Contender:
    forms = {variant: form if variant == FLOAT else form.of(variant) for variant in variants}
    files = {variant: Shipped(network.model, one) for variant, one in forms.items()}
    return Contender(name, way, network.model, network.plan, files)


def _bytes(one: Contender, variant: str) -> str:
    return tables.count(len(one.files[variant].flat))


def _sizes(one: Contender) -> dict[str, int]:
    return {variant: len(file.flat) for variant, file in one.files.items()}


def _worth(one: Contender, variant: str = FLOAT) -> str:
    return f"{tables.share(one.balanced(variant))}, {tables.share(one.auc(variant))}"


def _mean_auc(found: Iterable[Contender]) -> str:
    return tables.share(float(np.nanmean([one.auc() for one in found])))


def _mean(found: Iterable[Contender], variant: str = FLOAT) -> str:
    return tables.share(float(np.nanmean([one.balanced(variant) for one in found])))
