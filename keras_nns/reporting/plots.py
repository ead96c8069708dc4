"""The pictures people look at: what is active where, what was kept, and what it costs and gives.

Every function returns a new `matplotlib.figure.Figure`. None touches `pyplot`, so nothing is shown,
nothing is left open, and no display is needed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import keras
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator
from numpy.typing import NDArray

from keras_nns.errors import SelectionError
from keras_nns.graph.costs import Costs
from keras_nns.judgement.compared import Comparison
from keras_nns.judgement.rows import LabelFigures
from keras_nns.observation.activity import Activity
from keras_nns.plans.kept_units import Plan
from keras_nns.reporting import canvas, weights
from keras_nns.reporting.canvas import AFTER, BEFORE
from keras_nns.selection import overlap as sharing
from keras_nns.selection.modularity import Modularity

_SEQUENTIAL, _DIVERGING = "viridis", "RdBu_r"
_STATISTICS: Mapping[str, tuple[str, Callable[[Activity, str], NDArray[np.float64]]]] = {
    "mean": ("mean output", Activity.mean),
    "magnitude": ("mean absolute output", Activity.magnitude),
    "firing_rate": ("share of samples on which the unit fired", Activity.firing_rate),
    "active_share": ("share of samples and positions that were active", Activity.active_share),
    "variance": ("variance of the output", Activity.variance),
    "maximum": ("largest absolute output", Activity.maximum),
}


def activity_heatmap(
    activity: Activity, layer: str, *, statistic: str = "mean", ax: Axes | None = None
) -> Figure:
    """Draw how active each unit of a layer is for each label, as in Figs. 2 to 4 of the paper.

    Args:
        activity: What was observed.
        layer: Path of the layer.
        statistic: `"mean"`, `"magnitude"`, `"firing_rate"`, `"active_share"`,
            `"variance"` or `"maximum"`.
        ax: Axes to draw on; None begins a figure.

    Returns:
        A heat map, labels down and units across. Labels without samples are grey.

    Raises:
        SelectionError: The statistic is unknown, or it or the layer was not watched.

    Example:
        >>> figure = nns.plots.activity_heatmap(activity, "dense")
        >>> nns.plots.save(figure, "dense.png")
    """
    if statistic not in _STATISTICS:
        raise SelectionError(
            f"Expected a statistic of {list(_STATISTICS)}. Received: statistic={statistic!r}."
        )
    words, read = _STATISTICS[statistic]
    values = read(activity, layer)
    seen = values[np.isfinite(values)]
    signed = bool((seen < 0).any())
    limit = float(np.abs(seen).max(initial=0.0)) or 1.0
    figure, axes = canvas.canvas(len(values), values.shape[1], ax)
    colours = canvas.colours(_DIVERGING if signed else _SEQUENTIAL)
    lowest = -limit if signed else 0.0
    image = canvas.matrix(axes, values, cmap=colours, vmin=lowest, vmax=limit)
    canvas.name_rows(axes, activity.label_names)
    canvas.number_units(axes, f"unit of {layer}")
    axes.set_title(canvas.literal(f"Activity of {layer}, label by label", 60))
    figure.colorbar(image, ax=axes, label=words, pad=0.01, aspect=40)
    return figure


def kept_units(plans: Sequence[Plan], group: str, *, ax: Axes | None = None) -> Figure:
    """Draw which units of a group each plan keeps, as in Fig. 5 of the paper.

    Args:
        plans: Plans of one parent, one per label or any others.
        group: Name of the unit group.
        ax: Axes to draw on; None begins a figure.

    Returns:
        Plans down, units across; the number of kept units stands beside each plan's name.

    Raises:
        SelectionError: No plan was given, or the plans have no such group.

    Example:
        >>> figure = nns.plots.kept_units(nns.select(activity, labels="each"), "dense")
    """
    kept = sharing.kept_matrix(plans, group)
    size = kept.shape[1]
    figure, axes = canvas.canvas(len(plans), size, ax)
    canvas.matrix(
        axes,
        kept,
        cmap=ListedColormap(["#F0F0F0", AFTER]),
        vmin=0,
        vmax=1,
    )
    counts = kept.sum(axis=1)
    canvas.name_rows(axes, [_plan_name(plan) for plan in plans], [f"{n:,}" for n in counts])
    if size <= 80 and len(plans) <= 40:
        axes.set_xticks(np.arange(size + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(len(plans) + 1) - 0.5, minor=True)
        axes.grid(which="minor", color="white", linewidth=1)
        axes.tick_params(which="minor", length=0)
    canvas.number_units(axes, f"unit of {group}")
    union = int(kept.any(axis=0).sum())
    axes.set_title(
        canvas.literal(f"Units of {group} kept for each label: {union:,} of {size:,} in all", 80)
    )
    return figure


def overlap(plans: Sequence[Plan], *, ax: Axes | None = None) -> Figure:
    """Draw how much the plans share, as in Fig. 5 of the paper.

    Args:
        plans: Plans of one parent.
        ax: Axes to draw on; None begins a figure.

    Returns:
        For each two plans the Jaccard index of their kept units over all groups: shared units as
        a share of all that either keeps. Grey where neither keeps any.

    Raises:
        SelectionError: No plan was given, or they are of different models.

    Example:
        >>> figure = nns.plots.overlap(nns.select(activity, labels="each"))
    """
    names = [_plan_name(plan) for plan in plans]
    title = "Units that two labels share, of all that either keeps"
    return _square(sharing.jaccard(plans), names, title, ax)


def cohesion(found: Modularity, *, ax: Axes | None = None) -> Figure:
    """Draw how alike the units are that samples of each two labels activate.

    Args:
        found: What `modularity` measured.
        ax: Axes to draw on; None begins a figure.

    Returns:
        For each two labels the mean Jaccard index of two samples' active units: cohesion on the
        diagonal, coupling beside it. Grey where there are no such samples.

    Example:
        >>> figure = nns.plots.cohesion(nns.modularity(model, (x, y)))
    """
    title = "Units that samples of two labels both activate"
    return _square(found.jaccard, found.label_names, title, ax)


def _square(
    values: NDArray[np.float64], names: Sequence[str], title: str, ax: Axes | None
) -> Figure:
    """Draw Jaccard indices of every two."""
    count = len(values)
    side = min(4.5 + 0.17 * count, 20.0)
    figure, axes = canvas.panel((side + 1.2, side), ax)
    image = axes.imshow(values, cmap=canvas.colours(_SEQUENTIAL), vmin=0, vmax=1)
    canvas.name_rows(axes, names)
    ticks, size = canvas.ticks(count)
    turn = 90 if max(map(len, names)) > 3 else 0
    axes.set_xticks(ticks, [canvas.literal(names[i]) for i in ticks], rotation=turn, fontsize=size)
    axes.set_xlabel("label")
    if count <= 16:
        for (i, j), value in np.ndenumerate(values):
            if not math.isnan(value):
                axes.text(
                    j,
                    i,
                    f"{value:.2f}",
                    ha="center",
                    va="center",
                    fontsize=8,
                    color="black" if value > 0.55 else "white",
                )
    axes.set_title(title)
    figure.colorbar(image, ax=axes, label="Jaccard index", shrink=0.8, aspect=40)
    return figure


def weights_before_after(parent: keras.Model, subnet: keras.Model, layer: str) -> Figure:
    """Draw a layer's weights in the parent, masked and cut, as in Figs. 7 and 8 of the paper.

    Args:
        parent: The parent model.
        subnet: A subnetwork that was cut from it.
        layer: Path of a layer with a kernel; a convolution's kernel is drawn with one column per
            unit and one row per position and input channel.

    Returns:
        Three matrices on one scale: what is removed is grey in the middle one and gone in the last.

    Raises:
        SelectionError: The parent has no such layer with weights, or the subnetwork does not hold
            it as its plan says.

    Example:
        >>> figure = nns.plots.weights_before_after(model, three, "dense_1")
    """
    whole, stays, small = weights.before_after(parent, subnet, layer)
    limit = float(np.quantile(np.abs(whole), 0.99)) or 1.0
    rows, columns = whole.shape
    # At least one pixel for each row, up to what a browser still shows.
    height = max(float(np.clip(rows / 40, 3.6, 7.0)), min(1.3 + rows / 140, 16.0))
    figure = canvas.Picture(figsize=(13, height), layout="constrained")
    panels: Sequence[Axes] = figure.subplots(1, 3, sharex=True, sharey=True)
    titles = ("parent", "masked: removed weights in grey", "cut")
    drawn = (whole, np.where(stays, whole, np.nan), small)
    for axes, title, values in zip(panels, titles, drawn, strict=True):
        image = canvas.matrix(
            axes, values, cmap=canvas.colours(_DIVERGING), vmin=-limit, vmax=limit
        )
        axes.set_title(f"{title}\n{values.shape[0]:,} × {values.shape[1]:,}", fontsize=10)
        canvas.number_units(axes, "unit")
        axes.yaxis.set_major_locator(MaxNLocator(integer=True))
        # One scale for all three, so that the cut matrix is as small as it is.
        axes.set_xlim(-0.5, columns - 0.5)
        axes.set_ylim(rows - 0.5, -0.5)
    panels[0].set_ylabel("input")
    figure.suptitle(canvas.literal(f"Weights of {layer}", 60))
    figure.colorbar(image, ax=list(panels), label="weight", extend="both", pad=0.01, aspect=40)
    return figure


def recall_specificity(comparisons: Sequence[Comparison] | Comparison) -> Figure:
    """Draw recall and specificity of each label before and after the cut, side by side.

    Args:
        comparisons: One comparison, or one per subnetwork; every reported label is one row.

    Returns:
        Two panels of bars, labels down.

    Raises:
        SelectionError: There is no comparison.

    Example:
        >>> figure = nns.plots.recall_specificity(nns.compare(model, three, x_test, y_test))
    """
    if isinstance(comparisons, Comparison):
        comparisons = [comparisons]
    pairs = [pair for c in comparisons for pair in zip(c.before.rows, c.after.rows, strict=True)]
    if not pairs:
        raise SelectionError("There is no comparison to draw. Pass at least one.")
    figure = canvas.Picture(figsize=(10, min(1.9 + 0.3 * len(pairs), 30.0)), layout="constrained")
    panels: Sequence[Axes] = figure.subplots(1, 2, sharey=True)
    figures: tuple[tuple[str, Callable[[LabelFigures], float]], ...] = (
        ("recall", lambda row: row.recall),
        ("specificity", lambda row: row.specificity),
    )
    told = any(after.intervals for _, after in pairs)
    places = np.arange(len(pairs))
    for axes, (title, get) in zip(panels, figures, strict=True):
        old = np.array([get(before) for before, _ in pairs])
        new = np.array([get(after) for _, after in pairs])
        for values, shift, colour, name in (
            (old, -0.2, BEFORE, "parent"),
            (new, 0.2, AFTER, "subnetwork"),
        ):
            axes.barh(places + shift, values, height=0.38, color=colour, label=name)
            ends = np.nan_to_num(values)
            if told:
                side = [
                    pair[shift > 0].intervals.get(title, (math.nan, math.nan)) for pair in pairs
                ]
                low, high = np.transpose(side)
                axes.hlines(places + shift, low, high, color="#444444", linewidth=0.8)
                # The figure stands behind the interval, which would strike it through.
                ends = np.fmax(ends, high)
            # A bar of length 0 and a figure that is undefined look the same without a word.
            for place, value, end in zip(places + shift, values, ends, strict=True):
                word = "undefined" if math.isnan(value) else f"{value:.2f}"
                axes.text(end + 0.01, place, word, va="center", fontsize=6.5, color="#444444")
        axes.set_xlim(0, 1.12)
        axes.set_xticks(np.linspace(0, 1, 6))
        axes.set_title(title)
        axes.set_xlabel(title)
        axes.tick_params(labeltop=len(pairs) > 40)
        axes.xaxis.grid(True, color="#E5E5E5")
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
    canvas.name_rows(panels[0], [before.name for before, _ in pairs])
    panels[0].set_ylim(len(pairs) - 0.4, -0.6)
    figure.suptitle("Recall and specificity of each label, parent and subnetwork")
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=2, frameon=False)
    return figure


def sizes(rows: Mapping[str, Costs]) -> Figure:
    """Draw what models cost side by side: parameters, multiply-adds and bytes.

    Args:
        rows: Costs by name of the model, the parent first: shares are of it.

    Returns:
        One panel of bars per kind of cost, models down. Costs that no model has are left out.

    Raises:
        SelectionError: There is no model.

    Example:
        >>> told = nns.compare(model, three, x_test, y_test)
        >>> figure = nns.plots.sizes({"parent": told.parent_costs, "3": told.costs})
    """
    if not rows:
        raise SelectionError("There is no model to draw. Pass at least one.")
    kinds: tuple[tuple[str, Callable[[Costs], int | None]], ...] = (
        ("parameters", lambda cost: cost.parameters),
        ("multiply-adds", lambda cost: cost.macs),
        ("bytes of weights (float32)", lambda cost: cost.weight_bytes),
        ("bytes of .tflite", lambda cost: cost.tflite_bytes),
    )
    kinds = tuple(k for k in kinds if any(k[1](cost) is not None for cost in rows.values()))
    size = (3.4 * len(kinds) + 1.2, min(1.7 + 0.3 * len(rows), 30.0))
    figure = canvas.Picture(figsize=size, layout="constrained")
    panels = figure.subplots(1, len(kinds), sharey=True, squeeze=False)[0]
    colours = [BEFORE, *[AFTER] * (len(rows) - 1)]
    for axes, (title, get) in zip(panels, kinds, strict=True):
        values = [get(cost) for cost in rows.values()]
        lengths = [math.nan if value is None else float(value) for value in values]
        bars = axes.barh(np.arange(len(rows)), lengths, height=0.7, color=colours)
        axes.bar_label(bars, [_amount(v, values[0]) for v in values], padding=3, fontsize=8)
        axes.margins(x=0.45)
        axes.set_xlim(left=0)
        axes.set_xlabel(title)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.spines[["top", "right"]].set_visible(False)
    canvas.name_rows(panels[0], list(rows), what="")
    panels[0].set_ylim(len(rows) - 0.4, -0.6)
    figure.suptitle("What each model costs, and its share of the first")
    return figure


def _plan_name(plan: Plan) -> str:
    return " + ".join(plan.names) or "no label"


def _amount(value: int | None, first: int | None) -> str:
    if value is None:
        return ""
    text = EngFormatter(places=1, sep="")(value) if value >= 10_000 else f"{value:,}"
    return f"{text} ({value / first:.0%})" if first else text
