#!/usr/bin/env bash
# Keras: exporting a model sets up the root logger, so the program's logging.basicConfig is void.
#
# Versions: keras 3.15.1, tensorflow-cpu 2.21.0, absl-py as these bring it.
# Guess: a library leaves the root logger to the program, also where it has no handlers yet.
# Happens: after model.export(folder) the root logger has a handler to stderr. logging.basicConfig
#   does nothing where there is one: a program that sets up its log file later writes none, and its
#   level stays WARNING.
# Seen:
#   handlers before 0, after 1; program.log written: False; level WARNING
set -euo pipefail
unset PYTHONPATH KERAS_BACKEND
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet tensorflow-cpu==2.21.0 keras==3.15.1
TF_CPP_MIN_LOG_LEVEL=3 venv/bin/python - <<'PYTHON'
import logging
import os
import tempfile

import keras
from keras import layers

root = logging.getLogger()
before = len(root.handlers)
model = keras.Sequential([keras.Input((4,)), layers.Dense(2)])
with tempfile.TemporaryDirectory() as folder:
    model.export(folder, verbose=False)
after = len(root.handlers)
logging.basicConfig(filename="program.log", level=logging.INFO)
logging.info("the program begins")
written = os.path.exists("program.log")
level = logging.getLevelName(root.level)
print(f"handlers before {before}, after {after}; program.log written: {written}; level {level}")
assert (before, after) == (0, 1)
assert not written and level == "WARNING"
PYTHON
