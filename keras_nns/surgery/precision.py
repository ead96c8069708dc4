"""A model's answers in float64, and how far float32's rounding alone moves them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import tree
from numpy.typing import NDArray

from keras_nns.engine.double import DOUBLE, doubled
from keras_nns.engine.tensors import as_array, as_tensor, is_floating, is_tensor
from keras_nns.graph.generated_inputs import answers_of
from keras_nns.graph.keras_internals import at_rest
from keras_nns.graph.rules import Keep
from keras_nns.graph.tracing import trace
from keras_nns.surgery.rebuilding import Rebuilder
from tflite_export.perturbation import Change, moved_by_rounding

Answers = list[NDArray[np.float64]]

_STEP = 1e-8
"""By which share weights are moved to see whether answers follow: below float32's rounding."""

_FOLLOWS = 0.1
"""How far answers may be from twice as far where weights are moved twice as far, as a share."""


def _as_they_are(answers: Answers) -> Answers:
    return answers


@dataclass(frozen=True)
class Side:
    """One of two models that are compared, with what it is asked.

    Attributes:
        model: The model.
        inputs: As it takes them.
        make: Makes it anew, to compute in a dtype that is given; None copies it.
        seen: What is compared of its answers.
    """

    model: Any
    inputs: Any
    make: Callable[[str], Any] | None = None
    seen: Callable[[Answers], Answers] = _as_they_are

    def answers(self) -> Answers:
        """Return what is compared: an array `(samples, …)` for each output."""
        return self.seen(answers_of(self.model, self.inputs))

    def in_double(self) -> Side:
        """Return the same in float64, made and to be asked within `engine.double.in_double`.

        Raises:
            KerasNNSError: The model cannot be made anew. Layers may raise anything else.
        """
        made = copied_in(self.model, DOUBLE) if self.make is None else self.make(DOUBLE)
        return Side(doubled(made), self.inputs, self.make, self.seen)

    def moved_by_rounding(self) -> float:
        """Return how far float32's rounding alone moves the answers, of their output's scale."""
        scales = [float(np.abs(one).max(initial=0.0)) or 1.0 for one in self.answers()]
        moved = moved_by_rounding(self._with)
        return max(far / scale for far, scale in zip(moved, scales, strict=True))

    def is_smooth(self) -> bool:
        """Return whether answers follow changes that are smaller than float32's rounding.

        Where a layer computes in float32 whatever it is told, they stay or jump: weights that are
        moved twice as far do not move them twice as far.
        """

        def moved(times: int) -> Answers:
            rng = np.random.default_rng(0)  # The same way, so many times as far.
            step = times * _STEP
            return self._with(
                lambda _, value: value * (1 + step * rng.choice((-1.0, 1.0), value.shape))
            )

        far, bent = [], []
        for zero, one, two in zip(*(moved(times) for times in (0, 1, 2)), strict=True):
            far.append(float(np.abs(two - zero).max(initial=0.0)))
            bent.append(float(np.abs(two - zero - 2 * (one - zero)).max(initial=0.0)))
        follow = all(off <= _FOLLOWS * way for off, way in zip(bent, far, strict=True))
        return follow and any(far)

    def _with(self, change: Change) -> Answers:
        """Return the answers with every weight and input that is a float changed."""
        weights = [
            (variable, as_tensor(change(variable.name, as_array(variable.value))))
            for variable in self.model.variables
            if is_floating(variable.value)
        ]
        inputs = tree.map_structure(lambda one: _changed(change, one), self.inputs)
        with at_rest(self.model), keras.StatelessScope(state_mapping=weights):
            found = self.model(inputs, training=False)
        return self.seen([np.asarray(as_array(one), np.float64) for one in tree.flatten(found)])


def _changed(change: Change, value: Any) -> Any:
    if is_tensor(value) and not is_floating(value):
        return value
    array = as_array(value) if is_tensor(value) else np.asarray(value)
    return change("", array) if array.dtype.kind == "f" else value


def copied_in(model: Any, dtype: str) -> Any:
    """Return a copy of a model that computes in another dtype.

    Raises:
        ModelError: The model has no graph to read.
    """
    graph = trace(model)
    everything = Keep(np.ones(graph.unit_count, dtype=bool))
    return Rebuilder(graph, everything, dtype=dtype).run()
