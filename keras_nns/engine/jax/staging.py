"""Batches that jax copies once, when a step takes them in."""

from __future__ import annotations

from typing import Any


class Staging:
    """Nothing between arrays and a step."""

    def tensors(self, arrays: Any) -> Any:
        """Return a structure of arrays as it is."""
        return arrays
