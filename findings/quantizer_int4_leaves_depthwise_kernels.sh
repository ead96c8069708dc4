#!/usr/bin/env bash
# ai-edge-quantizer: int4 weights for all operators leave depthwise and transposed convolutions in
#   float32.
#
# Versions: ai-edge-quantizer 0.10.0, ai-edge-litert 2.3.0, tensorflow-cpu 2.21.0, keras 3.15.1.
# Guess: the ready recipe weight_only_wi4_afp32 stores every kernel in int4, or says which it cannot.
# Happens: the kernels of Conv2D become int4, those of DepthwiseConv2D and Conv2DTranspose stay
#   float32, and nothing says so. In int8 (weight_only_wi8_afp32) all three become int8.
# Seen:
#   weight_only_wi4_afp32: Conv2D INT4, DepthwiseConv2D FLOAT32, Conv2DTranspose FLOAT32
#   weight_only_wi8_afp32: Conv2D INT8, DepthwiseConv2D INT8, Conv2DTranspose INT8
set -euo pipefail
unset PYTHONPATH KERAS_BACKEND
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet ai-edge-quantizer==0.10.0 ai-edge-litert==2.3.0 \
    tensorflow-cpu==2.21.0 keras==3.15.1
TF_CPP_MIN_LOG_LEVEL=3 venv/bin/python - <<'PYTHON'
import tempfile

import keras
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils
from ai_edge_quantizer import quantizer, recipe
from keras import layers

NAMES = {number: name for name, number in vars(schema.TensorType).items() if name.isupper()}
KINDS = {"Conv2D": "CONV_2D", "DepthwiseConv2D": "DEPTHWISE_CONV_2D"}
KINDS["Conv2DTranspose"] = "TRANSPOSE_CONV"
model = keras.Sequential(
    [
        keras.Input((8, 8, 3), batch_size=1),
        layers.Conv2D(16, 3),
        layers.DepthwiseConv2D(3),
        layers.Conv2DTranspose(16, 3),
    ]
)
with tempfile.TemporaryDirectory() as folder:
    model.export(folder, verbose=False)
    plain = tf.lite.TFLiteConverter.from_saved_model(folder).convert()


def kernels(ready):
    tool = quantizer.Quantizer(bytearray(plain))
    tool.load_quantization_recipe(ready())
    flat = bytes(tool.quantize(None, enable_progress_report=False).quantized_model)
    made = flatbuffer_utils.read_model_from_bytearray(bytearray(flat))
    (graph,) = made.subgraphs
    writers = {index: step for step in graph.operators for index in step.outputs}
    found = {}
    for step in graph.operators:
        name = flatbuffer_utils.opcode_to_name(made, step.opcodeIndex)
        if name in KINDS.values():
            index = step.inputs[1]
            # Weights alone are small: an operator in front makes them float32 again.
            while index in writers:
                index = writers[index].inputs[0]
            found[name] = NAMES[graph.tensors[index].type]
    return {layer: found[name] for layer, name in KINDS.items()}


found = {}
for ready in recipe.weight_only_wi4_afp32, recipe.weight_only_wi8_afp32:
    found[ready.__name__] = kernels(ready)
    print(f"{ready.__name__}:", ", ".join(f"{k} {v}" for k, v in found[ready.__name__].items()))
assert list(found["weight_only_wi4_afp32"].values()) == ["INT4", "FLOAT32", "FLOAT32"]
assert list(found["weight_only_wi8_afp32"].values()) == ["INT8", "INT8", "INT8"]
PYTHON
