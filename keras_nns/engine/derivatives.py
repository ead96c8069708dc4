"""Gradients of a number by tensors that came up on the way to it.

`unrecorded` is the context in which models are run for their answers alone: torch would keep for
every answer how it came about. `differentiated` runs a function that hands tensors to `watch` and
goes on with what it returns: in TensorFlow the tensor, which a tape records; in torch one that
requires its gradient; in jax the tensor with a zero added, by which the whole is differentiated.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

from keras_nns.engine.backend import NAME

if TYPE_CHECKING or NAME == "tensorflow":
    from keras_nns.engine.tensorflow.derivatives import Watch, differentiated
elif NAME == "jax":
    from keras_nns.engine.jax.derivatives import Watch, differentiated
else:
    from keras_nns.engine.torch.derivatives import Watch, differentiated

__all__ = ["Watch", "differentiated", "unrecorded"]


def unrecorded() -> AbstractContextManager[None]:
    """While in the context, nothing is recorded for gradients."""
    if NAME != "torch":
        return nullcontext()
    import torch  # noqa: PLC0415

    found: AbstractContextManager[None] = torch.no_grad()
    return found
