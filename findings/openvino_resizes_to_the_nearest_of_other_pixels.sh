#!/usr/bin/env bash
# OpenVINO: resizing to the nearest pixel takes other pixels than LiteRT and Keras.
#
# Versions: openvino 2026.4.1, tensorflow-cpu 2.21.0, ai-edge-litert 2.3.0, keras 3.15.1.
# Guess: Resizing(4, 4, interpolation="nearest") takes the pixels in whose middle the new ones lie;
#   the file says so (half_pixel_centers), and OpenVINO reads it. UpSampling2D(2) is right.
# Happens: the option is not heeded: pixels are taken from the corner on, a whole pixel away.
# Seen (of rows 0 to 9, resized to 4):
#   Keras    [1 3 6 8]
#   LiteRT   [1 3 6 8]
#   OpenVINO [0 2 5 7]
set -euo pipefail
unset PYTHONPATH KERAS_BACKEND
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet openvino==2026.4.1 tensorflow-cpu==2.21.0 ai-edge-litert==2.3.0 \
    keras==3.15.1
TF_CPP_MIN_LOG_LEVEL=3 venv/bin/python - <<'PYTHON'
import tempfile

import keras
import numpy as np
import openvino
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from keras import layers

x = np.tile(np.arange(10, dtype="float32").reshape(1, 10, 1, 1), (1, 1, 10, 3))


def rows(layer):
    model = keras.Sequential([keras.Input((10, 10, 3), batch_size=1), layer])
    with tempfile.TemporaryDirectory() as folder:
        model.export(folder, verbose=False)
        flat = tf.lite.TFLiteConverter.from_saved_model(folder).convert()
    litert = Interpreter(model_content=flat)
    litert.allocate_tensors()
    litert.set_tensor(litert.get_input_details()[0]["index"], x)
    litert.invoke()
    with open("model.tflite", "wb") as file:
        file.write(flat)
    compiled = openvino.Core().compile_model("model.tflite", "CPU")
    found = {
        "Keras": np.asarray(model(x)),
        "LiteRT": litert.get_tensor(litert.get_output_details()[0]["index"]),
        "OpenVINO": compiled(x)[0],
    }
    return {name: answer[0, :, 0, 0].astype(int).tolist() for name, answer in found.items()}


found = rows(layers.Resizing(4, 4, interpolation="nearest"))
for name, taken in found.items():
    print(f"{name:8} {taken}")
assert found["Keras"] == found["LiteRT"] == [1, 3, 6, 8]
assert found["OpenVINO"] == [0, 2, 5, 7]
twice = rows(layers.UpSampling2D(2))
assert twice["Keras"] == twice["LiteRT"] == twice["OpenVINO"]
PYTHON
