"""Which samples excite each unit most: what a unit is looked at by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import tree
from numpy.typing import NDArray

from keras_nns.errors import DataError
from keras_nns.observation.probing import Layers, probe


@dataclass(frozen=True, eq=False)
class Exciting:
    """The samples that excite each unit most, the strongest first.

    Attributes:
        samples: Numbers of samples by layer path, int64 `(units, k)`; -1 where fewer than `k`
            samples raise the unit above zero.
        values: The unit's mean over positions on them, float32 `(units, k)`; NaN where there is
            none.
    """

    samples: Mapping[str, NDArray[np.int64]]
    values: Mapping[str, NDArray[np.float32]]


def most_exciting(
    model: Any, x: Any, *, k: int = 6, layers: Layers = None, batch_size: int = 256
) -> Exciting:
    """Find the samples that excite each unit most, in one pass that holds one batch at a time.

    Args:
        model: The model. It is not changed.
        x: Inputs as the model takes them: an array `(samples, …)`, or several.
        k: How many samples for each unit.
        layers: As in `probe`.
        batch_size: Samples in a batch.

    Raises:
        DataError: There are no samples, or `k` is no number of samples.
        ModelError: The model has no graph to read, or no hidden units.

    Example:
        >>> most_exciting(model, x).samples["dense"][17].shape
        (6,)
    """
    count = len(tree.flatten(x)[0])
    if k < 1 or not count:
        raise DataError(
            f"To find what excites units takes at least one sample, and k of 1 or more. Received: "
            f"{count} samples, k={k}."
        )
    probed = probe(model, layers=layers)
    best: dict[str, tuple[NDArray[np.float32], NDArray[np.int64]]] = {}
    for start in range(0, count, batch_size):
        some = slice(start, start + batch_size)
        for layer, found in probed(tree.map_structure(lambda a, s=some: a[s], x)).items():
            values = np.asarray(found, dtype=np.float32).T
            numbers = np.broadcast_to(np.arange(start, start + values.shape[1]), values.shape)
            if layer in best:
                values = np.concatenate([best[layer][0], values], axis=1)
                numbers = np.concatenate([best[layer][1], numbers], axis=1)
            # Stable, so that of equals the earlier sample stands first.
            order = np.argsort(-values, axis=1, kind="stable")[:, :k]
            best[layer] = (
                np.take_along_axis(values, order, axis=1),
                np.take_along_axis(numbers, order, axis=1),
            )
    active = {layer: values > 0 for layer, (values, _) in best.items()}
    return Exciting(
        {layer: np.where(active[layer], numbers, -1) for layer, (_, numbers) in best.items()},
        {
            layer: np.where(active[layer], values, np.float32(np.nan))
            for layer, (values, _) in best.items()
        },
    )
