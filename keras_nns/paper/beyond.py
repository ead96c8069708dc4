"""What the paper leaves out: the best of as many units, the effect of order, every ζ."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from keras_nns.paper.best import PARTS, WAY
from keras_nns.paper.method import LabelWorth, choose, units_of
from keras_nns.paper.tables import COLUMNS, Step, Study, figures, mean, percent, stepwise
from keras_nns.plans.kept_units import union
from keras_nns.tables import Table

_ORDERS = 100


@dataclass(frozen=True, eq=False)
class Rivals:
    """What networks are worth that have as many units as the paper's.

    Attributes:
        zeta: ζ of the paper's.
        counts: Units of each label's network.
        paper: What each label's network is worth, by the paper's rule.
        contrast: Likewise by contrast, nothing repaired.
        best: Likewise by our best.
        merged_count: Units of the network for all labels.
        merged_paper: Its accuracy, by the paper's rule.
        merged_best: Likewise by our best.
    """

    zeta: float
    counts: tuple[int, ...]
    paper: tuple[LabelWorth, ...]
    contrast: tuple[LabelWorth, ...]
    best: tuple[LabelWorth, ...]
    merged_count: int
    merged_paper: float
    merged_best: float


def rivals(study: Study, zeta: float) -> Rivals:
    """Judge, beside the networks of the paper, the best of as many units."""
    plans = study.plans[zeta]
    counts = tuple(len(units_of(plan)) for plan in plans)
    both = study.judge.worth(units_of(union(plans)))
    return Rivals(
        zeta,
        counts,
        tuple(study.judge.worth(units_of(p)).labels[i] for i, p in enumerate(plans)),
        tuple(study.workshop.by_contrast(counts)),
        tuple(study.workshop.best(counts)),
        both.units,
        both.accuracy,
        study.workshop.merged(both.units),
    )


def rivals_table(study: Study, result: Rivals) -> Table:
    """Show what the paper leaves on the table: the best of as many units, on other samples."""
    columns = result.paper, result.contrast, result.best
    rows = [
        (
            name,
            str(result.counts[i]),
            percent(result.paper[i].balanced),
            percent(result.contrast[i].balanced),
            *figures(result.best[i]),
        )
        for i, name in enumerate(study.names)
    ]
    paper, contrast, best = (mean(w.balanced for w in column) for column in columns)
    recall, specificity = (mean(getattr(w, k) for w in result.best)
                           for k in ("recall", "specificity"))  # fmt: skip
    total = str(sum(result.counts))
    rows.append(("mean", total, *map(percent, (paper, contrast, recall, specificity, best))))
    how = (
        f"{PARTS} parts of the samples, each judged by networks made from the other {PARTS - 1}; "
        "the paper's column is of samples that it chose its units on, which flatters it"
        if study.subject.judged_on_the_same
        else "samples that no network was made from"
    )
    return Table(
        ("label", "units", "paper, balanced %", "contrast, balanced %",
         *(f"best, {name}" for name in COLUMNS)),
        tuple(rows),
        f"ζ {result.zeta}: as many units as the paper's, so as many parameters, and "
        f"{len(study.names) + 1} more that make one yes or no of the answers. Contrast: the "
        "units whose average differs most from the other labels', nothing repaired. Best: "
        f"{WAY}. Judged on {how}.\n"
        f"All labels in one network of {result.merged_count} units, accuracy over all samples: "
        f"the paper's rule {result.merged_paper:.3f}, our best {result.merged_best:.3f}, the "
        f"whole network {study.judge.worth().accuracy:.3f}.",
    )  # fmt: skip


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
        recalls = [step.own.recall for run in runs for step in run if step.label == label]
        own = runs[0][label].own.recall
        among = own, min(recalls), mean(recalls), max(recalls)
        rows.append((name, *map(percent, among)))
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
    """The method for every ζ, all `(zetas,)`, of labels' own networks the mean over the labels.

    Attributes:
        zetas: From 0 to 1.
        units: Units of the merged network.
        merged: Accuracy of the merged network.
        own_units: Units of a label's own network.
        recall: Recall of a label's own network.
        specificity: Likewise.
        contrast: Balanced accuracy of as many units by contrast, on samples not chosen on.
    """

    zetas: NDArray[np.float64]
    units: NDArray[np.int64]
    merged: NDArray[np.float64]
    own_units: NDArray[np.float64]
    recall: NDArray[np.float64]
    specificity: NDArray[np.float64]
    contrast: NDArray[np.float64]

    @property
    def balanced(self) -> NDArray[np.float64]:
        """Balanced accuracy of a label's own network."""
        return np.asarray((self.recall + self.specificity) / 2)


def sweep(study: Study, count: int = 21) -> Sweep:
    """Apply the method for every ζ from 0 to 1.

    Args:
        study: What to apply it to.
        count: How many values of ζ.
    """
    zetas = np.linspace(0, 1, count)
    rows = []
    for zeta in zetas:
        plans = choose(study.activity, float(zeta))
        both = study.judge.worth(units_of(union(plans)))
        own = [study.judge.worth(units_of(p)).labels[i] for i, p in enumerate(plans)]
        counts = [len(units_of(plan)) for plan in plans]
        other = study.workshop.by_contrast(counts)
        rows.append(
            (
                both.units,
                both.accuracy,
                mean(counts),
                mean(worth.recall for worth in own),
                mean(worth.specificity for worth in own),
                mean(worth.balanced for worth in other),
            )
        )
    return Sweep(zetas, *map(np.array, zip(*rows, strict=True)))


def sweep_table(result: Sweep) -> Table:
    """Show every second ζ of a sweep."""
    rows = tuple(
        (
            f"{result.zetas[i]:.2f}",
            str(result.units[i]),
            percent(result.merged[i]),
            f"{result.own_units[i]:.1f}",
            *map(percent, (result.recall[i], result.specificity[i], result.balanced[i],
                            result.contrast[i])),
        )
        for i in range(0, len(result.zetas), 2)
    )  # fmt: skip
    return Table(
        ("ζ", "merged units", "merged accuracy %", "own units", *COLUMNS, "contrast, balanced %"),
        rows,
        "Merged: one network for all labels. The other columns: the labels' own networks, mean "
        "over the labels; by contrast as many units, judged on samples they were not chosen on.",
    )
