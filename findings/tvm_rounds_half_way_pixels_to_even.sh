#!/usr/bin/env bash
# TVM: half-way between two pixels, the nearest is the even one, and LiteRT's is the later.
#
# Versions: apache-tvm 0.27.0.post1, tensorflow-cpu 2.21.0, ai-edge-litert 2.3.0, tflite 2.18.0.
# Guess: a TFLite file says `align_corners` for RESIZE_NEAREST_NEIGHBOR as it does for
#   RESIZE_BILINEAR, which from_tflite (the front end of Relax) answers as LiteRT does.
# Happens: a place half-way between two pixels is rounded to the even one, in LiteRT up. Enlarged
#   nearly twice, every other row lies half-way.
# Seen (of rows 0 to 6, resized to 5 and to 13 with aligned corners):
#   LiteRT 5:  [0 2 3 5 6]                       TVM: [0 2 3 4 6]
#   LiteRT 13: [0 1 1 2 2 3 3 4 4 5 5 6 6]       TVM: [0 0 1 2 2 2 3 4 4 4 5 6 6]
set -euo pipefail
unset PYTHONPATH KERAS_BACKEND
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet apache-tvm==0.27.0.post1 tensorflow-cpu==2.21.0 \
    ai-edge-litert==2.3.0 tflite==2.18.0
TF_CPP_MIN_LOG_LEVEL=3 venv/bin/python - <<'PYTHON'
import pickle

import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

rows = np.broadcast_to(np.arange(7, dtype="float32").reshape(1, 7, 1, 1), (1, 7, 7, 2)).copy()
resize = {
    "nearest": tf.compat.v1.image.resize_nearest_neighbor,
    "bilinear": tf.compat.v1.image.resize_bilinear,
}
cases = {}
for way, function in resize.items():
    for size in (5, 13):

        def enlarged(x, function=function, size=size):
            return function(x, (size, 7), align_corners=True)

        step = tf.function(enlarged, autograph=False)
        traced = step.get_concrete_function(tf.TensorSpec(rows.shape, tf.float32))
        flat = tf.lite.TFLiteConverter.from_concrete_functions([traced]).convert()
        litert = Interpreter(model_content=flat)
        litert.allocate_tensors()
        litert.set_tensor(litert.get_input_details()[0]["index"], rows)
        litert.invoke()
        right = litert.get_tensor(litert.get_output_details()[0]["index"])
        np.testing.assert_allclose(right, step(tf.constant(rows)), rtol=1e-6)
        cases[way, size] = (flat, right)
with open("cases.pickle", "wb") as file:
    pickle.dump((rows, cases), file)
PYTHON
venv/bin/python - <<'PYTHON'
import pickle

import numpy as np
import tflite
import tvm
from tvm import relax
from tvm.relax.frontend.tflite import from_tflite

with open("cases.pickle", "rb") as file:
    rows, cases = pickle.load(file)
for (way, size), (flat, right) in cases.items():
    module = from_tflite(tflite.Model.GetRootAs(flat, 0))
    machine = relax.VirtualMachine(tvm.compile(module, "llvm"), tvm.cpu())
    found = machine["main"](tvm.runtime.tensor(rows))
    found = (found if hasattr(found, "numpy") else found[0]).numpy()
    if way == "bilinear":
        np.testing.assert_allclose(found, right, atol=1e-5)
        continue
    ours, theirs = (one[0, :, 0, 0].astype(int).tolist() for one in (right, found))
    print(f"{size}: LiteRT {ours}, TVM {theirs}")
    exact = np.arange(size) * 6 / (size - 1)
    assert ours == np.floor(exact + 0.5).astype(int).tolist()
    assert theirs == np.round(exact).astype(int).tolist() != ours
PYTHON
