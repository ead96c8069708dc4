#!/usr/bin/env bash
# TFLite converter: "dynamic range" leaves kernels of fewer than 1,024 numbers in float32.
#
# Versions: tensorflow-cpu 2.21.0, keras 3.15.1, ai-edge-litert 2.3.0.
# Guess: optimizations=[Optimize.DEFAULT] stores the kernels of all Dense layers as int8.
# Happens: a kernel of 1,016 numbers stays float32 and one of 1,024 becomes int8. The file of a
#   small network, such as one cut to a few units, is not quantised at all, and nothing says so.
# Seen:
#   kernels, numbers and type: {1016: 'float32', 1024: 'int8'}
#   ten layers of 30 x 30: 39316 bytes in float32, 39316 as dynamic range
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
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from keras import layers


def bytes_of(model, *optimizations):
    with tempfile.TemporaryDirectory() as folder:
        model.export(folder, verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.optimizations = list(optimizations)
        return converter.convert()


def types(flat):
    rows = Interpreter(model_content=flat).get_tensor_details()
    return {
        int(row["shape"].prod()): row["dtype"].__name__
        for row in rows
        if len(row["shape"]) == 2 and 1 not in row["shape"]
    }


found = types(
    bytes_of(
        keras.Sequential([keras.Input((8,)), layers.Dense(127)]), tf.lite.Optimize.DEFAULT
    )
) | types(
    bytes_of(
        keras.Sequential([keras.Input((8,)), layers.Dense(128)]), tf.lite.Optimize.DEFAULT
    )
)
print("kernels, numbers and type:", found)
small = keras.Sequential([keras.Input((30,)), *(layers.Dense(30) for _ in range(10))])
plain, dynamic = len(bytes_of(small)), len(bytes_of(small, tf.lite.Optimize.DEFAULT))
print(f"ten layers of 30 x 30: {plain} bytes in float32, {dynamic} as dynamic range")
assert found == {1016: "float32", 1024: "int8"}
assert dynamic > 0.98 * plain
PYTHON
