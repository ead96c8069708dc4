"""Retrain a Keras 3 model with tensorflow-model-optimization: pruning, clustering, int8 training.

That package knows tf_keras models only, and only masks: a pruned model keeps its size until its
file is compressed. Here the model goes to a tf_keras twin, is retrained there, and its weights
come back. Needs the extra ``keras-nns[tfmot]``.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace
from typing import Any

from tflite_export.converter import convert_trained
from tflite_export.errors import CalibrationWarning, OptionError
from tflite_export.retraining.training import Training
from tflite_export.variants import variant

__all__ = ["QuantizedTraining", "cluster_weights", "prune_weights", "train_quantized"]

# Share of the steps over which sparsity rises; the rest is for recovering.
_RISING = 0.75
_UPDATES = 25
_FEWEST_STEPS = 100
_QUANTIZED = ("int8", "int8_float")


@dataclass(frozen=True, eq=False)
class QuantizedTraining:
    """What training for int8 gives.

    Attributes:
        flat: The int8 flatbuffer, its ranges those of the training. `verify` holds it to `model`.
        model: A copy of the Keras 3 model with the retrained weights, in float32.

    Example:
        >>> done = tflite_export.train_quantized(model, x, y, epochs=3)
        >>> tflite_export.verify(done.flat, done.model, x_test).agreement
        0.9...
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
        >>> sparse = tflite_export.prune_weights(model, x, y, sparsity=0.8)
        >>> f"{(sparse.get_weights()[0] == 0).mean():.0%}"
        '80%'
    """
    if not 0 <= sparsity < 1:
        raise OptionError(f"sparsity must be from 0 to below 1. Received: {sparsity!r}.")
    training = Training(model, samples, targets, epochs, batch_size, learning_rate, seed)
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
        >>> few = tflite_export.cluster_weights(model, x, y, clusters=16)
        >>> len(np.unique(few.get_weights()[0])) <= 16
        True
    """
    if not isinstance(clusters, int) or clusters < 2:
        raise OptionError(f"clusters must be a whole number of 2 or more. Received: {clusters!r}.")
    training = Training(model, samples, targets, epochs, batch_size, learning_rate, seed)
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
        >>> done = tflite_export.train_quantized(model, x, y, epochs=3)
        >>> path = tflite_export.save(done.flat, "digits.tflite")
    """
    if quantize not in _QUANTIZED:
        raise OptionError(f"quantize must be one of {_QUANTIZED}. Received: {quantize!r}.")
    training = Training(model, samples, targets, epochs, batch_size, learning_rate, seed)
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
