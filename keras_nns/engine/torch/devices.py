"""What torch runs on."""

from __future__ import annotations

from typing import Any

import torch


def has_gpu() -> bool:
    """Return whether there is a GPU that models run on."""
    return bool(torch.cuda.is_available())


def replica_count(model: Any) -> int:
    """Return how many copies of a model train side by side, each on its part of a batch."""
    return 1
