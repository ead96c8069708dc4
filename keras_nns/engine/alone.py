"""Where there are no replicas: a model on one device, in one process."""

from __future__ import annotations

from typing import Any

from keras_nns.engine.backend import refuse


class Replicas:
    """The replicas of a strategy, of which this backend has none.

    Args:
        strategy: Any.

    Raises:
        BackendError: Always.
    """

    def __init__(self, strategy: Any) -> None:
        refuse(
            "strategy=, a tf.distribute strategy,",
            "leave it out, and deal the data to processes by shard=(1, 8), (2, 8) and so on, whose "
            "activities nns.add puts together.",
        )
