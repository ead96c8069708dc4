"""Multiply-adds of one call of one layer: one rule per layer family, looked up by exact type."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
from keras import layers

Shape = tuple[int, ...]
CountInner = Callable[..., int]


@dataclass(frozen=True)
class Shapes:
    """Shapes of one call of an operation.

    Attributes:
        arguments: What the operation was called with, by argument name.
        output: Shape of (the first of) what it gave.
    """

    arguments: Mapping[str, Any]
    output: Shape

    @property
    def input(self) -> Shape:
        """Shape of the first tensor of the first argument."""
        return shapes_of(next(iter(self.arguments.values())))[0]

    def of(self, argument: str, default: Shape | None = None) -> Shape:
        """Return the shape of an argument, or the default where it was not given."""
        found = shapes_of(self.arguments.get(argument))
        return found[0] if found else default or self.input


Rule = Callable[[Any, Shapes, CountInner], int | None]


def shapes_of(value: Any) -> list[Shape]:
    """List the shapes of every tensor in a nested value."""
    return [tuple(leaf.shape) for leaf in keras.tree.flatten(value) if hasattr(leaf, "shape")]


def macs_of_call(
    operation: Any, args: Any, kwargs: Any, outputs: Any, count_inner: CountInner
) -> int | None:
    """Count the multiply-adds of one call, for the whole batch.

    Args:
        operation: The layer or operation.
        args: Positional arguments, with tensors that have full shapes.
        kwargs: Keyword arguments.
        outputs: What the call gave.
        count_inner: Counts a call of a layer inside this one.

    Returns:
        The multiply-adds, or None when no rule knows them.
    """
    rule = RULES.get(type(operation)) or OPERATION_RULES.get(_operation_name(operation))
    if rule is None:
        return 0 if _multiplies_nothing(operation) else None
    bound = inspect.signature(operation.call).bind(*args, **kwargs)
    return rule(operation, Shapes(bound.arguments, shapes_of(outputs)[0]), count_inner)


def _operation_name(operation: Any) -> str:
    """Name a function of `keras.ops`: its class has no public address to look it up by."""
    kind = type(operation)
    if isinstance(operation, keras.Layer) or not kind.__module__.startswith("keras."):
        return ""
    return str(kind.__name__)


def _multiplies_nothing(operation: Any) -> bool:
    """Return whether a layer or operation without a rule is known to cost no multiply-adds."""
    kind = type(operation)
    if not isinstance(operation, keras.Layer):
        return kind.__module__.startswith("keras.") and kind.__name__ not in UNCOUNTED_OPERATIONS
    if kind in ELEMENTWISE:
        return True
    ours = kind.__module__.startswith(("keras.", "keras_nns."))
    return ours and kind is not layers.Lambda and not operation.weights


def _size(shape: Any) -> int:
    return int(math.prod(shape))


def _dense(layer: Any, call: Shapes, count: CountInner) -> int:
    return _size(call.output) * call.input[-1]


def _einsum_dense(layer: Any, call: Shapes, count: CountInner) -> int:
    terms, output = layer.equation.split("->")
    kernel = terms.split(",")[1]
    summed = [
        n for letter, n in zip(kernel, layer.kernel.shape, strict=True) if letter not in output
    ]
    return _size(call.output) * _size(summed)


def _conv(layer: Any, call: Shapes, count: CountInner) -> int:
    return _size(call.output) * _size(layer.kernel.shape[:-1])


def _depthwise_conv(layer: Any, call: Shapes, count: CountInner) -> int:
    return _size(call.output) * _size(layer.kernel_size)


def _separable_conv(layer: Any, call: Shapes, count: CountInner) -> int:
    positions = _size(call.output) // int(layer.filters)
    weights = _size(layer.depthwise_kernel.shape) + _size(layer.pointwise_kernel.shape)
    return positions * weights


def _conv_transpose(layer: Any, call: Shapes, count: CountInner) -> int:
    return _size(call.input) * _size(layer.kernel_size) * int(layer.filters)


def _recurrent(layer: Any, call: Shapes, count: CountInner) -> int:
    return _size(call.input[:2]) * _cell(layer.cell)


def _cell(cell: Any) -> int:
    """Count one time step of one sample."""
    return _size(cell.kernel.shape) + _size(cell.recurrent_kernel.shape)


CELLS = (layers.SimpleRNNCell, layers.LSTMCell, layers.GRUCell)


def _rnn(layer: Any, call: Shapes, count: CountInner) -> int | None:
    stacked = type(layer.cell) is layers.StackedRNNCells
    cells = layer.cell.cells if stacked else [layer.cell]
    if not all(type(cell) in CELLS for cell in cells):
        return None
    return _size(call.input[:2]) * sum(_cell(cell) for cell in cells)


def _conv_lstm(layer: Any, call: Shapes, count: CountInner) -> int:
    rank = len(layer.kernel_size)
    channels_last = layer.data_format == "channels_last"
    spatial = call.output[-1 - rank : -1] if channels_last else call.output[-rank:]
    return _size(call.input[:2]) * _size(spatial) * _cell(layer.cell)


def _bidirectional(layer: Any, call: Shapes, count: CountInner) -> int:
    sequence = keras.KerasTensor(call.input)
    return count(layer.forward_layer, sequence) + count(layer.backward_layer, sequence)


def _time_distributed(layer: Any, call: Shapes, count: CountInner) -> int:
    batch, steps, *rest = call.input
    return steps * count(layer.layer, keras.KerasTensor((batch, *rest)))


def _multi_head_attention(layer: Any, call: Shapes, count: CountInner) -> int:
    config = layer.get_config()
    heads, key_dim = config["num_heads"], config["key_dim"]
    value_dim = config["value_dim"] or key_dim
    return _attention_block(
        call,
        config["attention_axes"],
        heads=heads,
        shared=heads,
        key_dim=key_dim,
        value_dim=value_dim,
    )


def _grouped_query_attention(layer: Any, call: Shapes, count: CountInner) -> int:
    config = layer.get_config()
    size = config["head_dim"]
    heads, shared = config["num_query_heads"], config["num_key_value_heads"]
    gate = _size(call.of("query")) * heads * size if config.get("use_gate") else 0
    return gate + _attention_block(
        call, None, heads=heads, shared=shared, key_dim=size, value_dim=size
    )


def _attention_block(
    call: Shapes,
    axes: Sequence[int] | None,
    *,
    heads: int,
    shared: int,
    key_dim: int,
    value_dim: int,
) -> int:
    query, value = call.of("query"), call.of("value")
    key = call.of("key", value)
    if axes is None:
        axes = range(1, len(query) - 1)
    targets, sources = _size(query[:-1]), _size(value[:-1])
    attended = _size(value[axis] for axis in axes)
    projections = (
        targets * query[-1] * heads * key_dim
        + sources * (key[-1] * key_dim + value[-1] * value_dim) * shared
        + targets * heads * value_dim * call.output[-1]
    )
    return projections + targets * attended * heads * (key_dim + value_dim)


def _attention(layer: Any, call: Shapes, count: CountInner) -> int:
    query, value, *_ = shapes_of(call.arguments["inputs"])
    batch, targets, size = query
    return batch * targets * value[1] * (size + value[2])


def _dot(layer: Any, call: Shapes, count: CountInner) -> int:
    first, second = shapes_of(call.arguments["inputs"])
    axes = layer.axes if isinstance(layer.axes, int) else layer.axes[0]
    # The output keeps every axis of both operands but the batch of one and the summed axis.
    return _size(first) * _size(second) // (second[0] * first[axes])


def _matmul(operation: Any, call: Shapes, count: CountInner) -> int:
    return _size(call.output) * call.input[-1]


def _einsum(operation: Any, call: Shapes, count: CountInner) -> int:
    terms = operation.subscripts.replace(" ", "").split("->")[0].split(",")
    sizes: dict[str, int] = {}
    for term, shape in zip(terms, shapes_of(list(call.arguments.values())), strict=True):
        before, _, after = term.partition("...")
        broadcast = len(shape) - len(before) - len(after)
        # Broadcast axes line up from the right, so they are numbered from there.
        names = [*before, *(f"...{broadcast - i}" for i in range(broadcast)), *after]
        for name, size in zip(names, shape, strict=True):
            sizes[name] = max(size, sizes.get(name, 1))
    return _size(sizes.values()) * (len(terms) - 1)


# Looked up by exact type: a subclass with its own `call` may multiply anything.
RULES: dict[type, Rule] = {
    layers.Dense: _dense,
    layers.EinsumDense: _einsum_dense,
    **dict.fromkeys((layers.Conv1D, layers.Conv2D, layers.Conv3D), _conv),
    **dict.fromkeys((layers.DepthwiseConv1D, layers.DepthwiseConv2D), _depthwise_conv),
    **dict.fromkeys((layers.SeparableConv1D, layers.SeparableConv2D), _separable_conv),
    **dict.fromkeys(
        (layers.Conv1DTranspose, layers.Conv2DTranspose, layers.Conv3DTranspose), _conv_transpose
    ),
    **dict.fromkeys((layers.SimpleRNN, layers.LSTM, layers.GRU), _recurrent),
    layers.RNN: _rnn,
    **dict.fromkeys((layers.ConvLSTM1D, layers.ConvLSTM2D, layers.ConvLSTM3D), _conv_lstm),
    layers.Bidirectional: _bidirectional,
    layers.TimeDistributed: _time_distributed,
    layers.MultiHeadAttention: _multi_head_attention,
    layers.GroupQueryAttention: _grouped_query_attention,
    **dict.fromkeys((layers.Attention, layers.AdditiveAttention), _attention),
    layers.Dot: _dot,
}
OPERATION_RULES: dict[str, Rule] = {"Matmul": _matmul, "Einsum": _einsum}
UNCOUNTED_OPERATIONS = frozenset(
    [
        "Conv",
        "ConvTranspose",
        "DepthwiseConv",
        "SeparableConv",
        "Correlate",
        "DotProductAttention",
        "Dot",
        "Tensordot",
        "Inner",
        "Outer",
        "Vdot",
        "Kron",
        "Cond",
        "Map",
        "Scan",
        "WhileLoop",
        "AssociativeScan",
        "VectorizedMap",
        "FFT",
        "FFT2",
        "IFFT2",
        "RFFT",
        "IRFFT",
    ]
)
ELEMENTWISE = frozenset(
    (
        layers.BatchNormalization,
        layers.GroupNormalization,
        layers.LayerNormalization,
        layers.RMSNormalization,
        layers.UnitNormalization,
        layers.Normalization,
        layers.Embedding,
        layers.PReLU,
    )
)
