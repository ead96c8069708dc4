"""What models run on: whether there is a GPU, and over how many devices a model is spread."""

from __future__ import annotations

from typing import TYPE_CHECKING

from keras_nns.engine.backend import NAME

if TYPE_CHECKING or NAME == "tensorflow":
    from keras_nns.engine.tensorflow.devices import has_gpu, replica_count
elif NAME == "jax":
    from keras_nns.engine.jax.devices import has_gpu, replica_count
else:
    from keras_nns.engine.torch.devices import has_gpu, replica_count

__all__ = ["has_gpu", "replica_count"]
