"""What jax runs on."""

from __future__ import annotations

from typing import Any

import jax


def has_gpu() -> bool:
    """Return whether there is a GPU that models run on."""
    return any(device.platform == "gpu" for device in jax.devices())


def replica_count(model: Any) -> int:
    """Return how many copies of a model train side by side, each on its part of a batch."""
    return 1
