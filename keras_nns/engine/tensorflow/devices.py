"""What TensorFlow runs on."""

from __future__ import annotations

from typing import Any

import tensorflow as tf


def has_gpu() -> bool:
    """Return whether there is a GPU that models run on."""
    return bool(tf.config.list_physical_devices("GPU"))


def steps_end_at_once() -> bool:
    """Return whether a step has read its inputs to the end when its call returns."""
    return bool(tf.config.experimental.get_synchronous_execution()) and not has_gpu()


def replica_count(model: Any) -> int:
    """Return how many copies of a model train side by side, each on its part of a batch."""
    return int(model.distribute_strategy.num_replicas_in_sync)
