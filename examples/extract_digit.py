"""Ask for a network by what it may cost: one digit in 12 kB, then the whole trade-off.

python examples/extract_digit.py
"""

import argparse

import keras
from sklearn.datasets import load_digits

import keras_nns as nns
import tflite_export
from keras_nns import plots

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--quick", action="store_true", help="fewer sizes in the trade-off")
given = parser.parse_args()

keras.utils.set_random_seed(0)
digits = load_digits()
x, y = (digits.data / 16).astype("float32"), digits.target
# Everything is chosen and repaired on one part; the figures at the end are of another.
x_train, y_train, x_test, y_test = x[:1300], y[:1300], x[1300:], y[1300:]
model = keras.Sequential(
    [
        keras.Input((64,), name="pixels"),
        keras.layers.Dense(96, activation="relu", name="hidden"),
        keras.layers.Dense(48, activation="relu", name="deeper"),
        keras.layers.Dense(10, activation="softmax", name="digit"),
    ]
)
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
model.fit(x_train, y_train, epochs=20, batch_size=32, verbose=0)

small = nns.extract(model, x_train, y_train, labels=3, budget="12kB")
print(small)
print(f"the parent's file has {len(tflite_export.convert(model)):,} bytes")
print(nns.evaluate(small.model, x_test, y_test))

# The same in int8: the budget counts that file, and the figures are those of the file.
tiny = nns.extract(model, x_train, y_train, labels=3, budget="7kB", quantize="int8")
print(tiny)
tiny.save("three.tflite", overwrite=True)

# What would another budget give?
trade_off = nns.sweep(model, x_train, y_train, labels=3, sizes=3 if given.quick else 8)
print(trade_off)
plots.save(plots.trade_off(trade_off), "trade_off.png", overwrite=True)
print("trade_off.png shows it")

# What cannot be had is refused, with what is nearest.
try:
    nns.extract(model, x_train, y_train, labels=3, budget=nns.Budget(parameters=40))
except nns.errors.SelectionError as error:
    print(error)
