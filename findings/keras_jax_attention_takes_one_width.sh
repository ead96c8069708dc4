#!/usr/bin/env bash
# Keras on JAX: attention whose values are wider than its keys builds, and fails when it is called.
#
# Versions: keras 3.15.1 on jax 0.10.2.
# Guess: `MultiHeadAttention(2, key_dim=4, value_dim=6)` is what its arguments say, on any backend;
#   a layer that was built and gave a symbolic output can be called.
# Happens: the fused attention that JAX gets reshapes what it returns by the width of the queries.
#   Symbolically all is well, (batch, 5, 8); on numbers it ends in a reshape of 60 numbers to 40.
#   Where the scores are asked for too, another way is taken, and it works.
# Seen:
#   symbolic (None, 5, 8); called: cannot reshape array of shape (1, 5, 2, 1, 6); with scores (1, 5, 8)
set -euo pipefail
unset PYTHONPATH
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet keras==3.15.1 jax==0.10.2 jaxlib==0.10.2
KERAS_BACKEND=jax venv/bin/python - 2>/dev/null <<'PYTHON'
import keras
import numpy as np
from keras import layers

attend = layers.MultiHeadAttention(2, key_dim=4, value_dim=6)
start = keras.Input((5, 8))
symbolic = attend(start, start)
x = np.ones((1, 5, 8), "float32")
try:
    attend(x, x)
    said = "nothing"
except Exception as error:
    said = str(error)
wrong = "cannot reshape array of shape (1, 5, 2, 1, 6)"
found, _ = attend(x, x, return_attention_scores=True)
print(f"symbolic {symbolic.shape}; called: {wrong}; with scores {found.shape}")
assert symbolic.shape == (None, 5, 8) and found.shape == (1, 5, 8)
assert wrong in said, said
PYTHON
