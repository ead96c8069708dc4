"""Make a head as sure as it is right: one temperature for all of its logits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import expit, softmax

from keras_nns.data.batches import unweighted
from keras_nns.engine.derivatives import unrecorded
from keras_nns.judgement.question import Question, question_of
from keras_nns.observation.forward import Forward, run, settle_labels
from keras_nns.repairing.last_dense import Head, find_head
from keras_nns.repairing.patient import Gain, Step, Treatment
from keras_nns.repairing.regression import check_samples

_RANGE = (np.log(0.02), np.log(50.0))
_TINY = 1e-7


def calibrate_temperature(*, balance: bool | None = None) -> Step:
    """Divide the logits by the one number that makes the probabilities most true.

    Temperature scaling (Guo et al. 2017, *On Calibration of Modern Neural Networks*): the number
    minimises the log loss of the head's answers on the given data, and the last Dense's weights are
    divided by it. A cut network is often too sure, since it was fitted on few units to answers that
    were sure. Which of a softmax's answers is highest, and on which side of 0.5 a yes or no lies,
    does not change; where a head sums probabilities of several labels it may.

    Args:
        balance: Weigh the answers alike, however many samples each has, as in `calibrate_head`,
            and by default where that does. False calibrates to the data's shares.

    Returns:
        A step for `repair`. Needs labels. Goes behind everything that changes what reaches the
        head, and behind `calibrate_head`.

    Example:
        >>> steps = (nns.steps.least_squares(), nns.steps.calibrate_temperature())
        >>> fixed = nns.repair(three, model, (x, y), steps=steps).model
    """
    return _CalibrateTemperature(balance)


@dataclass(frozen=True)
class _CalibrateTemperature:
    balance: bool | None
    needs_labels: bool = True
    for_head: bool = True

    @property
    def name(self) -> str:
        said = "" if self.balance is None else f"balance={self.balance}"
        return f"calibrate_temperature({said})"

    def __call__(self, treatment: Treatment) -> None:
        record, division = treatment.record, treatment.division
        head = find_head(treatment.model, record, anew=False)
        names = division.label_names
        question = question_of(record, names, head.answers, treatment.model.name)
        summed = record.head in ("binary", "other")
        balance = summed if self.balance is None else self.balance

        features = Forward(head.features, None, trusted=True)

        def look(batches: Any) -> _Samples:
            ran = run([features], unweighted(batches, self.name))
            settled = settle_labels(ran.labels, len(names), None)
            return _Samples.of(head, question, ran.outputs[0], settled, balance=balance)

        samples = look(division.to_fit())
        check_samples(self.name, samples.truth[:, ::-1], question.answers[::-1])
        found = minimize_scalar(
            lambda log: samples.loss(float(np.exp(log))), bounds=_RANGE, method="bounded"
        )
        temperature = float(np.exp(found.x))
        if samples.loss(temperature) >= samples.loss(1.0):
            temperature = 1.0
        judged = look(division.held_out())
        before, after = judged.loss(1.0), judged.loss(temperature)
        for weight in (head.dense.kernel, head.dense.bias):
            if weight is not None:
                weight.assign(weight / temperature)
        note = f"temperature {temperature:.3g}" + (", balanced" if balance else "")
        treatment.note(Gain(self.name, head.dense.name, "log loss", before, after, note))


@dataclass(frozen=True, eq=False)
class _Samples:
    """Logits of samples, and which answers are right."""

    head: Head
    logits: NDArray[np.float32]
    truth: NDArray[np.bool_]
    weight: NDArray[np.float64]
    several: bool

    @classmethod
    def of(
        cls,
        head: Head,
        question: Question,
        features: NDArray[Any],
        settled: tuple[NDArray[Any], bool],
        *,
        balance: bool,
    ) -> _Samples:
        labels, several = settled
        truth = question.truth(labels)
        # Sigmoids beside each other each say yes or no, however many of them are right.
        alone = head.activation == "sigmoid" and head.answers == truth.shape[1]
        several = (several or alone) and question.head != "binary"
        asked = np.ones(len(truth), np.bool_) if several else np.asarray(truth.any(axis=1))
        dense, truth = head.dense, truth[asked]
        logits = features[asked] @ head.kernel
        if dense.bias is not None:
            logits = logits + np.asarray(dense.bias)
        weight = np.ones(len(truth))
        if balance and not several:
            counts = truth.sum(axis=0)
            weight = 1.0 / counts[truth.argmax(axis=1)]
        return cls(head, logits.astype(np.float32), truth, weight, several)

    def loss(self, temperature: float) -> float:
        """Return the mean log loss of the answers at a temperature."""
        outputs = self._outputs(temperature)
        width = self.truth.shape[1]
        if self.head.activation == "linear" and not self._summed:
            alone = self.several or outputs.shape[1] == 1
            outputs = expit(outputs) if alone else softmax(outputs, axis=1)
        if outputs.shape[1] == 1 and width == 2:
            outputs = np.hstack([1 - outputs, outputs])
        right = np.where(self.truth, outputs, 1 - outputs) if self.several else outputs
        chosen = right if self.several else right[self.truth][:, None]
        losses = -np.log(np.clip(chosen, _TINY, 1.0)).sum(axis=1)
        return float(np.average(losses, weights=self.weight))

    @property
    def _summed(self) -> bool:
        return any(hasattr(layer, "kernel") for layer in self.head.behind)

    def _outputs(self, temperature: float) -> NDArray[np.float64]:
        with unrecorded():
            values: Any = self.head.dense.activation(
                ops.convert_to_tensor(self.logits / temperature)
            )
            for layer in self.head.behind:
                values = layer(values, training=False)
        return np.asarray(values, dtype=np.float64)
