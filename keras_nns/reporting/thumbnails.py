"""Small pictures for a page: samples that excite units, and matrices of weights."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

_TILE = 32
"""Pixels along the longer side of a sample, at most."""

_MOST_BYTES = 500_000
"""Of all samples' pictures together."""

_SMALLEST = 3
"""Fewer pixels along a side are no picture."""

_RED, _BLUE = (213, 94, 0), (0, 114, 178)
"""For weights above and below zero; they stay apart for every common kind of colour blindness."""


@dataclass(frozen=True, eq=False)
class Tiles:
    """Samples as tiles of one picture, and which of them excite each unit.

    Attributes:
        png: The tiles side by side, `columns` in a row.
        size: Width and height of a tile in pixels.
        columns: Tiles in a row.
        labels: Label number of each tile, -1 where it has several or none.
        units: By layer, for each unit the tiles that excite it most, the strongest first.
    """

    png: bytes
    size: tuple[int, int]
    columns: int
    labels: tuple[int, ...]
    units: Mapping[str, tuple[tuple[int, ...], ...]]


def are_pictures(x: Any) -> bool:
    """Return whether inputs are images: `(samples, height, width, 1, 3 or 4)`, or squares.

    What has no channels is one of squares `(samples, side, side)`: steps with features have the
    same rank, and seldom as many of the one as of the other.
    """
    shape: tuple[int, ...] = tuple(getattr(x, "shape", ()))
    if len(shape) not in (3, 4) or min(shape[1:3]) < _SMALLEST:
        return False
    return bool(shape[3] in (1, 3, 4) if len(shape) == 4 else shape[1] == shape[2])


def tiles(
    x: NDArray[Any],
    labels: Sequence[int] | NDArray[Any],
    exciting: Mapping[str, NDArray[np.int64]],
    *,
    most_bytes: int = _MOST_BYTES,
) -> Tiles | None:
    """Draw the samples that excite units, each once, in one picture.

    Fewer samples are drawn for each unit where the picture would be too large.

    Args:
        x: Images as `are_pictures` has them.
        labels: Label number of each, -1 for none.
        exciting: By layer, numbers of samples `(units, k)`, the strongest first; -1 for none.
        most_bytes: What the picture may take.

    Returns:
        The picture; None where there is nothing to draw, or one sample for each unit is too much.
    """
    most = max((numbers.shape[1] for numbers in exciting.values()), default=0)
    for k in range(most, 0, -1):
        shown = {layer: numbers[:, :k] for layer, numbers in exciting.items()}
        used = np.unique(np.concatenate([numbers.ravel() for numbers in shown.values()]))
        used = used[used >= 0]
        if not len(used):
            return None
        images = _small(x[used])
        columns = math.ceil(math.sqrt(len(used)))
        png = _sheet(images, columns)
        if len(png) > most_bytes:
            continue
        place = {int(number): i for i, number in enumerate(used)}
        units = {
            layer: tuple(tuple(place[int(n)] for n in row if n >= 0) for row in numbers)
            for layer, numbers in shown.items()
        }
        size = (images.shape[2], images.shape[1])
        return Tiles(png, size, columns, tuple(int(labels[n]) for n in used), units)
    return None


def weights_png(values: NDArray[Any], limit: float) -> bytes:
    """Draw a matrix of weights, one pixel each: the larger, the more opaque; NaN is not drawn.

    Args:
        values: `(rows, columns)`.
        limit: The weight that is drawn in full colour.
    """
    strength = np.nan_to_num(np.clip(np.abs(values) / limit, 0, 1))
    image = np.empty((*values.shape, 4), dtype=np.uint8)
    image[..., :3] = np.where(np.nan_to_num(values)[..., None] > 0, _RED, _BLUE)
    image[..., 3] = np.rint(255 * strength)
    return _png(Image.fromarray(image))


def data_uri(png: bytes) -> str:
    """Return a PNG as an address that holds it."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _small(x: NDArray[Any]) -> NDArray[np.uint8]:
    """Return images as bytes `(samples, height, width)` or with 3 channels, small enough."""
    values = np.asarray(x, dtype=np.float64)
    if values.ndim == 4:
        values = values[..., 0] if values.shape[3] == 1 else values[..., :3]
    low, high = min(0.0, float(values.min())), float(values.max())
    # What is in 0..1 or 0..255 already keeps its brightness.
    high = next((top for top in (1.0, 255.0) if low == 0.0 and high <= top), high)
    scaled = np.rint(255 * (values - low) / (high - low or 1.0)).astype(np.uint8)
    height, width = scaled.shape[1:3]
    share = _TILE / max(height, width)
    if share >= 1:
        return scaled
    size = (max(1, round(width * share)), max(1, round(height * share)))
    return np.stack(
        [np.asarray(Image.fromarray(one).resize(size, Image.Resampling.BOX)) for one in scaled]
    )


def _sheet(images: NDArray[np.uint8], columns: int) -> bytes:
    rows = math.ceil(len(images) / columns)
    height, width = images.shape[1:3]
    sheet = np.zeros((rows * columns, *images.shape[1:]), dtype=np.uint8)
    sheet[: len(images)] = images
    channels = images.shape[3:]
    sheet = sheet.reshape(rows, columns, height, width, *channels).swapaxes(1, 2)
    return _png(Image.fromarray(sheet.reshape(rows * height, columns * width, *channels)))


def _png(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format="PNG", optimize=True)
    return stream.getvalue()
