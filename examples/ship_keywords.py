"""Keyword spotting with a recurrent network: two keywords and "other", shipped and measured.

    python examples/ship_keywords.py [--data kws.npz] [--quick]

The file holds `x` (samples, steps, features[, 1]) and `y`. Without it melodies stand in for words:
tones that rise, fall, stay, bend up or bend down, in noise, as energies of 10 bands over 24 steps.
--quick trains little, to see that it runs.
"""

from __future__ import annotations

import argparse

import keras
import numpy as np
from keras import layers
from rich.console import Console

import keras_nns as nns
import tflite_export
from keras_nns.shipping.tflite_files import device_card, packed

STEPS, BANDS = 24, 10


def melodies(count: int = 1200):
    """Draw keywords: each is a curve of pitch, with its own start, width and loudness."""
    random = np.random.default_rng(0)
    y = np.arange(count) % 5
    t = np.linspace(-1, 1, STEPS)
    curves = np.stack([t, -t, 0 * t, 2 * t**2 - 1, 1 - 2 * t**2])[y]
    pitch = 4.5 + 2.5 * curves + random.normal(0, 0.7, (count, 1))
    bands = np.arange(BANDS)
    width = random.uniform(0.8, 1.6, (count, 1, 1))
    energy = np.exp(-(((bands - pitch[..., None]) / width) ** 2))
    x = random.uniform(0.5, 1.5, (count, 1, 1)) * energy
    return (x + random.normal(0, 0.25, x.shape)).astype("float32"), y


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--data", help=".npz with x and y")
parser.add_argument("--quick", action="store_true")
given = parser.parse_args()
if given.data is None:
    x, y = melodies()
    names = ["rise", "fall", "stay", "valley", "hill"]
else:
    with np.load(given.data) as file:
        x, y = file["x"].astype("float32"), file["y"].astype(int)
    x = x.reshape(*x.shape[:3])
    x = (x - x.mean()) / x.std()
    names = [f"word {number}" for number in range(y.max() + 1)]
order = np.random.default_rng(1).permutation(len(x))
cut_at = int(0.7 * len(x))
train, test = ((x[part], y[part]) for part in (order[:cut_at], order[cut_at:]))

keras.utils.set_random_seed(0)
parent = keras.Sequential(
    [
        keras.Input(x.shape[1:], name="features"),
        layers.GRU(32, name="memory"),
        layers.Dense(24, activation="relu", name="hidden"),
        layers.Dense(len(names), activation="softmax", name="word"),
    ],
    name="keywords",
)
parent.compile(keras.optimizers.Adam(3e-3), "sparse_categorical_crossentropy")
parent.fit(*train, epochs=3 if given.quick else 15, verbose=0)

# Units of the GRU leave with all their gates: the cut network is a smaller GRU.
activity = nns.observe(parent, train, label_names=names, verbose=False)
plan = nns.select(activity, labels=[0, 1], score=nns.scores.contrast, keep=nns.fraction(0.6))
small = nns.cut(parent, plan, head="other", prove=True)
small = nns.repair(small, parent, train).model
print(nns.compare(parent, small, test, label_names=names))

flats = {"parent": tflite_export.convert(parent, labels=names)}
for title, options in {
    "loop": {},
    "unrolled": {"unroll": True},
    "loop, dynamic": {"quantize": "dynamic"},
}.items():
    flats[title] = flat = tflite_export.convert(
        small, labels=[names[0], names[1], "other"], files=packed(small), **options
    )
    found = tflite_export.verify(flat, small, test[0])
    flex = tflite_export.anatomy(flat).flex
    print(f"{title}: {found.agreement:.1%} same decisions, {len(flex)} Flex operators")
card = device_card(flats, *test, label_names=names, seconds=0.1)
Console(width=140).print(card.to_table())
