#!/usr/bin/env bash
# MNN: a border of a TFLite file that reflects the image is filled with zeros.
#
# Versions: MNN 3.6.1, tensorflow-cpu 2.21.0, ai-edge-litert 2.3.0, keras 3.15.1.
# Guess: MNN reads ops.pad(x, border, mode="reflect") as such, or refuses the file.
# Happens: the converter takes the file without a word, and the border is zeros, as for
#   mode="constant". mode="symmetric" is treated alike. The pixels inside are right.
# Seen (largest difference from LiteRT, of LiteRT's largest answer):
#   constant 0.00, reflect 0.99, symmetric 1.00; border of zeros in all three
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
from keras import layers, ops

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


border = [[0, 0], [1, 1], [1, 1], [0, 0]]
cases = {
    mode: case((6, 6, 3), layers.Lambda(lambda x, mode=mode: ops.pad(x, border, mode=mode)))
    for mode in ("constant", "reflect", "symmetric")
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

    rim = np.ones((8, 8), bool)
    rim[1:-1, 1:-1] = False
    assert not found[0, rim].any() and np.allclose(found[0, ~rim], right[0, ~rim])
assert far["constant"] < 1e-4
assert far["reflect"] > 0.1 and far["symmetric"] > 0.1
PYTHON
