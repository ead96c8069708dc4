"""One of two processes under MultiWorkerMirroredStrategy: what it sees and is told, as JSON.

python two_workers.py NUMBER PORT PORT FOLDER
"""

# What runs before an import decides how TensorFlow starts.
# ruff: noqa: E402
from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

NUMBER, FOLDER = int(sys.argv[1]), Path(sys.argv[4])
CLUSTER = {"worker": [f"127.0.0.1:{port}" for port in sys.argv[2:4]]}
os.environ["TF_CONFIG"] = json.dumps(
    {"cluster": CLUSTER, "task": {"type": "worker", "index": NUMBER}}
)

import keras
import numpy as np
import tensorflow as tf

# Before anything else: TensorFlow makes a cluster of fresh processes alone.
STRATEGY = tf.distribute.MultiWorkerMirroredStrategy()

import keras_nns as nns
from keras_nns.engine.tensorflow import replicas
from keras_nns.observation.activity import STATISTICS

layers = keras.layers
X = np.random.default_rng(0).normal(1, 1, (53, 5)).astype("float32")
Y = np.arange(53) % 3
REPORT: dict[str, Any] = {}

with STRATEGY.scope():
    MODEL = keras.Sequential(
        [
            keras.Input((5,)),
            layers.Dense(6, activation="relu", name="one"),
            layers.Dense(4, activation="tanh", name="two"),
            layers.Dense(3, activation="softmax", name="answer"),
        ],
        name="net",
    )


def see(name: str, data: Any, **options: Any) -> None:
    found = nns.observe(MODEL, data, strategy=STRATEGY, **options)
    found.save(FOLDER / f"{name}{NUMBER}.npz")
    REPORT[name] = str(found)


def told(name: str, function: Callable[[], Any]) -> None:
    try:
        function()
        REPORT[name] = None
    except nns.NNSError as error:
        REPORT[name] = [type(error).__name__, str(error)]


def observe(data: Any = (X, Y), **options: Any) -> Any:
    return nns.observe(MODEL, data, strategy=STRATEGY, **options)


MODEL.save(FOLDER / f"net{NUMBER}.keras")
see("arrays", (X, Y), statistics=STATISTICS, batch_size=8)
see("data_set", tf.data.Dataset.from_tensor_slices((X, Y)).batch(8), batch_size=8)

other = NUMBER == 1
told("statistics", lambda: observe(statistics=("fired",) if other else ("fired", "mean")))
told("labels", lambda: observe(label_names=["a", "b", "x" if other else "c"]))
told("samples", lambda: observe((X[:40], Y[:40]) if other else (X, Y)))
turned = np.roll(Y, 1) if other else Y
told("data", lambda: observe((X, turned)))
shuffled = tf.data.Dataset.from_tensor_slices((X, Y)).shuffle(53, seed=NUMBER).batch(8)
told("shuffled", lambda: observe(shuffled))
spoiled = X.copy()
spoiled[-1] = np.nan  # In the second shard.
told("stopped", lambda: observe((spoiled, Y)))
told("shard", lambda: observe(shard=(1, 2)))
told("missing", lambda: observe(FOLDER / "missing.npz" if other else (X, Y)))
once = iter([(X, Y)]) if other else (X, Y)
told("once", lambda: observe(once, memory="5kB"))
told("memory", lambda: observe(memory="5kB" if other else None))
see("passes", (X, Y), statistics=STATISTICS, batch_size=8, memory="5kB")
MODEL.layers[0].bias.assign(np.full(6, float(NUMBER)))
told("model", observe)
MODEL.layers[0].bias.assign(np.zeros(6))

replicas.PATIENCE = 3.0
if other:
    while not (FOLDER / "done").exists():
        time.sleep(0.1)
else:
    told("alone", observe)
    (FOLDER / "done").touch()
json.dump(REPORT, sys.stdout)
sys.stdout.flush()
# The cluster's own goodbye would wait for a worker that has gone.
os._exit(0)
