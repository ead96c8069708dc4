#!/usr/bin/env bash
# OpenVINO: a ReLU that the TFLite file fuses into a transposed convolution is dropped.
#
# Versions: openvino 2026.4.1, tensorflow-cpu 2.21.0, ai-edge-litert 2.3.0, keras 3.15.1.
# Guess: a .tflite file that OpenVINO reads without a word answers as under LiteRT.
# Happens: the converter writes a ReLU that follows a Conv2DTranspose into the operator itself. The
#   graph that OpenVINO reads has the transposed convolution and no ReLU: answers below 0 come out.
#   A ReLU fused into Conv2D is read.
# Seen:
#   Conv2D, relu:          LiteRT from 0.00, OpenVINO from  0.00, its graph has a ReLU: True
#   Conv2DTranspose, relu: LiteRT from 0.00, OpenVINO from -1.56, its graph has a ReLU: False
#   OpenVINO's answer with a ReLU put behind it differs from LiteRT's by less than 1e-5
set -euo pipefail
unset PYTHONPATH KERAS_BACKEND
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet openvino==2026.4.1 tensorflow-cpu==2.21.0 ai-edge-litert==2.3.0 \
    keras==3.15.1
TF_CPP_MIN_LOG_LEVEL=3 venv/bin/python - <<'PYTHON'
import tempfile

import keras
import numpy as np
import openvino
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter
from keras import layers

keras.utils.set_random_seed(0)
x = np.random.default_rng(0).normal(size=(1, 6, 6, 3)).astype("float32")


def answers(layer):
    model = keras.Sequential([keras.Input((6, 6, 3), batch_size=1), layer])
    with tempfile.TemporaryDirectory() as folder:
        model.export(folder, verbose=False)
        flat = tf.lite.TFLiteConverter.from_saved_model(folder).convert()
    litert = Interpreter(model_content=flat)
    litert.allocate_tensors()
    litert.set_tensor(litert.get_input_details()[0]["index"], x)
    litert.invoke()
    with open("model.tflite", "wb") as file:
        file.write(flat)
    core = openvino.Core()
    graph = core.read_model("model.tflite")
    has = any(node.get_type_name() in ("Relu", "Clamp") for node in graph.get_ops())
    other = core.compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})(x)[0]
    return litert.get_tensor(litert.get_output_details()[0]["index"]), other, has


for kind in layers.Conv2D, layers.Conv2DTranspose:
    layer = kind(4, 3, strides=2, padding="same", activation="relu", bias_initializer="normal")
    right, other, has = answers(layer)
    print(
        f"{kind.__name__}, relu: LiteRT from {right.min():.2f}, OpenVINO from {other.min():.2f}, "
        f"its graph has a ReLU: {has}"
    )
    assert right.min() >= 0
    assert np.allclose(np.maximum(other, 0), right, atol=1e-5)
    if kind is layers.Conv2D:
        assert has and other.min() >= 0
    else:
        assert not has and other.min() < -0.1
PYTHON
