"""What a model costs: parameters, multiply-adds of one sample's forward pass, bytes of weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import tree

from keras_nns.errors import DataError, ModelError
from keras_nns.files.atomic import Json
from keras_nns.graph.keras_internals import Call, Key, functional, is_graph, walk
from keras_nns.graph.macs import Shape, macs_of_call

_FLOAT32_BYTES = 4

_LARGEST_BATCH, _SMALLEST_BATCH = 256, 8
_BATCH_VALUES = 2**24
"""Numbers that one layer reads and writes for a batch, 64 MiB in float32."""


@dataclass(frozen=True)
class Costs:
    """What a model costs.

    Attributes:
        parameters: Numbers in the model's weights.
        macs: Multiply-adds of one sample's forward pass.
        weight_bytes: Bytes of the weights as float32.
        tflite_bytes: Bytes of the model's `.tflite` file, when known.
        macs_unknown: Layers whose multiply-adds are not known and are missing from `macs`.
    """

    parameters: int
    macs: int
    weight_bytes: int
    tflite_bytes: int | None = None
    macs_unknown: tuple[str, ...] = ()

    def to_json(self) -> Json:
        """Return the costs as plain data."""
        return {
            "parameters": self.parameters,
            "macs": self.macs,
            "weight_bytes": self.weight_bytes,
            "tflite_bytes": self.tflite_bytes,
            "macs_unknown": list(self.macs_unknown),
        }


def measure(model: keras.Model, *, inputs: Any = None, tflite_bytes: int | None = None) -> Costs:
    """Count a model's parameters, multiply-adds and bytes.

    Args:
        model: A built model.
        inputs: A batch as the model takes it; see `count_macs`.
        tflite_bytes: Size of the model's `.tflite` file, to stand beside the rest.

    Raises:
        ModelError: The model is not built, or leaves a dimension open and `inputs` is missing.

    Example:
        >>> net = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
        >>> measure(net)
        Costs(parameters=8, macs=6, weight_bytes=32, tflite_bytes=None, macs_unknown=())
    """
    macs, unknown = _count_model(model, inputs)
    return Costs(parameters(model), macs, weight_bytes(model), tflite_bytes, unknown)


def parameters(model: keras.Model) -> int:
    """Count the numbers in a model's weights, trainable or not, shared weights once.

    Raises:
        ModelError: The model is not built.

    Example:
        >>> parameters(keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]))
        8
    """
    _refuse_unbuilt(model)
    return sum(math.prod(weight.shape) for weight in model.weights)


def weight_bytes(model: keras.Model) -> int:
    """Count the bytes a model's weights take as float32, whatever type they have now.

    Raises:
        ModelError: The model is not built.

    Example:
        >>> weight_bytes(keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]))
        32
    """
    return _FLOAT32_BYTES * parameters(model)


def count_macs(model: keras.Model, *, inputs: Any = None) -> int:
    """Count the multiply-adds of one sample's forward pass.

    Products of weights with inputs and of activations with each other (attention) count. Biases,
    activations, normalisation, pooling, gates and look-ups do not: by the usual convention they are
    nothing beside the products. A layer that is used twice counts twice. Padding is multiplied like
    anything else. `macs_unknown` names the layers that this function cannot count.

    Args:
        model: A built model.
        inputs: A batch as the model takes it. Only its shapes are read, and only where the model
            leaves a dimension other than the batch open, such as the length of a sequence.

    Raises:
        ModelError: The model is not built, or leaves a dimension open and `inputs` is missing.
        DataError: `inputs` does not fit the model.

    Example:
        >>> count_macs(keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]))
        6
    """
    return _count_model(model, inputs)[0]


def macs_unknown(model: keras.Model, *, inputs: Any = None) -> tuple[str, ...]:
    """Name the layers that `count_macs` cannot count: their multiply-adds are missing from it.

    Args:
        model: A built model.
        inputs: A batch as the model takes it; see `count_macs`.

    Raises:
        ModelError: The model is not built, or leaves a dimension open and `inputs` is missing.
        DataError: `inputs` does not fit the model.

    Example:
        >>> macs_unknown(keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]))
        ()
    """
    return _count_model(model, inputs)[1]


def macs_by_call(model: keras.Model, *, inputs: Any = None) -> dict[Key, int]:
    """Count the multiply-adds of every call in a model's graph, for one sample.

    Args:
        model: A built model.
        inputs: A batch as the model takes it; see `count_macs`.

    Returns:
        Multiply-adds by the call's key in the traced graph; 0 where they cannot be counted.

    Raises:
        ModelError: The model is not built, or leaves a dimension open and `inputs` is missing.
        DataError: `inputs` does not fit the model.
    """
    _refuse_unbuilt(model)
    found: dict[Key, int] = {}
    specs = _input_specs(model, inputs)
    _walk(model, specs, "", found)
    return {key: macs // specs[0].shape[0] for key, macs in found.items()}


def _count_model(model: keras.Model, inputs: Any) -> tuple[int, tuple[str, ...]]:
    _refuse_unbuilt(model)
    if not is_graph(model):
        return 0, (model.name,)
    specs = _input_specs(model, inputs)
    macs, unknown = _walk(model, specs, "")
    # A model with a fixed batch is walked at that batch, because its reshapes may name it.
    return macs // specs[0].shape[0], tuple(dict.fromkeys(unknown))


def _walk(
    model: keras.Model,
    inputs: list[keras.KerasTensor],
    path: str,
    by_call: dict[Key, int] | None = None,
) -> tuple[int, list[str]]:
    """Add up what the calls of a model multiply, and name those that cannot be counted."""
    total = 0
    unknown: list[str] = []

    def count_inner(operation: Any, *args: keras.KerasTensor, path: str) -> int:
        """Count a layer or model inside a wrapper, which the graph does not show."""
        if is_graph(operation):
            macs, names = _walk(operation, list(args), path)
            unknown.extend(names)
            return macs
        return count(operation, args, {}, _spec(operation, args, {}), path)

    def count(operation: Any, args: Any, kwargs: Any, outputs: Any, path: str) -> int:
        def inner(nested: Any, *given: keras.KerasTensor) -> int:
            return count_inner(nested, *given, path=f"{path}/{nested.name}")

        macs = macs_of_call(operation, args, kwargs, outputs, inner)
        if macs is None:
            unknown.append(path)
        return macs or 0

    def visit(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        nonlocal total
        # Shapes alone: calling the layer would add a node to the user's graph.
        outputs = _spec(call.operation, args, kwargs)
        macs = count(call.operation, args, kwargs, outputs, call.path)
        total += macs
        if by_call is not None:
            by_call[call.key] = macs
        return outputs

    walk(model, inputs, visit, path=path)
    return total, unknown


def _refuse_unbuilt(model: keras.Model) -> None:
    if not model.built:
        raise ModelError(
            f"Model {model.name!r} is not built, so it has no weights yet. Start it with "
            "keras.Input(…), or call it on a batch first."
        )


def _input_specs(model: keras.Model, inputs: Any) -> list[keras.KerasTensor]:
    tensors = functional(model).inputs
    given = None if inputs is None else _given_shapes(model, tensors, inputs)
    specs = []
    for i, tensor in enumerate(tensors):
        shape = [tensor.shape[0] or 1, *tensor.shape[1:]]
        if given is not None:
            shape[1:] = [old or new for old, new in zip(shape[1:], given[i][1:], strict=True)]
        elif None in shape:
            raise ModelError(
                f"Input {tensor.name!r} of model {model.name!r} has the open shape "
                f"{tuple(tensor.shape)}, so its multiply-adds depend on the data. Pass "
                "`inputs=`, a batch as the model takes it."
            )
        specs.append(keras.KerasTensor(tuple(shape), dtype=tensor.dtype, sparse=tensor.sparse))
    return specs


def _given_shapes(model: keras.Model, tensors: list[keras.KerasTensor], inputs: Any) -> list[Shape]:
    names = [tensor.name for tensor in tensors]
    if isinstance(inputs, Mapping) and set(names) <= set(inputs):
        inputs = [inputs[name] for name in names]
    shapes = [tuple(array.shape) for array in keras.tree.flatten(inputs)]
    expected = [tuple(tensor.shape) for tensor in tensors]
    if [len(shape) for shape in shapes] != [len(shape) for shape in expected]:
        raise DataError(
            f"Model {model.name!r} takes inputs of shapes {expected}. Received: inputs of shapes "
            f"{shapes}."
        )
    return shapes


def _spec(operation: Any, args: Any, kwargs: Any) -> Any:
    """Return what a call gives, shapes and types alone."""
    if type(operation) is keras.layers.EinsumDense:
        # Keras 3.14 tells the shape that it was built for, its batch left open.
        kernel = keras.KerasTensor(operation.kernel.shape, operation.compute_dtype)
        return keras.ops.einsum(operation.equation, args[0] if args else kwargs["inputs"], kernel)
    return operation.compute_output_spec(*args, **kwargs)


def usual_batch_size(model: keras.Model) -> int:
    """Return how many samples to look at together where nobody says.

    256, but fewer, down to 8, where one layer would read and write more than 2²⁴ numbers for them:
    several such are held at once on the way through a model.

    Args:
        model: A model.
    """
    if not is_graph(model) or not model.built:
        return _LARGEST_BATCH
    found = [1]

    def visit(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[np.int64]:
        written = [_values(shape) for shape in call.shapes]
        # What else is passed is no numpy integer.
        read = [given for given in tree.flatten((args, kwargs)) if isinstance(given, np.int64)]
        found.append(sum(map(int, (*written, *read))))
        return written

    walk(model, [_values(tensor.shape) for tensor in functional(model).inputs], visit)
    return max(_SMALLEST_BATCH, min(_LARGEST_BATCH, _BATCH_VALUES // max(found)))


def _values(shape: Sequence[int | None]) -> np.int64:
    """Count the numbers of one sample; an axis of unknown length counts as 1."""
    return np.int64(math.prod(size or 1 for size in shape[1:]))
