"""Layers that know how many features there were before some of them were cut away."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import layers, ops


@keras.saving.register_keras_serializable("keras_nns")
class PartialLayerNormalization(layers.LayerNormalization):
    """Layer normalisation over features of which only some are here, the others being zero.

    With all of them here it is `keras.layers.LayerNormalization` over the last axis. With `k` of
    `n` here the mean is their sum over `n`, and the variance `(sum((x - mean)^2) + (n - k)
    mean^2) / n`: what the whole layer takes when the features that are not here are zero.

    Args:
        features: How many there are in all, `n`.
        **kwargs: As for `keras.layers.LayerNormalization`; the axis must be the last.
    """

    def __init__(self, features: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.features = features

    def call(self, inputs: Any) -> Any:
        """Normalise over the last axis."""
        x = inputs
        if keras.backend.standardize_dtype(x.dtype) in ("float16", "bfloat16"):
            x = ops.cast(x, "float32")
        absent = self.features - x.shape[-1]
        mean = ops.sum(x, axis=-1, keepdims=True) / self.features
        squares = ops.sum(ops.square(x - mean), axis=-1, keepdims=True)
        variance = (squares + absent * ops.square(mean)) / self.features
        x = (x - mean) * ops.rsqrt(variance + self.epsilon)
        if self.gamma is not None:
            x = x * ops.cast(self.gamma, x.dtype)
        if self.beta is not None:
            x = x + ops.cast(self.beta, x.dtype)
        return ops.cast(x, self.compute_dtype)

    def get_config(self) -> dict[str, Any]:
        """Return what the layer was made with."""
        return {**super().get_config(), "features": self.features}


@keras.saving.register_keras_serializable("keras_nns")
class PartialEmbedding(layers.Embedding):
    """An embedding that holds the rows of some tokens; the others read as zeros.

    It takes the token numbers of the whole vocabulary, so nothing in front of it changes.

    Args:
        tokens: The tokens whose rows it holds, in the order of the rows.
        **kwargs: As for `keras.layers.Embedding`; `input_dim` is the size of the whole vocabulary.
    """

    input_dim: int

    def __init__(self, tokens: Sequence[int], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.tokens = [int(token) for token in tokens]
        self._rows = np.full(self.input_dim, -1, dtype=np.int32)
        self._rows[self.tokens] = np.arange(len(self.tokens))

    def build(self, input_shape: Any = None) -> None:
        """Make a table with one row for each token that is held."""
        vocabulary = self.input_dim
        self.input_dim = len(self.tokens)
        try:
            super().build(input_shape)
        finally:
            self.input_dim = vocabulary

    def call(self, inputs: Any) -> Any:
        """Look up the rows of token numbers."""
        rows = ops.take(self._rows, ops.cast(inputs, "int32"), axis=0)
        found = super().call(ops.maximum(rows, 0))
        return found * ops.expand_dims(ops.cast(rows >= 0, found.dtype), -1)

    def get_config(self) -> dict[str, Any]:
        """Return what the layer was made with."""
        return {**super().get_config(), "tokens": self.tokens}


def partial_form(layer: Any, rank: int) -> PartialLayerNormalization | None:
    """Return a new layer that computes what a layer normalisation does and may lose features.

    Args:
        layer: Any operation.
        rank: Number of axes of what it is called on, the batch axis included.

    Returns:
        The layer, without weights; None where the operation is no layer normalisation over the
        last axis alone.
    """
    if type(layer) is not layers.LayerNormalization or layer.rms_scaling:
        return None
    axes = layer.axis if isinstance(layer.axis, list) else [layer.axis]
    weights = layer.get_weights()
    if [axis % rank for axis in axes] != [rank - 1] or not weights:
        return None
    config = {**layer.get_config(), "axis": -1, "features": len(weights[0])}
    new: PartialLayerNormalization = PartialLayerNormalization.from_config(config)
    return new
