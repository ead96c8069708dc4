#!/usr/bin/env bash
# OpenCV: the softmax of a TFLite segmentation network runs along a row of pixels, not over labels.
#
# Versions: opencv-python-headless 5.0.0.93, tensorflow-cpu 2.21.0, ai-edge-litert 2.3.0, keras
#   3.15.1.
# Guess: cv2.dnn.readNetFromTFLite, which turns (N, H, W, C) into its own (N, C, H, W), turns the
#   axis of the softmax with it: the labels of every pixel sum up to 1.
# Happens: the last axis stays the last one, which is now the width. Each row of pixels sums up to 1
#   for each label, and the labels of a pixel to anything. Without the softmax all is right.
# Seen:
#   logits: largest difference from LiteRT 0.00
#   sums over the labels of a pixel: LiteRT 1.00 to 1.00, OpenCV 0.19 to 1.58
#   sums over a row of pixels: OpenCV 1.00 to 1.00
#   pixels whose label differs: 14 of 64
set -euo pipefail
unset PYTHONPATH KERAS_BACKEND
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet opencv-python-headless==5.0.0.93 tensorflow-cpu==2.21.0 \
    ai-edge-litert==2.3.0 keras==3.15.1
TF_CPP_MIN_LOG_LEVEL=3 venv/bin/python - <<'PYTHON'
import tempfile

import cv2
import keras
import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from keras import layers

keras.utils.set_random_seed(0)
x = np.random.default_rng(0).normal(size=(1, 8, 8, 4)).astype("float32")
image = keras.Input((8, 8, 4), batch_size=1)
logits = layers.Conv2D(5, 3, padding="same")(image)


def answers(outputs):
    model = keras.Model(image, outputs)
    with tempfile.TemporaryDirectory() as folder:
        model.export(folder, verbose=False)
        flat = tf.lite.TFLiteConverter.from_saved_model(folder).convert()
    litert = Interpreter(model_content=flat)
    litert.allocate_tensors()
    litert.set_tensor(litert.get_input_details()[0]["index"], x)
    litert.invoke()
    net = cv2.dnn.readNetFromTFLite(np.frombuffer(flat, "uint8"))
    net.setInput(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))
    right = litert.get_tensor(litert.get_output_details()[0]["index"])
    return right, net.forward().transpose(0, 2, 3, 1)


right, theirs = answers(logits)
far = np.abs(right - theirs).max()
print(f"logits: largest difference from LiteRT {far:.2f}")
assert far < 1e-4
right, theirs = answers(layers.Softmax()(logits))
sums, other, rows = right.sum(axis=3), theirs.sum(axis=3), theirs.sum(axis=2)
print(
    f"sums over the labels of a pixel: LiteRT {sums.min():.2f} to {sums.max():.2f}, "
    f"OpenCV {other.min():.2f} to {other.max():.2f}"
)
print(f"sums over a row of pixels: OpenCV {rows.min():.2f} to {rows.max():.2f}")
differ = int((right.argmax(axis=3) != theirs.argmax(axis=3)).sum())
print(f"pixels whose label differs: {differ} of 64")
assert np.allclose(sums, 1, atol=1e-5) and np.allclose(rows, 1, atol=1e-5)
assert other.max() - other.min() > 0.2 and differ > 0
PYTHON
