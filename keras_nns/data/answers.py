"""What a model answers to a few samples: evidence of how its data is meant."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_nns.data.labels import output_label_count
from keras_nns.engine.derivatives import unrecorded
from keras_nns.engine.layers import losses_kept

_AT_ONCE = 64
_NUMBERS = 2**19
"""Samples, and numbers of them, at once: what runs uncompiled holds all that layers give."""


def tells_labels(model: keras.Model) -> bool:
    """Return whether a model's answers are evidence: of one output, trained, without a state."""
    layers = list(_leaves(model))
    if any(getattr(layer, "stateful", False) for layer in layers):
        return False  # To call it would change the user's model.
    if output_label_count(model) is None:
        return False
    weighted = [layer for layer in layers if layer.weights]
    return bool(weighted) and not _as_initialized(weighted)


def embeds_tokens(model: keras.Model) -> bool:
    """Return whether a model looks its inputs up in a table."""
    return any(isinstance(layer, keras.layers.Embedding) for layer in _leaves(model))


def answers(model: keras.Model, inputs: Any) -> NDArray[np.int64]:
    """Return the label that a model answers to each sample, `(samples,)`.

    Nothing of the model changes, not even the losses that its last call left behind.

    Args:
        model: A model of one output, for which `tells_labels` holds.
        inputs: Samples, in the structure of `model.input`.
    """
    flat = [np.asarray(part) for part in keras.tree.flatten(inputs)]
    rows = []
    each = sum(part[:1].size for part in flat)
    most = max(1, min(_AT_ONCE, _NUMBERS // max(each, 1)))
    with losses_kept(model), unrecorded():
        for start in range(0, len(flat[0]), most):
            # A model saved with a list of one input warns when it gets an array, and not for a
            # tensor.
            some = [keras.ops.convert_to_tensor(part[start : start + most]) for part in flat]
            given = keras.tree.pack_sequence_as(inputs, some)
            outputs = model(given, training=False)
            outputs = outputs[0] if isinstance(outputs, list) else outputs
            rows.append(np.asarray(outputs, dtype=np.float32))
    found = np.concatenate(rows)
    found = found.reshape(len(found), -1)
    if found.shape[1] == 1:
        # A probability, or a logit.
        edge = 0.5 if found.min() >= 0 and found.max() <= 1 else 0.0
        return (found[:, 0] > edge).astype(np.int64)
    return np.asarray(found.argmax(axis=1), dtype=np.int64)


def few_of(numbers: NDArray[np.int64], label: int, most: int) -> NDArray[np.int64]:
    """Choose up to so many samples of a label, evenly over the data, and return their places."""
    places = np.flatnonzero(numbers == label)
    chosen = np.unique(np.linspace(0, len(places) - 1, min(most, len(places))).astype(int))
    return np.asarray(places[chosen], dtype=np.int64)


def gain(table: NDArray[np.int64]) -> float:
    """Return by how many standard deviations answers are better than by chance.

    Answers that know nothing of the label have a recall of it as high as their share in all; the
    variance of the mean recall follows from these shares and the samples of each label.

    Args:
        table: How many samples of each label had each answer, `(labels, labels)`. Labels without
            samples are left out.
    """
    counts = table.sum(axis=1)
    seen = counts > 0
    shares = table[seen] / counts[seen, None]
    answered = shares.mean(axis=0)[seen]
    variance = (answered * (1 - answered) / counts[seen]).sum()
    more = np.diag(table)[seen] / counts[seen] - answered
    return float(more.sum() / np.sqrt(variance)) if variance > 0 else 0.0


def _leaves(model: keras.Model) -> Iterator[keras.Layer]:
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _leaves(layer)
        else:
            yield layer


def _as_initialized(layers: Sequence[keras.Layer]) -> bool:
    """Tell an untrained model, or one with an untrained head, whose answers are arbitrary.

    Biases and the weights of normalization start as zeros and ones, and training moves them.
    """
    vectors = [[np.asarray(w) for w in layer.weights if len(w.shape) == 1] for layer in layers]
    head = vectors[-1] or [vector for some in vectors for vector in some]
    return all(np.isin(vector, (0, 1)).all() for vector in head)
