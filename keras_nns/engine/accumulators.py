"""Numbers that stay between compiled steps, and that steps add to.

An `Accumulator`'s `add` and `assign` take effect when a compiled step runs, in the order in which
they were called: a variable in TensorFlow, a tensor changed in place in torch, and in jax an array
that steps take in and give back. It holds float64 and int64, in which 10⁸ samples count right.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keras_nns.engine.backend import NAME

if TYPE_CHECKING or NAME == "tensorflow":
    from keras_nns.engine.tensorflow.accumulators import Accumulator
elif NAME == "jax":
    from keras_nns.engine.jax.accumulators import Accumulator
else:
    from keras_nns.engine.torch.accumulators import Accumulator

__all__ = ["Accumulator"]
