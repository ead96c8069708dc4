#!/usr/bin/env bash
# Keras 3: hard_sigmoid of a file that Keras 2 wrote is read as another function.
#
# Versions: tf_keras 2.21.0 (writes), keras 3.15.1 (reads), tensorflow 2.21.0.
# Guess: an .h5 model of Keras 2 that Keras 3 loads without a word answers what it answered.
# Happens: both know the name hard_sigmoid. In Keras 2 it is 0.2 x + 0.5 between 0 and 1, in Keras 3
#   x / 6 + 0.5.
# Seen:
#   x         -2.500  -1.000   0.000   1.000   2.500
#   Keras 2    0.000   0.300   0.500   0.700   1.000
#   Keras 3    0.083   0.333   0.500   0.667   0.917
set -euo pipefail
unset PYTHONPATH KERAS_BACKEND
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet tf_keras==2.21.0 tensorflow==2.21.0 keras==3.15.1
TF_CPP_MIN_LOG_LEVEL=3 venv/bin/python - <<'PYTHON'
import warnings

import keras
import numpy as np
import tf_keras

old = tf_keras.Sequential(
    [tf_keras.layers.InputLayer(input_shape=(1,)), tf_keras.layers.Activation("hard_sigmoid")]
)
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # tf_keras says that .h5 is its older format.
    old.save("old.h5")
with warnings.catch_warnings():
    warnings.simplefilter("error")
    new = keras.models.load_model("old.h5", compile=False)
x = np.array([[-2.5], [-1.0], [0.0], [1.0], [2.5]], "float32")
before, after = old.predict(x, verbose=0), new.predict(x, verbose=0)
for name, row in ("x", x), ("Keras 2", before), ("Keras 3", after):
    print(f"{name:8}", *(f"{value:7.3f}" for value in row.ravel()))
assert np.allclose(before, np.clip(0.2 * x + 0.5, 0, 1), atol=1e-6)
assert np.allclose(after, np.clip(x / 6 + 0.5, 0, 1), atol=1e-6)
PYTHON
