"""What a language model's next tokens cost it, text by text."""

from __future__ import annotations

import time
from typing import Any

import keras
import numpy as np
from keras import ops, tree
from numpy.typing import NDArray

from keras_nns.data.batches import Batch
from keras_nns.engine.steps import Stepper
from keras_nns.errors import DataError, ModelError
from keras_nns.graph.keras_internals import functional, structure, undisturbed
from keras_nns.graph.output_kinds import kind_of

Float = NDArray[np.float64]

_RANK = 3
_LEAST = 1.2e-38
"""The least that a probability is taken to be: the smallest normal float32."""


class TokenLosses:
    """A language model and, of every text it has read, what its tokens cost.

    Args:
        model: Gives logits or probabilities `(texts, steps, vocabulary)`.
        tokens: Which input holds the tokens, for models of several.
        padding: Which input is true where tokens count.
        output: Name of the output that is meant; None for the only one.

    Attributes:
        model: The model.
        losses: By batch, the negative log likelihoods of each text summed, in nats.
        counts: By batch, how many tokens of each were foretold.
        right: By batch, how many of them were held the most likely.
        times: By batch, its positions and the seconds they took.

    Raises:
        ModelError: The model does not score a vocabulary at every step.
    """

    def __init__(self, model: keras.Model, tokens: str, padding: str, output: str | None) -> None:
        self.model = model
        graph = functional(model)
        names = list(graph.output_names)
        if output is None and len(names) > 1:
            raise ModelError(
                f"Model {model.name!r} has several outputs, {names}. Say which scores the "
                "vocabulary, with output=."
            )
        if output is not None and output not in names:
            raise ModelError(f"Model {model.name!r} has outputs {names}. Received: {output!r}.")
        self._place = 0 if output is None else names.index(output)
        shape = graph.outputs[self._place].shape
        self._kind = kind_of(model, self._place)
        if len(shape) != _RANK or shape[-1] == 1 or self._kind == "sigmoid":
            raise ModelError(
                f"Model {model.name!r} gives {tuple(shape)}, and perplexity is for models that "
                "score a vocabulary at every step: logits or a softmax (texts, steps, vocabulary). "
                "Other models are judged by evaluate."
            )
        self._tokens, self._padding = tokens, padding
        self._step = Stepper(self._losses)
        self.losses: list[Float] = []
        self.counts: list[Float] = []
        self.right: list[Float] = []
        self.times: list[tuple[int, float]] = []

    def read(self, batch: Batch) -> None:
        """Add a batch of texts."""
        start = time.perf_counter()
        with undisturbed(self.model):
            losses, counts, right, positions = map(np.asarray, self._step(batch.inputs))
        self.times.append((int(positions.sum()), time.perf_counter() - start))
        if not np.isfinite(losses).all():
            raise DataError(
                f"Model {self.model.name!r} gives NaN or infinity for a text. Look for tokens that "
                "are not in its vocabulary, or weights that diverged."
            )
        for held, found in zip(
            (self.losses, self.counts, self.right), (losses, counts, right), strict=True
        ):
            held.append(found.astype(np.float64))

    def _losses(self, inputs: Any) -> tuple[Any, Any, Any, Any]:
        ids, told = self._texts(inputs)
        given = tree.flatten(self.model(inputs, training=False))[self._place]
        mask = getattr(given, "_keras_mask", None) if told is None else told
        scores, wanted = ops.cast(given, "float32")[:, :-1], ids[:, 1:]
        if self._kind == "softmax":
            chosen = ops.take_along_axis(scores, wanted[..., None], axis=-1)[..., 0]
            loss = -ops.log(ops.maximum(chosen, _LEAST))
        else:
            loss = keras.losses.sparse_categorical_crossentropy(wanted, scores, from_logits=True)
        counted = ops.ones_like(loss)
        if mask is not None:
            kept = ops.cast(mask, "float32")
            counted = kept[:, 1:] * kept[:, :-1]
        right = ops.cast(ops.argmax(scores, axis=-1) == wanted, "float32")
        loss = ops.where(counted > 0, loss, 0.0)
        sums = [ops.sum(part, axis=1) for part in (loss, counted, right * counted)]
        return (*sums, ops.sum(ops.ones_like(ids), axis=1))

    def _texts(self, inputs: Any) -> tuple[Any, Any]:
        """Return the tokens, int32 `(texts, steps)`, and which count, or None."""
        names = [tensor.name for tensor in tree.flatten(structure(self.model)[0])]
        found = dict(zip(names, tree.flatten(inputs), strict=True))
        if len(found) == 1:
            (ids,) = found.values()
        elif self._tokens in found:
            ids = found[self._tokens]
        else:
            raise DataError(
                f"No input of model {self.model.name!r} is called {self._tokens!r}; it has "
                f"{names}. Name the one that holds the tokens, with tokens=."
            )
        return ops.cast(ids, "int32"), found.get(self._padding)
