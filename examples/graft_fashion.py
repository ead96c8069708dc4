"""Graft two labels of Fashion-MNIST into a network that knows digits alone.

    python examples/graft_fashion.py [--data FOLDER] [--quick]

FOLDER holds `mnist/` and `fashion_mnist/` with their IDX files; without it Keras downloads both.
`--quick` does the same in seconds with scikit-learn's small digits, of which four are turned upside
down and play the fashion.

Writes `grafted.keras`, `grafted.tflite` and the picture `grafted.png` into the current folder.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import keras
import matplotlib as mpl
import numpy as np
from keras import layers
from sklearn.datasets import load_digits

import keras_nns as nns
import tflite_export
from keras_nns.data.named import load_dataset

mpl.use("agg")
from matplotlib import pyplot as plt

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("--data", type=Path)
parser.add_argument("--quick", action="store_true")
given = parser.parse_args()

FASHION = ["T-shirt", "Trouser", "Pullover", "Dress", "Coat"]
FASHION += ["Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"]
MOVED = ["Trouser", "Ankle boot"]
TRAIN, WEIGH = 12_000, 4_000


def small_digits():
    images, labels = load_digits(return_X_y=True)
    images = np.kron(images.reshape(-1, 8, 8), np.ones((3, 3))) / 16
    images = np.pad(images, ((0, 0), (2, 2), (2, 2)))[..., None].astype("float32")
    order = np.random.default_rng(0).permutation(len(images))
    images, labels = images[order], labels[order]
    host, other = labels < 6, labels >= 6
    return (images[host], labels[host]), (images[other][:, ::-1], labels[other] - 6)


def both():
    """Return images and labels of either kind, in order: to train, to weigh on, to judge on."""
    if given.quick:
        parts = [(x, y, len(x) // 2, len(x) // 4) for x, y in small_digits()]
    else:
        parts = []
        for name in ("mnist", "fashion_mnist"):
            found = load_dataset(given.data / name if given.data else name)
            x = np.concatenate([found.x_train[: TRAIN + WEIGH], found.x_test])
            y = np.concatenate([found.y_train[: TRAIN + WEIGH], found.y_test])
            parts.append((x.reshape(-1, 28, 28, 1), y, TRAIN, WEIGH))
    return [
        [(x[:a], y[:a]), (x[a : a + b], y[a : a + b]), (x[a + b :], y[a + b :])]
        for x, y, a, b in parts
    ]


def trained(name, count, x, y, seed):
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(12, 3, activation="relu", name="one"),
            layers.MaxPooling2D(),
            layers.Conv2D(24, 3, activation="relu", name="two"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(48, activation="relu", name="three"),
            layers.Dense(count, activation="softmax", name="answer"),
        ],
        name=name,
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(x, y, batch_size=64, epochs=4, verbose=0)
    return model


digits, fashion = both()
known = FASHION[: int(fashion[0][1].max()) + 1]
moved = MOVED if "Ankle boot" in known else known[1:3]
figures = [str(i) for i in range(int(digits[0][1].max()) + 1)]
host = trained("digits", len(figures), *digits[0], seed=0)
parent = trained("fashion", len(known), *fashion[0], seed=1)

activity = nns.observe(parent, fashion[0], label_names=known, verbose=False)
donors = {}
for name in moved:
    plan = nns.select(activity, name, score=nns.scores.contrast, keep=nns.fraction(0.4))
    small = nns.cut(parent, plan, head="binary", prove=True)
    steps = (nns.steps.least_squares(), nns.steps.calibrate_head())
    donors[name] = nns.repair(small, parent, fashion[0], steps=steps).model
    print(f"{name}: {small.count_params():,} of {parent.count_params():,} parameters")


def mixed(part, names):
    """Digits and, of the fashion, the labels named, with the names as labels."""
    (x, y), (others, kinds) = digits[part], fashion[part]
    chosen = np.isin(kinds, [known.index(name) for name in names])
    text = [*map(str, y), *(known[i] for i in kinds[chosen])]
    return np.concatenate([x, others[chosen]]), np.array(text)


grown, so_far = host, []
for name, donor in donors.items():
    so_far.append(name)
    grown = nns.graft(grown, donor, name, *mixed(1, so_far), host_names=figures + so_far[:-1])

x, y = mixed(2, moved)
before = nns.evaluate(host, *digits[2], label_names=figures)
after = nns.evaluate(grown, x, y)
print(f"\n{after}\n")
lost = [before[name].recall - after[name].recall for name in figures]
print(f"The digits lost {100 * np.mean(lost):.2f} points of recall, {100 * max(lost):.2f} at most.")

nns.save_model(grown, "grafted.keras", overwrite=True)
flat = tflite_export.convert(grown)
tflite_export.verify(flat, grown, x[:50])
tflite_export.save(flat, "grafted.tflite", overwrite=True)
print(f"grafted.keras: {grown.count_params():,} parameters; grafted.tflite: {len(flat):,} bytes")

answers = list(after.answers)
table = after.confusion / after.confusion.sum(axis=1, keepdims=True)
figure, axes = plt.subplots(figsize=(6.4, 5.6), dpi=90)
axes.imshow(np.sqrt(table), cmap="Blues", vmin=0, vmax=1)
for (i, j), share in np.ndenumerate(table):
    if share >= 0.001:
        colour = "white" if share > 0.4 else "black"
        axes.text(j, i, f"{100 * share:.1f}", ha="center", va="center", size=7, color=colour)
axes.set_xticks(range(len(answers)), answers, rotation=60, ha="right")
axes.set_yticks(range(len(answers)), answers)
axes.axhline(len(figures) - 0.5, color="grey", lw=0.8)
axes.axvline(len(figures) - 0.5, color="grey", lw=0.8)
axes.set(xlabel="answered", ylabel="is", title="Of each label, answered in percent")
figure.tight_layout()
figure.savefig("grafted.png")
