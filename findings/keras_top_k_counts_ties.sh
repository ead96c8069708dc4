#!/usr/bin/env bash
# Keras: a model that always gives every label the same probability is right every time by top-k.
#
# Versions: keras 3.15.1, tensorflow-cpu 2.21.0.
# Guess: SparseTopKCategoricalAccuracy(k=1) is SparseCategoricalAccuracy, and of ten labels three
#   are among the first three.
# Happens: every label that ties with the k-th counts as among the first k. Where all ten tie, all
#   ten do, and the figure is 1.0 for any k. SparseCategoricalAccuracy takes the first of a tie.
# Seen:
#   accuracy 0.10, top-1 1.00, top-3 1.00
set -euo pipefail
unset PYTHONPATH KERAS_BACKEND
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet tensorflow-cpu==2.21.0 keras==3.15.1
TF_CPP_MIN_LOG_LEVEL=3 venv/bin/python - <<'PYTHON'
import keras
import numpy as np
from keras import layers
from keras.metrics import SparseTopKCategoricalAccuracy as TopK

model = keras.Sequential(
    [keras.Input((4,)), layers.Dense(10, activation="softmax", kernel_initializer="zeros")]
)
model.compile(
    loss="sparse_categorical_crossentropy",
    metrics=["accuracy", TopK(k=1, name="top_1"), TopK(k=3, name="top_3")],
)
x = np.random.default_rng(0).normal(size=(100, 4))
found = model.evaluate(x, np.repeat(np.arange(10), 10), verbose=0, return_dict=True)
print("accuracy {accuracy:.2f}, top-1 {top_1:.2f}, top-3 {top_3:.2f}".format(**found))
assert abs(found["accuracy"] - 0.1) < 1e-6
assert found["top_1"] == found["top_3"] == 1.0
PYTHON
