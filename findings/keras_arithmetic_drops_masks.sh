#!/usr/bin/env bash
# Keras: arithmetic on a masked tensor drops its mask without a warning.
#
# Versions: keras 3.15.1, tensorflow-cpu 2.21.0.
# Guess: `embedded * 1.0` between an Embedding(mask_zero=True) and an LSTM changes nothing; where a
#   mask is lost Keras says so, as it does for layers that do not support masks.
# Happens: operators and keras.ops give a tensor without a mask, and the LSTM reads the padding too.
#   A layer that does the same multiplication, Rescaling(1.0), keeps the mask.
# Seen (how far the LSTM's answers to one sentence are apart with and without padding):
#   Rescaling(1.0) 0.0, * 1.0 0.009, keras.ops.multiply 0.009, warnings 0
set -euo pipefail
unset PYTHONPATH KERAS_BACKEND
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet tensorflow-cpu==2.21.0 keras==3.15.1
TF_CPP_MIN_LOG_LEVEL=3 venv/bin/python - <<'PYTHON'
import warnings

import keras
import numpy as np
from keras import layers, ops

keras.utils.set_random_seed(0)
embedding, lstm = layers.Embedding(10, 8, mask_zero=True), layers.LSTM(4)
bare, padded = np.array([[3, 5]]), np.array([[3, 5, 0, 0, 0, 0]])


def difference(times_one):
    words = keras.Input((None,), dtype="int32")
    model = keras.Model(words, lstm(times_one(embedding(words))))
    return float(np.abs(np.asarray(model(bare)) - np.asarray(model(padded))).max())


with warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    layer = difference(layers.Rescaling(1.0))
    operator = difference(lambda tensor: tensor * 1.0)
    function = difference(lambda tensor: ops.multiply(tensor, 1.0))
print(
    f"Rescaling(1.0) {layer:.1f}, * 1.0 {operator:.3f}, keras.ops.multiply {function:.3f}, "
    f"warnings {len(said)}"
)
assert layer < 1e-6
assert operator > 1e-3 and function > 1e-3
assert not said
PYTHON
