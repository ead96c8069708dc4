#!/usr/bin/env bash
# Keras: a model quantised to 4 bits exports to a larger TFLite file than it did in float32.
#
# Versions: keras 3.15.1, tensorflow-cpu 2.21.0.
# Guess: model.quantize("int4") and model.export(format="litert") give about an eighth of the bytes.
# Happens: the export succeeds. The file has each weight as one byte, and beside it, spread out to
#   one for every weight, a zero point of one byte and a scale of four: six bytes a weight instead
#   of 4.
# Seen:
#   float32: weights 526336 bytes, file 525544
#   int4: weights 74752 bytes, file 789228
set -euo pipefail
unset PYTHONPATH KERAS_BACKEND
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet tensorflow-cpu==2.21.0 keras==3.15.1
TF_CPP_MIN_LOG_LEVEL=3 venv/bin/python - <<'PYTHON'
import os

import keras
from keras import layers


def size(model):
    model.export("model.tflite", format="litert", verbose=False)
    return os.path.getsize("model.tflite")


model = keras.Sequential([keras.Input((256,)), layers.Dense(256), layers.Dense(256)])
weights = sum(array.nbytes for array in model.get_weights())
before = size(model)
model.quantize("int4")
packed = sum(variable.numpy().nbytes for variable in model.weights)
after = size(model)
print(f"float32: weights {weights} bytes, file {before}")
print(f"int4: weights {packed} bytes, file {after}")
assert packed < weights / 3
assert after > 1.4 * before
PYTHON
