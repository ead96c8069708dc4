#!/usr/bin/env bash
# TensorFlow: a convolution of no images answers in the shape of its input, not of its output.
#
# Versions: tensorflow-cpu 2.21.0.
# Guess: conv2d of (0, 8, 8, 2) with five 3 x 3 filters gives (0, 6, 6, 5), as its shape function
#   says and as (1, 8, 8, 2) gives (1, 6, 6, 5).
# Happens: with oneDNN, which many processors have by default, it gives (0, 8, 8, 2). What comes
#   next, such as a bias or a batch norm, then fails on 2 channels for 5. With
#   TF_ENABLE_ONEDNN_OPTS=0 it is (0, 6, 6, 5). A replica that is dealt none of a batch's rows meets it.
# Seen:
#   oneDNN on: (0, 8, 8, 2), and of one image (1, 6, 6, 5)
#   oneDNN off: (0, 6, 6, 5), and of one image (1, 6, 6, 5)
set -euo pipefail
unset PYTHONPATH KERAS_BACKEND
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet tensorflow-cpu==2.21.0
cat > convolve.py <<'PYTHON'
import tensorflow as tf

kernel = tf.ones((3, 3, 2, 5))
none, one = (tf.nn.conv2d(tf.zeros((n, 8, 8, 2)), kernel, 1, "VALID").shape for n in (0, 1))
print(f"{tuple(none)}, and of one image {tuple(one)}")
PYTHON
export TF_CPP_MIN_LOG_LEVEL=3
on=$(TF_ENABLE_ONEDNN_OPTS=1 venv/bin/python convolve.py 2>/dev/null)
off=$(TF_ENABLE_ONEDNN_OPTS=0 venv/bin/python convolve.py 2>/dev/null)
echo "oneDNN on: $on"
echo "oneDNN off: $off"
test "$on" = "(0, 8, 8, 2), and of one image (1, 6, 6, 5)"
test "$off" = "(0, 6, 6, 5), and of one image (1, 6, 6, 5)"
