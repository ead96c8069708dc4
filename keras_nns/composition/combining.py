"""Compose networks that each answer for their own labels into one that decides between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, get_args

import keras
import numpy as np
from keras import layers
from numpy.typing import NDArray

from keras_nns.composition.branches import Asked, rebuilt_inputs, side_by_side
from keras_nns.data.batches import unweighted
from keras_nns.data.sketch import Sketcher
from keras_nns.errors import DataError, SelectionError
from keras_nns.graph.keras_internals import model_of
from keras_nns.observation.forward import parents_batches, run, settle_labels
from keras_nns.repairing.regression import check_samples, logistic
from keras_nns.surgery.lineage import Composition, Lineage, answering_place, lineage, set_lineage

Calibrate = Literal["joint", "each"]
CALIBRATE: tuple[str, ...] = get_args(Calibrate)


def compose(
    subnets: Sequence[keras.Model] | Mapping[str, keras.Model],
    data: Any = None,
    y: Any = None,
    *,
    calibrate: Calibrate = "joint",
    label_names: Sequence[Any] | None = None,
    batch_size: int = 256,
    name: str = "composition",
) -> keras.Model:
    """Put subnetworks side by side in one model that decides between their labels.

    The result is an ordinary functional Keras model: the subnetworks on the same inputs, the
    logarithm of the odds that each gives its label, and one Dense with a softmax over the labels,
    in the order of the subnetworks. Layers that several have in common are there once. The
    subnetworks may come from different parents. They are not changed.

    Networks that were cut or repaired apart are sure in different ways, so their scores are
    calibrated on data: by a multinomial regression on all scores ("stacking", Wolpert 1992), or
    each by itself (Platt 1999). Both are convex, and the penalty is chosen by cross-validation.

    Args:
        subnets: Models that `cut` gave, repaired or trained further or not. Each answers for the
            labels it was made for. In a mapping, the name of a network for one label takes the
            place of the label's own.
        data: Labelled samples to calibrate on, as `keras_nns.observe` takes it: neither
            those the subnetworks were made from nor those they are judged on. Samples of other
            labels are left out. None takes the scores as they are.
        y: Labels, where `data` is inputs alone.
        calibrate: `"joint"`, or `"each"`, by which a network's score depends on it alone.
        label_names: Name of every label in the data, in the order of their numbers. By default
            those of the subnetworks' parent, or the data's own.
        batch_size: Samples in a batch, for arrays.
        name: Name of the model.

    Returns:
        A `keras.Model`, not compiled. `evaluate` and `compare` know what it answers, also from a
        file that `save_model` wrote.

    Raises:
        SelectionError: There are fewer than two labels, two networks answer for one, a model does
            not say what it answers, or `calibrate` is unknown.
        DataError: The data does not fit, or has too few samples of a label.
        ModelError: The subnetworks take different inputs.

    Example:
        >>> whole = nns.compose([three, eight], *parts.calibrate)
        >>> whole.output_shape  # 3 or 8
        (None, 2)
        >>> nns.evaluate(whole, x_test, y_test).accuracy
        0.9...
    """
    if calibrate not in CALIBRATE:
        raise SelectionError(
            f"Expected `calibrate` to be one of {CALIBRATE}. Received: {calibrate!r}."
        )
    given = dict(subnets) if isinstance(subnets, Mapping) else None
    models = list(subnets.values() if isinstance(subnets, Mapping) else subnets)
    names = [None] * len(models) if given is None else [str(key) for key in given]
    records = [_record(model) for model in models]
    asked, answers = [], []
    for model, record, called in zip(models, records, names, strict=True):
        own = _answers(record, called)
        answers += own
        asked.append(_asked(model, record, called or "+".join(own)))
    _check(answers)
    inputs, scores = side_by_side(asked)
    inputs_like = rebuilt_inputs(models[0], inputs)
    count = len(answers)
    known = Composition(tuple(answers), tuple(records))
    kernel, bias = np.eye(count), np.zeros(count)
    if data is not None:
        features = model_of(inputs_like, scores)
        # Scores are no answers: by them nobody can tell whether the inputs are scaled rightly.
        set_lineage(features, known)
        sketcher = Sketcher()
        batches = parents_batches(
            features, known, data, y, batch_size=batch_size, label_names=label_names
        )
        ran = run([(features, None)], sketcher.watch(unweighted(batches, "compose")))
        kernel, bias = _fitted(ran.outputs[0], ran.labels, batches.label_names, answers, calibrate)
        known = replace(known, calibrated=sketcher.seen())
    dense = layers.Dense(count, activation="softmax", name="composition", dtype="float32")
    model = model_of(inputs_like, dense(scores), name=name)
    dense.set_weights([kernel.astype(np.float32), bias.astype(np.float32)])
    set_lineage(model, known)
    return model


def _record(model: Any) -> Lineage:
    record = lineage(model)
    if record is None or not record.plan.labels:
        raise SelectionError(
            f"Model {getattr(model, 'name', model)!r} does not say for which labels it was made. "
            "Pass what cut gave from plans with labels, kept in files with nns.save_model and "
            "nns.load_model."
        )
    if record.taught:
        raise SelectionError(
            f"Model {model.name!r} was taught other labels since it was cut, and tells "
            f"{list(record.label_names)} apart. Let one of its labels join by nns.graft."
        )
    return record


def _answers(record: Lineage, called: str | None) -> list[str]:
    """Name the labels that a subnetwork answers for."""
    own = list(record.label_names) if record.head == "binary" else list(record.plan.names)
    if called is None:
        return own
    if len(own) > 1:
        raise SelectionError(
            f"{called!r} would name a network that answers for {own}. Pass networks for several "
            "labels in a list: their labels keep their names."
        )
    return [called]


def _asked(model: Any, record: Lineage, name: str) -> Asked:
    place = answering_place(model, record)
    summed: tuple[tuple[int, ...], ...] = tuple((label,) for label in record.plan.labels)
    groups = summed
    if record.head == "binary":
        groups, summed = ((0,),), (record.plan.labels,)
    elif record.head != "parent":
        groups = tuple((i,) for i, label in enumerate(record.labels) if label is not None)
    return Asked(name, model, record.head, place, groups, summed)


def _check(answers: Sequence[str]) -> None:
    twice = sorted({name for name in answers if answers.count(name) > 1})
    if twice:
        raise SelectionError(
            f"Several networks answer for {twice}, and the composition decides between labels. "
            "Pass one for each, or name them: compose({'cat by one': …, 'cat by two': …})."
        )
    if len(answers) < 2:
        raise SelectionError(
            f"A composition decides between two labels at least. Received: {list(answers)}."
        )


def _fitted(
    scores: NDArray[np.float32],
    labels: NDArray[Any],
    names: Sequence[str],
    answers: Sequence[str],
    calibrate: Calibrate,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return kernel and bias that make calibrated logits of scores."""
    missing = [name for name in answers if name not in names]
    if missing:
        raise DataError(
            f"The data has no label named {missing}: its labels are {list(names)}. Pass "
            "label_names, one for each label number in the data."
        )
    numbers, several = settle_labels(labels, len(names), None)
    if several:
        raise DataError("A composition decides for one label, and samples have none or several.")
    own = [list(names).index(name) for name in answers]
    known = np.isin(numbers, own)
    x = scores[known].astype(np.float64)
    truth = numbers[known][:, None] == np.array(own)
    check_samples("compose", truth, tuple(answers))
    if calibrate == "each":
        fits = [logistic(x[:, [i]], truth[:, i], False) for i in range(len(own))]
        kernel = np.diag([float(fit.kernel[0, 0]) for fit in fits])
        return kernel, np.array([float(fit.bias[0]) for fit in fits])
    fit = logistic(x, truth.argmax(axis=1), False)
    if fit.kernel.shape[1] == 1:
        # Of two labels there is one logit: that of the second against the first.
        return np.hstack([np.zeros_like(fit.kernel), fit.kernel]), np.array([0.0, fit.bias[0]])
    return fit.kernel, fit.bias
