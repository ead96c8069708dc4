"""Retrain a Keras 3 model with tensorflow-model-optimization: pruning, clustering, int8 training.

That package knows tf_keras models only, and only masks: a pruned model keeps its size until its
file is compressed. Here the model goes to a tf_keras twin, is retrained there, and its weights
come back. Needs the extra ``keras-nns[tfmot]``.
"""

from __future__ import annotations

import contextlib
import importlib
import logging
import math
import os
import random
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import tensorflow as tf

from tflite_export.conversion.calibration import target_indices
from tflite_export.converter import convert_trained
from tflite_export.errors import CalibrationWarning, ConversionError, OptionError
from tflite_export.keras_model.samples import arrays
from tflite_export.keras_model.source import Source, predict, source
from tflite_export.retraining.twin import Twin, twin
from tflite_export.running.silence import captured, quiet_logger
from tflite_export.variants import variant

__all__ = ["QuantizedTraining", "cluster_weights", "prune_weights", "train_quantized"]

Array = np.ndarray[Any, Any]
# Share of the steps over which sparsity rises; the rest is for recovering.
_RISING = 0.75
_UPDATES = 25
_LOOKED_AT = 256
_FEWEST_STEPS = 100
_QUANTIZED = ("int8", "int8_float")


@dataclass(frozen=True, eq=False)
class QuantizedTraining:
    """What training for int8 gives.

    Attributes:
        flat: The int8 flatbuffer, its ranges those of the training. `verify` holds it to `model`.
        model: A copy of the Keras 3 model with the retrained weights, in float32.

    Example:
        >>> done = train_quantized(model, x_train, y_train)        # doctest: +SKIP
        >>> verify(done.flat, done.model, x_test)                  # doctest: +SKIP
    """

    flat: bytes
    model: Any


def prune_weights(
    model: Any,
    samples: Any,
    targets: Any,
    *,
    sparsity: float = 0.5,
    epochs: int = 2,
    batch_size: int = 32,
    learning_rate: float = 1e-3,
    seed: int = 0,
) -> Any:
    """Set the smallest weights to zero while training: TFMOT's own schedule, as a baseline.

    Sparsity rises to its end over the first three quarters of the steps by TFMOT's
    `PolynomialDecay`. The model keeps its shapes, its arithmetic and its latency; only the
    compressed file gets smaller. To make a network really smaller, cut units out of it.

    Args:
        model: A Sequential or functional Keras 3 model of built-in layers that ends in
            probabilities (softmax, or one sigmoid). It is not changed.
        samples: Training inputs, as for `model.fit`.
        targets: The position in the output that is right for each sample; 0 or 1 for a model
            with one probability.
        sparsity: Share of each kernel's weights that shall be zero in the end.
        epochs: How often to go through the samples.
        batch_size: Samples in a step.
        learning_rate: Of Adam.
        seed: Of the order of the samples.

    Returns:
        A Keras 3 model of the same layers with the pruned weights. `model.set_weights(
        pruned.get_weights())` puts them into a model that you have.

    Raises:
        ConversionError: The extra is missing, or a layer is unknown to tf_keras or TFMOT.
        OptionError: An argument does not fit.

    Example:
        >>> sparse = prune_weights(model, x, y, sparsity=0.8)      # doctest: +SKIP
    """
    if not 0 <= sparsity < 1:
        raise OptionError(f"sparsity must be from 0 to below 1. Received: {sparsity!r}.")
    training = _Training(model, samples, targets, epochs, batch_size, learning_rate, seed)
    api = training.tfmot.sparsity.keras
    end = max(1, math.floor(_RISING * training.steps))
    schedule = api.PolynomialDecay(0.0, sparsity, 0, end, frequency=max(1, end // _UPDATES))
    return training.run(
        lambda net: api.prune_low_magnitude(net, pruning_schedule=schedule),
        api.strip_pruning,
        callbacks=lambda: [api.UpdatePruningStep()],
    )


def cluster_weights(
    model: Any,
    samples: Any,
    targets: Any,
    *,
    clusters: int = 16,
    epochs: int = 1,
    batch_size: int = 32,
    learning_rate: float = 1e-4,
    seed: int = 0,
) -> Any:
    """Let each kernel keep few different values, training them together.

    The file keeps its size and its latency; compressed, it gets smaller.

    Args:
        model: As for `prune_weights`.
        samples: Training inputs, as for `model.fit`.
        targets: As for `prune_weights`.
        clusters: Number of different values in each kernel, at least 2.
        epochs: How often to go through the samples.
        batch_size: Samples in a step.
        learning_rate: Of Adam.
        seed: Of the order of the samples.

    Returns:
        A Keras 3 model of the same layers with the clustered weights.

    Raises:
        ConversionError: The extra is missing, or a layer is unknown to tf_keras or TFMOT.
        OptionError: An argument does not fit.

    Example:
        >>> few = cluster_weights(small, x, y, clusters=16)        # doctest: +SKIP
        >>> flat = convert(few, quantize="weight_int8")            # doctest: +SKIP
    """
    if not isinstance(clusters, int) or clusters < 2:
        raise OptionError(f"clusters must be a whole number of 2 or more. Received: {clusters!r}.")
    training = _Training(model, samples, targets, epochs, batch_size, learning_rate, seed)
    api = training.tfmot.clustering.keras
    return training.run(
        lambda net: api.cluster_weights(
            net,
            number_of_clusters=clusters,
            cluster_centroids_init=api.CentroidInitialization.KMEANS_PLUS_PLUS,
        ),
        api.strip_clustering,
    )


def train_quantized(
    model: Any,
    samples: Any,
    targets: Any,
    *,
    quantize: str = "int8",
    epochs: int = 2,
    batch_size: int = 32,
    learning_rate: float = 1e-4,
    seed: int = 0,
) -> QuantizedTraining:
    """Train a model with the rounding of int8 in place, and convert it.

    For models that lose too much by `convert(quantize="int8")`. `add_metadata` gives the file
    its labels.

    Args:
        model: As for `prune_weights`.
        samples: Training inputs, as for `model.fit`.
        targets: As for `prune_weights`.
        quantize: `"int8"`, or `"int8_float"` for float inputs and outputs.
        epochs: How often to go through the samples.
        batch_size: Samples in a step.
        learning_rate: Of Adam.
        seed: Of the order of the samples.

    Returns:
        The flatbuffer and the retrained Keras 3 model.

    Raises:
        ConversionError: The extra is missing, or a layer is unknown to tf_keras or TFMOT.
        OptionError: An argument does not fit.

    Warns:
        CalibrationWarning: The steps are too few for the ranges of activations to settle.

    Example:
        >>> done = train_quantized(small, x_train, y_train)        # doctest: +SKIP
        >>> save(add_metadata(done.flat, labels=["yes"]), "a.tflite")  # doctest: +SKIP
    """
    if quantize not in _QUANTIZED:
        raise OptionError(f"quantize must be one of {_QUANTIZED}. Received: {quantize!r}.")
    training = _Training(model, samples, targets, epochs, batch_size, learning_rate, seed)
    if training.steps < _FEWEST_STEPS:
        warnings.warn(
            f"only {training.steps} steps of training: the ranges of activations, which TFMOT "
            f"measures by a slow average, settle after {_FEWEST_STEPS} or more. Pass more samples "
            "or epochs, or a smaller batch_size.",
            CalibrationWarning,
            stacklevel=2,
        )
    made: list[Any] = []

    def finished(net: Any) -> Any:
        made.append(net)
        return net

    returned = training.run(training.tfmot.quantization.keras.quantize_model, finished)
    (net,) = made

    def call(flat: Any) -> list[Any]:
        answers = net(list(flat) if len(flat) > 1 else flat[0], training=False)
        return list(answers) if isinstance(answers, (list, tuple)) else [answers]

    origin = replace(training.origin, call=call, variables=tuple(net.variables))
    flat = convert_trained(origin, variant(quantize), training.values)
    return QuantizedTraining(flat, returned)


class _Training:
    """One retraining: the arguments checked, the twin built, its weights brought back."""

    def __init__(  # noqa: PLR0917 - what the public functions take, in their order
        self,
        model: Any,
        samples: Any,
        targets: Any,
        epochs: int,
        batch_size: int,
        learning_rate: float,
        seed: int,
    ) -> None:
        for name, value in (("epochs", epochs), ("batch_size", batch_size)):
            if not isinstance(value, int) or value < 1:
                raise OptionError(
                    f"{name} must be a whole number of 1 or more. Received: {value!r}."
                )
        if not learning_rate > 0:
            raise OptionError(f"learning_rate must be above 0. Received: {learning_rate!r}.")
        self.origin = source(model)
        self.values = arrays(samples, self.origin.inputs, OptionError)
        self.loss, self.targets = _question(self.origin, self.values, targets)
        self.tf_keras, self.tfmot = _modules()
        self.model = model
        self.epochs, self.batch_size = epochs, batch_size
        self.learning_rate, self.seed = learning_rate, seed

    @property
    def steps(self) -> int:
        """Steps of the whole training."""
        return self.epochs * math.ceil(len(self.targets) / self.batch_size)

    def run(
        self,
        wrap: Callable[[Any], Any],
        strip: Callable[[Any], Any],
        callbacks: Callable[[], list[Any]] = list,
    ) -> Any:
        """Wrap the twin, train it, strip it; gives a Keras 3 model with its weights."""
        with _undisturbed():
            pair = twin(self.model, self.tf_keras)
            try:
                net = wrap(pair.model)
            except (ValueError, RuntimeError, TypeError) as error:
                raise ConversionError(
                    "tensorflow-model-optimization cannot work on model "
                    f"{self.model.name!r}: {' '.join(str(error).split())[:400]}"
                ) from error
            optimizer = self.tf_keras.optimizers.Adam(self.learning_rate)
            net.compile(optimizer, self.loss)
            self._fit(net, callbacks)
            return pair.returned(self.model, _weights(pair, strip(net)))

    def _fit(self, net: Any, callbacks: Callable[[], list[Any]]) -> None:
        rng = np.random.default_rng(self.seed)
        for _ in range(self.epochs):
            order = rng.permutation(len(self.targets))
            shuffled = [array[order] for array in self.values]
            net.fit(
                shuffled if len(shuffled) > 1 else shuffled[0],
                self.targets[order],
                batch_size=self.batch_size,
                shuffle=False,
                verbose=0,
                callbacks=callbacks(),
            )


def _weights(pair: Twin, net: Any) -> dict[str, list[Array]]:
    """Arrays of every twin layer, out of a network that was wrapped and trained.

    Wrappers for int8 hold the variables under their old names in an order of their own; what is
    stripped of clustering has new names and the old order.
    """
    values = {variable.name: variable.numpy() for variable in net.weights}
    found = {}
    for name, names in pair.names.items():
        if all(each in values for each in names):
            found[name] = [values[each] for each in names]
        else:
            found[name] = net.get_layer(name).get_weights()
    return found


def _question(origin: Source, values: list[Array], targets: Any) -> tuple[str, Array]:
    """Say by what loss a model's answers are judged, and give its targets in that form."""
    answers = predict(origin, [array[:_LOOKED_AT] for array in values])
    if len(answers) != 1 or answers[0].ndim != 2:
        raise OptionError(
            "retraining needs a model with one output that decides between labels; this one has "
            f"outputs of shapes {[answer.shape for answer in answers]}."
        )
    answer = answers[0]
    width = answer.shape[1]
    indices = target_indices(targets, len(values[0]), width)
    shares = answer.min() >= 0 and answer.max() <= 1
    if width == 1 and shares:
        return "binary_crossentropy", indices.astype(np.float32)[:, None]
    if width > 1 and shares and np.allclose(answer.sum(axis=1), 1, atol=1e-3):
        return "sparse_categorical_crossentropy", indices
    raise OptionError(
        f"output {origin.outputs[0].name!r} gives no probabilities: it lies in "
        f"[{answer.min():.3g}, {answer.max():.3g}]. Add a softmax, or a sigmoid for one output."
    )


def _modules() -> tuple[Any, Any]:
    """Import tf_keras and TFMOT, keeping what importing them changes to themselves."""
    # TFMOT asks tf.keras for its version with Keras 2 switched on: settled before, tf.keras
    # stays what it is for the user.
    getattr(tf.keras, "version", None)
    before = os.environ.get("TF_USE_LEGACY_KERAS")
    failure: ImportError | None = None
    with captured():
        try:
            tf_keras = importlib.import_module("tf_keras")
            tfmot = importlib.import_module("tensorflow_model_optimization")
        except ImportError as error:
            failure = error
        finally:
            if before is None:
                os.environ.pop("TF_USE_LEGACY_KERAS", None)
            else:
                os.environ["TF_USE_LEGACY_KERAS"] = before
    if failure is not None:
        raise ConversionError(
            f"this needs tensorflow-model-optimization and tf_keras ({failure}): pip install "
            "'keras-nns[tfmot]'."
        ) from failure
    return tf_keras, tfmot


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Give back the global random states that tf_keras draws its seeds from."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        # TensorFlow counts retracings over all that was ever trained in the process.
        with warnings.catch_warnings(), quiet_logger(logging.getLogger("tensorflow")):
            # What TFMOT and tf_keras use that is deprecated is nothing a caller can act on.
            warnings.simplefilter("ignore")
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
