#!/usr/bin/env bash
# TensorFlow: whether a channels_first convolution runs on a CPU depends on which CPU it is.
#
# Versions: tensorflow-cpu 2.21.0, keras 3.15.1, numpy 2, Linux x86-64.
# Guess: a Keras model that answers on one x86-64 machine answers on another with the same packages;
#   channels_first convolutions are either supported on CPUs or not.
# Happens: they are supported by oneDNN alone. TensorFlow switches it on by itself where the
#   processor has instructions such as AVX512-VNNI, and leaves it off where it has AVX2 at most. The
#   model loads and builds there, and its first batch ends in an UnimplementedError. The switch can
#   be set either way before TensorFlow is imported.
# Seen: Conv2D(3, 3, data_format="channels_first") on (1, 2, 8, 8)
#   TF_ENABLE_ONEDNN_OPTS=0  UnimplementedError
#   TF_ENABLE_ONEDNN_OPTS=1  (1, 3, 6, 6)
#   unset                    the first on a processor with AVX2, the second on one with AVX512-VNNI
set -euo pipefail
unset PYTHONPATH KERAS_BACKEND
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet tensorflow-cpu==2.21.0 keras==3.15.1 "numpy>=2,<3"
cat > convolve.py <<'PYTHON'
import keras
import numpy as np

layer = keras.layers.Conv2D(3, 3, data_format="channels_first")
layer.build((1, 2, 8, 8))
try:
    print(tuple(layer(np.ones((1, 2, 8, 8), "float32")).shape))
except Exception as error:
    print(type(error).__name__)
PYTHON
for switch in 0 1; do
  seen=$(TF_ENABLE_ONEDNN_OPTS=$switch TF_CPP_MIN_LOG_LEVEL=3 venv/bin/python convolve.py 2>/dev/null)
  echo "TF_ENABLE_ONEDNN_OPTS=$switch  $seen"
  case $switch in
    0) test "$seen" = UnimplementedError ;;
    1) test "$seen" = "(1, 3, 6, 6)" ;;
  esac
done
