#!/usr/bin/env bash
# TFLite Micro: kernels of int8 with a scale for each unit are read with one scale for all of them.
#
# Versions: tflite-micro 0.dev20261023182759, ai-edge-quantizer 0.10.0, ai-edge-litert 2.3.0,
#   tensorflow-cpu 2.21.0, keras 3.15.1.
# Guess: a weight-only int8 file that loads and runs answers as under LiteRT; otherwise it is
#   refused.
# Happens: the file loads and runs, and every unit gets the first one's scale. LiteRT reads the same
#   file right, and TFLite Micro the float32 one.
# Seen:
#   float32: LiteRT [1. 2. 4. 8.], TFLite Micro [1. 2. 4. 8.]
#   weight-only int8: LiteRT [1. 2. 4. 8.], TFLite Micro [1. 1. 1. 1.]
set -euo pipefail
unset PYTHONPATH KERAS_BACKEND
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet tflite-micro==0.dev20261023182759 ai-edge-quantizer==0.10.0 \
    ai-edge-litert==2.3.0 tensorflow-cpu==2.21.0 keras==3.15.1
TF_CPP_MIN_LOG_LEVEL=3 venv/bin/python - <<'PYTHON'
import tempfile

import keras
import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from ai_edge_quantizer import quantizer, recipe
from keras import layers
from tflite_micro import runtime

model = keras.Sequential([keras.Input((8,), batch_size=1), layers.Dense(4, use_bias=False)])
model.set_weights([np.full((8, 4), 1 / 8, "float32") * np.array([1, 2, 4, 8], "float32")])
x = np.ones((1, 8), "float32")
with tempfile.TemporaryDirectory() as folder:
    model.export(folder, verbose=False)
    plain = tf.lite.TFLiteConverter.from_saved_model(folder).convert()
tool = quantizer.Quantizer(bytearray(plain))
tool.load_quantization_recipe(recipe.weight_only_wi8_afp32())
small = bytes(tool.quantize(None, enable_progress_report=False).quantized_model)


def litert(flat):
    interpreter = Interpreter(model_content=flat)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def micro(flat):
    interpreter = runtime.Interpreter.from_bytes(flat)
    interpreter.set_input(x, 0)
    interpreter.invoke()
    return interpreter.get_output(0)


for name, flat in ("float32", plain), ("weight-only int8", small):
    print(f"{name}: LiteRT {litert(flat)[0].round(2)}, TFLite Micro {micro(flat)[0].round(2)}")
right = np.array([[1, 2, 4, 8]], "float32")
for flat, run in (plain, litert), (plain, micro), (small, litert):
    assert np.allclose(run(flat), right, atol=0.05)
assert np.allclose(micro(small), 1, atol=0.05)
PYTHON
