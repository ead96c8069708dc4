"""What parent and subnetwork answer before the last activation, as one kind of tensor for both."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import activations, layers, ops
from numpy.typing import NDArray

from keras_nns.graph.keras_internals import functional, model_of, structure
from keras_nns.graph.rules.elementwise import standard
from keras_nns.judgement.question import Question
from keras_nns.training.targets import Pupil

_SMALL = 1e-30
_CLOSE_TO_ONE = 1e-7


@dataclass(frozen=True, eq=False)
class Answering:
    """A model that gives the logits of answers, made of a model's own layers.

    Attributes:
        model: From the inputs to logits: `(samples, answers)` where one answer excludes the
            others, `(samples, answers, 2)` (no, yes) where each stands alone, and the outputs as
            they are for numbers. Axes of positions stand behind the samples.
        fused: Layers whose activation has to be left out while it is used.
    """

    model: keras.Model
    fused: tuple[Any, ...]

    @contextmanager
    def open(self) -> Iterator[keras.Model]:
        """Leave the last activation out of the layers for as long as the model is used."""
        before = [layer.activation for layer in self.fused]
        try:
            for layer in self.fused:
                layer.activation = activations.linear
            yield self.model
        finally:
            for layer, activation in zip(self.fused, before, strict=True):
                layer.activation = activation


def answering(
    model: keras.Model, pupil: Pupil, *, own: bool, shares: NDArray[np.float64] | None = None
) -> Answering:
    """Build a model that gives the logits of a question's answers, sharing a model's layers.

    Softmax and sigmoid are left out rather than inverted: what is sure beyond float32's reach keeps
    its gradient. Where the last activation cannot be left out, logarithms of probabilities do.

    Args:
        model: A parent or a subnetwork. It gets new nodes behind its outputs: pass a copy.
        pupil: What is to be answered.
        own: Whether the outputs are answers to the question already: the subnetwork's are.
        shares: How often each answer is right in the data, where the logits are wanted as if all
            were right equally often: their logarithms are taken off (Saerens et al. 2002).
    """
    question, kind = pupil.question, pupil.kind
    tensor = functional(model).outputs[pupil.index]
    inputs, _ = structure(model)
    if pupil.number:
        return Answering(model_of(inputs, ops.cast(tensor, "float32")), ())
    if own and question.head in ("binary", "other"):
        before = _before_sum(tensor, question.head)
        if before is None:
            kind = "sigmoid" if question.head == "binary" else "softmax"
        else:
            tensor, own, kind = before, False, "softmax" if kind == "linear" else kind
    logits, fused = _logits(tensor, kind)
    rows = _answers(logits, question, kind, own=own, alone=pupil.alone)
    rows = ops.cast(rows, "float32")
    if shares is not None:
        rows = rows - np.log(np.where(shares > 0, shares, 1.0)).astype(np.float32)
    return Answering(model_of(inputs, rows), fused)


def _answers(logits: Any, question: Question, kind: str, *, own: bool, alone: bool) -> Any:
    """Turn logits of outputs into those of answers."""
    width = logits.shape[-1]
    if width == 1:
        both = ops.concatenate([ops.zeros_like(logits), logits], axis=-1)
        return both if own or question.head == "parent" else _grouped(both, question)
    chosen = list(range(width)) if own or question.head == "parent" else question.named
    if kind == "sigmoid" or alone:
        yes = ops.take(logits, chosen, axis=-1)
        pairs = ops.stack([ops.zeros_like(yes), yes], axis=-1)
        return pairs[..., 0, :] if question.head == "binary" else pairs
    return logits if own or question.head == "parent" else _grouped(logits, question)


def _grouped(logits: Any, question: Question) -> Any:
    """Add the probabilities of the outputs behind each answer."""
    rest = [i for i in range(logits.shape[-1]) if i not in question.named]
    columns = [rest if group is None else list(group) for group in question.groups]
    return ops.stack([_sum(logits, column) for column in columns], axis=-1)


def _sum(logits: Any, columns: Sequence[int]) -> Any:
    if len(columns) == 1:
        return logits[..., columns[0]]
    return ops.logsumexp(ops.take(logits, list(columns), axis=-1), axis=-1)


def _logits(tensor: Any, kind: str) -> tuple[Any, tuple[Any, ...]]:
    """Return a tensor before its softmax or sigmoid, and layers to leave that out of."""
    if kind == "linear":
        return tensor, ()
    operation, node, _ = tensor._keras_history
    once = len(getattr(operation, "_inbound_nodes", ())) == 1
    if type(operation) is layers.Softmax and operation.axis in (-1, len(tensor.shape) - 1):
        (before,) = operation._inbound_nodes[node].input_tensors[:1]
        return before, ()
    wanted = {"softmax": activations.softmax, "sigmoid": activations.sigmoid}[kind]
    fused = isinstance(operation, (layers.Dense, layers.Activation))
    if fused and once and standard(getattr(operation, "activation", None)) is wanted:
        return tensor, (operation,)
    p = ops.cast(tensor, "float32")
    if kind == "softmax":
        return ops.log(ops.maximum(p, _SMALL)), ()
    p = ops.clip(p, _CLOSE_TO_ONE, 1 - _CLOSE_TO_ONE)
    return ops.log(p) - ops.log(1 - p), ()


def _before_sum(tensor: Any, head: str) -> Any:
    """Return what the summing layer that `cut` adds is called on; None where there is none."""
    operation, node, _ = tensor._keras_history
    if type(operation) is not layers.Dense or not operation.name.startswith(f"{head}_head"):
        return None
    if not np.isin(np.asarray(operation.kernel), (-1, 0, 1)).all():
        return None
    return operation._inbound_nodes[node].input_tensors[0]
