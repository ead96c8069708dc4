"""Hand batches of a large array to compiled steps with as few copies as can be.

One instead of two in TensorFlow; none in torch, which shares memory with numpy; jax copies once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from keras_nns.engine.backend import NAME

if TYPE_CHECKING or NAME == "tensorflow":
    from keras_nns.engine.tensorflow.staging import Staging
elif NAME == "jax":
    from keras_nns.engine.jax.staging import Staging
else:
    from keras_nns.engine.torch.staging import Staging

__all__ = ["Staging"]
