"""Heads: what a subnetwork answers, built once for the cut model and once anew for the mask."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from keras import ops, tree
from numpy.typing import NDArray

from keras_nns.data.targets import EVERYTHING
from keras_nns.errors import PlanError, SurgeryError
from keras_nns.graph.keras_internals import functional, model_of, structure
from keras_nns.graph.tracing import Graph, Output
from keras_nns.plans.kept_units import Plan
from keras_nns.surgery.lineage import HEADS, Head, lineage

_Base = tuple[Head, str, int, str, tuple[int, ...]]


@dataclass(frozen=True)
class Answer:
    """What a subnetwork answers and how its output comes from the parent's.

    Attributes:
        head: Which head.
        output: Name of the output.
        index: Its place among the model's outputs.
        kind: `"softmax"`, `"sigmoid"` or `"linear"`.
        kept: Label numbers of the plan.
        labels: For each value answered, the parent's label number or None.
        label_names: A name for each value.
        narrowed: Positions of the output that the cut model computes, by name of output.
        kernel: Matrix `(parent outputs, answers)` that sums probabilities, or None.
        bias: Added to it, `(answers,)`.
    """

    head: Head
    output: str
    index: int
    kind: str
    kept: tuple[int, ...]
    labels: tuple[int | None, ...]
    label_names: tuple[str, ...]
    narrowed: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    kernel: NDArray[np.float32] | None = None
    bias: NDArray[np.float32] | None = None


def answers_labels_alone(head: Head, kind: str) -> bool:
    """Return whether a network has no answer for samples of other labels than its own.

    Behind sigmoids it has one: none of them.

    Args:
        head: Its head.
        kind: `"softmax"`, `"sigmoid"` or `"linear"`, what the parent's output is.
    """
    return head == "labels" and kind == "softmax"


def answer_of(graph: Graph, plan: Plan, head: Head, name: str | None) -> Answer:
    """Work out what a cut model with this head answers.

    Raises:
        PlanError: The plan has no labels or labels that the output does not have.
        SurgeryError: The head does not fit the output.
    """
    if head not in HEADS:
        raise SurgeryError(f"Expected head to be one of {HEADS}. Received: head={head!r}.")
    if head == "parent" and name is None and len(graph.outputs) > 1:
        output = graph.outputs[0]
        return Answer(head, output.name, 0, output.kind, plan.labels, (), ())
    output = graph.output(name)
    index = graph.outputs.index(output)
    size = output.size
    count = 2 if size == 1 and output.kind == "sigmoid" else size
    if head != "parent" and plan.label_names == (EVERYTHING,):
        raise SurgeryError(
            f"Output {output.name!r} gives numbers and answers no labels, so head={head!r} has no "
            "meaning. Use head='parent'."
        )
    names = plan.label_names if len(plan.label_names) == count else ()
    names = names or tuple(str(i) for i in range(count or 0))
    if head == "parent":
        known = tuple(range(count or 0))
        return Answer(head, output.name, index, output.kind, plan.labels, known, names)
    origin = lineage(graph.model)
    if origin is not None and origin.head in ("other", "binary") and output.kind == "linear":
        raise SurgeryError(
            f"Model {graph.model.name!r} is a subnetwork with head={origin.head!r}: its answers "
            f"{origin.label_names} are sums of probabilities, of which head={head!r} can make no "
            "new ones. Use head='parent', or cut its own parent."
        )
    if not plan.labels:
        raise PlanError(f"The plan is for no label, so head={head!r} has nothing to answer.")
    if count is None or max(plan.labels) >= count:
        raise PlanError(
            f"The plan is for labels {list(plan.labels)}; output {output.name!r} answers {count}."
        )
    chosen = tuple(names[i] for i in plan.labels)
    base: _Base = (head, output.name, index, output.kind, plan.labels)
    if head == "labels" and output.kind == "softmax" and len(chosen) == 1:
        raise SurgeryError(
            f"The plan is for label {chosen[0]!r} alone, and the softmax of one output is always "
            "1. Use head='binary' or head='other'."
        )
    if size == 1:
        return _from_one_probability(base, names, chosen)
    if head == "labels" or (head == "binary" and output.kind == "sigmoid" and len(chosen) == 1):
        _require_free(graph, output, head)
        if output.kind != "softmax" and graph.normalises(output):
            raise SurgeryError(
                f"A softmax runs over the units of output {output.name!r}, and what stands behind "
                f"it keeps head={head!r} from being renormalised. Use head='parent' or 'other'."
            )
        return Answer(*base, plan.labels, chosen, {output.name: plan.labels})
    if output.kind == "sigmoid":
        raise SurgeryError(
            f"Output {output.name!r} gives each label its own probability, and several can be true "
            f"at once: head={head!r} has no meaning there. Use head='labels'."
        )
    rest = [i for i in range(count) if i not in plan.labels]
    if not rest:
        raise SurgeryError(
            f"The plan is for all {count} labels, so head={head!r} has nothing to tell them from. "
            "Use head='parent'."
        )
    kernel = np.zeros((count, len(chosen) + 1), dtype=np.float32)
    kernel[list(plan.labels), range(len(chosen))] = 1
    kernel[rest, -1] = 1
    if head == "other":
        return Answer(*base, (*plan.labels, None), (*chosen, "other"), {}, kernel, _no_bias(kernel))
    kernel = kernel[:, :-1].sum(axis=1, keepdims=True)
    label = plan.labels[0] if len(chosen) == 1 else None
    return Answer(*base, (label,), (" or ".join(chosen),), {}, kernel, _no_bias(kernel))


def _no_bias(kernel: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.zeros(kernel.shape[1], dtype=np.float32)


def _from_one_probability(base: _Base, names: tuple[str, ...], chosen: tuple[str, ...]) -> Answer:
    """Answer from a single probability `p` of label 1; label 0 has `1 - p`."""
    head, output, _, kind, kept = base
    if kind != "sigmoid":
        raise SurgeryError(
            f"Output {output!r} is a single number without a sigmoid, so it answers no label. Use "
            "head='parent'."
        )
    both = np.array([[-1.0, 1.0]], dtype=np.float32), np.array([1.0, 0.0], dtype=np.float32)
    if len(kept) == 2:
        if head == "binary":
            raise SurgeryError("The plan is for both labels, so a yes/no answer is always yes.")
        if head == "other":
            raise SurgeryError("The plan is for both labels, so there is no other.")
        return Answer(*base, (0, 1), names, {}, *both)
    label = kept[0]
    column = both[0][:, label : label + 1], both[1][label : label + 1]
    if head == "other":
        order = [label, 1 - label]
        return Answer(
            *base, (label, None), (*chosen, "other"), {}, both[0][:, order], both[1][order]
        )
    if head == "labels":
        raise SurgeryError(
            f"Output {output!r} is one probability, and the plan is for label {chosen[0]!r} alone. "
            "Use head='binary'."
        )
    return Answer(*base, (label,), chosen, {}, *column)


def _require_free(graph: Graph, output: Output, head: str) -> None:
    if not graph.is_free_head(output):
        raise SurgeryError(
            f"The units of output {output.name!r} are used elsewhere in the model, so "
            f"head={head!r} cannot remove any. Use head='parent' or head='other'."
        )


def append_answer(model: Any, answer: Answer) -> Any:
    """Put the summing layer behind a cut model, in layers that Keras ships."""
    if answer.kernel is None:
        return model
    added: list[Any] = []
    dtype = _at_least_float32(functional(model).outputs[answer.index])
    if answer.kind == "linear":
        name = _free_name(model, "probabilities")
        # A Softmax layer would take a mask of steps for one of labels.
        added.append(keras.layers.Activation("softmax", name=name, dtype=dtype))
    name = _free_name(model, f"{answer.head}_head")
    dense = keras.layers.Dense(answer.kernel.shape[1], name=name, trainable=False, dtype=dtype)
    added.append(dense)
    if isinstance(model, keras.Sequential):
        for layer in added:
            model.add(layer)
    else:
        model = _replace_output(model, answer.index, lambda x: _chain(added, x))
    dense.set_weights([answer.kernel, np.asarray(answer.bias)])
    return model


def mask_answer(model: Any, answer: Answer) -> Any:
    """Compute the same answer from a masked full-size model, by picking and summing its outputs."""
    kept = list(answer.kept)
    if answer.head == "parent" or (answer.head == "labels" and answer.kernel is None and not kept):
        return model

    def pick(x: Any) -> Any:
        x = ops.cast(x, _at_least_float32(x))
        if x.shape[-1] == 1:
            x = ops.concatenate([1 - x, x], axis=-1)
        elif answer.kind == "linear" and answer.head in ("other", "binary"):
            x = ops.softmax(x)
        chosen = ops.take(x, kept, axis=-1)
        if answer.head == "other":
            return ops.concatenate([chosen, 1 - ops.sum(chosen, axis=-1, keepdims=True)], axis=-1)
        if answer.head == "binary":
            return ops.sum(chosen, axis=-1, keepdims=True)
        if answer.kind == "softmax":
            return chosen / ops.sum(chosen, axis=-1, keepdims=True)
        return chosen

    return _replace_output(model, answer.index, pick)


def _at_least_float32(tensor: Any) -> str:
    return str(keras.backend.result_type(tensor.dtype, "float32"))


def _free_name(model: Any, name: str) -> str:
    """Return a name that no layer of the model has."""
    taken = {layer.name for layer in model.layers}
    numbered = (f"{name}_{i}" for i in itertools.count(2))
    return next(n for n in itertools.chain([name], numbered) if n not in taken)


def _chain(layers: list[Any], x: Any) -> Any:
    for layer in layers:
        x = layer(x)
    return x


def _replace_output(model: Any, index: int, change: Any) -> Any:
    inputs, outputs = structure(model)
    flat = list(functional(model).outputs)
    flat[index] = change(flat[index])
    return model_of(inputs, tree.pack_sequence_as(outputs, flat), name=model.name)
