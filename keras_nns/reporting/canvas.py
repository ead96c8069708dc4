"""What the pictures have in common: colours, matrices, names beside them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from keras_nns.errors import SelectionError
from keras_nns.reporting.image_files import rendered
from tflite_export.text import one_line

# Colours that stay apart for every common kind of colour blindness (Okabe and Ito) and in grey.
BEFORE, AFTER = "#B5B5B5", "#0072B2"
ABSENT = "#DDDDDD"
_LONGEST_NAME = 24
_MOST_TICKS = 150
_MOST_ROWS, _MOST_COLUMNS = 2000, 3500


class Picture(Figure):
    """A figure that a notebook shows, also where `pyplot` was never imported."""

    def _repr_png_(self) -> bytes:
        return rendered(self)


def canvas(rows: int, columns: int, ax: Axes | None = None) -> tuple[Figure, Axes]:
    """Begin a figure of a matrix, or go on in that of the axes given."""
    if ax is not None:
        return figure_of(ax), ax
    # At least one pixel for each unit, up to what a browser still shows.
    width = max(float(np.clip(5.0 + columns / 16, 7.0, 12.0)), min(2.5 + columns / 140, 30.0))
    figure = Picture(figsize=(width, float(np.clip(1.5 + 0.27 * rows, 2.0, 18.0))))
    figure.set_layout_engine("constrained")
    return figure, figure.add_subplot()


def panel(size: tuple[float, float], ax: Axes | None = None) -> tuple[Figure, Axes]:
    """Begin a figure of one panel, its size in inches, or go on in that of the axes given."""
    if ax is not None:
        return figure_of(ax), ax
    figure = Picture(figsize=size, layout="constrained")
    return figure, figure.add_subplot()


def figure_of(ax: Axes) -> Figure:
    """Return the figure that axes belong to.

    Raises:
        SelectionError: They belong to none any more.
    """
    figure = ax.get_figure(root=True)
    if not isinstance(figure, Figure):
        raise SelectionError("The axes belong to no figure any more. Pass new ones.")
    return figure


def colours(name: str) -> Any:
    """Return a colour map in which what is absent is grey."""
    return colormaps[name].with_extremes(bad=ABSENT)


def matrix(axes: Axes, values: NDArray[Any], **look: Any) -> AxesImage:
    """Draw a matrix: averaged along an axis that is finer than the pixels, and nowhere blurred."""
    rows, columns = values.shape
    extent = (-0.5, columns - 0.5, rows - 0.5, -0.5)
    averaged = rows > _MOST_ROWS or columns > _MOST_COLUMNS
    if averaged:
        # The filter that averages one axis would smear the few cells of the other.
        repeats = [math.ceil(_MOST_ROWS / rows), math.ceil(_MOST_COLUMNS / columns)]
        values = values.repeat(repeats[0], axis=0).repeat(repeats[1], axis=1)
    interpolation = "antialiased" if averaged else "nearest"
    return axes.imshow(values, aspect="auto", interpolation=interpolation, extent=extent, **look)


def ticks(count: int) -> tuple[list[int], float]:
    """Choose which of many rows are named, and in which size."""
    step = math.ceil(count / _MOST_TICKS)
    return list(range(0, count, step)), 9.0 if count <= 40 else 7.0 if count <= 75 else 6.0


def name_rows(
    axes: Axes, names: Sequence[str], notes: Sequence[str] | None = None, what: str = "label"
) -> None:
    """Name the rows of a matrix, as many as can be read."""
    places, size = ticks(len(names))
    shown = [literal(names[i]) + (f"  ({notes[i]})" if notes else "") for i in places]
    axes.set_yticks(places, shown, fontsize=size)
    axes.set_ylabel(what)


def number_units(axes: Axes, what: str) -> None:
    """Number the columns of a matrix."""
    axes.xaxis.set_major_locator(MaxNLocator(nbins="auto", integer=True))
    axes.set_xlabel(literal(what, 60))


def literal(text: str, longest: int = _LONGEST_NAME) -> str:
    """Make a user's name one short line that matplotlib does not read as mathematics."""
    line = one_line(" ".join(text.split()))
    line = line if len(line) <= longest else line[: longest - 1] + "…"
    return line.replace("$", r"\$")
