#!/usr/bin/env bash
# MNN: a depthwise convolution that its converter says it cannot read is converted nevertheless.
#
# Versions: MNN 3.6.1, tensorflow-cpu 2.21.0, ai-edge-litert 2.3.0, keras 3.15.1.
# Guess: DepthwiseConv2D(3, depth_multiplier=2) is converted right, or ends the conversion, as do
#   operators that it does not know.
# Happens: a line of the converter's output says that depth_multiplier is not supported; it goes on
#   and writes a file, which loads, runs and answers wrongly. With one kernel for each channel, and
#   with several kernels on a single channel, the answers are right.
# Seen (largest difference from LiteRT, of LiteRT's largest answer):
#   3 channels, 1 kernel 0.00; 1 channel, 4 kernels 0.00; 3 channels, 2 kernels 0.91
set -euo pipefail
unset PYTHONPATH KERAS_BACKEND
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet MNN==3.6.1 tensorflow-cpu==2.21.0 ai-edge-litert==2.3.0 keras==3.15.1
TF_CPP_MIN_LOG_LEVEL=3 venv/bin/python - <<'PYTHON'
import os
import pickle
import tempfile

import keras
import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from keras import layers

draw = np.random.default_rng(0)


def case(shape, *given):
    model = keras.Sequential([keras.Input(shape, batch_size=1), *given])
    model.set_weights([draw.normal(size=w.shape).astype("float32") for w in model.get_weights()])
    x = draw.normal(size=(1, *shape)).astype("float32")
    with tempfile.TemporaryDirectory() as folder:
        model.export(folder, verbose=False)
        flat = tf.lite.TFLiteConverter.from_saved_model(folder).convert()
    litert = Interpreter(model_content=flat)
    litert.allocate_tensors()
    litert.set_tensor(litert.get_input_details()[0]["index"], x)
    litert.invoke()
    right = litert.get_tensor(litert.get_output_details()[0]["index"])
    assert np.allclose(right, np.asarray(model(x)), atol=1e-4)
    return flat, x, right


cases = {
    "3 channels, 1 kernel": case((6, 6, 3), layers.DepthwiseConv2D(3)),
    "1 channel, 4 kernels": case((6, 6, 1), layers.DepthwiseConv2D(3, depth_multiplier=4)),
    "3 channels, 2 kernels": case((6, 6, 3), layers.DepthwiseConv2D(3, depth_multiplier=2)),
}
with open("cases.pickle", "wb") as file:
    pickle.dump(cases, file)
PYTHON
# In a process of its own: MNN brings protobuf, as TensorFlow does.
venv/bin/python - <<'PYTHON'
import pickle

import _tools
import numpy as np
from MNN import expr, nn

with open("cases.pickle", "rb") as file:
    cases = pickle.load(file)
far = {}
for name, (flat, x, right) in cases.items():
    with open("model.tflite", "wb") as file:
        file.write(flat)
    # What the command mnnconvert calls first.
    options = "-f TFLITE --modelFile model.tflite --MNNModel model.mnn --bizCode x"
    _tools.mnnconvert(["mnnconvert", *options.split()])
    tensor = expr.placeholder(list(x.shape), expr.NHWC, expr.float)
    tensor.write(x)
    (answer,) = nn.load_module_from_file("model.mnn", [], []).forward([tensor])
    found = np.array(expr.convert(answer, expr.NHWC).read()).reshape(right.shape)
    far[name] = float(np.abs(found - right).max() / np.abs(right).max())
    print(f"{name}: {far[name]:.2f}")

assert far["3 channels, 1 kernel"] < 1e-4 and far["1 channel, 4 kernels"] < 1e-4
assert far["3 channels, 2 kernels"] > 0.1
PYTHON
