"""One computation run on batch after batch, compiled where that pays.

A `Stepper` takes arrays in any structure, whose first axis counts samples. The function that it
runs works by `keras.ops` and changes `accumulators` and variables of Keras. TensorFlow compiles one
step for batches of any size and jax one for each size; torch runs it as it stands.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keras_nns.engine.backend import NAME

if TYPE_CHECKING or NAME == "tensorflow":
    from keras_nns.engine.tensorflow.steps import Stepper
elif NAME == "jax":
    from keras_nns.engine.jax.steps import Stepper
else:
    from keras_nns.engine.torch.steps import Stepper

__all__ = ["Stepper"]
