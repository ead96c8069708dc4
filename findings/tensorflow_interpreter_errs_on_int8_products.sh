#!/usr/bin/env bash
# TensorFlow's own TFLite interpreter: int8 products of two tensors, as in attention, are wrong.
#
# Versions: tensorflow 2.21.0, ai-edge-litert 2.3.0, on x86-64 with AVX512.
# Guess: one int8 file answers the same in tf.lite.Interpreter and in LiteRT's Interpreter, which
#   took its place; delegates that come by default make it faster and nothing else.
# Happens: BATCH_MATMUL of two int8 activations is off by a tenth to three quarters of the answers'
#   range with the delegate that TensorFlow's interpreter loads by itself (XNNPACK). Without default
#   delegates, with reference kernels, and in LiteRT with and without, it is right to a step or two
#   of int8. Products with constants (Dense) are right everywhere.
# Seen:
#   keys by queries: TensorFlow 0.222, without delegates 0.010, LiteRT 0.010
#   queries above zero: TensorFlow 0.772, without delegates 0.014, LiteRT 0.014
#   weights by values: TensorFlow 0.154, without delegates 0.012, LiteRT 0.012
set -euo pipefail
unset PYTHONPATH
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet tensorflow==2.21.0 ai-edge-litert==2.3.0
TF_CPP_MIN_LOG_LEVEL=3 venv/bin/python - 2>/dev/null <<'PYTHON'
import numpy as np
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter

BARE = tf.lite.experimental.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
samples = np.random.default_rng(0).normal(size=(64, 1, 7, 16)).astype("float32")


def converted(function, x):
    class Product(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec((1, 7, 16), tf.float32)])
        def call(self, given):
            return function(given)

    module = Product()
    made = module.call.get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([made], module)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([one] for one in x)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    return converter.convert()


def off(kind, file, function, x, **how):
    """Return the largest difference from float32, of the largest answer."""
    runner = kind(model_content=file, **how)
    runner.allocate_tensors()
    (start,), (end,) = runner.get_input_details(), runner.get_output_details()
    (step, zero), (out_step, out_zero) = start["quantization"], end["quantization"]
    right = np.stack([function(tf.constant(one)).numpy() for one in x])
    found = []
    for one in x:
        whole = np.clip(np.round(one / step) + zero, -128, 127).astype("int8")
        runner.set_tensor(start["index"], whole)
        runner.invoke()
        found.append((runner.get_tensor(end["index"]).astype("float32") - out_zero) * out_step)
    return np.abs(np.stack(found) - right).max() / np.abs(right).max()


shifted = samples + np.array([2.0] * 8 + [0.0] * 8, dtype="float32")
products = {
    "keys by queries": (
        lambda x: tf.matmul(x[..., :8], x[..., 8:], transpose_b=True),
        samples,
    ),
    "queries above zero": (
        lambda x: tf.matmul(x[..., :8], x[..., 8:], transpose_b=True),
        shifted,
    ),
    "weights by values": (
        lambda x: tf.matmul(tf.nn.softmax(x[..., :7]), x[..., 8:]),
        samples,
    ),
}
for name, (function, x) in products.items():
    file = converted(function, x)
    own = off(tf.lite.Interpreter, file, function, x)
    bare = off(tf.lite.Interpreter, file, function, x, experimental_op_resolver_type=BARE)
    litert = off(Interpreter, file, function, x)
    print(f"{name}: TensorFlow {own:.3f}, without delegates {bare:.3f}, LiteRT {litert:.3f}")
    assert bare < 0.03 and litert < 0.03 < 0.1 < own
PYTHON
