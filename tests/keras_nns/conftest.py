"""Tiny models shared by the tests, and what a plain numpy loop says their units do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import pytest
from keras import layers as L
from keras import ops

LABELS = 4


@dataclass(frozen=True)
class Case:
    """A model, inputs, labels, and the symbolic tensors in which each layer's units appear."""

    model: Any
    x: Any
    y: np.ndarray
    seen: dict[str, list[Any]]
    nonnegative: frozenset[str]

    def values(self, x: Any = None) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Per layer, signed and absolute value of each sample and unit, `(samples, units)`."""
        return {
            name: (
                np.mean([self._mean(o, name) for o in outputs], axis=0),
                np.mean([self._mean(np.abs(o), name) for o in outputs], axis=0),
            )
            for name, outputs in self._outputs(x).items()
        }

    def active(self, threshold: float) -> dict[str, np.ndarray]:
        """Per layer, the share of positions above a threshold, `(samples, units)`."""
        return {
            name: np.mean([self._mean(np.abs(o) > threshold, name) for o in outputs], axis=0)
            for name, outputs in self._outputs(None).items()
        }

    def squares(self) -> dict[str, np.ndarray]:
        """Per layer, the mean over positions of the square, `(samples, units)`."""
        return {
            name: np.mean([self._mean(o**2, name) for o in outputs], axis=0)
            for name, outputs in self._outputs(None).items()
        }

    def _outputs(self, x: Any) -> dict[str, list[np.ndarray]]:
        reader = keras.Model(self.model.inputs, self.seen)
        found = reader.predict(self._flat(self.x if x is None else x), verbose=0)
        return {name: [np.asarray(o, np.float64) for o in read] for name, read in found.items()}

    def _flat(self, x: Any) -> list[Any]:
        if isinstance(x, dict):
            return [x[tensor.name] for tensor in self.model.inputs]
        return x if isinstance(x, list) else [x]

    def _mean(self, outputs: np.ndarray, name: str) -> np.ndarray:
        steps = self.steps(name)
        if steps is None:
            return outputs.reshape(len(outputs), -1, outputs.shape[-1]).mean(axis=1)
        return np.stack([o[s].mean(axis=0) for o, s in zip(outputs, steps, strict=True)])

    def steps(self, name: str) -> np.ndarray | None:
        """Which steps of each sample count, `(samples, steps)`, or None for all."""
        return self.x != 0 if name in ("embedding", "lstm", "each_step") else None


def _case(inputs, answer, x, seen, nonnegative=(), samples=23) -> Case:
    model = keras.Model(inputs, L.Dense(LABELS, activation="softmax", name="answer")(answer))
    random = np.random.default_rng(5)
    for variable in model.trainable_variables:
        variable.assign(random.normal(0.1, 0.5, variable.shape))
    # No sample of the last label: nothing is known of it.
    y = random.integers(0, LABELS - 1, samples)
    return Case(model, x, y, seen, frozenset(nonnegative))


def _normal(*shape):
    return np.random.default_rng(1).normal(size=(23, *shape)).astype("float32")


def dense():
    """Units that are never negative, units that are, and a linear layer."""
    inputs = keras.Input((6,))
    relu = L.Dense(5, activation="relu", name="relu")(inputs)
    tanh = L.Dense(4, activation="tanh", name="tanh")(relu)
    linear = L.Dense(3, name="linear")(tanh)
    seen = {"relu": [relu], "tanh": [tanh], "linear": [linear]}
    return _case(inputs, linear, _normal(6), seen, ["relu"])


def late_activation():
    """What passes through batch norm, dropout and a ReLU layer is watched behind them."""
    inputs = keras.Input((6, 6, 2))
    x = L.Conv2D(3, 3, use_bias=False, name="conv")(inputs)
    x = L.BatchNormalization()(x)
    x = L.Dropout(0.5)(x)
    relu = L.ReLU()(x)
    return _case(
        inputs, L.GlobalAveragePooling2D()(relu), _normal(6, 6, 2), {"conv": [relu]}, ["conv"]
    )


def convolution(rank):
    """Averages over one, two and three axes of positions."""
    shape = (5, 4, 3)[:rank]
    inputs = keras.Input((*shape, 2))
    conv = getattr(L, f"Conv{rank}D")(3, 2, activation="gelu", name="conv")(inputs)
    return _case(inputs, L.Flatten()(conv), _normal(*shape, 2), {"conv": [conv]})


def recurrent():
    """Steps that the mask leaves out do not count."""
    inputs = keras.Input((7,), dtype="int32")
    embedding = L.Embedding(9, 4, mask_zero=True, name="embedding")(inputs)
    lstm = L.LSTM(3, return_sequences=True, name="lstm")(embedding)
    each = L.Dense(2, activation="tanh", name="each_step")(lstm)
    last = L.LSTM(3, name="last")(each)
    tokens = np.random.default_rng(1).integers(1, 9, (23, 7)).astype("int32")
    for row, length in zip(tokens, np.random.default_rng(2).integers(1, 8, 23), strict=True):
        row[length:] = 0
    seen = {"embedding": [embedding], "lstm": [lstm], "each_step": [each], "last": [last]}
    return _case(inputs, last, tokens, seen)


def shared():
    """A layer that is called twice has the mean over its calls."""
    left, right = keras.Input((3,), name="left"), keras.Input((3,), name="right")
    layer = L.Dense(4, activation="relu", name="both")
    a, b = layer(left), layer(right)
    return _case([left, right], ops.concatenate([a, b], axis=-1), [_normal(3), -_normal(3)],
                 {"both": [a, b]}, ["both"])  # fmt: skip


def by_name():
    """Several inputs, given as a dictionary."""
    inputs = {"b": keras.Input((3,), name="b"), "a": keras.Input((2, 2), name="a")}
    one = L.Dense(4, activation="relu", name="one")(inputs["b"])
    two = L.Dense(3, activation="sigmoid", name="two")(L.Flatten()(inputs["a"]))
    joined = L.Concatenate()([one, two])
    x = {"a": _normal(2, 2), "b": _normal(3)}
    return _case(inputs, joined, x, {"one": [one], "two": [two]}, ["one", "two"])


def nested():
    """Layers of a nested model have paths, also where a name occurs inside and outside."""
    inner_inputs = keras.Input((4,))
    inner = keras.Model(inner_inputs, L.Dense(3, activation="relu", name="dense")(inner_inputs),
                        name="inner")  # fmt: skip
    inputs = keras.Input((6,))
    outside = L.Dense(4, activation="tanh", name="dense")(inputs)
    result = inner(outside)
    return _case(
        inputs, result, _normal(6), {"dense": [outside], "inner/dense": [result]}, ["inner/dense"]
    )


def residual():
    """A unit that goes two ways is watched where it is itself, before it is added to another."""
    inputs = keras.Input((6,))
    stem = L.Dense(4, activation="relu", name="stem")(inputs)
    branch = L.Dense(4, name="branch")(stem)
    relu = L.ReLU()(L.Add()([stem, branch]))
    return _case(inputs, relu, _normal(6), {"stem": [stem], "branch": [relu]}, ["stem", "branch"])


CASES = {
    "dense": dense,
    "late activation": late_activation,
    "Conv1D": lambda: convolution(1),
    "Conv2D": lambda: convolution(2),
    "Conv3D": lambda: convolution(3),
    "recurrent": recurrent,
    "shared": shared,
    "inputs by name": by_name,
    "nested": nested,
    "residual": residual,
}


@pytest.fixture(scope="session")
def cases():
    """Every case by name, built once and only when it is asked for."""
    built: dict[str, Case] = {}

    def get(name: str) -> Case:
        if name not in built:
            built[name] = CASES[name]()
        return built[name]

    return get


@pytest.fixture(params=CASES, scope="module")
def case(request, cases) -> Case:
    return cases(request.param)


@pytest.fixture
def plain(cases) -> Case:
    return cases("dense")
