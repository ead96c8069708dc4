"""What the numbers of a model's output mean, read from the activation behind them."""

from __future__ import annotations

from typing import Any

from keras import activations, layers

from keras_nns.graph.keras_internals import functional, is_graph
from keras_nns.graph.rules.elementwise import standard


def kind_of(model: Any, index: int) -> str:
    """Read what the numbers of one output of a model mean.

    Args:
        model: A Sequential or functional model.
        index: Place of the output.

    Returns:
        `"softmax"` (probabilities over the last axis that sum to one), `"sigmoid"` (one probability
        each), or `"linear"` (anything else).
    """
    return _behind(functional(model).outputs[index]) or "linear"


def _behind(tensor: Any) -> str | None:
    """Walk back from a tensor to what gives it its meaning; None where a model's input does."""
    width = tensor.shape[-1]
    while True:
        operation, node_index, place = tensor._keras_history
        if isinstance(operation, layers.InputLayer):
            return None
        kind = _meaning(operation, place, len(tensor.shape))
        inputs = operation._inbound_nodes[node_index].input_tensors
        if kind is not None:
            return kind
        if len(inputs) != 1:
            return "linear"
        (tensor,) = inputs
        if tensor.shape[-1] != width:  # Rows that a reshape mixes are no distribution any more.
            return "sigmoid" if _behind(tensor) == "sigmoid" else "linear"


def _meaning(operation: Any, place: int, rank: int) -> str | None:
    """Return what an operation makes its numbers mean, or None where it changes nothing of that.

    Args:
        operation: A layer or an operation.
        place: Which of its outputs.
        rank: Number of axes of that, the samples' included.
    """
    if is_graph(operation):
        return _behind(functional(operation).outputs[place])
    if type(operation) is layers.TimeDistributed:
        return _meaning(operation.layer, place, rank - 1)
    if type(operation) is layers.SpectralNormalization:
        return _meaning(operation.layer, place, rank)
    function = standard(getattr(operation, "activation", None))
    if isinstance(operation, _GATED):  # A gate scales what the activation gave.
        return "linear"
    kind = type(operation).__name__
    own = type(operation).__module__ == "keras.src.ops.nn"
    if isinstance(operation, layers.Softmax) or (own and kind == "Softmax"):
        return "softmax" if operation.axis in (-1, rank - 1, (-1,), [-1]) else "linear"
    if function is activations.softmax:
        return "softmax"
    if function is activations.sigmoid or (own and kind == "Sigmoid"):
        return "sigmoid"
    if isinstance(operation, _TRANSPARENT):
        return None
    if isinstance(operation, layers.Activation) and function is activations.linear:
        return None
    return "linear"


_GATED = (layers.LSTM, layers.GRU, layers.ConvLSTM1D, layers.ConvLSTM2D, layers.ConvLSTM3D)

_TRANSPARENT = (
    layers.Identity,
    layers.Dropout,
    layers.Flatten,
    layers.Reshape,
    layers.ActivityRegularization,
)
