"""Fit a network to an NPU: what its compiler says, and an extraction to a budget of its cycles.

python examples/fit_an_npu.py
"""

import keras
from sklearn.datasets import load_digits

import keras_nns as nns
import tflite_export

NPU = "ethos-u55-128"

keras.utils.set_random_seed(0)
digits = load_digits()
x, y = (digits.images / 16).astype("float32")[..., None], digits.target
# Everything is chosen and repaired on one part; the figures at the end are of another.
x_train, y_train, x_test, y_test = x[:1300], y[:1300], x[1300:], y[1300:]
model = keras.Sequential(
    [
        keras.Input((8, 8, 1), name="pixels"),
        keras.layers.Conv2D(20, 3, padding="same", activation="relu", name="first"),
        keras.layers.MaxPooling2D(),
        keras.layers.Conv2D(24, 3, padding="same", activation="relu", name="second"),
        keras.layers.Flatten(),
        keras.layers.Dense(10, activation="softmax", name="digit"),
    ]
)
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
model.fit(x_train, y_train, epochs=12, batch_size=32, verbose=0)

# What runs there, and what it takes.
flat = tflite_export.convert(model, quantize="int8", samples=x_train)
parent = tflite_export.npu(flat, target=NPU)
print(parent)

# Which widths are worth having: hardware computes by blocks of channels.
print(nns.npu_widths(model, target=NPU))

# Two digits within half of the cycles, and in 10 kB of flash.
budget = nns.Budget(npu_cycles=parent.cycles // 2, bytes=10_000, target=NPU)
small = nns.extract(model, x_train, y_train, labels=[3, 8], budget=budget, quantize="int8")
print(small)
print({group: len(units) for group, units in small.plan.kept.items()})
print(nns.evaluate(small.model, x_test, y_test))
