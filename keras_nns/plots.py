"""Plots: matplotlib figures of what was seen, kept and gained.

>>> figure = nns.plots.kept_units(nns.select(activity, labels="each"), "dense")
>>> nns.plots.save(figure, "kept.png")
"""

from keras_nns.reporting.image_files import rendered, save
from keras_nns.reporting.plots import (
    activity_heatmap,
    cohesion,
    kept_units,
    overlap,
    recall_specificity,
    sizes,
    weights_before_after,
)
from keras_nns.reporting.sweeps import trade_off

__all__ = [
    "activity_heatmap",
    "cohesion",
    "kept_units",
    "overlap",
    "recall_specificity",
    "rendered",
    "save",
    "sizes",
    "trade_off",
    "weights_before_after",
]


def __dir__() -> list[str]:
    return __all__
