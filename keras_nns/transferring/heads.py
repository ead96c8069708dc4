"""New heads: what a network shall answer from now on, on top of features that it has."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from keras_nns.errors import DataError, SurgeryError
from keras_nns.graph.keras_internals import structure
from keras_nns.graph.tracing import trace
from keras_nns.surgery.copying import copied
from keras_nns.surgery.endings import whole_lineage
from keras_nns.surgery.lineage import set_lineage
from keras_nns.training.loop import random_untouched


@random_untouched()
def attach_head(
    extractor: keras.Model, labels: Sequence[Any], head: Any = None, *, seed: int = 0
) -> Any:
    """Put a head for new labels behind an extractor.

    The result is an ordinary Keras model, with the extractor's layers by their names. It remembers
    the labels: data with their names, or numbers in this order, is read as such by `evaluate` and
    all the rest.

    Args:
        extractor: What `feature_extractor` gave. It is not changed.
        labels: Name of every new label, two at least, in the order of their numbers.
        head: None for a fresh `Dense(labels, "softmax")`; a linear scikit-learn classifier that was
            fitted on the features (`LogisticRegression`, `LinearSVC`, `RidgeClassifier`,
            `SGDClassifier`, …; or a `Pipeline` of `StandardScaler` and one of these), whose
            coefficients become a Dense layer that answers as it does; or a Keras model or layer of
            your own from features to one output for each label, which is shared with the result.
        seed: Of the fresh head's weights.

    Returns:
        A functional `keras.Model` that is not compiled.

    Raises:
        DataError: Label names collide, or there are fewer than two.
        SurgeryError: The head takes other features, answers another number of labels, is not
            fitted, or not linear.

    Example:
        >>> from sklearn.linear_model import LogisticRegression
        >>> extractor = nns.feature_extractor(model)
        >>> probe = LogisticRegression(max_iter=500).fit(*nns.features(extractor, (x, y % 2)))
        >>> nns.attach_head(extractor, ["even", "odd"], probe).output_shape
        (None, 2)
    """
    names = checked_names(labels)
    base = copied(extractor)
    features = base.outputs[0]
    own = isinstance(head, layers.Layer)
    if not own and head is not None:
        kernel, bias = _coefficients(head, names, math.prod(features.shape[1:]))
    tensor = features
    for layer in [head] if own else _dense(names, base, seed):
        try:
            tensor = layer(tensor)
        except ValueError as error:
            raise SurgeryError(
                f"The head does not take features of shape {tuple(features.shape)}: "
                f"{' '.join(str(error).split())[:300]}"
            ) from error
    if len(tensor.shape) != 2 or tensor.shape[-1] != len(names):
        raise SurgeryError(
            f"The head must answer {len(names)} labels ({', '.join(names)}), one number for each. "
            f"Received: a head with outputs of shape {tuple(tensor.shape)}."
        )
    if not own and head is not None:
        layer.set_weights([kernel, bias])
    inputs, _ = structure(base)
    model = keras.Model(inputs, tensor, name=extractor.name.removesuffix("_features"))
    taught(model, extractor, names)
    return model


def taught(model: keras.Model, origin: keras.Model, names: Sequence[str]) -> None:
    """Write on a new model what it was made of and which labels it answers."""
    record = replace(
        whole_lineage(origin),
        head="parent",
        labels=(None,) * len(names),
        label_names=tuple(names),
        output=trace(model).outputs[0].name,
        taught=True,
    )
    set_lineage(model, record)


def checked_names(labels: Sequence[Any]) -> tuple[str, ...]:
    """Check the names of new labels.

    Raises:
        DataError: They collide, or are fewer than two.
    """
    if isinstance(labels, (str, bytes)) or not isinstance(labels, Sequence):
        raise DataError(f"`labels` must be a list of names. Received: {labels!r}.")
    names = tuple(str(name) for name in labels)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"Label names must differ. Received twice: {', '.join(twice)}.")
    if len(names) < 2:
        raise DataError(
            f"A head tells at least two labels apart. Received: {list(names)}. For yes or no name "
            'what it is told from as well, such as ["other", "trouser"].'
        )
    return names


def free_name(model: keras.Model, name: str) -> str:
    """Return a layer name that a model does not have."""
    known = {layer.name for layer in model.layers}
    while name in known:
        name += "_"
    return name


def _dense(names: tuple[str, ...], base: keras.Model, seed: int) -> list[Any]:
    start = keras.initializers.GlorotUniform(seed=seed)
    dense = layers.Dense(
        len(names),
        activation="softmax",
        kernel_initializer=start,
        name=free_name(base, "answer"),
        dtype="float32",
    )
    if len(base.outputs[0].shape) == 2:
        return [dense]
    return [layers.Flatten(name=free_name(base, "flatten_features")), dense]


def _coefficients(
    head: Any, names: tuple[str, ...], width: int
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return kernel and bias of a softmax that answers as a linear classifier does."""
    *before, last = [step for _, step in head.steps] if isinstance(head, Pipeline) else [head]
    parts = [getattr(last, name, None) for name in ("coef_", "intercept_", "classes_")]
    scaled = all(type(step) is StandardScaler for step in before)
    if not scaled or any(part is None for part in parts):
        raise SurgeryError(
            "Only linear classifiers that are fitted become a Dense layer (and a Pipeline of "
            f"StandardScaler and one of them). Received: {head!r}. Others work on what "
            "nns.features gives, beside the extractor; or pass a Keras model as the head."
        )
    coefficients, intercept, classes = (np.asarray(part) for part in parts)
    w, b = np.atleast_2d(coefficients.astype(np.float64)), np.ravel(intercept).astype(np.float64)
    if w.shape[1] != width:
        raise SurgeryError(
            f"The estimator was fitted on {w.shape[1]} features, and the extractor gives {width}."
        )
    if len(classes) != len(names):
        raise SurgeryError(
            f"The estimator tells {len(classes)} labels apart ({classes.tolist()}) and `labels` "
            f"has {len(names)} ({', '.join(names)}). Fit it on samples of each."
        )
    known = [str(name) for name in classes.tolist()]
    numbered = [str(i) for i in range(len(names))]
    if known not in (numbered, sorted(names)):
        raise SurgeryError(
            f"The estimator's labels {known} are neither the names in `labels`, {list(names)}, nor "
            "their numbers."
        )
    if len(w) == 1:
        # A score of one number for two classes: softmax of (0, score) is its sigmoid.
        w, b = np.vstack([np.zeros_like(w), w]), np.append(0.0, b)
    b = np.broadcast_to(b, len(w)).copy()
    for step in reversed(before):
        if step.scale_ is not None:
            w = w / step.scale_
        if step.mean_ is not None:
            b = b - w @ step.mean_
    order = list(range(len(names))) if known == numbered else [known.index(n) for n in names]
    return w[order].T.astype(np.float32), b[order].astype(np.float32)
