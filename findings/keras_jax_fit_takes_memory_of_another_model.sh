#!/usr/bin/env bash
# Keras on JAX: to train a model can make another one unusable that its weights were copied from.
#
# Versions: keras 3.15.1 on jax 0.10.2.
# Guess: `variable.assign(other)` copies values, and two models that hold no layer in common have
#   nothing to do with one another. So it is on TensorFlow.
# Happens: assign keeps the array itself, which JAX could share, since nothing changes it. But
#   `fit` gives the memory of all weights to its compiled step, which writes the new ones there.
#   The other model then ends in "Array has been deleted".
#   `other.set_weights(one.get_weights())` goes through numpy and is safe.
# Seen:
#   the copy answers with (1, 2), the one it was copied from: has been deleted
set -euo pipefail
unset PYTHONPATH
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet keras==3.15.1 jax==0.10.2 jaxlib==0.10.2
KERAS_BACKEND=jax venv/bin/python - 2>/dev/null <<'PYTHON'
import keras
import numpy as np
from keras import layers


def network():
    return keras.Sequential([keras.Input((3,)), layers.Dense(2)])


x, y = np.ones((8, 3), "float32"), np.ones((8, 2), "float32")
one, copy = network(), network()
for source, target in zip(one.weights, copy.weights, strict=True):
    target.assign(source)
copy.compile("sgd", "mse")
copy.fit(x, y, verbose=0)
try:
    one(x[:1])
    said = "nothing"
except (ValueError, RuntimeError) as error:
    said = str(error)
gone = "has been deleted"
print(f"the copy answers with {copy(x[:1]).shape}, the one it was copied from: {gone}")
assert gone in said, said

safe, copy = network(), network()
copy.set_weights(safe.get_weights())
copy.compile("sgd", "mse")
copy.fit(x, y, verbose=0)
assert safe(x[:1]).shape == (1, 2)
PYTHON
