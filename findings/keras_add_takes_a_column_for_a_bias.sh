#!/usr/bin/env bash
# Keras: the sum of a tensor and one number for each row adds it to each column, in squares.
#
# Versions: keras 3.15.1, tensorflow-cpu 2.21.0.
# Guess: keras.ops.add broadcasts as numpy.add does, and as `+` of the same two TensorFlow tensors.
# Happens: a second operand with one axis longer than 1 is taken for a bias of channels, if it is as
#   long as the first operand's last or second axis. It is squeezed to a vector and added along the
#   last axis wherever that fits, whichever axis it lay along. `+` in a functional model is this too.
#   The other way round, add(rows, x), is right; so is a tensor that is not square. The layer Add
#   does it too where its second input has no other long axis: in a batch of one sample.
# Seen (largest difference from numpy, for x of zeros of shape (2, 3, 4, 3) and rows (1, 3, 1, 1)):
#   tf + 0.0, ops.add(x, rows) 2.0, ops.add(rows, x) 0.0, a model's x + rows 2.0, predict 2.0,
#   width 5 0.0, the layer Add in a batch of two 0.0, in a batch of one 2.0
set -euo pipefail
unset PYTHONPATH KERAS_BACKEND
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet tensorflow-cpu==2.21.0 keras==3.15.1
TF_CPP_MIN_LOG_LEVEL=3 venv/bin/python - <<'PYTHON'
import keras
import numpy as np
import tensorflow as tf

rows = np.arange(3, dtype="float32").reshape(1, 3, 1, 1)
tensor = tf.constant(rows)


def difference(found, width=3):
    return float(np.abs(np.asarray(found) - (np.zeros((2, 3, 4, width)) + rows)).max())


x, wide = (tf.zeros((2, 3, 4, width)) for width in (3, 5))
given = keras.Input((3, 4, 3))
model = keras.Model(given, given + tensor)
plain = difference(x + tensor)
second = difference(keras.ops.add(x, tensor))
first = difference(keras.ops.add(tensor, x))
called, predicted = difference(model(x)), difference(model.predict(x.numpy(), verbose=0))
other = difference(keras.ops.add(wide, tensor), 5)
columns = keras.Input((3, 1, 1))
layer = keras.Model([given, columns], keras.layers.Add()([given, columns]))
two, one = (
    difference(layer([x[:count], tf.repeat(tensor, count, axis=0)])) for count in (2, 1)
)
print(
    f"tf + {plain}, ops.add(x, rows) {second}, ops.add(rows, x) {first}, "
    f"a model's x + rows {called}, predict {predicted}, width 5 {other}, "
    f"the layer Add in a batch of two {two}, in a batch of one {one}"
)
assert plain == first == other == two == 0
assert second == called == predicted == one == 2
PYTHON
