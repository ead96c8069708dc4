"""Steps of a repair: pass them to `repair` or `extract` in the order they shall be taken.

>>> steps = (nns.steps.least_squares(), nns.steps.calibrate_head())
>>> fixed = nns.repair(three, model, (x, y), steps=steps).model
"""

from keras_nns.repairing.head_fit import calibrate_head
from keras_nns.repairing.least_squares import fold_means, least_squares, recalibrate_batch_norm
from keras_nns.repairing.temperature import calibrate_temperature

__all__ = [
    "calibrate_head",
    "calibrate_temperature",
    "fold_means",
    "least_squares",
    "recalibrate_batch_norm",
]


def __dir__() -> list[str]:
    return __all__
