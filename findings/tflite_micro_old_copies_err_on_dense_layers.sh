#!/usr/bin/env bash
# TFLite Micro from before the autumn of 2024: int8 dense layers of today's converter answer wrongly.
#
# Versions: xmos-ai-tools 1.4.2 (of 2026, with an older TFLite Micro in it), tflite-micro
#   0.dev20261023182759, tensorflow-cpu 2.21.0, ai-edge-litert 2.3.0, keras 3.15.1.
# Guess: int8 with int8 at both ends is what TFLite Micro is made for: a copy of it that takes such a
#   file answers as LiteRT does.
# Happens: since 2024 the converter gives a dense layer a scale for each unit. TFLite Micro of before
#   the autumn of 2024 reads the first one for all units, and says nothing. Ports for boards and
#   vendors' kits keep such copies for years.
# Seen:
#   LiteRT [1. 2. 4. 8.], TFLite Micro of 2026 [1. 2. 4. 8.], the copy in xmos-ai-tools [1. 1. 1. 1.]
set -euo pipefail
unset PYTHONPATH KERAS_BACKEND
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet tflite-micro==0.dev20261023182759 ai-edge-litert==2.3.0 \
    tensorflow-cpu==2.21.0 keras==3.15.1 tflite==2.18.0
# It asks for a numpy of before 2, and runs with later ones.
venv/bin/pip install --quiet --no-deps xmos-ai-tools==1.4.2
TF_CPP_MIN_LOG_LEVEL=3 venv/bin/python - <<'PYTHON'
import tempfile

import keras
import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from keras import layers
from tflite_micro import runtime
from xmos_ai_tools.xinterpreters import TFLMHostInterpreter

model = keras.Sequential([keras.Input((8,), batch_size=1), layers.Dense(4, use_bias=False)])
model.set_weights([np.full((8, 4), 1 / 8, "float32") * np.array([1, 2, 4, 8], "float32")])
with tempfile.TemporaryDirectory() as folder:
    model.export(folder, verbose=False)
    converter = tf.lite.TFLiteConverter.from_saved_model(folder)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([np.full((1, 8), n, "float32")] for n in (0, 1))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    flat = converter.convert()

litert = Interpreter(model_content=flat)
litert.allocate_tensors()
(about,), (made,) = litert.get_input_details(), litert.get_output_details()
scale, zero = about["quantization"]
x = np.full((1, 8), round(1 / scale) + zero, "int8")
litert.set_tensor(about["index"], x)
litert.invoke()

micro = runtime.Interpreter.from_bytes(flat)
micro.set_input(x, 0)
micro.invoke()

copy = TFLMHostInterpreter()
copy.set_model(model_content=flat)
copy.set_tensor(copy.get_input_details()[0]["index"], x)
copy.invoke()


def real(stored):
    scale, zero = made["quantization"]
    return (stored.astype("float32").reshape(4) - zero) * scale


found = {
    "LiteRT": real(litert.get_tensor(made["index"])),
    "TFLite Micro of 2026": real(micro.get_output(0)),
    "the copy in xmos-ai-tools": real(copy.get_tensor(copy.get_output_details()[0]["index"])),
}
print(", ".join(f"{name} {values.round(1)}" for name, values in found.items()))
right = np.array([1, 2, 4, 8], "float32")
assert np.allclose(found["LiteRT"], right, atol=0.05)
assert np.allclose(found["TFLite Micro of 2026"], right, atol=0.05)
assert np.allclose(found["the copy in xmos-ai-tools"], 1, atol=0.05)
PYTHON
