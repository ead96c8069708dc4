"""Batch norms in a short training: what they begin with, and how fast they follow."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np
from keras import layers, ops, tree

from keras_nns.engine.layers import mask_of
from keras_nns.graph import linear
from keras_nns.graph.keras_internals import (
    Call,
    accepts_training,
    standardise_inputs,
    walk,
)
from keras_nns.observation.moments import ColumnSums
from keras_nns.observation.passes import run_compiled

_ENOUGH = 4096
"""Samples that are looked at."""

_SHARE = 5
"""Statistics remember about one part in so many of an epoch."""

_LEAST = 0.8
"""Momentum below which the batches themselves would show."""


def settle(model: keras.Model, batches: Iterable[Any]) -> None:
    """Give batch norms the statistics of data, and change nothing that the model answers.

    In training a batch norm goes by the statistics of the batch, else by its moving ones. Behind
    units that were cut out, or weights that were refitted, the two differ, and training would begin
    with another function than the one that was repaired. With the new mean μ' and variance v' in
    place of μ and v, γ' = γ √(v'+ε) / √(v+ε) and β' = β + γ (μ'-μ) / √(v+ε) give the same answers.

    Batch norms that are frozen, that lack γ or β or have a constraint on them, and those inside
    other layers, stay as they are.

    Args:
        model: A Sequential or functional model. Its batch norms are changed.
        batches: `(inputs, anything)`; the first few thousand samples are looked at.
    """
    found = {id(layer): layer for layer in _learning(model) if _free(layer)}
    if not found:
        return
    sums = {key: ColumnSums(int(layer.gamma.shape[0])) for key, layer in found.items()}
    met: set[int] = set()

    def visit(call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        layer = call.operation
        if id(layer) in found:
            met.add(id(layer))
            rows, weight = _rows(layer, tree.flatten((args, kwargs))[0])
            sums[id(layer)].update(rows, ops.zeros(ops.shape(weight), "int32"), weight)
        if accepts_training(layer):
            kwargs = {**kwargs, "training": False}
        return layer(*args, **kwargs)

    def look(inputs: Any) -> None:
        walk(model, standardise_inputs(model, inputs), visit)

    run_compiled(look, _first_inputs(batches), models=[model])
    for key in met:
        with np.errstate(invalid="ignore"):
            mean, variance = sums[key].mean(0), sums[key].variance(0)
        # Else nothing that counts was seen: all of it was padding.
        if np.isfinite(mean).all():
            _move(found[key], mean, variance)


def _first_inputs(batches: Iterable[Any]) -> Iterator[tuple[Any]]:
    samples = 0
    for inputs, *_ in batches:
        yield (inputs,)
        samples += len(tree.flatten(inputs)[0])
        if samples >= _ENOUGH:
            return


@contextmanager
def following(model: keras.Model, steps: int) -> Iterator[None]:
    """Let moving statistics follow a training whose epochs have few steps.

    With a momentum of 0.99 and 50 steps they would end nearer to where they began than to where
    the weights are.

    Args:
        model: Its batch norms have their momentum back in the end.
        steps: In an epoch.
    """
    momentum = max(_LEAST, 1 - _SHARE / steps)
    before = [(layer, layer.momentum) for layer in _learning(model)]
    try:
        for layer, own in before:
            layer.momentum = min(own, momentum)
        yield
    finally:
        for layer, own in before:
            layer.momentum = own


def _learning(model: keras.Model) -> list[Any]:
    return [
        layer
        for layer in model._flatten_layers()
        if isinstance(layer, layers.BatchNormalization) and layer.trainable
    ]


def _free(layer: Any) -> bool:
    bound = layer.gamma_constraint or layer.beta_constraint or getattr(layer, "renorm", False)
    return bool(layer.scale and layer.center and not bound)


def _rows(layer: Any, x: Any) -> tuple[Any, Any]:
    """Return `(rows, channels)` of what a batch norm is called on, and which of them count."""
    rows = linear.channels(layer, x)
    mask = mask_of(x)
    if mask is None:
        return rows, ops.ones(ops.shape(rows)[:1], "float64")
    repeats = ops.shape(rows)[0] // ops.size(mask)
    return rows, ops.repeat(ops.cast(ops.reshape(mask, (-1,)), "float64"), repeats)


def _move(layer: Any, mean: Any, variance: Any) -> None:
    gamma, beta, old_mean, old_variance = (
        np.asarray(weight, dtype=np.float64)
        for weight in (layer.gamma, layer.beta, layer.moving_mean, layer.moving_variance)
    )
    slope = gamma / np.sqrt(old_variance + layer.epsilon)
    layer.gamma.assign(slope * np.sqrt(variance + layer.epsilon))
    layer.beta.assign(beta + slope * (mean - old_mean))
    layer.moving_mean.assign(mean)
    layer.moving_variance.assign(variance)
