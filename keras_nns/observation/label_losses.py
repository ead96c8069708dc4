"""What a model is asked to do for a sample's label, as one number: a loss, or the label's logit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
from keras import ops

from keras_nns.data.outputs import loss_of
from keras_nns.engine.failures import InvalidValues
from keras_nns.engine.logits import logits_of
from keras_nns.errors import ModelError, SelectionError
from keras_nns.graph.tracing import Graph, Output
from keras_nns.surgery.lineage import answering_output, lineage

Objective = Callable[[Any, Any], Any]
"""`(outputs (batch, width), labels)` to one number for each sample, `(batch,)`.

Labels are numbers `(batch,)`, or booleans `(batch, labels)`.
"""

_INFERRED = {
    ("softmax", True): keras.losses.sparse_categorical_crossentropy,
    ("softmax", False): keras.losses.categorical_crossentropy,
    ("sigmoid", True): keras.losses.binary_crossentropy,
    ("sigmoid", False): keras.losses.binary_crossentropy,
}


def label_loss(graph: Graph, output: Output, loss: Any = None) -> Objective:
    """Return the loss of a sample with its label.

    Args:
        graph: The traced model.
        output: The output that answers the labels.
        loss: A Keras loss, its name, or a function of targets and outputs that gives one number
            for each sample. None takes the one that the model is compiled with, and where it is
            not compiled the negative log likelihood of a softmax or sigmoid.

    Raises:
        SelectionError: No loss was given and none can be told from the model, or it is no loss.
    """
    model = graph.model
    chosen = loss_of(graph.model, graph.outputs.index(output)) if loss is None else loss
    if chosen is None:
        if output.kind not in ("softmax", "sigmoid"):
            raise SelectionError(
                f"Model {model.name!r} is not compiled with a loss, and its output {output.name!r} "
                "ends in no softmax or sigmoid that would tell one. Compile the model, or pass "
                "loss=, such as keras.losses.SparseCategoricalCrossentropy(from_logits=True)."
            )
        return _inferred(output.kind)
    try:
        found = keras.losses.get(chosen)
    except (ValueError, TypeError) as error:
        raise SelectionError(
            "`loss` must be a Keras loss, its name, or a function of targets and outputs. "
            f"Received: loss={chosen!r}."
        ) from error
    return _of_keras(found)


def label_logit(output: Output) -> Objective:
    """Return the logit of a sample's label: what goes into the output's softmax or sigmoid.

    For a sample with several labels it is the sum over them.

    Args:
        output: The output that answers the labels.
    """

    def logit(outputs: Any, labels: Any) -> Any:
        found = _logits_of(output, outputs)
        if found.shape[-1] == 1:
            found = ops.concatenate([-found, found], axis=1)
        return ops.sum(found * _rows(labels, found.shape[-1]), axis=1)

    return logit


def decision_margin(output: Output, labels: Sequence[int], *, alone: bool) -> Objective:
    """Return how far a decision between labels is from turning: the winner less the runner-up.

    The answers are the labels, and one more for all others; each by its logit. Where every answer
    is decided by itself, as behind a sigmoid, it is the logit that is nearest to turning. At
    several positions (pixels, steps) it is the sum of what each has, by signs drawn at random, as
    in `projection`.

    Args:
        output: The output that answers the labels.
        labels: Numbers of the labels that are decided between.
        alone: Whether nothing else is answered.
    """
    own = list(labels)

    def margin(outputs: Any, _: Any) -> Any:
        found = _logits_of(output, outputs)
        if found.shape[-1] == 1:
            return _drawn_sum(ops.abs(found[..., 0]))
        rest = [] if alone else [i for i in range(found.shape[-1]) if i not in own]
        answers = ops.take(found, own, axis=-1)
        if output.kind == "sigmoid" or (len(own) == 1 and not rest):
            return _drawn_sum(ops.min(ops.abs(answers), axis=-1))
        if rest:
            others = ops.logsumexp(ops.take(found, rest, axis=-1), axis=-1, keepdims=True)
            answers = ops.concatenate([answers, others], axis=-1)
        best, _ = ops.top_k(answers, 2)
        return _drawn_sum(best[..., 0] - best[..., 1])

    return margin


def projection(outputs: Any, _: Any) -> Any:
    """Return the sum of all outputs of a sample by signs drawn at random, `(batch,)`.

    What becomes of its square is, on average over the signs, the sum of what becomes of the square
    of every output (Hutchinson 1989, "A stochastic estimator of the trace of the influence matrix
    for Laplacian smoothing splines"): one gradient tells of all of them.
    """
    return _drawn_sum(ops.reshape(ops.cast(outputs, "float32"), (ops.shape(outputs)[0], -1)))


def _drawn_sum(values: Any) -> Any:
    """Sum up what a sample has, `(batch, …)`, by random signs where it has several."""
    if len(values.shape) == 1:
        return values
    rows = ops.reshape(values, (ops.shape(values)[0], -1))
    drawn = keras.random.uniform(ops.shape(rows), seed=0)
    return ops.sum(ops.where(drawn < 0.5, -rows, rows), axis=1)


def takes_one_label(objective: Objective) -> bool:
    """Return whether an objective is undefined for samples with none or several labels."""
    return bool(getattr(objective, "one_label", False))


def _logits_of(output: Output, outputs: Any) -> Any:
    found = outputs
    if output.kind != "linear":
        found = logits_of(outputs)
        if found is None:
            raise ModelError(
                f"What goes into the {output.kind} of output {output.name!r} cannot be found. "
                "Use a Keras activation for it."
            )
    return ops.cast(found, "float32")


def _inferred(kind: str) -> Objective:
    def loss(outputs: Any, labels: Any) -> Any:
        function = _INFERRED[kind, len(labels.shape) == 1]
        sparse = function is keras.losses.sparse_categorical_crossentropy
        return _per_sample(function, _targets(labels, outputs, sparse=sparse), outputs)

    loss.one_label = kind == "softmax"  # type: ignore[attr-defined]
    return loss


def _of_keras(found: Any) -> Objective:
    name = getattr(found, "name", None) or getattr(found, "__name__", type(found).__name__)
    sparse = "sparse" in str(name).lower() or "sparse" in type(found).__name__.lower()
    # Without the reduction over the batch that calling the object would do.
    function = found.call if isinstance(found, keras.losses.Loss) else found

    def loss(outputs: Any, labels: Any) -> Any:
        targets = _targets(labels, outputs, sparse=sparse)
        try:
            return _per_sample(function, targets, outputs)
        except (ValueError, TypeError, InvalidValues) as error:
            raise SelectionError(
                f"Loss {name} cannot be computed from targets of shape {tuple(targets.shape)} and "
                f"outputs of shape {tuple(outputs.shape)}: {error} Pass another as loss=."
            ) from error

    loss.one_label = sparse  # type: ignore[attr-defined]
    return loss


def _per_sample(function: Any, targets: Any, outputs: Any) -> Any:
    values = ops.convert_to_tensor(function(targets, outputs))
    if len(values.shape) == 0:
        raise ValueError("it gives one number for the whole batch, not one for each sample.")
    values = ops.cast(values, "float32")
    return ops.mean(ops.reshape(values, (ops.shape(values)[0], -1)), axis=1)


def _targets(labels: Any, outputs: Any, *, sparse: bool) -> Any:
    """Return what a loss compares the outputs with: numbers, or rows as wide as the outputs."""
    if sparse:
        return labels if len(labels.shape) == 1 else ops.cast(ops.argmax(labels, axis=1), "int64")
    width = outputs.shape[-1]
    return _rows(labels, 2)[:, 1:] if width == 1 else _rows(labels, width)


def _rows(labels: Any, width: int) -> Any:
    if len(labels.shape) == 1:
        return ops.one_hot(labels, width)
    return ops.cast(labels, "float32")


def answering_of(graph: Graph, name: str | None, *, once: bool = True) -> Output:
    """Return the output that answers the labels.

    Args:
        graph: The traced model.
        name: The output's name, where there are several.
        once: Whether it must answer once for each sample.

    Raises:
        PlanError: There are several, and none or an unknown one was named.
        ModelError: It does not give one row for each sample.
    """
    output = graph.output(name or answering_output(graph.model, lineage(graph.model)))
    rank = len(graph.model.outputs[graph.outputs.index(output)].shape)
    if (once and rank != 2) or output.size is None:
        raise ModelError(
            f"Output {output.name!r} of model {graph.model.name!r} must give one row of fixed "
            f"length for each sample. Received: rank {rank}. The score reconstruction takes any."
        )
    return output


def label_count_of(graph: Graph, output: Output) -> int | None:
    """Return how many labels an output tells apart, where the model alone does not show it."""
    size = output.size if len(graph.outputs) > 1 else None
    return None if size is None else max(size, 2)
