#!/usr/bin/env bash
# TVM: a TFLite file that gathers by rows of indices is read as if columns were meant.
#
# Versions: apache-tvm 0.27.0.post1, tensorflow-cpu 2.21.0, ai-edge-litert 2.3.0, tflite 2.18.0.
# Guess: GATHER_ND takes each row of its indices for the place of one thing, in TFLite and in
#   ONNX, and from_tflite (the front end of Relax) keeps to it.
# Happens: the first axis of the indices is taken for the coordinates. Two rows of two ask for the
#   transposed places, without a word; three rows of two would be two things with three coordinates,
#   which a table of two axes does not have.
# Seen, of a table whose row r holds 10 r, 10 r + 1, ...:
#   rows [0 1] [3 2]        LiteRT [ 1. 32.]      TVM [ 3. 12.]
#   rows [0 1] [3 2] [1 0]  LiteRT (3,)           TVM a ValueError about shapes
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

table = (10 * np.arange(4)[:, None] + np.arange(4)).astype("float32")
cases = {}
for indices in ([[0, 1], [3, 2]], [[0, 1], [3, 2], [1, 0]]):
    gather = tf.function(lambda x, i=indices: tf.gather_nd(x, i), autograph=False)
    traced = gather.get_concrete_function(tf.TensorSpec((4, 4), tf.float32))
    flat = tf.lite.TFLiteConverter.from_concrete_functions([traced]).convert()
    litert = Interpreter(model_content=flat)
    litert.allocate_tensors()
    litert.set_tensor(litert.get_input_details()[0]["index"], table)
    litert.invoke()
    right = litert.get_tensor(litert.get_output_details()[0]["index"])
    np.testing.assert_array_equal(right, table[tuple(np.transpose(indices))])
    cases[len(indices)] = (flat, table, right)
with open("cases.pickle", "wb") as file:
    pickle.dump(cases, file)
PYTHON
venv/bin/python - <<'PYTHON'
import pickle

import numpy as np
import tflite
import tvm
from tvm import relax
from tvm.relax.frontend.tflite import from_tflite

with open("cases.pickle", "rb") as file:
    cases = pickle.load(file)


def answer(flat, x):
    module = from_tflite(tflite.Model.GetRootAs(flat, 0))
    machine = relax.VirtualMachine(tvm.compile(module, "llvm"), tvm.cpu())
    found = machine["main"](tvm.runtime.tensor(x))
    return (found if hasattr(found, "numpy") else found[0]).numpy()


flat, x, right = cases[2]
found = answer(flat, x)
print(f"two rows:   LiteRT {right}, TVM {found}")
assert found.tolist() == x[(0, 1), (3, 2)].tolist() != right.tolist()
flat, x, right = cases[3]
try:
    raise SystemExit(f"TVM answers {answer(flat, x)}")
except ValueError as error:
    print(f"three rows: LiteRT {right.shape}, TVM a {type(error).__name__}")
PYTHON
