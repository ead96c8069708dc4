#!/usr/bin/env bash
# TFLite converter: softplus in 16 bits answers far below 0, where it never is.
#
# Versions: tensorflow-cpu 2.21.0, ai-edge-litert 2.3.0, keras 3.15.1.
# Guess: activations in 16 bits (int16 with int8 weights) are nearly as good as float32 for a smooth
#   function such as softplus, which is never below 0.
# Happens: TFLite has no softplus, and the file computes log(exp(x) + 1) with one scale for exp(x).
#   For inputs up to 16 a step of that scale is hundreds: the 1 is lost, exp(x) of most inputs is
#   stored as 0, and its logarithm is taken. Inputs of up to 4 do well, so a small test is silent.
#   In int8 most answers are 0. Mish is written alike.
# Seen (root mean square of the difference, in times of the answers' own spread; smallest answer):
#   inputs of up to about 4:  int16 0.00,  0.01
#   four times as large:      int16 4.55, -12.92
set -euo pipefail
unset PYTHONPATH KERAS_BACKEND
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet tensorflow-cpu==2.21.0 ai-edge-litert==2.3.0 keras==3.15.1
TF_CPP_MIN_LOG_LEVEL=3 venv/bin/python - <<'PYTHON'
import tempfile

import keras
import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from keras import layers

keras.utils.set_random_seed(0)
x = np.random.default_rng(0).normal(size=(200, 8)).astype("float32")
given = keras.Input((8,))
hidden = layers.Dense(4)(given)


def answers(model):
    with tempfile.TemporaryDirectory() as folder:
        model.export(folder, verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([row[None]] for row in x)
        converter.target_spec.supported_ops = [
            tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
        ]
        interpreter = Interpreter(model_content=converter.convert())
    interpreter.allocate_tensors()
    found = []
    for row in x:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], row[None])
        interpreter.invoke()
        found.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))
    return np.concatenate(found)


far, smallest = {}, {}
for times in 1, 4:
    model = keras.Model(given, layers.Activation("softplus")(times * hidden))
    right, found = np.asarray(model(x)), answers(model)
    far[times] = float(np.sqrt(np.mean((found - right) ** 2)) / right.std())
    smallest[times] = float(found.min())
    print(f"inputs times {times}: int16 {far[times]:.2f}, {smallest[times]:.2f}")
assert far[1] < 0.05 and far[4] > 1
assert smallest[4] < -1
PYTHON
