#!/usr/bin/env bash
# Keras 3: a recurrent layer that is given an initial state ignores the mask of its input.
#
# Versions: keras 3.15.1, tf_keras 2.21.0, tensorflow 2.21.0.
# Guess: steps that Masking or Embedding(mask_zero=True) masks are skipped, whether or not the state
#   begins at zero; Keras 2 does so.
# Happens: a layer whose `call` takes one `mask` gets none once it is called with two tensors.
# Seen: the largest difference between a sequence with two masked steps in front and the same
#   sequence without them
#   Keras 2  0.000
#   Keras 3  0.170
set -euo pipefail
unset PYTHONPATH KERAS_BACKEND
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet tf_keras==2.21.0 tensorflow==2.21.0 keras==3.15.1
TF_CPP_MIN_LOG_LEVEL=3 venv/bin/python - <<'PYTHON'
import keras
import numpy as np
import tf_keras

x = np.ones((1, 4, 2), "float32")
x[:, :2] = 0
state = np.full((1, 3), 0.5, "float32")
found = {}
for name, one in ("Keras 2", tf_keras), ("Keras 3", keras):
    one.utils.set_random_seed(0)
    steps, start = one.Input((None, 2)), one.Input((3,))
    gru = one.layers.GRU(3)
    model = one.Model([steps, start], gru(one.layers.Masking()(steps), initial_state=start))
    whole, short = np.asarray(model([x, state])), np.asarray(model([x[:, 2:], state]))
    found[name] = float(np.abs(whole - short).max())
    print(f"{name}  {found[name]:.3f}")
assert found["Keras 2"] < 1e-6 < 1e-2 < found["Keras 3"]
PYTHON
