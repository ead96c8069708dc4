"""The paper's tables, and beside each what the paper leaves out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from keras_nns.activity import Activity
from keras_nns.keep import top
from keras_nns.paper import (
    HIDDEN,
    Judge,
    Subject,
    Worth,
    average,
    choose,
    integrate,
    network_text,
)
from keras_nns.plan import Plan, merge
from keras_nns.scores import contrast
from keras_nns.selection import select
from keras_nns.storing import restore, store
from keras_nns.tables import UNDEFINED, Table
from keras_nns.vectors import VALUES

ZETAS = (0.4, 0.5)
"""The two shares for which the paper gives tables."""

_ORDERS = 100


@dataclass(frozen=True, eq=False)
class Study:
    """The method applied to one subject: all that tables and figures are made of.

    Attributes:
        subject: The network and its data.
        judge: Judges any of its units.
        activity: The averages of its units.
        plans: For each ζ of the paper, a plan for each label.
    """

    subject: Subject
    judge: Judge
    activity: Activity
    plans: Mapping[float, Sequence[Plan]]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the labels."""
        return self.activity.label_names


def study(subject: Subject) -> Study:
    """Watch a network, and choose units for every label and both ζ of the paper."""
    activity = average(subject.model, subject.x, subject.y)
    plans = {zeta: choose(activity, zeta) for zeta in ZETAS}
    return Study(subject, Judge(subject), activity, plans)


def units_of(plan: Plan) -> tuple[int, ...]:
    """Return the hidden units that a plan keeps."""
    return plan.kept[HIDDEN]


def rivals(study: Study, plans: Sequence[Plan]) -> list[Plan]:
    """For each label's plan, one of as many units, chosen by contrast with the other labels."""
    return [
        select(study.activity, label, score=contrast, keep=top(len(units_of(plan))))
        for label, plan in enumerate(plans)
    ]


def table_1(study: Study) -> Table:
    """Table 1: what the whole network answers, label by label."""
    worth = study.judge.worth()
    rows = tuple(
        (name, _count(study, label), *_figures(worth, label))
        for label, name in enumerate(study.names)
    )
    caption = f"Accuracy over all {len(study.subject.y_test):,} samples: {worth.accuracy:.3f}."
    return Table(("label", "samples", *_FIGURES), rows, caption)


def table_4(study: Study, zeta: float) -> Table:
    """Table 4: labels integrated one after another, the figure of each when it has joined."""
    whole = study.judge.worth()
    rows = tuple(
        (
            study.names[step.label],
            _percent(whole.recall[step.label]),
            str(step.units),
            *map(_percent, (step.recall, step.so_far, step.accuracy)),
        )
        for step in stepwise(study, range(len(study.names)), zeta)
    )
    return Table(
        (
            "joins",
            "recall % before",
            "units",
            "recall %",
            "accuracy % so far",
            "accuracy % over all",
        ),
        rows,
        f"ζ {zeta}. Before: in the whole network. So far: over the samples of the labels that have "
        "joined. The paper prints the two recalls, cut off behind the first digit.",
    )


def table_5(study: Study, zeta: float) -> Table:
    """Table 5: one network for each label; beside it as many units chosen by contrast."""
    plans = study.plans[zeta]
    pixels = study.subject.x.shape[1]
    rows = []
    for label, (plan, rival) in enumerate(zip(plans, rivals(study, plans), strict=True)):
        units = units_of(plan)
        ours = study.judge.worth(units_of(rival))
        rows.append(
            (
                study.names[label],
                str(len(units)),
                f"{len(units) * pixels:,}",
                *_figures(study.judge.worth(units), label),
                " / ".join(_figures(ours, label)),
            )
        )
    return Table(
        ("label", "units", "parameters", *_FIGURES, "by contrast instead"),
        tuple(rows),
        f"ζ {zeta}. Parameters: kept numbers of the first weight matrix, as the paper counts. By "
        "contrast: recall, specificity and balanced accuracy of as many units, of those whose "
        "average differs most from the other labels'.",
    )


@dataclass(frozen=True)
class Step:
    """What a network is worth when a label has joined.

    Attributes:
        label: The label.
        units: Hidden units after this step.
        recall: The label's own.
        so_far: Accuracy over the samples of the labels that have joined.
        accuracy: Accuracy over all samples.
    """

    label: int
    units: int
    recall: float
    so_far: float
    accuracy: float


def stepwise(study: Study, order: Sequence[int], zeta: float) -> list[Step]:
    """Integrate labels one after another in some order, and judge every step."""
    found = []
    for i, plan in enumerate(integrate([study.plans[zeta][label] for label in order])):
        units, label = units_of(plan), order[i]
        worth = study.judge.worth(units)
        so_far = study.judge.accuracy_among(units, order[: i + 1])
        found.append(Step(label, worth.units, float(worth.recall[label]), so_far, worth.accuracy))
    return found


def orders(study: Study, zeta: float, *, seed: int = 0) -> list[list[Step]]:
    """Integrate the labels in label order, and in a hundred orders drawn at random."""
    random = np.random.default_rng(seed)
    count = len(study.names)
    drawn = [random.permutation(count).tolist() for _ in range(_ORDERS)]
    return [stepwise(study, order, zeta) for order in [list(range(count)), *drawn]]


def order_table(study: Study, zeta: float) -> Table:
    """Show what the order does: to each label's recall when it joins, and to the end."""
    runs = orders(study, zeta)
    rows = []
    for label, name in enumerate(study.names):
        recalls = [step.recall for run in runs for step in run if step.label == label]
        own = runs[0][label].recall
        rows.append((name, *map(_percent, (own, min(recalls), float(np.mean(recalls)),
                                           max(recalls)))))  # fmt: skip
    ends = {(run[-1].units, run[-1].accuracy) for run in runs}
    end = ", ".join(f"{units} units and accuracy {value:.3f}" for units, value in sorted(ends))
    return Table(
        ("label", "recall % in label order", "lowest", "mean", "highest"),
        tuple(rows),
        f"ζ {zeta}; {_ORDERS} orders at random. The recall that a label has when it joins depends "
        f"on who was there before. The end does not: {end}, whatever the order.",
    )


@dataclass(frozen=True, eq=False)
class Sweep:
    """The method for every ζ, all `(zetas,)` or `(zetas, labels)`.

    Attributes:
        zetas: From 0 to 1.
        units: Units of the merged network.
        merged: Accuracy of the merged network.
        recall: Of each label's own network, its recall.
        specificity: Likewise.
        rival: Balanced accuracy of as many units by contrast.
    """

    zetas: NDArray[np.float64]
    units: NDArray[np.int64]
    merged: NDArray[np.float64]
    recall: NDArray[np.float64]
    specificity: NDArray[np.float64]
    rival: NDArray[np.float64]

    @property
    def balanced(self) -> NDArray[np.float64]:
        """Balanced accuracy of each label's own network."""
        return np.asarray((self.recall + self.specificity) / 2)


def sweep(study: Study, count: int = 21) -> Sweep:
    """Apply the method for every ζ from 0 to 1.

    Args:
        study: What to apply it to.
        count: How many values of ζ.
    """
    zetas = np.linspace(0, 1, count)
    units, merged, recall, specificity, rival = [], [], [], [], []
    for zeta in zetas:
        plans = choose(study.activity, float(zeta))
        both = study.judge.worth(units_of(merge(plans)))
        own = [study.judge.worth(units_of(plan)) for plan in plans]
        other = [study.judge.worth(units_of(plan)) for plan in rivals(study, plans)]
        units.append(both.units)
        merged.append(both.accuracy)
        recall.append([worth.recall[i] for i, worth in enumerate(own)])
        specificity.append([worth.specificity[i] for i, worth in enumerate(own)])
        rival.append([worth.balanced[i] for i, worth in enumerate(other)])
    return Sweep(zetas, *map(np.array, (units, merged, recall, specificity, rival)))


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
        jobs[f"merged, ζ {zeta}"] = (f"merged_{zeta}", {"merged": merge(plans)})
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
    return select(study.activity, "all", keep=top(study.judge.worth().units))


_FIGURES = ("recall %", "specificity %", "balanced %")


def _figures(worth: Worth, label: int) -> tuple[str, ...]:
    values = worth.recall[label], worth.specificity[label], worth.balanced[label]
    return tuple(_percent(value) for value in values)


def _percent(value: float) -> str:
    return UNDEFINED if np.isnan(value) else f"{100 * value:.1f}"


def _count(study: Study, label: int) -> str:
    return f"{int((study.subject.y_test == label).sum()):,}"
