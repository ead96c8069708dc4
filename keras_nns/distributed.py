"""Distributed: the verbs on a cluster of machines, or on several cores of one, by Ray.

Data are a `ray.data.Dataset`, read by Ray from files or an object store; a model's path is enough.

    >>> import ray
    >>> data = ray.data.from_items([{"x": a, "y": b} for a, b in zip(x, y)])
    >>> nns.distributed.observe(model, data, workers=2)
    <Activity of 48 units in 2 layers for 10 labels over 1200 samples>
"""

from keras_nns.cluster.observing import observe

__all__ = ["observe"]


def __dir__() -> list[str]:
    return __all__
