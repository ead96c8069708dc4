"""A model on several devices at once, in this process and in others: replicas, each on its rows.

Only TensorFlow's strategies are known.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from keras_nns.engine.backend import ON_TENSORFLOW

if TYPE_CHECKING or ON_TENSORFLOW:
    from keras_nns.engine.tensorflow.replicas import Replicas
else:
    from keras_nns.engine.alone import Replicas

__all__ = ["Replicas", "is_distributed"]


def is_distributed(data: Any) -> bool:
    """Return whether a data set is one that a strategy of TensorFlow has dealt out already."""
    tensorflow = sys.modules.get("tensorflow")
    if tensorflow is None:
        return False
    kinds = (tensorflow.distribute.DistributedDataset, tensorflow.distribute.DistributedIterator)
    return isinstance(data, kinds)
