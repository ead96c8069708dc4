"""Feature extraction: a trained network without its head, and what it says of other data."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Literal

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from keras_nns.data.batches import Batch, as_batches, unweighted
from keras_nns.engine import datasets
from keras_nns.engine.datasets import Spec
from keras_nns.errors import DataError, SurgeryError
from keras_nns.graph.keras_internals import calls, is_graph, structure, undisturbed
from keras_nns.graph.tracing import Graph, trace, weights_digest
from keras_nns.observation.forward import Forward, settle_labels
from keras_nns.progress import Verbose, track
from keras_nns.repairing.patient import refuse_state
from keras_nns.surgery.copying import copied
from keras_nns.surgery.endings import head_of, hidden_inputs, whole_lineage
from keras_nns.surgery.lineage import set_lineage
from keras_nns.training.loop import random_untouched

Pooling = Literal["avg", "max"]

_POOLS = {
    ("avg", 3): layers.GlobalAveragePooling1D,
    ("avg", 4): layers.GlobalAveragePooling2D,
    ("avg", 5): layers.GlobalAveragePooling3D,
    ("max", 3): layers.GlobalMaxPooling1D,
    ("max", 4): layers.GlobalMaxPooling2D,
    ("max", 5): layers.GlobalMaxPooling3D,
}


@random_untouched()
def feature_extractor(
    model: keras.Model, up_to: str | None = None, *, pooling: Pooling | None = None
) -> Any:
    """Return a frozen copy of a network up to one of its layers.

    Every layer has `trainable=False`, with which Keras runs batch norms in inference mode, also
    while a new head is trained behind them.

    Args:
        model: A subnetwork from `cut`, or any Sequential or functional model. It is not changed.
        up_to: Name of the layer whose output is the features. None: what the Dense layers at the
            end are called on, since hidden ones right before the head know little but the labels it
            had (Yosinski et al. 2014, "How transferable are features in deep neural networks?").
            Where there are none but Dense layers, what the last is called on.
        pooling: `"avg"` or `"max"`: over pixels or steps, as in `keras.applications`. None leaves
            the features in their shape.

    Returns:
        A functional `keras.Model` from the same inputs to the features. `lineage` tells what it was
        made of.

    Raises:
        SurgeryError: The model does not end in a Dense and no layer is named, or there is none of
            that name, or its output cannot be pooled.
        ModelError: The model has no graph to read, or a layer is stateful.

    Example:
        >>> extractor = nns.feature_extractor(model)
        >>> extractor.predict(x_test, verbose=0).shape
        (597, 16)
    """
    refuse_state(model)
    record = whole_lineage(model)
    new = copied(model)
    tensor = _general(new, head_of(new, record)[1]) if up_to is None else output_of(new, up_to)
    if pooling is not None:
        made = _POOLS.get((pooling, len(tensor.shape)))
        if made is None:
            raise SurgeryError(
                f"`pooling` is 'avg' or 'max' and takes pixels or steps to pool. Received: "
                f"pooling={pooling!r} for features of shape {tuple(tensor.shape)}."
            )
        tensor = made(name="pooled")(tensor)
    inputs, _ = structure(new)
    extractor = keras.Model(inputs, tensor, name=f"{model.name}_features")
    for layer in leaves(trace(extractor)).values():
        layer.trainable = False
    name = tensor._keras_history.operation.name
    set_lineage(
        extractor,
        replace(record, head="parent", labels=(), label_names=(), output=name, taught=True),
    )
    return extractor


def features(
    extractor: keras.Model,
    data: Any,
    y: Any = None,
    *,
    batch_size: int = 256,
    label_names: Sequence[Any] | None = None,
    label_count: int | None = None,
    verbose: Verbose = "auto",
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Run data through an extractor once, and keep what comes out.

    One batch of inputs is in memory at a time; the features of all are. They are what any
    scikit-learn estimator takes: `LogisticRegression().fit(*nns.features(extractor, data))`.

    Args:
        extractor: What `feature_extractor` gave, or any model.
        data: As `keras_nns.observe` takes it. Its labels are its own: they have nothing to
            do with those the network was trained on.
        y: Labels, where `data` is inputs alone.
        batch_size: Samples in a batch, for arrays and paths.
        label_names: Name of every label, in the order of their numbers. Without it strings are
            numbered in alphabetical order.
        label_count: Number of labels, for streams that do not show it.
        verbose: Whether to show a progress bar; `"auto"` on a terminal.

    Returns:
        Features, float32 `(samples, …)`, and label numbers, int64 `(samples,)`; bool
        `(samples, labels)` where samples have several labels.

    Raises:
        DataError: The data does not fit the extractor, or the features are NaN or infinite.

    Example:
        >>> extractor = nns.feature_extractor(resnet)
        >>> features, labels = nns.features(extractor, "photos")
        >>> features.shape, labels.shape
        ((150, 8), (150,))
    """
    batches = as_batches(
        data,
        y,
        model=extractor,
        batch_size=batch_size,
        label_names=label_names,
        label_count=label_count,
        own_labels=True,
    )
    shown = track(
        unweighted(batches, "features"), "features", total=batches.batches, verbose=verbose
    )
    found = list(streamed(extractor, shown))
    labels = np.concatenate([batch.labels for batch in found])
    if labels.ndim == 2:
        labels, _ = settle_labels(labels, labels.shape[1], None)
    return np.concatenate([batch.inputs for batch in found]), labels


def feature_dataset(
    extractor: keras.Model,
    data: Any,
    y: Any = None,
    *,
    cache: str | os.PathLike[str],
    batch_size: int = 256,
    label_names: Sequence[Any] | None = None,
    label_count: int | None = None,
) -> Any:
    """Return features as a `tf.data.Dataset` that computes them once, into a file.

    For features that are too many for memory. The first pass runs the extractor and writes them;
    every other reads. The names of the files begin with `cache` and a digest of the extractor's
    weights, so that features of another network are never taken for these. Delete the files when
    the data changes, or when the first pass was cut short (the next pass then warns or fails).

    Args:
        extractor: As in `features`.
        data: As in `features`; it must come in the same order in every pass.
        y: As in `features`.
        cache: Where to write: the beginning of file names.
        batch_size: As in `features`.
        label_names: As in `features`.
        label_count: As in `features`.

    Returns:
        Batches of (features, label numbers), for `model.fit`.

    Raises:
        DataError: As in `features`, or the data can be read once only.

    Example:
        >>> extractor = nns.feature_extractor(resnet)
        >>> ready = nns.feature_dataset(extractor, "photos", cache="ready")
        >>> ready.element_spec[0].shape
        TensorShape([None, 8])
    """
    batches = as_batches(
        data,
        y,
        model=extractor,
        batch_size=batch_size,
        label_names=label_names,
        label_count=label_count,
        own_labels=True,
    )
    if not batches.repeatable:
        raise DataError(
            "The data is an iterator, which can be read once. Pass arrays, a tf.data.Dataset, or a "
            "function that returns a new iterator."
        )
    first = next(iter(batches))
    several = first.labels.ndim == 2

    def rows() -> Iterator[tuple[Any, Any]]:
        for batch in streamed(extractor, unweighted(batches, "feature_dataset")):
            yield batch.inputs, batch.labels

    spec = (
        Spec((None, *extractor.outputs[0].shape[1:])),
        Spec((None, None), "bool") if several else Spec((None,), "int64"),
    )
    made = datasets.from_generator(rows, spec, cardinality=batches.batches)
    return datasets.cached(made, f"{os.fspath(cache)}-{weights_digest(extractor)[:12]}")


def streamed(extractor: keras.Model, batches: Iterable[Batch]) -> Iterator[Batch]:
    """Put features in the place of inputs, batch by batch, in inference mode.

    Raises:
        DataError: The features are NaN or infinite.
    """
    step = Forward(extractor, None)
    with undisturbed(extractor):
        for batch in batches:
            found = np.asarray(step(batch.inputs))
            if not np.isfinite(found).all():
                raise DataError(
                    f"Model {extractor.name!r} gives NaN or infinity as features. Look for NaN in "
                    "the inputs and in the model's weights."
                )
            yield Batch(found, batch.labels, batch.weights)


def leaves(graph: Graph) -> dict[str, Any]:
    """Return the layers of a model by path, those of nested models too, in order of computation."""
    found: dict[str, Any] = {}
    for traced in graph.calls.values():
        operation = traced.call.operation
        if isinstance(operation, keras.Layer) and not is_graph(operation):
            found.setdefault(traced.call.path, operation)
    return found


def learns(layer: Any) -> bool:
    """Return whether a layer has weights that learn and no batch norm, whose mean would move."""
    settled = (layers.BatchNormalization, layers.Normalization)
    if any(isinstance(one, settled) for one in layer._flatten_layers()):
        return False
    return any("float" in str(weight.dtype) for weight in layer.weights)


def _general(model: keras.Model, tensor: Any) -> Any:
    """Return what hidden Dense layers before the head read, where something below was learnt."""
    inputs, _ = structure(model)
    below = list(hidden_inputs(tensor))[-1:]
    for before in below:
        if any(map(learns, leaves(trace(keras.Model(inputs, before))).values())):
            return before
    return tensor


def output_of(model: keras.Model, name: str) -> Any:
    """Return the symbolic tensor that a layer gives, at its last call.

    Raises:
        SurgeryError: There is no such layer, or it gives several.
    """
    found = None
    for call, _ in calls(model):
        if call.path == name:
            found = call.outputs
    if found is None:
        raise SurgeryError(f"No layer is named {name!r}. Expected one of {_names(model)}.")
    if len(found) != 1:
        raise SurgeryError(f"Layer {name!r} has {len(found)} outputs. Name one that has one.")
    return found[0]


def _names(model: keras.Model) -> list[str]:
    return [call.path for call, _ in calls(model)]
