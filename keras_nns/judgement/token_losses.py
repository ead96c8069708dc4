"""What a language model's next tokens cost it, text by text."""

from __future__ import annotations

import time
from typing import Any

import keras
import numpy as np
from keras import ops
from numpy.typing import NDArray

from keras_nns.data.batches import Batch
from keras_nns.engine.steps import Stepper
from keras_nns.errors import DataError
from keras_nns.graph.keras_internals import undisturbed
from keras_nns.observation.next_token import NextToken

Float = NDArray[np.float64]


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
        self._asked = NextToken(model, tokens, padding, output)
        self._step = Stepper(self._losses)
        self.losses: list[Float] = []
        self.counts: list[Float] = []
        self.right: list[Float] = []
        self.times: list[tuple[int, float]] = []

    def read(self, batch: Batch) -> None:
        """Add a batch of texts.

        Raises:
            DataError: It holds tokens that the model does not know, or the model gives NaN.
        """
        self._check_known(batch)
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

    def _check_known(self, batch: Batch) -> None:
        """Refuse tokens that no row of the model stands for."""
        ids = np.asarray(self._asked.texts(batch.inputs)[0])
        known = self._asked.vocabulary
        if ids.size and not 0 <= int(ids.min()) <= int(ids.max()) < known:
            raise DataError(
                f"Model {self.model.name!r} knows {known:,} tokens, and the texts hold numbers "
                f"{int(ids.min()):,} to {int(ids.max()):,}. Read them with its own tokenizer; for "
                "what cut_vocabulary made, renumber them with what it gave: renumbered(ids)."
            )

    def _losses(self, inputs: Any) -> tuple[Any, Any, Any, Any]:
        given = self.model(inputs, training=False)
        loss, counted, scores = self._asked.losses(inputs, given)
        ids, _ = self._asked.texts(inputs)
        right = ops.cast(ops.argmax(scores, axis=-1) == ids[:, 1:], "float32")
        sums = [ops.sum(part, axis=1) for part in (loss, counted, right * counted)]
        return (*sums, ops.sum(ops.ones_like(ids), axis=1))
