"""One retraining by tensorflow-model-optimization: the twin trained, its weights brought back."""

from __future__ import annotations

import contextlib
import importlib
import math
import os
import random
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from tflite_export.errors import ConversionError, OptionError
from tflite_export.keras_model.decisions import target_indices
from tflite_export.keras_model.samples import arrays
from tflite_export.keras_model.source import Source, predict, source
from tflite_export.retraining.twin import Twin, twin
from tflite_export.running.loggers import held_back
from tflite_export.running.silence import captured
from tflite_export.running.thread_warnings import caught_here

Array = np.ndarray[Any, Any]
_LOOKED_AT = 256


class Training:
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
        # What TFMOT and tf_keras use that is deprecated is nothing a caller can act on.
        with held_back([], "tensorflow"), caught_here([]):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
