"""What a model is described by: its ends, and its kernels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np


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


@dataclass(frozen=True, eq=False)
class Kernel:
    """The weights of a layer in the shape that TFLite gives them.

    Attributes:
        values: The weights.
        axis: The axis of the output channels.
    """

    values: np.ndarray[Any, Any]
    axis: int
