#!/usr/bin/env bash
# LiteRT: a hidden tensor read after the run can hold another layer's values.
#
# Versions: ai-edge-litert 2.3.0, tensorflow-cpu 2.21.0 and keras 3.15.1 (make the file).
# Guess: after invoke(), get_tensor(index) of a hidden layer gives what that layer answered.
# Happens: without delegates the interpreter lends memory that is no longer needed to later tensors.
#   get_tensor then gives the numbers of a later layer under the earlier layer's name, without a
#   word. With the usual delegate it raises ValueError. experimental_preserve_all_tensors=True (a
#   debugging option by its name) gives the right ones.
# Seen:
#   read as `first`, no delegate: differs from first, second, third by 0.761, 0.561, 0.000
#   read as `first`, all preserved: differs from first, second, third by 0.000, 0.746, 0.761
#   usual delegate: ValueError
set -euo pipefail
unset PYTHONPATH KERAS_BACKEND
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet tensorflow-cpu==2.21.0 keras==3.15.1 ai-edge-litert==2.3.0
TF_CPP_MIN_LOG_LEVEL=3 venv/bin/python - <<'PYTHON'
import tempfile

import keras
import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from keras import layers

keras.utils.set_random_seed(0)
inputs = keras.Input((8,), batch_size=1)
first = layers.Dense(16, activation="relu", name="first")(inputs)
second = layers.Dense(16, activation="relu", name="second")(first)
third = layers.Dense(16, activation="relu", name="third")(second)
model = keras.Model(inputs, layers.Dense(4)(third))
x = np.random.default_rng(0).normal(size=(1, 8)).astype("float32")
answers = keras.Model(inputs, [first, second, third]).predict(x, verbose=0)
with tempfile.TemporaryDirectory() as folder:
    model.export(folder, verbose=False)
    flat = tf.lite.TFLiteConverter.from_saved_model(folder).convert()


def read(layer, **options):
    interpreter = Interpreter(model_content=flat, **options)
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], x)
    interpreter.invoke()
    (index,) = (
        row["index"]
        for row in interpreter.get_tensor_details()
        if list(row["shape"]) == [1, 16] and f"{layer}_1/" in row["name"]
    )
    return interpreter.get_tensor(index)


bare = {"experimental_op_resolver_type": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES}
lent, kept = read("first", **bare), read("first", **bare, experimental_preserve_all_tensors=True)
for name, values in ("no delegate", lent), ("all preserved", kept):
    same = [f"{np.abs(values - answer).max():.3f}" for answer in answers]
    print(f"read as `first`, {name}: differs from first, second, third by", ", ".join(same))
assert np.allclose(kept, answers[0], atol=1e-5)
assert np.allclose(lent, answers[2], atol=1e-5) and not np.allclose(lent, answers[0], atol=1e-2)
try:
    read("first")
except ValueError as error:
    print("usual delegate: ValueError")
else:
    raise AssertionError("the usual delegate gave the tensor")
PYTHON
