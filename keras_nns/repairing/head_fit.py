"""Refit the head to the features that the subnetwork has, by a convex solver, and set its point."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from keras_nns.data.batches import Batch
from keras_nns.errors import DataError, SurgeryError
from keras_nns.judgement.points import best_threshold, operating_point
from keras_nns.judgement.question import Question, ask, question_of, whole_question
from keras_nns.observation.forward import Forward, run, settle_labels
from keras_nns.repairing.last_dense import Head, find_head
from keras_nns.repairing.patient import Gain, Step, Treatment
from keras_nns.repairing.regression import (
    WITHOUT_HEAD,
    Rounding,
    check_samples,
    checked_rounding,
    log_odds,
    logistic,
)
from keras_nns.surgery.copying import copied
from keras_nns.surgery.lineage import Lineage
from keras_nns.surgery.operating_points import BalancedDecisions


def calibrate_head(
    *,
    balance: bool | None = None,
    every_label: bool = False,
    rounding: Rounding | None = "int8",
) -> Step:
    """Refit the last Dense by logistic regression on the features that reach it.

    A convolution that looks at the only position there is, as in a model that answers
    `(samples, 1, 1, labels)`, is such a Dense. It may lie in a nested model that the model ends in.

    The head of a cut is the parent's, made for features of which most are gone. This one is fitted
    by scikit-learn to what is left: the penalty is chosen by 5-fold cross-validation of the log
    loss, on the given data alone, and the standardisation is folded into the weights. The problem
    is convex, so there is one answer and no seed.

    - Head `"binary"`: softmax and summing layer give way to one `Dense(1, "sigmoid")`. Its
      operating point is the one of best balanced accuracy on the cross-validated scores, folded
      into the bias, so that 0.5 is where to decide. The parent's best point on the same samples is
      noted in the lineage: `compare` and `evaluate` know of it.
    - Head `"other"`: likewise one `Dense(labels + 1, "softmax")`.
    - Heads `"labels"` and `"parent"`: the last Dense gets new weights: multinomial behind a
      softmax, one regression for each label behind sigmoids. `"labels"` looks at samples of its
      labels only.

    Unlike the other steps it holds the features of all samples: `samples × features` numbers.

    Args:
        balance: Weigh the answers alike, however many samples each has: what it takes for balanced
            accuracy. Probabilities are then those of a world with as many samples of each. None
            does so for `"binary"` and `"other"`, and leaves the others to the data's shares.
        every_label: For `"binary"` and `"other"`: keep the parent's outputs, refitted for all of
            its labels, and the layer that sums them. It costs as many weights for each label as the
            one output has, and can draw a curved line around the plan's labels where that draws a
            straight one.
        rounding: As in `least_squares`. None is scikit-learn's plain regression.

    Returns:
        A step for `repair`. Needs labels. Must come last, since it is fitted to the features.

    Example:
        >>> steps = (nns.steps.least_squares(), nns.steps.calibrate_head())
        >>> fixed = nns.repair(three, model, (x, y), steps=steps).model
    """
    return _CalibrateHead(balance, every_label, checked_rounding(rounding))


@dataclass(frozen=True)
class _CalibrateHead:
    balance: bool | None
    every_label: bool
    rounding: Rounding | None
    needs_labels: bool = True
    for_head: bool = True

    @property
    def name(self) -> str:
        given = [f"balance={self.balance}"] if self.balance is not None else []
        given += ["every_label=True"] if self.every_label else []
        given += ["rounding=None"] if self.rounding is None else []
        return f"calibrate_head({', '.join(given)})"

    def __call__(self, treatment: Treatment) -> None:
        record, names = treatment.record, treatment.division.label_names
        summed = record.head in ("binary", "other")
        anew = summed and not self.every_label
        head = find_head(treatment.model, record, anew=anew)
        ran = treatment.run("to_fit", Forward(head.features, None, trusted=True))
        labels, several = settle_labels(ran.labels, len(names), None)
        x, weights = ran.outputs[1].astype(np.float64), ran.weights
        asked_for = question_of(record, names, head.answers, treatment.model.name)
        if self.every_label and summed:
            question = whole_question(names)
            _check_outputs(treatment.model, head, len(names))
        else:
            question = asked_for
        truth = question.truth(labels)
        binary = record.head == "binary" and not self.every_label
        one_each = not binary and (head.activation == "softmax" or head.answers != truth.shape[1])
        if several and one_each:
            raise DataError(
                f"Model {treatment.model.name!r} gives each sample one answer, and samples of the "
                "data have none or several labels. Pass one label for each."
            )
        if one_each:
            # What has none of the answers was left out of the question.
            asked = truth.any(axis=1)
            x, truth = x[asked], truth[asked]
            weights = None if weights is None else weights[asked]
        # The answer asked for first: it is the one that samples are missing of.
        check_samples(self.name, truth[:, ::-1], question.answers[::-1], way=WITHOUT_HEAD)
        balance = summed if self.balance is None else self.balance
        rounded = self.rounding is not None
        if binary:
            fits = [logistic(x, truth[:, 1], balance, weights, rounded=rounded)]
            fits = [fits[0].at_best_point(truth[:, 1], [0], weights)]
        elif one_each:
            fits = [logistic(x, truth.argmax(axis=1), balance, weights, rounded=rounded)]
            if record.head == "binary":
                own = list(record.plan.labels)
                inside = np.asarray(truth[:, own].any(axis=1))
                fits = [fits[0].at_best_point(inside, own, weights)]
        else:
            fits = [logistic(x, column, balance, weights, rounded=rounded) for column in truth.T]
        kernel = np.concatenate([fit.kernel for fit in fits], axis=1)
        bias = np.concatenate([fit.bias for fit in fits])
        before = head.weights
        head.put(treatment, kernel, bias)
        decided = None
        if balance or record.head == "binary":
            theirs = ask(asked_for, ran.outputs[0], treatment.kind)
            decided = beside_parent(asked_for, theirs, labels, several, ran.weights)
        treatment.note_balanced(decided)
        after = before if not head.replaced else kernel.size + bias.size
        strengths = ", ".join(dict.fromkeys(f"{fit.strength:g}" for fit in fits))
        note = f"C={strengths}" + (", balanced" if balance else "")
        treatment.note(Gain(self.name, head.dense.name, "head weights", before, after, note))


def beside_parent(
    question: Question,
    theirs: NDArray[Any],
    labels: NDArray[Any],
    several: bool,
    weights: NDArray[np.float64] | None,
) -> BalancedDecisions:
    """Note on which samples decisions were set for balanced accuracy, and the parent's best point.

    Args:
        question: What the subnetwork answers.
        theirs: The parent's outputs, asked the same.
        labels: What is true, as `settle_labels` gives it.
        several: Whether a sample can have several labels.
        weights: How much each sample counts; None for all alike.
    """
    point = operating_point(
        question.truth(labels),
        theirs,
        several=several and question.head != "binary",
        weights=weights,
    )
    return BalancedDecisions(point.samples, point)


def at_half(model: Any, record: Lineage, batches: Iterable[Batch], names: Sequence[str]) -> Any:
    """Move a yes/no answer so that 0.5 is the point of best balanced accuracy on some samples.

    Args:
        model: A subnetwork of our own with a `"binary"` head, whose weights are changed.
        record: Where it comes from, and what it answers.
        batches: The samples.
        names: Names of all the parent's labels.

    Returns:
        The model; a copy where its last Dense had no bias.

    Raises:
        SurgeryError: The answer does not come from a Dense of the model's own.
    """
    head = find_head(model, record, anew=False)
    if head.dense.bias is None:
        model = copied(model, bias=head.path)
        head = find_head(model, record, anew=False)
    own = list(record.plan.labels) if head.dense.kernel.shape[-1] > 1 else [0]
    ran = run([Forward(head.features, None, trusted=True)], batches)
    labels, _ = settle_labels(ran.labels, len(names), None)
    truth = question_of(record, names, head.answers, model.name).truth(labels)[:, 1]
    bias = np.asarray(head.dense.bias, dtype=np.float64)
    logits = ran.outputs[0].astype(np.float64) @ head.kernel + bias
    bias[own] -= best_threshold(truth, log_odds(logits, own), ran.weights)
    head.dense.bias.assign(bias)
    return model


def _check_outputs(model: Any, head: Head, labels: int) -> None:
    if head.dense.kernel.shape[-1] != labels or head.activation == "sigmoid":
        raise SurgeryError(
            f"calibrate_head(every_label=True) refits a softmax of {labels} labels. Received: "
            f"{head.dense.name!r} of {model.name!r}, {head.activation} with "
            f"{head.dense.kernel.shape[-1]} outputs. Leave every_label out."
        )
