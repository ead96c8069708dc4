"""The paper's figures, and those it leaves out."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from keras_nns.bundles.storing import store
from keras_nns.paper.beyond import Rivals, Sweep
from keras_nns.paper.method import HIDDEN, Worth, snapshot, units_of
from keras_nns.paper.tables import ZETAS, Step, Study
from keras_nns.reporting.canvas import AFTER, BEFORE, Picture
from tflite_export.writing.temporary import held_folder

RIVAL = "#D55E00"
"""For what is chosen by contrast; stays apart from `AFTER` for every eye."""

_SHOWN = 60
"""Inputs in the picture of snapshots: enough to see what is alike in them."""

_ACROSS, _UP = 9.0, 3.4


def snapshots(study: Study, label: int) -> Figure:
    """Fig. 2: what every hidden unit gives for inputs of one label, one row for each input."""
    subject = study.subject
    values = snapshot(subject.model, subject.x[subject.y == label][:_SHOWN])
    figure, axes = _canvas(height=4.2)
    image = axes.imshow(values, aspect="auto", interpolation="nearest", cmap="viridis")
    axes.set_ylabel(f"input of label {study.names[label]}")
    axes.set_xlabel("hidden unit")
    axes.set_title(f"Snapshots: each unit's value for {len(values)} inputs of one label (Fig. 2)")
    figure.colorbar(image, ax=axes, label="value", pad=0.01)
    return figure


def averages(study: Study, label: int) -> Figure:
    """Figs. 3 and 4: the average of each unit for one label, and what the filter leaves of it."""
    mean = study.activity.mean(HIDDEN)[label]
    figure = Picture(figsize=(_ACROSS, 1.7 * _UP), layout="constrained")
    panels: Sequence[Axes] = figure.subplots(2, 1, sharex=True, sharey=True)
    places = np.arange(len(mean))
    panels[0].bar(places, mean, color=BEFORE, width=0.9)
    for zeta, style in zip(ZETAS, ("-", "--"), strict=True):
        panels[0].axhline(zeta * mean.max(), color="black", linestyle=style, linewidth=1,
                          label=f"ζ · highest, ζ = {zeta}")  # fmt: skip
    panels[0].legend(frameon=False, ncols=2, fontsize=9)
    panels[0].set_title(f"Average of each unit over the inputs of label {study.names[label]} "
                        "(Fig. 3)")  # fmt: skip
    kept = list(units_of(study.plans[ZETAS[0]][label]))
    panels[1].bar(kept, mean[kept], color=AFTER, width=0.9)
    panels[1].set_title(f"After the filter, ζ = {ZETAS[0]}: {len(kept)} of {len(mean)} units "
                        "(Fig. 4)")  # fmt: skip
    for axes in panels:
        axes.set_ylabel("mean value")
        _plain(axes)
    panels[1].set_xlabel("hidden unit")
    panels[1].set_xlim(-1, len(mean))
    panels[0].set_ylim(0, 1.2 * float(mean.max()))  # Room for the legend.
    return figure


def vectorised(study: Study, label: int) -> Figure:
    """Figs. 5, 7 and 8: the matrix with zeros, the rows that are not, and the matrix from them."""
    model, plan = study.subject.model, study.plans[ZETAS[0]][label]
    kept = list(units_of(plan))
    kernel = model.get_layer(HIDDEN).kernel.numpy().T
    zeroed = np.zeros_like(kernel)
    zeroed[kept] = kernel[kept]
    with held_folder(Path(tempfile.gettempdir()), "label") as folder:
        bundle = store(model, plan, folder / "label.safetensors")
        name = f"{HIDDEN}/kernel"
        rows, back = (bundle.weights(plan, full=full)[name].T for full in (False, True))
    limit = float(np.quantile(np.abs(kernel), 0.99)) or 1.0
    figure = Picture(figsize=(_ACROSS + 2, 4.4), layout="constrained")
    panels: Sequence[Axes] = figure.subplots(1, 3)
    shown = (
        (zeroed, "rows of other units are zero\n(Fig. 5)"),
        (rows, "the file: kept rows, and which\n(Fig. 7)"),
        (back, "the matrix built from the file\n(Fig. 8)"),
    )
    for axes, (values, title) in zip(panels, shown, strict=True):
        image = axes.imshow(values, aspect="auto", interpolation="nearest", cmap="RdBu_r",
                            vmin=-limit, vmax=limit)  # fmt: skip
        axes.set_title(f"{title}: {values.shape[0]:,} × {values.shape[1]:,}", fontsize=10)
        axes.set_xlabel("input pixel")
        axes.set_ylabel("hidden unit")
    step = max(1, len(kept) // 12)
    panels[1].set_yticks(range(0, len(kept), step), [str(u) for u in kept[::step]])
    figure.colorbar(image, ax=list(panels), label="weight", extend="both", pad=0.01)
    return figure


def growing(study: Study, grown: Mapping[int, Sequence[Worth]]) -> Figure:
    """Fig. 9: a label's recall as its units are added, and what that costs the other labels.

    Args:
        study: What the labels are of.
        grown: For each label drawn, what its network is worth with 1, 2, … units.
    """
    figure = Picture(figsize=(_ACROSS + 1, 3.8), layout="constrained")
    panels = figure.subplots(1, len(grown), sharey=True, squeeze=False)[0]
    for axes, (label, steps) in zip(panels, grown.items(), strict=True):
        places = np.arange(1, len(steps) + 1)
        lines = (
            ("recall (the paper's accuracy)", [w.labels[label].recall for w in steps], BEFORE),
            ("specificity", [w.labels[label].specificity for w in steps], RIVAL),
            ("balanced accuracy", [w.labels[label].balanced for w in steps], AFTER),
        )
        for name, values, colour in lines:
            axes.plot(places, values, color=colour, label=name, linewidth=2)
        for zeta, style in zip(ZETAS, ("-", "--"), strict=True):
            axes.axvline(len(units_of(study.plans[zeta][label])), color="black", linewidth=0.8,
                         linestyle=style, label=f"where ζ = {zeta} stops")  # fmt: skip
        axes.set_title(f"Label {study.names[label]}: units added, the loudest first (Fig. 9)",
                       fontsize=10)  # fmt: skip
        axes.set_xlabel("hidden units")
        axes.set_ylim(-0.02, 1.02)
        _plain(axes)
    panels[0].set_ylabel("share")
    _legend_below(figure, panels[0], columns=5)
    return figure


def swept(study: Study, result: Sweep) -> Figure:
    """Draw what ζ does from 0 to 1: to the merged network, and to the labels' own."""
    figure = Picture(figsize=(_ACROSS + 1, 4.3), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(result.zetas, result.merged, color=AFTER, linewidth=2, label="accuracy")
    count = study.judge.worth().units
    left.plot(result.zetas, result.units / count, color=BEFORE, linewidth=2,
              label=f"units, of {count}")  # fmt: skip
    left.set_title("The merged network", fontsize=10)
    means = (
        ("recall", result.recall, BEFORE, "-"),
        ("specificity", result.specificity, RIVAL, "-"),
        ("balanced accuracy", result.balanced, AFTER, "-"),
        ("balanced, as many units by contrast", result.contrast, AFTER, "--"),
    )
    for name, values, colour, style in means:
        right.plot(result.zetas, values, style, color=colour, linewidth=2, label=name)
    right.set_title("The labels' own networks, mean over the labels", fontsize=10)
    for axes in (left, right):
        for zeta in ZETAS:
            axes.axvline(zeta, color="black", linewidth=0.6, linestyle=":")
        axes.set_xlabel("ζ")
        axes.set_ylim(-0.02, 1.02)
        _plain(axes)
        axes.legend(
            loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2, frameon=False, fontsize=9
        )
    left.set_ylabel("share")
    return figure


def ordered(runs: Sequence[Sequence[Step]], zeta: float) -> Figure:
    """Draw accuracy over all samples as labels join in many orders, the first in black.

    Args:
        runs: Steps of each order.
        zeta: ζ of the plans.
    """
    figure, axes = _canvas(height=3.6)
    places = np.arange(1, len(runs[0]) + 1)
    for run in runs[1:]:
        axes.plot(places, [step.accuracy for step in run], color=BEFORE, alpha=0.25, linewidth=1)
    axes.plot(places, [step.accuracy for step in runs[0]], color="black", linewidth=2)
    axes.legend(
        [Line2D([], [], color="black", linewidth=2), Line2D([], [], color=BEFORE)],
        ["label order", f"{len(runs) - 1} orders at random"],
        frameon=False,
    )
    axes.set_title(f"Labels join one after another, ζ = {zeta}: the way differs, the end does not")
    axes.set_xlabel("labels that have joined")
    axes.set_ylabel("accuracy over all samples")
    axes.set_xticks(places)
    _plain(axes)
    return figure


def beside(study: Study, result: Rivals) -> Figure:
    """Draw balanced accuracy of each label's network: the paper's, by contrast, and our best.

    Args:
        study: What the labels are of.
        result: What the networks are worth.
    """
    figure, axes = _canvas(height=3.8)
    places = np.arange(len(study.names))
    bars = (
        (result.paper, -0.28, BEFORE, f"the paper's, ζ = {result.zeta}"),
        (result.contrast, 0.0, RIVAL, "as many units by contrast"),
        (result.best, 0.28, AFTER, "as many units, our best"),
    )
    for worths, shift, colour, name in bars:
        values = [worth.balanced for worth in worths]
        axes.bar(places + shift, values, width=0.26, color=colour, label=name)
    axes.axhline(0.5, color="black", linewidth=0.8, linestyle=":", label="guessing")
    axes.set_xticks(places, study.names)
    axes.set_xlabel("label")
    axes.set_ylabel("balanced accuracy")
    axes.set_ylim(0, 1.0)
    axes.set_title("One network for each label: which units, and a head that fits them")
    _legend_below(figure, axes, columns=4)
    _plain(axes)
    return figure


def _canvas(*, height: float) -> tuple[Figure, Axes]:
    figure = Picture(figsize=(_ACROSS, height), layout="constrained")
    return figure, figure.add_subplot()


def _plain(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.yaxis.grid(True, color="#E5E5E5")
    axes.set_axisbelow(True)


def _legend_below(figure: Figure, axes: Axes, *, columns: int) -> None:
    handles, names = axes.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=columns, frameon=False,
                  fontsize=9)  # fmt: skip
