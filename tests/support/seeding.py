"""One seed for everything that draws random numbers, without what TensorFlow does beside it."""

from __future__ import annotations

import random
from unittest.mock import patch

import keras

_keras_seeds_all = keras.utils.set_random_seed


def seed_all(seed: int) -> None:
    """Do what `keras.utils.set_random_seed` does, and keep the kernels TensorFlow has made.

    `tf.random.set_seed` throws them away, since some that draw (`tf.random.uniform`) count on.
    Keras has none of those. Making every kernel anew took a third of the tests' time.
    """
    if keras.config.backend() != "tensorflow":
        _keras_seeds_all(seed)
        return
    import tensorflow as tf
    from tensorflow.python.eager import context

    def set_seed(seed: int) -> None:
        held = context.context()
        held._seed, held._rng = seed, random.Random(seed)

    with patch.object(tf.random, "set_seed", set_seed):
        _keras_seeds_all(seed)
