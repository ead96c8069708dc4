"""The ends of a model."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Port:
    """One named input or output of a model.

    Attributes:
        name: The layer's name, or the key where the model takes or gives a dict.
        shape: Dimensions with the batch first; `None` where the size is open.
        dtype: Name of the element type.
        layer: Name of the layer it belongs to; empty where that is unknown.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str
    layer: str = ""
