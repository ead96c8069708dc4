"""What a model does itself to the scale of pictures, behind its input."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_nns.engine.layers import calls_of

_SCALING = (
    keras.layers.Rescaling,
    keras.layers.Normalization,
    keras.layers.BatchNormalization,
)
_SIDE = 32
"""Size of an axis that the model leaves open, in pixels."""


def rescaled_by(model: keras.Model, top: float) -> str | None:
    """Say what in a model brings pictures of 0..top to a moderate scale; None where nothing does.

    Layers and operations between the input and the first layer with weights (`Rescaling`,
    `Normalization`, a batch norm, an application's own preprocessing) are run on a black and on a
    white picture, of 0..1 and of 0..top. The model wants the scale that comes out around 0, with
    the two nearer to 1 apart.

    Args:
        model: A built model.
        top: The value of a white pixel as pictures are stored, 255 mostly.

    Returns:
        Words for a note.
    """
    inputs = getattr(model, "inputs", None) or []
    if len(inputs) != 1:
        return None
    dtype = keras.backend.standardize_dtype(inputs[0].dtype)
    if dtype == "string":
        return None
    if "int" in dtype:
        return f"its input is of {dtype}"
    shape = [1, *(size or _SIDE for size in inputs[0].shape[1:])]
    levels = np.array([0.0, 1.0, top], dtype=np.float32)
    pictures = levels.reshape(-1, *[1] * (len(shape) - 1)) * np.ones(shape, np.float32)
    found: list[Any] = []
    black, white, stored = np.median(_behind_input(model, pictures, found).reshape(3, -1), axis=1)
    if not found or _oddness(black, stored) >= _oddness(black, white):
        return None
    layers = [repr(one.name) for one in _leaves(found) if isinstance(one, _SCALING)]
    return f"its own {', '.join(layers) or 'arithmetic behind the input'} scales them"


def _oddness(black: float, white: float) -> float:
    """Measure how far a scale is from what a network is trained on."""
    apart, middle = abs(white - black), abs(white + black) / 2
    return float("inf") if middle > 2 * apart or apart == 0 else abs(float(np.log(apart)))


def _behind_input(model: Any, x: Any, found: list[Any]) -> NDArray[np.float32]:
    """Run what lies before the first layer with weights, also inside nested models.

    Args:
        model: A model of one input.
        x: Pictures.
        found: Takes the layers and operations that were run.

    Returns:
        What the first layer with weights is given.
    """
    given = model.inputs[0]
    behind: dict[int, list[Any]] = {id(given): []}
    for operation, taken, made in calls_of(model):
        if not all(id(tensor) in behind for tensor in taken):
            continue
        way = list(dict.fromkeys(one for tensor in taken for one in behind[id(tensor)]))
        if _scales_alone(operation):
            behind |= {id(tensor): [*way, operation] for tensor in made}
            continue
        found += way
        if taken[0] is not given:
            x = keras.Model(given, taken[0])(keras.ops.convert_to_tensor(x), training=False)
        if isinstance(operation, keras.Model) and len(operation.inputs) == 1:
            return _behind_input(operation, x, found)
        break
    return np.asarray(x, dtype=np.float32)


def _scales_alone(operation: Any) -> bool:
    """Return whether an operation has no trained weights: a model, where nothing in it has."""
    if isinstance(operation, keras.Model):
        known = bool(getattr(operation, "inputs", None)) and hasattr(operation, "outputs")
        return known and all(_scales_alone(inner) for inner, _, _ in calls_of(operation))
    return not getattr(operation, "weights", ()) or isinstance(operation, _SCALING)


def _leaves(operations: Iterable[Any]) -> Iterator[Any]:
    for one in operations:
        if isinstance(one, keras.Model):
            yield from _leaves(inner for inner, _, _ in calls_of(one))
        else:
            yield one
