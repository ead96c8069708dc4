"""Models and plans that the tests of repair share."""

from __future__ import annotations

import keras
import numpy as np
from contract import chain, randomise
from keras import layers as L

import keras_nns as nns
from keras_nns.graph.tracing import trace
from keras_nns.plans.kept_units import Plan

RNG = np.random.default_rng(0)


def plan_of(model, seed=0, share=0.5, labels=()):
    """Keep a random half of every group."""
    random = np.random.default_rng(seed)
    layout = trace(model).layout
    kept = {}
    for group in layout.prunable:
        free = [u for u in range(group.size) if u not in group.protected]
        count = max(1, round(share * len(free)))
        kept[group.name] = [*group.protected, *random.choice(free, count, replace=False)]
    return Plan(
        fingerprint=nns.fingerprint(model),
        sizes={group.name: group.size for group in layout.prunable},
        kept={name: tuple(int(u) for u in units) for name, units in kept.items()},
        labels=labels,
        label_names=tuple(str(i) for i in range(model.outputs[0].shape[-1])),
    )


def mlp():
    return randomise(
        keras.Sequential(
            [
                keras.Input((6,)),
                L.Dense(8, activation="relu", name="one"),
                L.Dense(7, activation="tanh", name="two"),
                L.Dense(3, activation="softmax", name="answer"),
            ]
        )
    )


def convolutional(**settings):
    return randomise(
        chain(
            (8, 8, 2),
            L.Conv2D(6, 3, activation="relu", name="one"),
            L.Conv2D(5, 3, name="two", **settings),
            L.Flatten(),
            L.Dense(3, name="answer"),
        )
    )


def residual():
    start = keras.Input((8, 8, 2))
    x = short = L.Conv2D(6, 3, padding="same", use_bias=False, name="stem")(start)
    x = L.BatchNormalization(name="norm")(x)
    x = L.ReLU()(x)
    x = L.Conv2D(6, 3, padding="same", use_bias=False, name="branch")(x)
    x = L.BatchNormalization(name="behind")(x)
    x = L.Add()([x, short])
    x = L.GlobalAveragePooling2D()(x)
    return randomise(keras.Model(start, L.Dense(3, activation="softmax", name="answer")(x)))


def one_dimensional():
    return randomise(
        chain(
            (9, 3),
            L.Conv1D(6, 3, padding="causal", dilation_rate=2, activation="elu", name="one"),
            L.Dense(5, activation="relu", name="two"),
            L.GlobalMaxPooling1D(),
            L.Dense(3, name="answer"),
        )
    )


MODELS = [mlp, convolutional, residual, one_dimensional]
LABEL_FREE = (nns.steps.fold_means(), nns.steps.least_squares(), nns.steps.recalibrate_batch_norm())


def gain(repair, measure, layer=None, step=None):
    (found,) = (
        g
        for g in repair.gains
        if g.measure == measure and g.layer == layer and (step is None or g.step.startswith(step))
    )
    return found
