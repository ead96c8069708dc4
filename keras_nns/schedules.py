"""Schedules: how much of what is to be removed is gone by when, for `in_steps` and `GradualCut`.

>>> stages = nns.in_steps(model, (x, y), share=0.25, schedule=nns.schedules.cosine)
"""

from keras_nns.plans.schedules import agp, cosine, linear

__all__ = [
    "agp",
    "cosine",
    "linear",
]


def __dir__() -> list[str]:
    return __all__
