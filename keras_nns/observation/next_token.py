"""What language models are asked at every step: the token behind it, and what it costs them."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops, tree

from keras_nns.engine.layers import mask_of
from keras_nns.errors import DataError, ModelError
from keras_nns.graph.keras_internals import functional, is_graph, structure
from keras_nns.graph.output_kinds import kind_of

_RANK = 3
_LEAST = 1.2e-38
"""The least that a probability is taken to be: the smallest normal float32."""


def tables_of(model: Any) -> list[Any]:
    """Return the layers of a model that look tokens or positions up in a table."""
    return [x for x in model._flatten_layers() if isinstance(x, keras.layers.Embedding)]


def foretells(model: Any) -> bool:
    """Return whether a model looks tokens up and scores the same vocabulary at every step.

    Of a backbone, whose head is missing, it is said too, since it is meant as such.
    """
    if not is_graph(model) or len(functional(model).outputs) != 1:
        return False
    (output,) = functional(model).outputs
    if len(output.shape) != _RANK:
        return False
    known = [int(table.input_dim) for table in tables_of(model)]
    headless = type(model).__name__.endswith("Backbone") and bool(known)
    return output.shape[-1] in known or (headless and max(known) > (output.shape[-1] or 0))


class NextToken:
    """How a model's answers are read as what it holds of the next token.

    Args:
        model: Gives logits or probabilities `(texts, steps, vocabulary)`.
        tokens: Which input holds the tokens, for models of several.
        padding: Which input is true where tokens count.
        output: Name of the output that is meant; None for the only one.

    Attributes:
        model: The model.
        vocabulary: How many tokens it knows.

    Raises:
        ModelError: The model does not score a vocabulary at every step.
    """

    def __init__(
        self,
        model: Any,
        tokens: str = "token_ids",
        padding: str = "padding_mask",
        output: str | None = None,
    ) -> None:
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
        known = [int(table.input_dim) for table in tables_of(model)]
        self.vocabulary = max([*known, int(shape[-1])])
        if known and shape[-1] not in known and max(known) > int(shape[-1]):
            raise ModelError(
                f"Model {model.name!r} gives {shape[-1]} numbers at every step, and its tokens are "
                f"of a vocabulary of {max(known):,}: it is a backbone without a head that scores "
                "the next token. Pass the task over it, such as "
                "keras_hub.models.LlamaCausalLM(backbone, preprocessor)."
            )

    def scores(self, outputs: Any) -> Any:
        """Return of what the model gives the scores of the vocabulary."""
        return tree.flatten(outputs)[self._place]

    def log_probabilities(self, outputs: Any) -> Any:
        """Return what the model holds of every token, `(texts, steps, vocabulary)` float32."""
        scores = ops.cast(self.scores(outputs), "float32")
        if self._kind == "softmax":
            return ops.log(ops.maximum(scores, _LEAST))
        return ops.log_softmax(scores, axis=-1)

    def losses(self, inputs: Any, outputs: Any) -> tuple[Any, Any, Any]:
        """Return what the next tokens of texts cost. Runs inside a compiled step.

        Args:
            inputs: What the model takes.
            outputs: What it gave for them.

        Returns:
            Negative log likelihoods in nats, `(texts, steps - 1)`; which of them count, 1 or 0; and
            the scores they are of, `(texts, steps - 1, vocabulary)` float32.
        """
        ids, told = self.texts(inputs)
        given = self.scores(outputs)
        mask = mask_of(given) if told is None else told
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
        return ops.where(counted > 0, loss, 0.0), counted, scores

    def texts(self, inputs: Any) -> tuple[Any, Any]:
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


class TextLoss:
    """The loss of each text: what its tokens cost, all together."""

    def __init__(self, asked: NextToken) -> None:
        self._asked = asked

    def of_inputs(self, outputs: Any, inputs: Any) -> Any:
        """Return the loss of each text, `(batch,)`."""
        loss, _, _ = self._asked.losses(inputs, outputs)
        return ops.sum(loss, axis=1)
