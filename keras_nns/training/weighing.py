"""Keras's `Distiller` with sample weights, which it takes and leaves out (Keras 3.15)."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops
from keras.distillation import Distiller, LogitsDistillation

from keras_nns.data.targets import IGNORED


class _Weights:
    """The weights of the samples that a loss is computed for; None where all count alike."""

    now: Any = None

    def beside(self, outputs: Any) -> Any:
        """Return the weights for losses of outputs `(samples, *positions, answers)`."""
        if self.now is None:
            return None
        return ops.reshape(self.now, (-1, *[1] * (len(outputs.shape) - 2)))


class _Weighed:
    """A loss of Keras that weighs samples, however it is called."""

    weights: _Weights

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        return super().__call__(  # type: ignore[misc]
            y_true, y_pred, sample_weight=self.weights.beside(y_pred)
        )


class _KLDivergence(_Weighed, keras.losses.KLDivergence): ...


class _MeanSquaredError(_Weighed, keras.losses.MeanSquaredError): ...


class _Crossentropy(_Weighed, keras.losses.SparseCategoricalCrossentropy): ...


class _AnsweredCrossentropy(_Crossentropy):
    """What it is on average over all samples, of which those of no right answer add nothing.

    Keras's `ignore_class` is an average over the others, which the fewer weigh the more.
    """

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        answered = ops.not_equal(y_true, IGNORED)
        weights = ops.cast(answered, y_pred.dtype)
        beside = self.weights.beside(y_pred)
        if beside is not None:
            weights = weights * ops.reshape(beside, (-1, *[1] * (len(weights.shape) - 1)))
        right = ops.where(answered, y_true, ops.zeros_like(y_true))
        return keras.losses.Loss.__call__(self, right, y_pred, sample_weight=weights)


class WeighingDistiller(Distiller):
    """Teaches a student by its teacher's answers and by targets, each sample by its weight.

    A weight multiplies what a sample adds to both losses, as in Keras's `fit`.

    Args:
        teacher: From inputs to logits, or to numbers.
        student: Likewise.
        numbers: Whether they give numbers, compared by their squared error.
        temperature: What logits of both are divided by.
        share: Share of the targets in the loss.
        positions: Whether targets are of positions, of which those without one count nowhere. Of
            samples without one the teacher's answers count.
    """

    def __init__(
        self,
        teacher: keras.Model,
        student: keras.Model,
        *,
        numbers: bool,
        temperature: float,
        share: float,
        positions: bool,
    ) -> None:
        # Not by name: Keras takes softmax of the logits for an instance of KLDivergence alone.
        by_parent = _MeanSquaredError() if numbers else _KLDivergence()
        super().__init__(
            teacher=teacher,
            student=student,
            distillation_losses=LogitsDistillation(temperature=temperature, loss=by_parent),
            student_loss_weight=share,
        )
        self.by_targets: Any
        if numbers:
            self.by_targets = _MeanSquaredError()
        elif positions:
            self.by_targets = _Crossentropy(from_logits=True, ignore_class=IGNORED)
        else:
            self.by_targets = _AnsweredCrossentropy(from_logits=True)
        self.weights_of_samples = by_parent.weights = self.by_targets.weights = _Weights()

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """Compute both losses, weighed."""
        self.weights_of_samples.now = sample_weight
        return super().compute_loss(x, y, y_pred, sample_weight, training)
