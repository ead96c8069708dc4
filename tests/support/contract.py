"""The contract table: one row for each layer type and setting that a rule describes.

The rows stand in the files that `contract_table.py` lists. A row is a small model with the layer in
a realistic place, and an expectation written by hand from the layer's own definition: which groups
there are, how many units each has, which layers make them, and how many units are protected. The
group of the last layer, "answer", goes without saying.
`test_rules.py` runs every row through the same checks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from keras_nns.graph.keras_internals import structure

Expected = dict[str, Any]
"""By name of group: its number of units (all may go), or `(units, protected)`."""


@dataclass(frozen=True)
class Row:
    """One layer type or setting.

    Attributes:
        name: What the row is about.
        build: Makes the model, without weights worth testing.
        expected: Groups by name.
        covers: Layer or operation types this row stands for.
        note: What the coverage table says about it.
        members: For groups of several layers, their names.
        reason: A word that must occur in the reason why something is protected.
    """

    name: str
    build: Callable[[], Any]
    expected: Expected
    covers: tuple[type, ...]
    note: str
    members: dict[str, tuple[str, ...]] = field(default_factory=dict)
    reason: str = ""


ROWS: list[Row] = []


def row(
    *covers: type,
    expected: Expected,
    note: str = "exact",
    members: dict[str, tuple[str, ...]] | None = None,
    reason: str = "",
    name: str | None = None,
) -> Callable[[Callable[[], Any]], Callable[[], Any]]:
    """Add a row: a decorator of the function that builds the model."""

    def add(build: Callable[[], Any]) -> Callable[[], Any]:
        ROWS.append(
            Row(name or build.__name__, build, expected, covers, note, members or {}, reason)
        )
        return build

    return add


def randomise(model: Any, seed: int = 0) -> Any:
    """Give every weight of a model a random value that keeps activations in a sane range."""
    random = np.random.default_rng(seed)
    for variable in model.variables:
        if "float" not in str(variable.dtype):
            continue
        shape = variable.shape
        if variable.name in ("moving_variance", "variance"):
            value = random.uniform(0.5, 2.0, shape)
        elif variable.name in ("gamma", "scale"):
            value = random.uniform(0.5, 1.5, shape) * random.choice([-1, 1], shape)
        elif len(shape) < 2:
            value = random.normal(0, 0.5, shape)
        else:
            fan = max(1, int(np.prod(shape[:-1])))
            value = random.normal(0, 1.5 / np.sqrt(fan), shape)
        variable.assign(value)
    for layer in model._flatten_layers():
        if hasattr(layer, "finalize_state"):
            layer.finalize_state()
    return model


def inputs_of(model: Any, count: int = 3, seed: int = 1) -> Any:
    """Make inputs that fit a model: tokens below 5 where it takes integers.

    No row has 3 steps: `keras.ops.add` takes a tensor of shape `(n, 1, 1)` for a bias when the
    other has `n` elements on its second axis, and then adds it along that one.
    """
    random = np.random.default_rng(seed)
    arrays = []
    for tensor in model.inputs:
        shape = (tensor.shape[0] or count, *[size or 7 for size in tensor.shape[1:]])
        if str(tensor.dtype) == "string":
            words = random.choice(["a", "b two", "three one", "four"], shape)
            arrays.append(tf.constant(words.tolist()))
        elif "int" in str(tensor.dtype):
            arrays.append(random.integers(0, 5, shape).astype("int32"))
        else:
            arrays.append(random.normal(size=shape).astype("float32"))
    return keras.tree.pack_sequence_as(structure(model)[0], arrays)


@contextmanager
def dtype_policy(name: str) -> Iterator[None]:
    """Build layers under another dtype policy."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(name)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def chain(shape: tuple[int | None, ...], *parts: Any, dtype: str | None = None) -> Any:
    """Build a functional model of layers and functions, one behind another."""
    x = start = keras.Input(shape, dtype=dtype)
    for part in parts:
        x = part(x)
    return keras.Model(start, x)


def image(*parts: Any, size: int = 6, filters: int = 6, first: Any = None) -> Any:
    """Build: convolution of `filters` units named "before", then the parts, then a classifier."""
    return chain(
        (size, size, 2),
        first or layers.Conv2D(filters, 3, padding="same", activation="relu", name="before"),
        *parts,
        layers.GlobalAveragePooling2D(),
        layers.Dense(3, name="answer"),
    )


def steps(*parts: Any, units: int = 6, length: int | None = 5, pool: bool = True) -> Any:
    """Build: Dense of `units` units named "before" on every step, the parts, then a classifier."""
    return chain(
        (length, 3),
        layers.Dense(units, activation="tanh", name="before"),
        *parts,
        *([layers.GlobalAveragePooling1D()] if pool else []),
        layers.Dense(3, name="answer"),
    )


def flat(*parts: Any, units: int = 6, features: int = 4) -> Any:
    """Build: Dense of `units` units named "before", the parts, then a classifier."""
    return chain(
        (features,),
        layers.Dense(units, activation="tanh", name="before"),
        *parts,
        layers.Dense(3, name="answer"),
    )
