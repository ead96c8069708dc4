"""The paper this package comes from, as code: its network, its six steps, its figures for a label.

*NNS: neural network surgery* trains one network (784-100-10, ReLU, softmax), watches its hidden
units label by label, and keeps for each label the rows of the first weight matrix whose units are
loud. Its section 3.1 is six steps, which are the six functions `train`, `snapshot`, `average`,
`choose`, `extract` and `integrate` here.
"""

from __future__ import annotations

import itertools
import json
import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import keras
import numpy as np
from numpy.typing import NDArray

from keras_nns.data.named import load_dataset
from keras_nns.engine import datasets
from keras_nns.errors import DataError, FileError
from keras_nns.files import atomic
from keras_nns.observation.activity import Activity
from keras_nns.observation.probing import probe
from keras_nns.observation.streaming import observe
from keras_nns.plans.keep_rules import above
from keras_nns.plans.kept_units import Plan
from keras_nns.selection.choosing import select
from keras_nns.surgery.cutting import cut

HIDDEN, ANSWER = "hidden", "answer"
"""Names of the network's two layers."""

WEIGHTS_FILE, ROWS_FILE = "simpleMLPWghts.json", "train_first1000.csv"
"""The paper's weights, and the rows on which it reports every table."""

UNITS, EPOCHS, RATE = 100, 200, 0.10
"""The paper's hidden units, passes of gradient descent, and learning rate."""

_SPREAD = 0.5
"""First weights are drawn evenly from -0.5 to 0.5: in the paper's weights those of pixels that are
always blank, which training cannot move, still are."""

Float = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Subject:
    """What the method is tried on.

    Attributes:
        name: What it is, in words.
        model: The network.
        x: Inputs to watch it on, `(samples, pixels)` in 0..1.
        y: Their labels, `(samples,)`.
        x_test: Inputs to judge it on.
        y_test: Their labels.
        json_bytes: Size of the file of weights it came from; None where it was trained.
        notes: What a reader of figures must know.
    """

    name: str
    model: keras.Model
    x: Float
    y: NDArray[np.int64]
    x_test: Float
    y_test: NDArray[np.int64]
    json_bytes: int | None = None
    notes: tuple[str, ...] = ()

    @property
    def labels(self) -> range:
        """Numbers of the labels."""
        return range(self.model.output_shape[-1])

    @property
    def judged_on_the_same(self) -> bool:
        """Whether the samples to judge on are those that are watched."""
        return self.x_test is self.x


def read_subject(folder: str | PathLike[str]) -> Subject:
    """Read the paper's own weights and rows.

    Args:
        folder: Holds `simpleMLPWghts.json` and `train_first1000.csv`.

    Raises:
        FileError: A file is missing, damaged, or does not fit the other.
    """
    weights, rows = Path(folder, WEIGHTS_FILE), Path(folder, ROWS_FILE)
    missing = [path.name for path in (weights, rows) if not path.is_file()]
    if missing:
        raise FileError(
            f"{str(folder)!r} holds no {' and no '.join(missing)}, the paper's own files. Without "
            "them name no folder, and a network is trained the paper's way."
        )
    model = read_network(weights)
    x, y = read_rows(rows)
    if x.shape[1] != model.input_shape[1] or y.max() >= model.output_shape[1]:
        raise FileError(
            f"{str(rows)!r} has {x.shape[1]} pixels and labels up to {y.max()}; the network in "
            f"{str(weights)!r} takes {model.input_shape[1]} and answers {model.output_shape[1]}."
        )
    note = (
        "Watched and judged on the same rows, as in the paper: figures for new rows may be lower."
    )
    name = f"the paper's network and its {len(y):,} rows"
    return Subject(name, model, x, y, x, y, weights.stat().st_size, (note,))


def train_subject(dataset: str | PathLike[str] = "digits", *, seed: int = 0) -> Subject:
    """Train a network the paper's way on other data, and hold out rows to judge it on.

    Args:
        dataset: As `load_dataset` takes it; images of one channel.
        seed: Seed of the first weights.

    Raises:
        DataError: There is no such data, a sample has several labels, which the paper's network
            cannot answer, or no network can be trained on it.
        FileError: A file is missing or damaged.
    """
    data = load_dataset(dataset)
    if data.y_train.ndim != 1:
        raise DataError("The paper's network answers one label for each sample; these have more.")
    x, x_test = (
        np.asarray(part.reshape(len(part), -1), np.float32) for part in (data.x_train, data.x_test)
    )
    model = train(x, data.y_train, labels=len(data.label_names), seed=seed)
    note = (
        f"Trained here the paper's way: {UNITS} hidden units, full-batch gradient descent, "
        f"{EPOCHS} epochs, learning rate {RATE:.2f}, first weights drawn evenly from {-_SPREAD} to "
        f"{_SPREAD}, seed {seed}. Watched on the {len(x):,} samples it was trained on, judged on "
        f"{len(x_test):,} held out."
    )
    name = f"a network trained on {data.name}"
    return Subject(name, model, x, data.y_train, x_test, data.y_test, notes=(note, *data.notes))


# The six steps of section 3.1 ---------------------------------------------------------------------


def train(x: Float, y: NDArray[np.int64], *, labels: int, seed: int = 0) -> keras.Model:
    """Step 1: train the network that will be operated on, by full-batch gradient descent.

    Args:
        x: Inputs, `(samples, pixels)`.
        y: Label numbers, `(samples,)`.
        labels: How many labels there are.
        seed: Seed of the first weights.

    Raises:
        DataError: The weights went beyond all bounds: the inputs are too large.
    """
    model = _network(x.shape[1], UNITS, labels)
    random = np.random.default_rng(seed)
    first = [random.uniform(-_SPREAD, _SPREAD, weight.shape) for weight in model.get_weights()]
    model.set_weights(first)
    model.compile(keras.optimizers.SGD(RATE), "sparse_categorical_crossentropy")
    # Each epoch is one step on everything, so all epochs are one pass over as many such steps.
    everything = datasets.repeated((x, y), EPOCHS)
    model.fit(everything, epochs=1, shuffle=False, verbose=0)
    if not all(np.isfinite(weight).all() for weight in model.get_weights()):
        raise DataError(
            f"Gradient descent with learning rate {RATE:.2f} went beyond all bounds on inputs "
            f"from {x.min():g} to {x.max():g}. Scale them to 0..1."
        )
    return model


def snapshot(model: keras.Model, x: Float) -> Float:
    """Step 2: what every hidden unit gives for every input, `(samples, units)`: Fig. 2."""
    return np.asarray(probe(model).predict(x, verbose=0)[HIDDEN])


def average(model: keras.Model, x: Float, y: NDArray[np.int64]) -> Activity:
    """Step 3: the mean of each unit's snapshots over the inputs of each label: Fig. 3.

    Snapshots are summed up as they pass, so no matrix of them is ever held.
    """
    return observe(model, (x, y), verbose=False)


def choose(activity: Activity, zeta: float) -> list[Plan]:
    """Step 4: for each label, the units whose average is at least ζ of the highest: eq. 1, Fig. 4.

    Args:
        activity: The averages.
        zeta: ζ, in [0, 1].
    """
    return select(activity, "each", keep=above(zeta))


def extract(model: keras.Model, plan: Plan) -> keras.Model:
    """Step 5: the label's subnetwork.

    The paper zeroes the rows of the other units (Fig. 5) and leaves their biases, which in its own
    network are all below zero, so that such a unit is silent. Here the units go, biases and all.
    """
    return cut(model, plan)


def integrate(plans: Sequence[Plan]) -> list[Plan]:
    """Step 6: put label after label into one network: the units after every step, Table 4."""
    return list(itertools.accumulate(plans, operator.or_))


def units_of(plan: Plan) -> tuple[int, ...]:
    """Return the hidden units that a plan keeps."""
    return plan.kept[HIDDEN]


# What a network is worth --------------------------------------------------------------------------


@dataclass(frozen=True)
class LabelWorth:
    """How well one label is told from the others.

    Attributes:
        recall: Share of the label's samples that are called by it: what the paper calls accuracy.
        specificity: Share of the other samples that are not called by it.
    """

    recall: float
    specificity: float

    @property
    def balanced(self) -> float:
        """Mean of recall and specificity: 0.5 for guessing and for saying always the same."""
        return (self.recall + self.specificity) / 2

    @classmethod
    def of(cls, called: NDArray[np.bool_], truth: NDArray[np.bool_]) -> LabelWorth:
        """Judge which samples were called by the label, against which are of it."""
        return cls(_share(called[truth]), _share(~called[~truth]))


@dataclass(frozen=True, eq=False)
class Worth:
    """What a network answers.

    Attributes:
        labels: What it is worth for each label; NaN where there are no samples to tell.
        accuracy: Share of all samples that are called by their label.
        units: How many hidden units the network has.
    """

    labels: tuple[LabelWorth, ...]
    accuracy: float
    units: int


class Judge:
    """Judges any set of hidden units of one network quickly.

    Hidden values are computed once; the answer of a network that keeps some units is the last layer
    applied to those. It is what the cut network answers, since this network has one hidden layer.

    Args:
        subject: The network, and the samples to judge on.
    """

    def __init__(self, subject: Subject) -> None:
        self._hidden = snapshot(subject.model, subject.x_test)
        self._kernel, self._bias = subject.model.get_layer(ANSWER).get_weights()
        self._truth = subject.y_test
        self._labels = subject.labels

    def answers(self, units: Sequence[int] | None = None) -> NDArray[np.int64]:
        """Return what a network of these hidden units calls each sample; of all by default."""
        where = slice(None) if units is None else list(units)
        values = self._hidden[:, where] @ self._kernel[where] + self._bias
        return np.asarray(values.argmax(axis=1))

    def worth(self, units: Sequence[int] | None = None) -> Worth:
        """Return what a network of these hidden units is worth; of all by default."""
        called = self.answers(units)
        labels = tuple(LabelWorth.of(called == i, self._truth == i) for i in self._labels)
        count = len(self._kernel) if units is None else len(units)
        return Worth(labels, _share(called == self._truth), count)

    def accuracy_among(self, units: Sequence[int], labels: Sequence[int]) -> float:
        """Return the share of these labels' samples that a network calls by their label."""
        among = np.isin(self._truth, labels)
        return _share(self.answers(units)[among] == self._truth[among])


def _share(right: NDArray[np.bool_]) -> float:
    return float(right.mean()) if len(right) else math.nan


# The paper's files --------------------------------------------------------------------------------


def read_network(path: str | PathLike[str]) -> keras.Model:
    """Read a network from the paper's JSON: `w1` and `w2` with one row for each unit, `b1`, `b2`.

    Raises:
        FileError: The file is missing, damaged, or not such a network.
    """
    data = atomic.read_bytes(path)
    with atomic.blame(path):
        content = atomic.parse_json(data)
        try:
            w1, w2 = (np.array(content[name], np.float32) for name in ("w1", "w2"))
            b1, b2 = (np.array(content[name], np.float32).reshape(-1) for name in ("b1", "b2"))
            shapes = [w1.shape, b1.shape, w2.shape, b2.shape]
            (units, pixels), (labels, inner) = w1.shape, w2.shape
        except (KeyError, TypeError, ValueError) as error:
            raise FileError(
                f"Expected the paper's JSON with the matrices w1, b1, w2 and b2: {error}."
            ) from error
        if shapes != [(units, pixels), (units,), (labels, units), (labels,)] or inner != units:
            raise FileError(f"w1, b1, w2 and b2 do not fit together: {shapes}.")
    model = _network(pixels, units, labels)
    model.set_weights([w1.T, b1, w2.T, b2])
    return model


def network_text(model: keras.Model, *, indent: int | None = None) -> str:
    """Write a network as the paper's JSON.

    Args:
        model: A network that `read_network` or `train` gave, or a copy of it with zeros.
        indent: Spaces before each number, every number on a line of its own; the paper's file of
            the parent has 4. None writes one line.
    """
    w1, b1, w2, b2 = (value.astype(np.float64) for value in model.get_weights())
    content = {"w1": w1.T, "b1": b1[:, None], "w2": w2.T, "b2": b2[:, None]}
    return json.dumps({name: value.tolist() for name, value in content.items()}, indent=indent)


def write_network(
    model: keras.Model,
    path: str | PathLike[str],
    *,
    indent: int | None = 4,
    overwrite: bool = False,
) -> None:
    """Write a network to a file as the paper's JSON.

    Args:
        model: As in `network_text`.
        path: Where to.
        indent: As in `network_text`.
        overwrite: Whether an existing file may be replaced.

    Raises:
        FileError: The file exists and `overwrite` is false, or cannot be written.
    """
    atomic.write_bytes(path, network_text(model, indent=indent).encode(), overwrite=overwrite)


def read_rows(path: str | PathLike[str]) -> tuple[Float, NDArray[np.int64]]:
    """Read rows `label,pixel0,…` under one line of names.

    Returns:
        Pixels by 255, `(rows, pixels)`, and labels, `(rows,)`.

    Raises:
        FileError: The file is missing or damaged.
    """
    lines = atomic.read_bytes(path).decode("ascii", "replace").splitlines()
    with atomic.blame(path):
        if len(lines) < 2:
            raise FileError("Expected rows `label,pixel0,…`; there are none.")
        try:
            table = np.loadtxt(lines, delimiter=",", skiprows=1, dtype=np.int64, ndmin=2)
        except ValueError as error:
            raise FileError(f"Expected rows `label,pixel0,…` of whole numbers: {error}.") from error
        if table.shape[1] < 2 or table.min() < 0 or table.max() > 255:
            raise FileError("Expected rows `label,pixel0,…` with pixels from 0 to 255.")
    return (table[:, 1:] / 255).astype(np.float32), table[:, 0]


def _network(pixels: int, units: int, labels: int) -> keras.Model:
    """Build a network of zeros: weights drawn by Keras take from everyone's random numbers."""
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((pixels,), name="pixels"),
            layers.Dense(units, activation="relu", kernel_initializer="zeros", name=HIDDEN),
            layers.Dense(labels, activation="softmax", kernel_initializer="zeros", name=ANSWER),
        ],
        name="simple_mlp",
    )
