"""How many samples a batch has, and how many it must have."""

from __future__ import annotations

from numbers import Integral
from typing import Any

from keras_nns.errors import DataError


def check_batch_size(batch_size: Any) -> None:
    """Raise where this is no number of samples.

    Raises:
        DataError: It is no whole number from 1.
    """
    if not isinstance(batch_size, Integral) or batch_size < 1:
        raise DataError(
            f"batch_size must be a whole number, at least 1. Received: batch_size={batch_size!r}."
        )


class Carried:
    """What a model carries from batch to batch in layers that are stateful.

    Args:
        model: Any model.

    Attributes:
        size: The number of samples whose states they hold; None where they hold none.
    """

    def __init__(self, model: Any) -> None:
        found = [
            (layer, state)
            for layer in model._flatten_layers()
            if getattr(layer, "stateful", False)
            for state in _states(layer)
        ]
        self.size: int | None = int(found[0][1].shape[0]) if found else None
        self._title = (
            f"Model {model.name!r} carries states of {self.size} samples from batch to batch "
            f"({type(found[0][0]).__name__} {found[0][0].name!r} is stateful): pass "
            f"batch_size={self.size} and a multiple of {self.size} samples, or build it with "
            "stateful=False."
            if found
            else ""
        )

    def check(self, batch: int | None, samples: int | None = None) -> None:
        """Raise where batches are of another size.

        Args:
            batch: Samples in a batch, where it is known.
            samples: All samples, where their number is known.

        Raises:
            DataError: They are.
        """
        if self.size is None:
            return
        if batch is not None and batch != self.size:
            raise DataError(f"{self._title} Received: a batch of {batch}.")
        if samples is not None and samples % self.size:
            raise DataError(f"{self._title} Received: {samples:,} samples.")


def _states(layer: Any) -> list[Any]:
    given = getattr(layer, "states", None)
    states = given if isinstance(given, list | tuple) else [given]
    return [state for state in states if getattr(state, "shape", None)]
