#!/usr/bin/env bash
# Keras 3: RandomCrop returns images of the size they came in, whatever shape it declares.
#
# Versions: keras 3.15.1, tf_keras 2.21.0, tensorflow 2.21.0.
# Guess: in inference an image is cut to the size asked for, as in Keras 2 and as the layer's own
#   output shape says.
# Happens: outside training it is returned as it is, so that what follows sees another shape than
#   the model was built for, and a model of Keras 2 another picture.
# Seen: RandomCrop(6, 6) on images of 8 x 9, in inference
#   Keras 2  declared (None, 6, 6, 3), returned (2, 6, 6, 3)
#   Keras 3  declared (None, 6, 6, 3), returned (2, 8, 9, 3)
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

x = np.zeros((2, 8, 9, 3), "float32")
found = {}
for name, one in ("Keras 2", tf_keras), ("Keras 3", keras):
    inputs = one.Input((8, 9, 3))
    model = one.Model(inputs, one.layers.RandomCrop(6, 6)(inputs))
    found[name] = tuple(model(x, training=False).shape)
    print(f"{name}  declared {tuple(model.output_shape)}, returned {found[name]}")
    assert tuple(model.output_shape) == (None, 6, 6, 3)
assert found == {"Keras 2": (2, 6, 6, 3), "Keras 3": (2, 8, 9, 3)}
PYTHON
