"""The paper's tables, with specificity and balanced accuracy in every one."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from keras_nns.bundles.kept_rows import VALUES
from keras_nns.bundles.storing import restore, store
from keras_nns.observation.activity import Activity
from keras_nns.paper.best import Workshop
from keras_nns.paper.method import (
    HIDDEN,
    Judge,
    LabelWorth,
    Subject,
    Worth,
    average,
    choose,
    integrate,
    network_text,
    units_of,
)
from keras_nns.plans.keep_rules import top
from keras_nns.plans.kept_units import Plan, union
from keras_nns.selection.activations import mean_activation
from keras_nns.selection.choosing import select
from keras_nns.tables import UNDEFINED, Table

ZETAS = (0.4, 0.5)
"""The two shares for which the paper gives tables."""

COLUMNS = ("recall %", "specificity %", "balanced %")
"""What stands beside each other in every table."""


@dataclass(frozen=True, eq=False)
class Study:
    """The method applied to one subject: all that tables and figures are made of.

    Attributes:
        subject: The network and its data.
        judge: Judges any of its units.
        activity: The averages of its units.
        plans: For each ζ of the paper, a plan for each label.
        workshop: Makes networks of as many units.
    """

    subject: Subject
    judge: Judge
    activity: Activity
    plans: Mapping[float, Sequence[Plan]]
    workshop: Workshop

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the labels."""
        return self.activity.label_names


def study(subject: Subject) -> Study:
    """Watch a network, and choose units for every label and both ζ of the paper."""
    activity = average(subject.model, subject.x, subject.y)
    plans = {zeta: choose(activity, zeta) for zeta in ZETAS}
    judge = Judge(subject)
    return Study(subject, judge, activity, plans, Workshop(subject, judge))


def table_1(study: Study) -> Table:
    """Table 1: what the whole network answers, label by label."""
    worth = study.judge.worth()
    rows = tuple(
        (name, _count(study, label), *figures(worth.labels[label]))
        for label, name in enumerate(study.names)
    )
    caption = f"Accuracy over all {len(study.subject.y_test):,} samples: {worth.accuracy:.3f}."
    return Table(("label", "samples", *COLUMNS), rows, caption)


def table_4(study: Study, zeta: float) -> Table:
    """Table 4: labels integrated one after another, the figure of each when it has joined."""
    whole = study.judge.worth()
    rows = tuple(
        (
            study.names[step.label],
            percent(whole.labels[step.label].recall),
            str(step.units),
            *figures(step.own),
            *map(percent, (step.so_far, step.accuracy)),
        )
        for step in stepwise(study, range(len(study.names)), zeta)
    )
    return Table(
        (
            "joins",
            "recall % before",
            "units",
            *COLUMNS,
            "accuracy % so far",
            "accuracy % over all",
        ),
        rows,
        f"ζ {zeta}. Before: in the whole network. So far: over the samples of the labels that have "
        "joined. The paper prints the two recalls, cut off behind the first digit.",
    )


def table_5(study: Study, zeta: float) -> Table:
    """Table 5: one network for each label."""
    pixels = study.subject.x.shape[1]
    rows = []
    for label, plan in enumerate(study.plans[zeta]):
        units = units_of(plan)
        worth = study.judge.worth(units).labels[label]
        rows.append(
            (study.names[label], str(len(units)), f"{len(units) * pixels:,}", *figures(worth))
        )
    return Table(
        ("label", "units", "parameters", *COLUMNS),
        tuple(rows),
        f"ζ {zeta}. Parameters: kept numbers of the first weight matrix, as the paper counts.",
    )


@dataclass(frozen=True)
class Step:
    """What a network is worth when a label has joined.

    Attributes:
        label: The label.
        units: Hidden units after this step.
        own: What it is worth as a network for that label.
        so_far: Accuracy over the samples of the labels that have joined.
        accuracy: Accuracy over all samples.
    """

    label: int
    units: int
    own: LabelWorth
    so_far: float
    accuracy: float


def stepwise(study: Study, order: Sequence[int], zeta: float) -> list[Step]:
    """Integrate labels one after another in some order, and judge every step."""
    found = []
    for i, plan in enumerate(integrate([study.plans[zeta][label] for label in order])):
        units, label = units_of(plan), order[i]
        worth = study.judge.worth(units)
        so_far = study.judge.accuracy_among(units, order[: i + 1])
        own = worth.labels[label]
        found.append(Step(label, worth.units, own, so_far, worth.accuracy))
    return found


def growth(study: Study, label: int) -> list[Worth]:
    """Judge a label's network as its units are added one by one, the loudest first: Fig. 9."""
    loudest = np.argsort(-study.activity.mean(HIDDEN)[label], kind="stable").tolist()
    return [study.judge.worth(loudest[: i + 1]) for i in range(len(loudest))]


def sizes_table(study: Study, folder: Path) -> Table:
    """Tables 2 and 3: bytes of the paper's JSON beside bundles.

    Args:
        study: What was done.
        folder: An empty folder to write the bundles in; they stay there.
    """
    model = study.subject.model
    whole = keep_everything(study)
    jobs: dict[str, tuple[str, dict[str, Plan]]] = {"whole network": ("whole", {"whole": whole})}
    for zeta in ZETAS:
        plans = study.plans[zeta]
        each = dict(zip(study.names, plans, strict=True))
        jobs[f"merged, ζ {zeta}"] = (f"merged_{zeta}", {"merged": union(plans)})
        jobs[f"{len(each)} labels, ζ {zeta}"] = (f"labels_{zeta}", each)
    rows = []
    for name, (stem, plans_of) in jobs.items():
        bundles = [
            store(model, plans_of, folder / f"{stem}_{values}.safetensors", values=values)
            for values in VALUES
        ]
        texts = [restore(bundles[0], one, full=True) for one in plans_of]
        json_bytes = [sum(len(network_text(m, indent=i)) for m in texts) for i in (4, None)]
        if name == "whole network" and study.subject.json_bytes is not None:
            json_bytes[0] = study.subject.json_bytes
        sizes = [Path(bundle.path).stat().st_size for bundle in bundles]
        rows.append((name, *(f"{size:,}" for size in (*json_bytes, *sizes))))
    return Table(
        ("network", "JSON, indented", "JSON, one line", *(f"bundle, {v}" for v in VALUES)),
        tuple(rows),
        "Bytes. The JSON holds the zeros; for several labels it is one file for each, added up. "
        "Most of what one line saves over indented text is blanks, not weights: compare sizes "
        "within a column.",
    )


def keep_everything(study: Study) -> Plan:
    """Return a plan of all hidden units."""
    return select(study.activity, "all", score=mean_activation, keep=top(study.judge.worth().units))


def figures(worth: LabelWorth) -> tuple[str, ...]:
    """Write what a label's network is worth, as cells under `COLUMNS`."""
    return tuple(map(percent, (worth.recall, worth.specificity, worth.balanced)))


def mean(values: Iterable[float]) -> float:
    """Average what is defined: a label without samples has no figure."""
    defined = [value for value in values if not np.isnan(value)]
    return float(np.mean(defined)) if defined else math.nan


def percent(value: float) -> str:
    """Write a share in percent, one digit behind the point; a dash where it is undefined."""
    return UNDEFINED if np.isnan(value) else f"{100 * value:.1f}"


def _count(study: Study, label: int) -> str:
    return f"{int((study.subject.y_test == label).sum()):,}"
