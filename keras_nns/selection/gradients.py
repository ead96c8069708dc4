"""Scores that follow the gradient of a label's loss, or of its logit, to every unit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from keras_nns.errors import SelectionError
from keras_nns.graph.tracing import trace
from keras_nns.observation.activity import Activity
from keras_nns.observation.gradient_sums import Gradients
from keras_nns.observation.gradients import gradients_of
from keras_nns.observation.label_losses import answering_of, label_logit
from keras_nns.observation.layer_sums import Float
from keras_nns.selection.activations import Join, Score, Scores, by_group, label_gap


def taylor(gradients: Gradients, *, signed: bool = False, join: Join = "sum") -> Score:
    """Make the score that is how much removing a unit changes the loss, to first order.

    For one sample it is -Σ g · a over the unit's positions, activation times the loss's gradient:
    the Taylor criterion of Molchanov et al. 2017, *Pruning Convolutional Neural Networks for
    Resource Efficient Inference*, there divided by the number of positions; without that, layers
    can be compared. The score is the mean of its absolute value over the label's samples.

    With `signed` it is the mean itself: how much the label's loss rises without the unit. Where it
    is negative the label is better off without: CAP'NN (Hemmat et al. 2020) calls such units
    miseffectual. `at_least(0)` removes them.

    Args:
        gradients: What `observe_gradients` saw of the same model.
        signed: Keep the sign.
        join: How the layers of a group that share units are brought together. They leave together,
            so their effects add up.

    Returns:
        A score to pass to `select`; in units of the loss, so that it suits `scope="global"`. NaN
        for labels without samples.

    Example:
        >>> gradients = nns.observe_gradients(model, (x, y))
        >>> nns.select(activity, labels=3, score=nns.scores.taylor(gradients))
        <Plan for 3: 24 of 48 units>
    """
    field = "effect" if signed else "magnitude"
    name = "taylor(signed=True)" if signed else "taylor"
    return _score(gradients, lambda layer: gradients.per_sample(layer, field), join, name)


def fisher(gradients: Gradients, *, join: Join = "sum") -> Score:
    """Make the score that is how much removing a unit changes the answers, to second order.

    Half the mean, over the label's samples, of the square of what `taylor` takes absolutely: the
    Fisher information along the removal. Theis et al. 2018, *Faster gaze prediction with dense
    networks and Fisher pruning*.

    Args:
        gradients: What `observe_gradients` saw of the same model.
        join: As in `taylor`.

    Returns:
        A score to pass to `select`. NaN for labels without samples.

    Example:
        >>> gradients = nns.observe_gradients(model, (x, y))
        >>> nns.select(activity, labels=3, score=nns.scores.fisher(gradients))
        <Plan for 3: 24 of 48 units>
    """
    return _score(
        gradients, lambda layer: gradients.per_sample(layer, "square") / 2, join, "fisher"
    )


def contribution(
    model: Any,
    data: Any,
    y: Any = None,
    *,
    signed: bool = False,
    join: Join = "sum",
    output: str | None = None,
    batch_size: int = 256,
    label_names: Sequence[Any] | None = None,
) -> Score:
    """Make the score that is what a unit adds to the label's logit, on the label against the rest.

    The difference of the unit's mean activation between the label and all others, as in `contrast`,
    times its weight toward the label's logit: a linear unit's share in telling the label from the
    rest. For a unit that the output layer reads, the weight is the output layer's; behind further
    layers it is the logit's gradient, averaged over the label's samples, in one streaming pass.

    Args:
        model: The model that was observed.
        data: Labelled data, as `observe` takes it.
        y: Labels, where `data` holds inputs only.
        signed: Keep the sign: negative where the unit speaks for the rest, by being active on the
            label and weighing against it or the other way round.
        join: As in `taylor`.
        output: Name of the output that answers the labels, where the model has several.
        batch_size: Samples per step, where `data` is arrays.
        label_names: Name of every label, in the order of the model's outputs.

    Returns:
        A score to pass to `select`, for activity with the mean of two labels at least. NaN for
        labels without samples.

    Raises:
        DataError: The data does not fit the model.
        ModelError: What goes into the output's softmax or sigmoid cannot be found.
        PlanError: The model has several outputs, and none or an unknown one was named.

    Example:
        >>> score = nns.scores.contribution(model, (x, y))
        >>> nns.select(activity, labels=3, score=score, keep=nns.top(8))
        <Plan for 3: 16 of 48 units>
    """
    graph = trace(model)
    answering = answering_of(graph, output)
    gradients = gradients_of(
        graph,
        answering,
        label_logit(answering),
        (data, y),
        batch_size=batch_size,
        label_names=label_names,
    )

    def score(activity: Activity) -> Scores:
        _check_same(activity, gradients, "contribution")

        def of_layer(layer: str) -> Float:
            found = gradients.per_sample(layer, "slope") * label_gap(activity, layer)
            return found if signed else np.asarray(np.abs(found))

        return by_group(
            activity, of_layer, join, layers=_both(activity, gradients), comparable=True
        )

    score.__name__ = "contribution(signed=True)" if signed else "contribution"
    return score


def _score(gradients: Gradients, of_layer: Callable[[str], Float], join: Join, name: str) -> Score:
    if not isinstance(gradients, Gradients):
        raise SelectionError(
            f"{name} needs what observe_gradients(model, data) returns. Received: "
            f"{type(gradients).__name__}."
        )

    def score(activity: Activity) -> Scores:
        _check_same(activity, gradients, name)
        return by_group(
            activity, of_layer, join, layers=_both(activity, gradients), comparable=True
        )

    score.__name__ = name
    return score


def _check_same(activity: Activity, gradients: Gradients, name: str) -> None:
    if activity.fingerprint != gradients.fingerprint:
        raise SelectionError(
            f"{name} has gradients of another model than the activity, or of the same with other "
            "weights. Observe both of one model."
        )
    if len(activity.label_names) != len(gradients.label_names):
        raise SelectionError(
            f"{name} has gradients for {len(gradients.label_names)} labels, and the activity is "
            f"of {len(activity.label_names)}."
        )


def _both(activity: Activity, gradients: Gradients) -> set[str]:
    return set(activity.layers) & set(gradients.layers)
