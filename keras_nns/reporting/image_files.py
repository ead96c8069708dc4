"""Figures as the bytes of pictures, and as files."""

from __future__ import annotations

import io
import warnings
from os import PathLike
from pathlib import Path

from matplotlib.figure import Figure

from keras_nns.errors import FileError
from keras_nns.files import atomic

_FORMATS = (".png", ".svg", ".pdf")


def save(figure: Figure, path: str | PathLike[str], *, overwrite: bool = False) -> None:
    """Write a figure as PNG, SVG or PDF, atomically.

    Raises:
        FileError: The file exists and `overwrite` is false, cannot be written, or its name ends in
            none of `.png`, `.svg` and `.pdf`.

    Example:
        >>> nns.plots.save(nns.plots.activity_heatmap(activity, "dense"), "dense.svg")
    """
    kind = Path(path).suffix.lower()
    if kind not in _FORMATS:
        raise FileError(f"A figure's name must end in one of {_FORMATS}. Received: {path!r}.")
    atomic.refuse_existing(path, overwrite=overwrite)
    atomic.write_bytes(path, rendered(figure, kind[1:]), overwrite=overwrite)


def rendered(figure: Figure, format: str = "png") -> bytes:
    """Return a figure as the bytes of a PNG, SVG or PDF file.

    Example:
        >>> png = nns.plots.rendered(nns.plots.activity_heatmap(activity, "dense"))
        >>> png[1:4]
        b'PNG'
    """
    stream = io.BytesIO()
    with warnings.catch_warnings():
        # A label may be named in a script that the font lacks: the picture then shows a box, and
        # the tables beside it show the name.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(stream, format=format, dpi=150)
    return stream.getvalue()
