#!/usr/bin/env bash
# Keras: `fit` under MirroredStrategy needs a batch size that the number of replicas divides.
#
# Versions: keras 3.15.1, tensorflow-cpu 2.21.0.
# Guess: batches of 16 on three replicas are dealt 6, 6 and 4, as `experimental_distribute_dataset`
#   deals them and as the step itself takes them, and `fit` runs.
# Happens: to see what a batch looks like, `fit` averages the first one over the replicas, element
#   by element, which shapes that differ do not allow. Batches of 15 run, also a last one that is
#   dealt 2, 2 and 1. Under MultiWorkerMirroredStrategy the batch is never put together at all, and
#   `fit` fails on any batch size.
# Seen:
#   batches of 15: ok
#   batches of 16: InvalidArgumentError: Inputs to operation AddN of type AddN must have the same size and shape
set -euo pipefail
unset PYTHONPATH KERAS_BACKEND
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet tensorflow-cpu==2.21.0 keras==3.15.1
TF_CPP_MIN_LOG_LEVEL=3 venv/bin/python - <<'PYTHON'
import re

import keras
import numpy as np
import tensorflow as tf

(cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 3)
strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1", "CPU:2"])
x, y = np.ones((50, 4), "float32"), np.arange(50) % 3
said = {}
for size in (15, 16):
    with strategy.scope():
        model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile("sgd", loss)
    try:
        model.fit(x, y, batch_size=size, verbose=0)
        said[size] = "ok"
    except tf.errors.InvalidArgumentError as error:
        said[size] = "InvalidArgumentError: " + re.search(r"Inputs to[^.]*shape", str(error))[0]
    print(f"batches of {size}: {said[size]}")
assert said[15] == "ok" and "AddN" in said[16]
PYTHON
