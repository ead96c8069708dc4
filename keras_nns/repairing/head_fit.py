"""Refit the head to the features that the subnetwork has, by a convex solver, and set its point."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from keras import activations, layers, tree
from numpy.typing import NDArray

from keras_nns.data.batches import Batch
from keras_nns.data.labels import answers_once
from keras_nns.errors import DataError, SurgeryError
from keras_nns.graph.keras_internals import functional, structure
from keras_nns.graph.rules.elementwise import standard
from keras_nns.judgement.points import best_threshold, operating_point
from keras_nns.judgement.question import Question, ask, question_of, whole_question
from keras_nns.observation.forward import Forward, run, settle_labels
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
from keras_nns.surgery.endings import backwards, is_own
from keras_nns.surgery.lineage import Lineage, answering_place
from keras_nns.surgery.operating_points import BalancedDecisions


def calibrate_head(
    *,
    balance: bool | None = None,
    every_label: bool = False,
    rounding: Rounding | None = "int8",
) -> Step:
    """Refit the last Dense by logistic regression on the features that reach it.

    A convolution that looks at the only position there is, as in a model that answers
    `(samples, 1, 1, labels)`, is such a Dense.

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
        ran = treatment.run("to_fit", Forward(head.features, None))
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
        model = copied(model, bias=head.dense.name)
        head = find_head(model, record, anew=False)
    own = list(record.plan.labels) if head.dense.kernel.shape[-1] > 1 else [0]
    ran = run([(head.features, None)], batches)
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


@dataclass(frozen=True, eq=False)
class Head:
    """The end of a subnetwork.

    Attributes:
        dense: The last Dense with weights of its own; or a convolution that is one, on the only
            position that there is.
        features: A model from the subnetwork's inputs to what that Dense is called on.
        activation: `"softmax"`, `"sigmoid"` or `"linear"`.
        answers: How many outputs the subnetwork has.
        behind: Layers behind the Dense, in order.
        index: Place of the answering output among the model's outputs.
        replaced: Whether one new layer takes the place of all of it.
        name: Of that layer.
        squeezed: Whether it answers in rows, where the Dense is called on a position.
    """

    dense: Any
    features: Any
    activation: str
    answers: int
    behind: tuple[Any, ...]
    index: int
    replaced: bool
    name: str
    squeezed: bool

    @property
    def kernel(self) -> NDArray[Any]:
        """The weights of the last Dense, `(features, outputs)`."""
        kernel = np.asarray(self.dense.kernel)
        return kernel.reshape(kernel.shape[-2:])

    @property
    def weights(self) -> int:
        """How many weights the head has."""
        return int(self.dense.count_params() + sum(layer.count_params() for layer in self.behind))

    def put(self, treatment: Treatment, kernel: NDArray[Any], bias: NDArray[Any]) -> None:
        """Give the head of the model under repair other weights, or another head."""
        if not self.replaced:
            self._set(treatment, kernel, bias)
            return
        treatment.replace(self.built(treatment.model, kernel, bias))

    def built(self, model: Any, kernel: NDArray[Any], bias: NDArray[Any]) -> Any:
        """Return a model with one new Dense in the place of the head."""
        new = layers.Dense(
            kernel.shape[1],
            activation="sigmoid" if kernel.shape[1] == 1 else "softmax",
            name=self.name,
            dtype="float32",
        )
        squeeze = [layers.Flatten(name=f"{self.name}_rows")] if self.squeezed else []
        if isinstance(model, keras.Sequential):
            start = [
                keras.Input(batch_shape=t.shape, dtype=t.dtype, name=t.name) for t in model.inputs
            ]
            body = model.layers[: -1 - len(self.behind)]
            built = keras.Sequential([*start, *body, *squeeze, new], name=model.name)
        else:
            inputs, outputs = structure(model)
            flat = list(functional(model).outputs)
            read = self.features.output
            for layer in squeeze:
                read = layer(read)
            flat[self.index] = new(read)
            built = keras.Model(inputs, tree.pack_sequence_as(outputs, flat), name=model.name)
        new.set_weights([kernel, bias])
        return built

    def _set(self, treatment: Treatment, kernel: NDArray[Any], bias: NDArray[Any]) -> None:
        width = self.dense.kernel.shape[-1]
        if kernel.shape[1] == 1 and width == 2:
            # Two classes have one boundary, of which either output gets half.
            kernel, bias = np.hstack([-kernel, kernel]) / 2, np.hstack([-bias, bias]) / 2
        self.dense.kernel.assign(kernel.reshape(self.dense.kernel.shape))
        path = self.dense.name
        if self.dense.bias is None:
            treatment.add_to_bias(path, bias)
        else:
            self.dense.bias.assign(bias)


def find_head(model: Any, record: Lineage, *, anew: bool) -> Head:
    """Find the last Dense of a subnetwork, and what stands behind it.

    Args:
        model: The subnetwork.
        record: Where it comes from, and what it answers.
        anew: Whether one new layer shall take the place of the head.

    Raises:
        SurgeryError: The answer does not come from a Dense of the model's own, on one feature
            vector for each sample.
    """
    index = answering_place(model, record)
    tensor = functional(model).outputs[index]
    answers = int(tensor.shape[-1])
    chain = list(backwards(tensor, pointwise=True))
    ends = (i for i, (one, _) in enumerate(chain) if is_own(one, record.head))
    end = next(ends, None)
    if end is None:
        raise NoHeadError(model, "no Dense of its own stands before the answer")
    layer, before = chain[end]
    behind = [one for one, _ in reversed(chain[:end])]
    title = f"{type(layer).__name__} {layer.name!r}"
    if not answers_once(before.shape):
        raise NoHeadError(model, f"its last {title} answers every step by itself")
    if layer.quantization_mode is not None or layer.lora_enabled:
        raise NoHeadError(
            model,
            f"its last {title} is quantised or has LoRA factors",
        )
    if len(layer._inbound_nodes) > 1:
        raise NoHeadError(model, f"its last {title} is called more than once")
    inputs, _ = structure(model)
    return Head(
        dense=layer,
        features=keras.Model(inputs, before),
        activation=_activation(layer, behind),
        answers=answers,
        behind=tuple(behind),
        index=index,
        replaced=anew and (bool(behind) or layer.kernel.shape[-1] != answers),
        name=_new_name(model, f"{record.head}_head", [layer, *behind]),
        squeezed=len(before.shape) > len(tensor.shape),
    )


def with_plain_head(model: Any, record: Lineage) -> Any:
    """Return a subnetwork in the shape that `calibrate_head` gives it, the new head not fitted.

    Raises:
        SurgeryError: Its head cannot be refitted.
    """
    head = find_head(model, record, anew=record.head in ("binary", "other"))
    if not head.replaced:
        return model
    shape = len(head.kernel), head.answers
    # Numbers that differ: a file may hold equal weights once.
    return head.built(
        model, np.linspace(-1, 1, shape[0] * shape[1]).reshape(shape), np.ones(shape[1])
    )


def _activation(dense: Any, behind: list[Any]) -> str:
    for layer in [dense, *behind]:
        function = standard(getattr(layer, "activation", None))
        if isinstance(layer, layers.Softmax) or function is activations.softmax:
            return "softmax"
        if function is activations.sigmoid:
            return "sigmoid"
    return "linear"


def _new_name(model: Any, name: str, leaving: list[Any]) -> str:
    taken = {layer.name for layer in model.layers} - {layer.name for layer in leaving}
    while name in taken:
        name += "_"
    return name


class NoHeadError(SurgeryError):
    """There is no head that could be refitted.

    Attributes:
        because: Why.
    """

    def __init__(self, model: Any, because: str) -> None:
        super().__init__(
            f"calibrate_head cannot refit the head of {model.name!r}: {because}. Leave "
            "calibrate_head out, or end the parent in a Dense on one feature vector for each "
            "sample."
        )
        self.because = because
