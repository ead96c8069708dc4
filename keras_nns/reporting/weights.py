"""A layer's weights in the parent and in what was cut from it, to be looked at side by side."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_nns.errors import SelectionError
from keras_nns.graph.rules import Keep
from keras_nns.graph.tracing import Graph, trace
from keras_nns.surgery.lineage import lineage

Matrix = NDArray[np.float32]


def before_after(
    parent: keras.Model, subnet: keras.Model, layer: str
) -> tuple[Matrix, NDArray[np.bool_], Matrix]:
    """Read a layer's kernel as a matrix, one column per unit, in the parent and in a cut of it.

    Args:
        parent: The parent model.
        subnet: A subnetwork that was cut from it.
        layer: Path of the layer.

    Returns:
        The parent's matrix `(inputs, units)`; which of its weights stay, likewise; and the
        subnetwork's matrix `(kept inputs, kept units)`.

    Raises:
        SelectionError: The subnetwork was not cut, the parent has no such layer with weights, or
            the subnetwork does not hold it as its plan says.
    """
    origin = lineage(subnet)
    if origin is None:
        raise SelectionError(
            f"Model {subnet.name!r} was not cut from a parent, so there is no before and after. "
            "Pass what `cut` returned."
        )
    graph = trace(parent)
    operation, index = _kernel_of(graph, layer)
    whole = np.asarray(operation.variables[index], dtype=np.float32)
    small = np.asarray(_layer(subnet, layer).variables[index], dtype=np.float32)
    attempts: list[dict[str, tuple[int, ...]] | None] = [None]
    if origin.head != "parent" and graph.output(origin.output).units is not None:
        # A head may have removed outputs too, which only the layer that makes them shows.
        attempts.append({origin.output: origin.plan.labels})
    for outputs in attempts:
        stays = _stays(graph, graph.keep(origin.plan, outputs=outputs), operation, index)
        if stays.sum() == small.size:
            return _matrix(whole), _matrix(stays), _matrix(small)
    raise SelectionError(
        f"Layer {layer!r} has weights of shape {small.shape} in {subnet.name!r}, and its plan "
        f"keeps {int(stays.sum())} of the parent's {whole.size}. Pass the parent that it was cut "
        "from."
    )


def drawable_layers(parent: keras.Model, subnet: keras.Model) -> list[str]:
    """List the layers whose kernels `before_after` can show: those that the cut made smaller.

    Args:
        parent: The parent model.
        subnet: A subnetwork that was cut from it.
    """
    graph = trace(parent)
    found = []
    for path, operation, index in _kernels(graph):
        try:
            small = _layer(subnet, path).variables[index]
        except SelectionError:
            continue
        if tuple(small.shape) != tuple(operation.variables[index].shape):
            found.append(path)
    return found


def _kernels(graph: Graph) -> Iterator[tuple[str, Any, int]]:
    """Yield every layer with a kernel: its path, itself, the kernel's place in its variables."""
    for blueprint in graph.blueprints.values():
        variables = blueprint.operation.variables
        for index in sorted(blueprint.bindings):
            if len(variables[index].shape) >= 2:
                yield blueprint.path, blueprint.operation, index
                break


def _kernel_of(graph: Graph, layer: str) -> tuple[Any, int]:
    """Find a layer and the place of its kernel among its variables."""
    known = []
    for path, operation, index in _kernels(graph):
        if path == layer:
            return operation, index
        known.append(path)
    raise SelectionError(f"No layer {layer!r} has a kernel of units. Expected one of {known}.")


def _stays(graph: Graph, keep: Keep, operation: Any, index: int) -> NDArray[np.bool_]:
    variable = operation.variables[index]
    stays = np.ones(tuple(variable.shape), dtype=bool)
    for axis, units in graph.blueprints[id(operation)].bindings[index].axes.items():
        shape = [1] * stays.ndim
        shape[axis] = -1
        stays &= keep.mask(units).reshape(shape)
    return stays


def _layer(model: Any, path: str) -> Any:
    for name in path.split("/"):
        try:
            model = model.get_layer(name)
        except ValueError:
            raise SelectionError(f"The subnetwork has no layer {path!r}.") from None
    return model


def _matrix(array: NDArray[Any]) -> NDArray[Any]:
    return array.reshape(-1, array.shape[-1])
