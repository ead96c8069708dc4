"""The networks that answer beside their parent: models, and files of models."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import Any, TypeAlias

import keras
import numpy as np
from numpy.typing import NDArray

from keras_nns.errors import ModelError, PlanError
from keras_nns.files.atomic import read_bytes
from keras_nns.graph.tracing import Graph
from keras_nns.judgement.question import Question, question_of
from keras_nns.observation.forward import Forward
from keras_nns.plans.kept_units import Plan
from keras_nns.shipping.forms import FileForward
from keras_nns.shipping.tflite_files import reading_model
from keras_nns.surgery.lineage import Lineage, answering_output, lineage
from keras_nns.surgery.loading import load_model
from keras_nns.tables import count

Network: TypeAlias = keras.Model | str | PathLike[str]
"""A model, or the path of a file of one."""


@dataclass(frozen=True, eq=False)
class Player:
    """A subnetwork that can be asked.

    Attributes:
        name: Names of its labels.
        file: The file it was read from, or the model's name.
        size: What it weighs, in words.
        weight: The same as a number, to put files of one plan in order.
        lineage: Where it was cut from.
        question: What it answers.
        forward: Takes a batch of inputs and returns `(batch, outputs)`.
    """

    name: str
    file: str
    size: str
    weight: int
    lineage: Lineage
    question: Question
    forward: Callable[[Any], Any]

    @property
    def plan(self) -> Plan:
        """Which of its parent's units it holds."""
        return self.lineage.plan

    @property
    def units(self) -> int:
        """How many units it holds."""
        return sum(map(len, self.plan.kept.values()))

    def answers(self, inputs: NDArray[Any]) -> NDArray[np.float32]:
        """Return `(batch, outputs)`."""
        return np.asarray(self.forward(inputs), dtype=np.float32)


def read_player(network: Network, graph: Graph, names: Sequence[str], *, unsafe: bool) -> Player:
    """Make a network ready to be asked.

    Args:
        network: A model, or the path of a `.keras` or `.tflite` file.
        graph: The parent.
        names: Names of all the parent's labels.
        unsafe: Whether code in a `.keras` file may run.

    Raises:
        ModelError: It is no subnetwork.
        PlanError: It was cut from another model.
        FileError: The file is missing or damaged, or has several ends.
    """
    flat = None
    if isinstance(network, (str, PathLike)):
        file = fspath(network)
        if Path(network).suffix == ".tflite":
            flat = read_bytes(Path(network))
            model = reading_model(flat)
        else:
            model = load_model(network, unsafe=unsafe)
    else:
        file, model = network.name, network
    origin = lineage(model)
    if origin is None:
        raise ModelError(
            f"{file!r} has no record of a parent, so that it cannot stand beside one. Pass what "
            "`cut`, `extract` or `keras-nns export` made, saved by `nns.save_model`."
        )
    if origin.parent != graph.fingerprint:
        raise PlanError(
            f"{file!r} was cut from another model than {graph.model.name!r}, or before that was "
            "trained further. Pass the parent it was cut from."
        )
    forward: Callable[[Any], Any]
    if flat is None:
        forward, weight = Forward(model, answering_output(model, origin)), model.count_params()
        size = f"{count(weight)} parameters"
    else:
        forward, weight = FileForward(model, flat), len(flat)
        size = f"{count(weight)} bytes"
    outputs = model.outputs[0].shape[-1]
    question = question_of(origin, names, outputs, model.name)
    shown = origin.plan.names if origin.plan.labels else origin.label_names
    return Player(", ".join(shown), file, size, weight, origin, question, forward)
