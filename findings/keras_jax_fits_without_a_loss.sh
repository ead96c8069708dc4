#!/usr/bin/env bash
# Keras on JAX: a model that was compiled without a loss is fitted, and nothing is learned.
#
# Versions: keras 3.15.1 on jax 0.10.2; on TensorFlow 2.21.0 the same call ends in
#   "No loss to compute. Provide a `loss` argument in `compile()`."
# Guess: where `compile` was given an optimizer alone, `fit` says that there is no loss.
# Happens: it goes through, reports a loss of 0.0, and no weight moves.
# Seen:
#   loss [0.0, 0.0, 0.0], the largest change of a weight 0.0
set -euo pipefail
unset PYTHONPATH
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet keras==3.15.1 jax==0.10.2 jaxlib==0.10.2
KERAS_BACKEND=jax venv/bin/python - <<'PYTHON'
import keras
import numpy as np
from keras import layers

model = keras.Sequential([keras.Input((3,)), layers.Dense(2)])
before = model.get_weights()
model.compile("sgd")
seen = model.fit(np.ones((8, 3)), np.ones((8, 2)), epochs=3, verbose=0).history["loss"]
moved = max(np.abs(a - b).max() for a, b in zip(before, model.get_weights(), strict=True))
print(f"loss {seen}, the largest change of a weight {moved}")
assert seen == [0.0, 0.0, 0.0] and moved == 0.0
PYTHON
