"""The picture of a sweep: what networks of many sizes cost and what they are worth."""

from __future__ import annotations

import itertools

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from keras_nns.extraction.language_sweep import LanguageSweep
from keras_nns.extraction.swept import Sweep
from keras_nns.reporting import canvas
from keras_nns.reporting.canvas import AFTER, BEFORE

_MARKERS = "osD^vP"


def trade_off(found: Sweep | LanguageSweep, *, ax: Axes | None = None) -> Figure:
    """Draw what subnetworks of many sizes cost and what they are worth.

    Args:
        found: What `sweep` found.
        ax: Axes to draw on; None begins a figure.

    Returns:
        Balanced accuracy over size, both axes as shares; those that nothing beats are joined by
        steps, and the parent stands at the right. Of language models perplexity, in logarithms, of
        every kind of text, with its intervals.

    Example:
        >>> found = nns.sweep(model, (x, y), labels=3, sizes=[0.2], repair=False)
        >>> figure = nns.plots.trade_off(found)
    """
    figure, axes = canvas.panel((7.0, 4.2), ax)
    if isinstance(found, LanguageSweep):
        _perplexities(found, axes)
        return figure
    whole = found.size(found.parent_costs)
    shares = [100 * found.size(point.costs) / whole for point in found.points]
    worths = [point.worth for point in found.points]
    front = [
        (x, point.worth) for x, point in zip(shares, found.points, strict=True) if point.on_front
    ]
    axes.axhline(found.parent_worth, color=BEFORE, linewidth=1)
    axes.plot([100], [found.parent_worth], "s", color=BEFORE, label="parent, asked the same")
    if front:
        x, y = zip(*front, strict=True)
        axes.step(x, y, where="post", color=AFTER, linewidth=1.2)
        axes.plot(x, y, "o", color=AFTER, label="nothing smaller is as good")
    axes.plot(shares, worths, "o", markersize=4, markerfacecolor="none", color=AFTER, zorder=1)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g} %")
    axes.set_xlabel(f"size, in {found.counted} of the parent")
    axes.set_ylabel(found.measure)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="lower right", frameon=False)
    names = ", ".join(found.labels)
    axes.set_title(canvas.literal(f"What a network for {names} costs and is worth", 60))
    return figure


def _perplexities(found: LanguageSweep, axes: Axes) -> None:
    """Draw the perplexity of every kind of text over the size; kinds asked for are filled."""
    first, (_, decoder) = found.points[0].figures, found.parent_parameters
    kinds = [row.label for row in first.rows if row.model == "parent" and row.label is not None]
    for kind, marker in zip(kinds, itertools.cycle(_MARKERS), strict=False):
        rows = [point.figures["subnetwork", kind] for point in found.points]
        rows.append(first["parent", kind])
        shares = [point.costs["without_embeddings"] / decoder for point in found.points]
        values = np.array([row.perplexity for row in rows])
        bounds = None
        if all(row.interval is not None for row in rows):
            bounds = np.abs(np.transpose([row.interval for row in rows]) - values)
        asked = kind in found.labels
        axes.errorbar(
            [100 * share for share in (*shares, 1.0)],
            values,
            yerr=bounds,
            marker=marker,
            markerfacecolor=None if asked else "none",
            color=AFTER if asked else BEFORE,
            linewidth=1.2 if asked else 0.8,
            capsize=2,
            label=kind,
        )
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g} %")
    axes.set_xlabel("parameters without embeddings, of the parent's")
    axes.set_ylabel("perplexity")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    names = ", ".join(found.labels)
    axes.set_title(canvas.literal(f"What a language model for {names} costs and is worth", 60))
