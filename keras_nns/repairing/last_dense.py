"""The head of a subnetwork: its last Dense, what it reads, and another in its place."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import activations, layers, tree
from numpy.typing import NDArray

from keras_nns.data.labels import answers_once
from keras_nns.errors import SurgeryError
from keras_nns.graph.keras_internals import functional, is_graph, structure
from keras_nns.graph.rules.elementwise import standard
from keras_nns.repairing.patient import Treatment
from keras_nns.surgery.endings import backwards, is_own
from keras_nns.surgery.lineage import Lineage, answering_place


@dataclass(frozen=True, eq=False)
class Head:
    """The end of a subnetwork.

    Attributes:
        dense: The last Dense with weights of its own; or a convolution that is one, on the only
            position that there is.
        features: A model from the subnetwork's inputs to what that Dense is called on.
        activation: `"softmax"`, `"sigmoid"` or `"linear"`.
        answers: How many outputs the subnetwork has.
        behind: Layers behind the Dense, in order.
        index: Place of the answering output among the model's outputs.
        replaced: Whether one new layer takes the place of all of it.
        name: Of that layer.
        squeezed: Whether it answers in rows, where the Dense is called on a position.
        read: What the Dense is called on, a symbolic tensor of the innermost model that it lies in.
        holders: Calls of the nested models that it lies in, from the outermost.
    """

    dense: Any
    features: Any
    activation: str
    answers: int
    behind: tuple[Any, ...]
    index: int
    replaced: bool
    name: str
    squeezed: bool
    read: Any
    holders: tuple[Any, ...]

    @property
    def path(self) -> str:
        """Path of the Dense in the subnetwork."""
        return "/".join([*(node.operation.name for node in self.holders), self.dense.name])

    @property
    def kernel(self) -> NDArray[Any]:
        """The weights of the last Dense, `(features, outputs)`."""
        kernel = np.asarray(self.dense.kernel)
        return kernel.reshape(kernel.shape[-2:])

    @property
    def weights(self) -> int:
        """How many weights the head has."""
        return int(self.dense.count_params() + sum(layer.count_params() for layer in self.behind))

    def put(self, treatment: Treatment, kernel: NDArray[Any], bias: NDArray[Any]) -> None:
        """Give the head of the model under repair other weights, or another head."""
        if not self.replaced:
            self._set(treatment, kernel, bias)
            return
        treatment.replace(self.built(treatment.model, kernel, bias))

    def built(self, model: Any, kernel: NDArray[Any], bias: NDArray[Any]) -> Any:
        """Return a model with one new Dense in the place of the head."""
        new = layers.Dense(
            kernel.shape[1],
            activation="sigmoid" if kernel.shape[1] == 1 else "softmax",
            name=self.name,
            dtype="float32",
        )
        squeeze = [layers.Flatten(name=f"{self.name}_rows")] if self.squeezed else []
        if isinstance(model, keras.Sequential):
            built = _up_to(model, self.read, self.holders, *squeeze, new)
        else:
            inputs, outputs = structure(model)
            flat = list(functional(model).outputs)
            read = _within(self.read, self.holders, by_class=True)
            for layer in (*squeeze, new):
                read = layer(read)
            flat[self.index] = read
            built = keras.Model(inputs, tree.pack_sequence_as(outputs, flat), name=model.name)
        new.set_weights([kernel, bias])
        return built

    def _set(self, treatment: Treatment, kernel: NDArray[Any], bias: NDArray[Any]) -> None:
        width = self.dense.kernel.shape[-1]
        if kernel.shape[1] == 1 and width == 2:
            # Two classes have one boundary, of which either output gets half.
            kernel, bias = np.hstack([-kernel, kernel]) / 2, np.hstack([-bias, bias]) / 2
        self.dense.kernel.assign(kernel.reshape(self.dense.kernel.shape))
        if self.dense.bias is None:
            treatment.add_to_bias(self.path, bias)
        else:
            self.dense.bias.assign(bias)


def find_head(model: Any, record: Lineage, *, anew: bool) -> Head:
    """Find the last Dense of a subnetwork, and what stands behind it.

    Args:
        model: The subnetwork.
        record: Where it comes from, and what it answers.
        anew: Whether one new layer shall take the place of the head.

    Raises:
        SurgeryError: The answer does not come from a Dense of the model's own, on one feature
            vector for each sample.
    """
    index = answering_place(model, record)
    tensor = functional(model).outputs[index]
    answers, rank = int(tensor.shape[-1]), len(tensor.shape)
    holders: list[Any] = []
    chain: list[tuple[Any, Any]] = []
    end = None
    while end is None:
        start = len(chain)
        chain += backwards(tensor, pointwise=True)
        ends = (i for i, (one, _) in enumerate(chain) if is_own(one, record.head))
        end = next(ends, None)
        if end is None:
            holder = _holder(model, chain[-1][1] if chain[start:] else tensor)
            holders.append(holder)
            (tensor,) = functional(holder.operation).outputs
    layer, before = chain[end]
    behind = [one for one, _ in reversed(chain[:end])]
    title = f"{type(layer).__name__} {layer.name!r}"
    if not answers_once(before.shape):
        raise NoHeadError(model, f"its last {title} answers every step by itself")
    if layer.quantization_mode is not None or layer.lora_enabled:
        raise NoHeadError(
            model,
            f"its last {title} is quantised or has LoRA factors",
        )
    if len(layer._inbound_nodes) > 1:
        raise NoHeadError(model, f"its last {title} is called more than once")
    inputs, _ = structure(model)
    return Head(
        dense=layer,
        features=keras.Model(inputs, _within(before, holders)),
        activation=_activation(layer, behind),
        answers=answers,
        behind=tuple(behind),
        index=index,
        replaced=anew and (bool(behind) or layer.kernel.shape[-1] != answers),
        name=_new_name(model, f"{record.head}_head", [layer, *behind]),
        squeezed=len(before.shape) > rank,
        read=before,
        holders=tuple(holders),
    )


def _holder(model: Any, tensor: Any) -> Any:
    """Return the call of the nested model that gives a tensor, in which to go on looking."""
    layer, node_index, _ = tensor._keras_history
    if not is_graph(layer):
        raise NoHeadError(model, "no Dense of its own stands before the answer")
    title = f"nested model {layer.name!r}"
    if len(layer._inbound_nodes) > 1:
        raise NoHeadError(model, f"its {title} is called more than once")
    if len(functional(layer).outputs) > 1:
        raise NoHeadError(model, f"its {title} has several outputs")
    return layer._inbound_nodes[node_index]


def _within(read: Any, holders: Sequence[Any], *, by_class: bool = False) -> Any:
    """Return a tensor inside nested models as one of the outermost model.

    Args:
        read: A tensor of the innermost one.
        holders: Their calls, from the outermost.
        by_class: Whether parts of a Sequential are Sequential. It calls their layers once more.
    """
    if not holders:
        return read
    (node, *inner) = holders
    part = _up_to(node.operation, read, inner, by_class=by_class)
    return part(*node.arguments.args, **node.arguments.kwargs)


def _up_to(
    model: Any, read: Any, holders: Sequence[Any], *behind: Any, by_class: bool = True
) -> Any:
    """Return the part of a model that computes a tensor, of its own layers, and layers behind it.

    Args:
        model: A Sequential or functional model.
        read: A tensor of the innermost nested model in it.
        holders: Calls of those models, from the outermost.
        behind: Layers to put behind it.
        by_class: As in `_within`.
    """
    if by_class and isinstance(model, keras.Sequential):
        start = [keras.Input(batch_shape=t.shape, dtype=t.dtype, name=t.name) for t in model.inputs]
        last = holders[0].operation if holders else read._keras_history.operation
        kept = list(itertools.takewhile(lambda one: one is not last, model.layers))
        if holders:
            kept.append(_up_to(last, read, holders[1:]))
        elif len(kept) == len(model.layers):  # It is the input itself.
            kept = []
        else:
            kept.append(last)
        return keras.Sequential([*start, *kept, *behind], name=model.name)
    inputs, _ = structure(model)
    read = _within(read, holders, by_class=by_class)
    for layer in behind:
        read = layer(read)
    return keras.Model(inputs, read, name=model.name)


def with_plain_head(model: Any, record: Lineage) -> Any:
    """Return a subnetwork in the shape that `calibrate_head` gives it, the new head not fitted.

    Raises:
        SurgeryError: Its head cannot be refitted.
    """
    head = find_head(model, record, anew=record.head in ("binary", "other"))
    if not head.replaced:
        return model
    shape = len(head.kernel), head.answers
    # Numbers that differ: a file may hold equal weights once.
    return head.built(
        model, np.linspace(-1, 1, shape[0] * shape[1]).reshape(shape), np.ones(shape[1])
    )


def _activation(dense: Any, behind: list[Any]) -> str:
    for layer in [dense, *behind]:
        function = standard(getattr(layer, "activation", None))
        if isinstance(layer, layers.Softmax) or function is activations.softmax:
            return "softmax"
        if function is activations.sigmoid:
            return "sigmoid"
    return "linear"


def _new_name(model: Any, name: str, leaving: list[Any]) -> str:
    taken = {layer.name for layer in model.layers} - {layer.name for layer in leaving}
    while name in taken:
        name += "_"
    return name


class NoHeadError(SurgeryError):
    """There is no head that could be refitted.

    Attributes:
        because: Why.
    """

    def __init__(self, model: Any, because: str) -> None:
        super().__init__(
            f"calibrate_head cannot refit the head of {model.name!r}: {because}. Leave "
            "calibrate_head out, or end the parent in a Dense on one feature vector for each "
            "sample."
        )
        self.because = because
