"""Cut a residual network to two labels, fit it, ship it in int8, and print its card.

    python examples/ship_residual.py [--data FOLDER] [--quick]

FOLDER holds MLPerf Tiny's ResNet-8 (`models/cifar10_resnet8_mlperftiny.h5`) and CIFAR-10 images
(`cifar10/train_first4000_lossless.npz`, `cifar10/test200_lossless.npz` with x and y). Without it a
small residual network is trained on scikit-learn's digits, with --quick only a little.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path

import keras
import numpy as np
from keras import layers
from rich.console import Console
from sklearn.datasets import load_digits

import keras_nns as nns
import tflite_export
from keras_nns.shipping.tflite_files import device_card, packed

CIFAR10 = "airplane automobile bird cat deer dog frog horse ship truck".split()  # noqa: SIM905


def published(folder: Path):
    model = nns.load_model(folder / "models" / "cifar10_resnet8_mlperftiny.h5")
    parts = [
        np.load(folder / "cifar10" / f"{part}_lossless.npz")
        for part in ("train_first4000", "test200")
    ]
    train, test = ((part["x"].astype("float32"), part["y"].astype(int)) for part in parts)
    return model, train, test, CIFAR10, [1, 7]


def trained_here(epochs: int):
    images, labels = load_digits(return_X_y=True)
    images = (images / 16).astype("float32").reshape(-1, 8, 8, 1)
    keras.utils.set_random_seed(0)
    inputs = keras.Input((8, 8, 1), name="image")
    normalised = partial(layers.BatchNormalization, momentum=0.9)  # 41 steps are an epoch here
    x = layers.ReLU()(normalised()(layers.Conv2D(16, 3, padding="same")(inputs)))
    for filters, strides in ((16, 1), (32, 2)):
        y = layers.Conv2D(filters, 3, strides, padding="same")(x)
        y = layers.ReLU()(normalised()(y))
        y = normalised()(layers.Conv2D(filters, 3, padding="same")(y))
        if strides == 2:
            x = layers.Conv2D(filters, 1, strides, padding="same")(x)
        x = layers.ReLU()(layers.Add()([x, y]))
    answer = layers.Dense(10, activation="softmax", name="digit")
    model = keras.Model(inputs, answer(layers.GlobalAveragePooling2D()(x)), name="residual")
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(images[:1300], labels[:1300], epochs=epochs, verbose=0)
    train, test = (images[:1300], labels[:1300]), (images[1300:], labels[1300:])
    return model, train, test, [str(digit) for digit in range(10)], [3, 8]


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--data", type=Path)
parser.add_argument("--quick", action="store_true")
given = parser.parse_args()
made = published(given.data) if given.data else trained_here(6 if given.quick else 12)
parent, train, test, names, labels = made

activity = nns.observe(parent, train, label_names=names, verbose=False)
plan = nns.select(activity, labels=labels, score=nns.scores.contrast, keep=nns.fraction(0.5))
small = nns.cut(parent, plan, head="labels", prove=True)
small = nns.repair(small, parent, train).model
print(nns.compare(parent, small, test, label_names=names))

own = np.isin(train[1], labels)
flats = {"parent": tflite_export.convert(parent, labels=names)}
for variant in ("float32", "int8"):
    flats[f"two labels, {variant}"] = flat = tflite_export.convert(
        small,
        quantize=variant,
        samples=train[0][own],
        targets=np.searchsorted(labels, train[1][own]),
        labels=[names[label] for label in labels],
        files=packed(small),
    )
    found = tflite_export.verify(flat, small, test[0][np.isin(test[1], labels)])
    print(f"{variant}: {found.agreement:.1%} same decisions")
card = device_card(flats, *test, label_names=names, seconds=0.1)
Console(width=120).print(card.to_table())
