"""Gradients of a number by tensors that came up on the way to it.

`differentiated` runs a function that hands tensors to `watch` and goes on with what it returns: in
TensorFlow the tensor, which a tape records; in torch one that requires its gradient; in jax the
tensor with a zero added, by which the whole is differentiated.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keras_nns.engine.backend import NAME

if TYPE_CHECKING or NAME == "tensorflow":
    from keras_nns.engine.tensorflow.derivatives import Watch, differentiated
elif NAME == "jax":
    from keras_nns.engine.jax.derivatives import Watch, differentiated
else:
    from keras_nns.engine.torch.derivatives import Watch, differentiated

__all__ = ["Watch", "differentiated"]
