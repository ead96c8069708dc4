#!/usr/bin/env bash
# Keras on PyTorch: layers of float64 compute in float32, and say float64.
#
# Versions: keras 3.15.1 on torch 2.13.0 (CPU), numpy 2.4.6.
# Guess: `Dense(dtype="float64")` holds float64, its output is float64, and PyTorch has float64
#   without being asked: so what it computes is right to about 1e-15.
# Happens: Keras's rule of types takes float64 with float64 for float32 on every backend but
#   TensorFlow, as JAX does by default. The product is made in float32, and adding the bias makes it
#   float64, so that dtypes of weights and output show nothing; without a bias Dense answers in
#   float32. What makes no product, such as tanh or Add, is float64.
# Seen:
#   Dense: weights and output float64, off by 4e-06 of 23; LayerNormalization: 3e-07
#   ops.matmul of float64 and float64: float32; torch.matmul: off by 4e-15
set -euo pipefail
unset PYTHONPATH
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet keras==3.15.1 numpy==2.4.6 torch==2.13.0
KERAS_BACKEND=torch venv/bin/python - 2>/dev/null <<'PYTHON'
import keras
import numpy as np
import torch
from keras import layers, ops

rng = np.random.default_rng(0)
x, kernel = rng.normal(size=(8, 64)), rng.normal(size=(64, 16))
right = x @ kernel


def numbers(tensor):
    return tensor.detach().cpu().numpy()


def off(found, exact):
    return np.abs(found - exact).max()


dense = layers.Dense(16, dtype="float64")
dense.build((None, 64))
dense.kernel.assign(kernel)
answer = numbers(dense(x))
norm = layers.LayerNormalization(dtype="float64", epsilon=1e-3)
normed = numbers(norm(x))
centred = x - x.mean(-1, keepdims=True)
by_hand = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-3)
given = torch.tensor(x), torch.tensor(kernel)
product = ops.matmul(*given)
types = [keras.backend.standardize_dtype(one.dtype) for one in (dense.kernel, answer, normed)]
assert types == ["float64"] * 3
print(
    f"Dense: weights and output float64, off by {off(answer, right):.0e} of "
    f"{np.abs(right).max():.0f}; LayerNormalization: {off(normed, by_hand):.0e}"
)
print(
    f"ops.matmul of float64 and float64: {keras.backend.standardize_dtype(product.dtype)}; "
    f"torch.matmul: off by {off(numbers(torch.matmul(*given)), right):.0e}"
)
assert off(answer, right) > 1e-8 and off(normed, by_hand) > 1e-8
assert product.dtype == torch.float32
assert off(numbers(torch.matmul(*given)), right) < 1e-12
PYTHON
