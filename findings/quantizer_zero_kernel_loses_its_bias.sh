#!/usr/bin/env bash
# ai-edge-quantizer: in static int8 a unit whose kernel is all zeros answers 0 instead of its bias.
#
# Versions: ai-edge-quantizer 0.10.0, ai-edge-litert 2.3.0, tensorflow-cpu 2.21.0, keras 3.15.1.
# Guess: a kernel of zeros is the easiest one to quantise: what is left is the bias, here 0.5.
# Happens: the file answers 0 for that unit (numpy warns of an invalid cast while the recipe runs,
#   which names no layer). TensorFlow's own int8 conversion of the same model keeps the bias.
# Seen:
#   unit of zeros: Keras 0.50, ai-edge-quantizer 0.00, TensorFlow 0.52; largest difference of the
#       other units 0.02, 0.02
set -euo pipefail
unset PYTHONPATH KERAS_BACKEND
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet ai-edge-quantizer==0.10.0 ai-edge-litert==2.3.0 \
    tensorflow-cpu==2.21.0 keras==3.15.1
TF_CPP_MIN_LOG_LEVEL=3 venv/bin/python - <<'PYTHON'
import tempfile
import warnings

import keras
import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from ai_edge_quantizer import quantizer, recipe
from keras import layers

draw = np.random.default_rng(0)
kernel = draw.normal(size=(8, 16)).astype("float32")
kernel[:, 3] = 0
model = keras.Sequential([keras.Input((8,), name="x"), layers.Dense(16)])
model.set_weights([kernel, np.full(16, 0.5, "float32")])
x = draw.uniform(-1, 1, (200, 8)).astype("float32")


def answer(flat, sample):
    interpreter = Interpreter(model_content=flat)
    interpreter.allocate_tensors()
    (into,), (out,) = interpreter.get_input_details(), interpreter.get_output_details()
    scale, zero = into["quantization"]
    stored = np.clip(np.round(sample / scale) + zero, -128, 127).astype(np.int8)
    interpreter.set_tensor(into["index"], stored[None])
    interpreter.invoke()
    scale, zero = out["quantization"]
    return scale * (interpreter.get_tensor(out["index"])[0].astype("float32") - zero)


with tempfile.TemporaryDirectory() as folder:
    model.export(folder, verbose=False)
    plain = tf.lite.TFLiteConverter.from_saved_model(folder).convert()
    converter = tf.lite.TFLiteConverter.from_saved_model(folder)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([row[None]] for row in x)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    own = converter.convert()
tool = quantizer.Quantizer(bytearray(plain))
tool.load_quantization_recipe(recipe.static_wi8_ai8())
ranges = tool.calibrate({"serving_default": [{"x": x}]})
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    made = bytes(tool.quantize(ranges, enable_progress_report=False).quantized_model)
wanted = model.predict(x[:1], verbose=0)[0]
theirs, ours = answer(made, x[0]), answer(own, x[0])
others = np.arange(16) != 3
print(
    f"unit of zeros: Keras {wanted[3]:.2f}, ai-edge-quantizer {theirs[3]:.2f}, "
    f"TensorFlow {ours[3]:.2f}; largest difference of the other units "
    f"{np.abs(theirs - wanted)[others].max():.2f}, {np.abs(ours - wanted)[others].max():.2f}"
)
assert wanted[3] == 0.5
assert theirs[3] == 0.0
assert abs(ours[3] - 0.5) < 0.05
assert np.abs(theirs - wanted)[others].max() < 0.15
PYTHON
