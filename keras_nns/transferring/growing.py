"""The part that a new label adds to a network: trained on features, then built in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

import keras
import numpy as np
from keras import layers, ops

from keras_nns.graph.keras_internals import model_of, structure
from keras_nns.observation.holdout import Division
from keras_nns.surgery.compiling import carry_compile_settings
from keras_nns.surgery.copying import copied
from keras_nns.surgery.endings import head_of, hidden_inputs
from keras_nns.surgery.lineage import Lineage
from keras_nns.training.loop import Schooling
from keras_nns.training.sampling import Feed
from keras_nns.training.targets import Labelling, feeds
from keras_nns.transferring.features import output_of, streamed
from keras_nns.transferring.heads import free_name

_DROPOUT = 0.3
"""Share of what the new part reads that is left out in each step: it learns from few samples."""


class NewPart:
    """What a new label adds to a network, trained on features and built into it.

    Args:
        base: A copy of the network, which this may change.
        record: Where the network comes from.
        name: The new label.
        units: How many units of its own it gets.
        up_to: As in `add_label`.
        seed: Of the first weights.

    Attributes:
        model: From features to all logits; only the new label's weights learn.
    """

    def __init__(
        self, base: Any, record: Lineage, name: str, *, units: int, up_to: str | None, seed: int
    ) -> None:
        self._base = base
        self._dense, self._features, self._behind = head_of(base, record)
        self._name = re.sub(r"\W+", "_", name)
        self._read = self._features if up_to is None else output_of(base, up_to)
        if up_to is None:
            self._read = next(hidden_inputs(self._features, joined=True), self._features)
        if not units:
            self._read = None
        hidden = int(self._features.shape[-1])
        below = self._flat(self._read)
        inputs, _ = structure(base)
        whole = self._features if below is None else ops.concatenate([self._features, below], -1)
        self._extractor = model_of(inputs, whole)
        start = keras.Input((int(whole.shape[-1]),))
        self._units: Any = None
        features = start[:, :hidden]
        seen = layers.Dropout(_DROPOUT, seed=seed)(features)
        if below is not None:
            self._units = layers.Dense(
                units, activation="relu", kernel_initializer=_glorot(seed), name="units"
            )
            own = self._units(layers.Dropout(_DROPOUT, seed=seed + 1)(start[:, hidden:]))
            own = layers.Dropout(_DROPOUT, seed=seed + 2)(own)
            seen = ops.concatenate([seen, own], axis=-1)
        self._logit = layers.Dense(1, kernel_initializer=_glorot(seed + 1), name="logit")
        config = {**self._dense.get_config(), "activation": "linear", "name": "old"}
        old = layers.Dense.from_config(config)
        logits = ops.concatenate([old(features), self._logit(seen)], axis=-1)
        old.set_weights(self._dense.get_weights())
        old.trainable = False
        self.model = model_of(start, logits, name=f"{base.name}_with_{self._name}")

    def feeds(
        self,
        division: Division,
        labelling: Labelling,
        how: Schooling,
        class_weight: Mapping[int | str, float] | None,
    ) -> tuple[Feed, Feed | None]:
        """Compute the features once; return what to train on, and what to judge by."""
        through = partial(streamed, self._extractor)
        return feeds(division, labelling.target, how, through=through, class_weight=class_weight)

    def grown(self, like: keras.Model) -> keras.Model:
        """Build what was learnt into the network."""
        base, dense = self._base, self._dense
        kernel, bias = self._logit.get_weights()
        tensor = self._features
        if self._units is not None:
            units = layers.Dense(
                self._units.units, activation="relu", name=free_name(base, f"{self._name}_units")
            )
            tensor = layers.Concatenate(name=free_name(base, f"{self._name}_joined"))(
                [tensor, units(self._flat(self._read))]
            )
            units.set_weights(self._units.get_weights())
        width = int(dense.kernel.shape[-1])
        wide = layers.Dense.from_config(
            {**dense.get_config(), "units": width + 1, "use_bias": True}
        )
        tensor = wide(tensor)
        for layer in self._behind:
            tensor = layer(tensor)
        old = np.zeros((len(kernel), width), dtype=kernel.dtype)
        old[: dense.kernel.shape[0]] = dense.kernel
        biases = np.zeros(width) if dense.bias is None else np.asarray(dense.bias)
        wide.set_weights([np.hstack([old, kernel]), np.append(biases, bias)])
        inputs, _ = structure(base)
        grown = copied(keras.Model(inputs, tensor, name=base.name))
        carry_compile_settings(like, grown)
        return grown

    def _flat(self, tensor: Any) -> Any:
        if tensor is None or len(tensor.shape) == 2:
            return tensor
        return layers.Flatten(name=free_name(self._base, f"{self._name}_flat"))(tensor)


def _glorot(seed: int) -> Any:
    return keras.initializers.GlorotUniform(seed=seed)
