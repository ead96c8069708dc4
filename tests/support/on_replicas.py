"""Run in a process of its own: what is seen under MirroredStrategy on three logical CPUs, as JSON.

TensorFlow makes logical devices before it starts and never again.
"""

# What runs before an import decides how TensorFlow starts.
# ruff: noqa: E402
from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

(CPU,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(CPU, [tf.config.LogicalDeviceConfiguration()] * 3)

import keras_nns as nns
from keras_nns.observation.activity import STATISTICS, Activity

layers = keras.layers
STRATEGY = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1", "CPU:2"])
CHECKS: dict[str, Callable[[], Any]] = {}
X = np.random.default_rng(0).normal(1, 1, (50, 6, 6, 2)).astype("float32")
Y = np.arange(50) % 3


def check(function: Callable[[], Any]) -> Callable[[], Any]:
    CHECKS[function.__name__] = function
    return function


def network() -> keras.Model:
    keras.utils.set_random_seed(0)
    with STRATEGY.scope():
        model = keras.Sequential(
            [
                keras.Input((6, 6, 2)),
                layers.Conv2D(5, 3, name="conv"),
                layers.ReLU(name="relu"),
                layers.Flatten(),
                layers.Dense(7, activation="tanh", name="dense"),
                layers.Dense(3, activation="softmax", name="answer"),
            ]
        )
        # Weights that stay where they are: training sees what inference sees.
        model.compile(keras.optimizers.SGD(0.0), "sparse_categorical_crossentropy")
    return model


MODEL = network()


def difference(one: Activity, other: Activity) -> dict[str, Any]:
    """Counts that differ, and the largest difference of other figures in a layer's largest.

    Deviations are sums of squares in float32, and rounded like these.
    """
    odd = int((one.samples != other.samples).sum())
    off = 0.0
    for name, layer in one.layers.items():
        for kind, array in layer.arrays().items():
            theirs = other.layers[name].arrays()[kind]
            if array.dtype.kind == "i":
                odd += int((array != theirs).sum())
            else:
                largest = array if layer.square is None or kind != "deviation" else layer.square
                off = max(off, float(np.abs(array - theirs).max() / np.abs(largest).max()))
    return {"counts": odd, "means": off, "samples": int(other.samples.sum())}


@check
def observe() -> Any:
    """Three replicas; the last batch has two samples, so that one of them has none."""
    alone = nns.observe(MODEL, (X, Y), statistics=STATISTICS, batch_size=16)
    settings = {"statistics": STATISTICS, "batch_size": 16, "strategy": STRATEGY}
    together = nns.observe(MODEL, (X, Y), **settings)
    with STRATEGY.scope():
        inside = nns.observe(MODEL, (X, Y), **settings)
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(16)
    return {
        **difference(alone, together),
        "again": together == inside == nns.observe(MODEL, data, **settings),
        "seen": together.seen.to_json() == alone.seen.to_json(),
    }


@check
def shards() -> Any:
    alone = nns.observe(MODEL, (X, Y))
    parts = [nns.observe(MODEL, (X, Y), shard=(i, 2), strategy=STRATEGY) for i in (1, 2)]
    return difference(alone, nns.add(parts))


@check
def gathered() -> Any:
    """From training batches, which the replicas share; layers are as they were afterwards."""
    monitor = nns.ActivityMonitor(statistics=STATISTICS)
    MODEL.fit(X, Y, batch_size=15, epochs=2, verbose=0, callbacks=[monitor], shuffle=False)
    altered = [layer.name for layer in MODEL.layers if "call" in vars(layer)]
    alone = nns.observe(MODEL, (X, Y), statistics=STATISTICS)
    return {**difference(alone, monitor.activity), "altered": altered}


@check
def gathered_eagerly() -> Any:
    model = network()
    model.run_eagerly = True
    monitor = nns.ActivityMonitor()
    model.fit(X[:48], Y[:48], batch_size=15, verbose=0, callbacks=[monitor])
    return difference(nns.observe(model, (X[:48], Y[:48])), monitor.activity)


@check
def watched() -> Any:
    """Data of the monitor's own, at the end of an epoch that moves weights."""
    model = network()
    model.optimizer.learning_rate = 0.05
    monitor = nns.ActivityMonitor(data=(X, Y))
    model.fit(X, Y, batch_size=15, verbose=0, callbacks=[monitor])
    return difference(nns.observe(model, (X, Y)), monitor.activity)


@check
def nan() -> Any:
    """Of the last sample, which the last replica takes."""
    x = X.copy()
    x[-1] = np.nan
    try:
        nns.observe(MODEL, (x, Y), batch_size=50, strategy=STRATEGY)
    except nns.NNSError as error:
        return str(error)
    return None


@check
def dealt_already() -> Any:
    data = tf.data.Dataset.from_tensor_slices((X, Y)).batch(16)
    try:
        nns.observe(MODEL, STRATEGY.experimental_distribute_dataset(data), strategy=STRATEGY)
    except nns.NNSError as error:
        return str(error)
    return None


if __name__ == "__main__":
    json.dump({name: function() for name, function in CHECKS.items()}, sys.stdout)
