#!/usr/bin/env bash
# TFLite Micro: an arena of as many bytes as it says that it uses is refused.
#
# Versions: tflite-micro 0.dev20261023182759, tensorflow-cpu 2.21.0, keras 3.15.1.
# Guess: give the arena plenty, read the total that print_allocations() reports, and ship that
#   number.
# Happens: what allocation itself needs for a while (and gives back) is not in the total. With an
#   arena of exactly the total, in which everything would lie, from_bytes raises RuntimeError.
# Seen:
#   4 hidden units: total 1280 bytes; an arena of 1280 refused, an arena of 2560 accepted
#   64 hidden units: total 1808 bytes; an arena of 1808 refused, an arena of 3616 accepted
set -euo pipefail
unset PYTHONPATH KERAS_BACKEND
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet tflite-micro==0.dev20261023182759 tensorflow-cpu==2.21.0 keras==3.15.1
TF_CPP_MIN_LOG_LEVEL=3 venv/bin/python - <<'PYTHON'
import re
import subprocess
import sys
import tempfile

import keras
import numpy as np
import tensorflow as tf
from keras import layers

LOAD = """
import sys
from tflite_micro import runtime
size = {} if sys.argv[1] == "default" else {"arena_size": int(sys.argv[1])}
try:
    interpreter = runtime.Interpreter.from_bytes(open("model.tflite", "rb").read(), **size)
except RuntimeError:
    print("refused")
else:
    interpreter.print_allocations()
    print("accepted")
"""


def load(arena):
    done = subprocess.run(
        [sys.executable, "-c", LOAD, str(arena)], capture_output=True, text=True, check=True
    )
    return done.stdout + done.stderr


keras.utils.set_random_seed(0)
x = np.random.default_rng(0).normal(size=(50, 8)).astype("float32")
for units in (4, 64):
    model = keras.Sequential(
        [keras.Input((8,), batch_size=1), layers.Dense(units, activation="relu"), layers.Dense(4)]
    )
    with tempfile.TemporaryDirectory() as folder:
        model.export(folder, verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([row[None]] for row in x)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.int8
        with open("model.tflite", "wb") as file:
            file.write(converter.convert())
    total = int(re.search(r"Arena allocation total (\d+) bytes", load("default"))[1])
    verdicts = {arena: load(arena).split().count("accepted") for arena in (total, 2 * total)}
    print(f"{units} hidden units: total {total} bytes;", ", ".join(
        f"an arena of {arena} {'accepted' if taken else 'refused'}"
        for arena, taken in verdicts.items()))  # fmt: skip
    assert verdicts == {total: 0, 2 * total: 1}
PYTHON
