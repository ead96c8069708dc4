"""Scores: how much a label needs a unit, `(labels, units)` for every unit group.

Pass one to `select` or `extract`: `score=nns.scores.contrast`, or what one of them returns where it
needs data of its own: `score=nns.scores.reconstruction(model, data)`.

    >>> nns.select(activity, labels=3, score=nns.scores.contrast)
    <Plan for 3: 24 of 48 units>
"""

from keras_nns.selection.activations import (
    active_share,
    block_influence,
    contrast,
    d_prime,
    firing_frequency,
    mean_activation,
    random_units,
)
from keras_nns.selection.branches import branch_reconstruction, fluctuation
from keras_nns.selection.gradients import contribution, fisher, taylor
from keras_nns.selection.greedy import forward_selection
from keras_nns.selection.reconstruction import reconstruction
from keras_nns.selection.weights import (
    batch_norm_scale,
    geometric_median,
    lamp,
    magnitude,
    wanda,
)

__all__ = [
    "active_share",
    "batch_norm_scale",
    "block_influence",
    "branch_reconstruction",
    "contrast",
    "contribution",
    "d_prime",
    "firing_frequency",
    "fisher",
    "fluctuation",
    "forward_selection",
    "geometric_median",
    "lamp",
    "magnitude",
    "mean_activation",
    "random_units",
    "reconstruction",
    "taylor",
    "wanda",
]


def __dir__() -> list[str]:
    return __all__
