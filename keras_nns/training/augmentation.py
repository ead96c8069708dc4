"""Inputs changed at random as a training goes over them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import tree
from numpy.typing import NDArray

from keras_nns.data.targets import Kind
from keras_nns.engine.steps import Stepper
from keras_nns.engine.tensors import as_array
from keras_nns.errors import SurgeryError

Augment = Callable[[Any], Any]
"""A Keras layer or model, such as `keras.layers.RandomFlip("horizontal")`, or any function of a
batch of inputs, arrays of numpy in the model's structure, that returns one of the same shape."""


class Augmentation:
    """Changes batches of inputs; samples stay what they are, and so do their labels.

    A layer draws by a seed of ours, the same in every training of that seed, and its own random
    state is put back. A function draws as it likes. What comes out has the shape and the dtype of
    what went in; whole numbers, such as pixels, are rounded.

    Args:
        augment: A layer, a model or a function.
        seed: What a layer draws by.

    Raises:
        SurgeryError: It is none of these.
    """

    def __init__(self, augment: Augment, seed: int) -> None:
        if not callable(augment):
            raise SurgeryError(
                "`augment` is a Keras layer, such as keras.layers.RandomFlip('horizontal'), a "
                "model, or a function from a batch of inputs to such a batch. Received: "
                f"augment={augment!r}."
            )
        self._seed, self._epoch = seed, 0
        self._layer: Any = augment if isinstance(augment, keras.layers.Layer) else None
        self._call = augment
        if self._layer is not None:
            self._call = Stepper(lambda inputs: self._layer(inputs, training=True))
        self._drawn: list[NDArray[Any]] = []

    def begun(self, epoch: int) -> Augmentation:
        """Return itself, such that a layer draws what belongs to an epoch of training."""
        self._epoch, self._drawn = epoch, []
        return self

    def __call__(self, inputs: Any) -> Any:
        """Return inputs as they are to be seen this time.

        Args:
            inputs: Arrays whose first axis counts samples, as the model takes them.

        Raises:
            SurgeryError: What comes out does not look like what went in.
        """
        if self._layer is None:
            return _checked(inputs, self._call(inputs))
        before = {id(state): as_array(state) for state in _states(self._layer)}
        if not self._layer.built:
            # Built by its first call, it may have no state before.
            self._call(inputs)
        states = _states(self._layer)
        own = [before.get(id(state), as_array(state)) for state in states]
        for state, value in zip(states, self._drawn or self._first(len(states)), strict=True):
            state.assign(value)
        changed = _checked(inputs, self._call(inputs))
        self._drawn = [as_array(state) for state in states]
        for state, value in zip(states, own, strict=True):
            state.assign(value)
        return changed

    def _first(self, count: int) -> list[Any]:
        """Return the random states that an epoch begins with."""
        streams = [
            np.random.SeedSequence((self._seed % 2**63, self._epoch, n)) for n in range(count)
        ]
        return [[int(stream.generate_state(1)[0]) // 2, 0] for stream in streams]


def _checked(inputs: Any, changed: Any) -> Any:
    """Return what came out as arrays that look like what went in."""
    try:
        tree.assert_same_structure(inputs, changed)
        return tree.map_structure(_like, inputs, changed)
    except (ValueError, TypeError) as error:
        raise SurgeryError(
            "`augment` has to return inputs of the shape that it is given, "
            f"{_shapes(inputs)}. It returned {_shapes(changed)}."
        ) from error


def _states(layer: Any) -> list[Any]:
    return [state for state in layer.variables if state.name == "seed_generator_state"]


def _like(given: NDArray[Any], changed: Any) -> NDArray[Any]:
    """Return what came out as an array of the dtype of what went in."""
    found = as_array(changed)
    if found.shape != given.shape:
        raise ValueError("another shape")
    if np.issubdtype(given.dtype, np.integer):
        limits = np.iinfo(given.dtype)
        found = np.clip(np.rint(found), limits.min, limits.max)
    return found.astype(given.dtype)


def _shapes(inputs: Any) -> Any:
    return tree.map_structure(lambda array: tuple(getattr(array, "shape", ())), inputs)


def moves_targets(kind: Kind | None, output: Any) -> bool:
    """Return whether targets would have to be changed with the inputs: they lie at positions.

    Args:
        kind: What the data has targets of.
        output: The output they are compared with, `(samples, *positions, answers)`.
    """
    return kind == "positions" or (kind == "values" and len(output.shape) > 2)
