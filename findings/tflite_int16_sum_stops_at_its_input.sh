#!/usr/bin/env bash
# TFLite converter: in 16 bits a sum cannot be larger than the largest number that goes into it.
#
# Versions: tensorflow-cpu 2.21.0, ai-edge-litert 2.3.0, keras 3.15.1.
# Guess: with activations in 16 bits the sum over 64 pixels gets a range of its own, as calibration
#   saw it, and as it does in int8.
# Happens: SUM is written with its input's scale, and what is larger is cut there without a word:
#   with 16 bits the answer is worse than with 8. Counting by pixels (sum pooling, density maps) is
#   such a sum.
# Seen (for 64 pixels of 1.0):
#   Keras 64.0, int8 64.0, int16 1.0
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
from keras import layers, ops

image = keras.Input((8, 8, 1))
pixels = layers.Conv2D(1, 1, kernel_initializer="ones")(image)
model = keras.Model(image, ops.sum(pixels, axis=(1, 2)))
ones = np.ones((1, 8, 8, 1), "float32")


def answer(kind):
    with tempfile.TemporaryDirectory() as folder:
        model.export(folder, verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([n * ones] for n in (0, 0.5, 1))
        converter.target_spec.supported_ops = [kind]
        interpreter = Interpreter(model_content=converter.convert())
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], ones)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"]).item()


right = np.asarray(model(ones)).item()
eight = answer(tf.lite.OpsSet.TFLITE_BUILTINS_INT8)
sixteen = answer(tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8)
print(f"Keras {right:.1f}, int8 {eight:.1f}, int16 {sixteen:.1f}")
assert right == 64 and abs(eight - 64) < 1
assert sixteen < 1.1
PYTHON
