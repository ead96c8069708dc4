"""Compare what a file of Keras 1 or 2 answers here and in tf_keras, where that is installed."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
from keras import tree

from keras_nns.graph.generated_inputs import answers_of, telling_inputs
from keras_nns.graph.keras_internals import is_graph
from keras_nns.graph.tracing import trace
from keras_nns.surgery.old_files.versions import Path

TOLERANCE = 1e-3
"""Of the largest answer: rounding of deep networks is below, another meaning above."""

_SAMPLES = 4


@dataclass(frozen=True)
class Check:
    """How far a model's answers are from those of tf_keras.

    Attributes:
        difference: The largest, relative to the largest answer of its output.
        samples: How many samples were generated for it.
    """

    difference: float
    samples: int

    @property
    def agrees(self) -> bool:
        """Whether the difference is that of rounding."""
        return self.difference <= TOLERANCE


def compare_with_tf_keras(
    model: Any, path: Path, *, custom_objects: Mapping[str, Any]
) -> Check | None:
    """Compare on generated inputs.

    Args:
        model: The model, as it was read here.
        path: Its file.
        custom_objects: Classes and functions of the user, by name.

    Returns:
        What was found; None where tf_keras is not installed or cannot read the file itself, or
        where the model is no graph of layers.
    """
    if find_spec("tf_keras") is None or not is_graph(model):
        return None
    try:
        old = import_module("tf_keras").models.load_model(
            os.fspath(path), custom_objects=dict(custom_objects), compile=False
        )
    except Exception:  # It has its own limits, such as other configurations of Keras 1.
        return None
    inputs = telling_inputs(trace(model), model, _SAMPLES, seed=0)
    right = [np.asarray(one, np.float64) for one in tree.flatten(old(inputs, training=False))]
    worst = 0.0
    for ours, theirs in zip(answers_of(model, inputs), right, strict=True):
        scale = max(float(np.abs(theirs).max(initial=0.0)), 1e-12)
        worst = max(worst, float(np.abs(ours - theirs).max(initial=0.0)) / scale)
    return Check(worst, _SAMPLES)
