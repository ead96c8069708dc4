"""Ship one digit's subnetwork in int8: a file of a few KB that says yes or no, and its card.

    python examples/ship_label.py [--data FOLDER] [--label 3] [-o three.tflite] [--quick]

FOLDER holds MNIST's four IDX files; without it scikit-learn's small digits are used. --quick trains
little, to see that it runs.
"""

from __future__ import annotations

import argparse

import keras
from rich.console import Console

import keras_nns as nns
import tflite_export
from keras_nns.data.named import load_dataset
from keras_nns.shipping.tflite_files import device_card, packed

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--data", default="digits", help="folder of MNIST's IDX files")
parser.add_argument("--label", type=int, default=3)
parser.add_argument("-o", "--output", help="where to write the int8 file")
parser.add_argument("--quick", action="store_true")
given = parser.parse_args()

data = load_dataset(given.data)
side = round((data.x_train[0].size) ** 0.5)
x_train, x_test = (x.reshape(-1, side, side, 1) for x in (data.x_train, data.x_test))
y_train, y_test, name = data.y_train, data.y_test, data.label_names[given.label]

keras.utils.set_random_seed(0)
layers = keras.layers
parent = keras.Sequential(
    [
        keras.Input((side, side, 1), name="pixels"),
        layers.Conv2D(16, 3, activation="relu"),
        layers.MaxPooling2D(),
        layers.Conv2D(32, 3, activation="relu", padding="same"),
        layers.Flatten(),
        layers.Dense(10, activation="softmax", name="digit"),
    ],
    name="parent",
)
parent.compile("adam", "sparse_categorical_crossentropy")
epochs = 3 if given.quick else max(2, 30_000 // len(x_train))
parent.fit(x_train, y_train, epochs=epochs, verbose=0)

# Which units does this digit need? Keep a quarter, fit what stays, decide at 0.5.
some = x_train[:6000], y_train[:6000]
activity = nns.observe(parent, some, verbose=False)
score = nns.scores.forward_selection(parent, some)
plan = nns.select(activity, labels=given.label, score=score, keep=nns.fraction(0.25))
small = nns.repair(nns.cut(parent, plan, head="binary", prove=True), parent, some).model

flats = {"parent": tflite_export.convert(parent, labels=data.label_names)}
for variant in ("float32", "int8"):
    flats[f"{name}, {variant}"] = flat = tflite_export.convert(
        small,
        quantize=variant,
        samples=some[0],
        targets=(some[1] == given.label).astype(int),
        labels=[name],
        description=f"Says whether a handwritten digit is a {name}.",
        files=packed(small),
    )
    found = tflite_export.verify(flat, small, x_test[:500])
    print(f"{variant}: {found.agreement:.1%} same decisions")
if given.output:
    tflite_export.save(flat, given.output)
x, y = x_test[:2000], y_test[:2000]
card = device_card(flats, x, y, label_names=data.label_names, seconds=0.1)
Console(width=120).print(card.to_table())
