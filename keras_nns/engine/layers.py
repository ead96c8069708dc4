"""What a call leaves behind in a model's layers.

It is Keras that keeps it there, whichever backend computes.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def losses_kept(model: Any) -> Iterator[None]:
    """Give every layer back the losses that its last call by the user left in it."""
    before = [(layer, [*layer._losses], {*layer._loss_ids}) for layer in model._flatten_layers()]
    try:
        yield
    finally:
        for layer, losses, ids in before:
            layer._losses[:] = losses
            layer._loss_ids.clear()
            layer._loss_ids.update(ids)
