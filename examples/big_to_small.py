"""What a large network knows of two digits moves into a small architecture.

python examples/big_to_small.py [--quick]

The digits are those that come with scikit-learn. --quick trains little, to see that it runs.
"""

import argparse

import keras
import matplotlib.pyplot as plt
import numpy as np
from keras import layers
from sklearn.datasets import load_digits

import keras_nns as nns

parser = argparse.ArgumentParser()
parser.add_argument("--quick", action="store_true")
given = parser.parse_args()
SIZES = (8, 100) if given.quick else (4, 8, 16, 32, 64, 100)
EPOCHS = 2 if given.quick else 20
MOVED = [3, 8]

x, y = load_digits(return_X_y=True)
x = (x / 16).astype("float32").reshape(-1, 8, 8, 1)
order = np.random.default_rng(0).permutation(len(x))
train, test = order[:1200], order[1200:]
test = test[np.isin(y[test], MOVED)]


def network(name: str, low: int, high: int, hidden: int, outputs: int) -> keras.Model:
    return keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(low, 3, activation="relu", name="low"),
            layers.Conv2D(high, 3, activation="relu", name="high"),
            layers.Flatten(),
            layers.Dense(hidden, activation="relu", name="hidden"),
            layers.Dense(outputs, activation="softmax", name="answer"),
        ],
        name=name,
    )


keras.utils.set_random_seed(0)
large = network("large", 24, 48, 64, 10)
large.compile("adam", "sparse_categorical_crossentropy")
large.fit(x[train], y[train], batch_size=32, epochs=2 if given.quick else 20, verbose=0)
tiny = network("tiny", 4, 6, 8, 2)


def accuracy(model: keras.Model, columns: list[int]) -> float:
    """Share of the test samples that are told apart rightly, asked for these outputs alone."""
    said = model.predict(x[test], verbose=0)[:, columns].argmax(axis=1)
    return float(np.mean(np.array(MOVED)[said] == y[test]))


found: dict[str, list[float]] = {"transplanted": [], "the same shape from scratch": []}
for size in SIZES:
    few = np.concatenate([train[y[train] == digit][:size] for digit in MOVED])
    data, how = (x[few], y[few]), {"epochs": EPOCHS, "held_out": 0, "batch_size": 8}
    done = nns.transplant(large, tiny, *data, labels=MOVED, **how)
    fresh = nns.from_scratch(done.model, *data, optimizer=keras.optimizers.Adam(2e-3), **how)
    for way, model in zip(found, (done.model, fresh.model), strict=True):
        found[way].append(accuracy(model, [0, 1]))

print(done.to_table())
whole = accuracy(large, MOVED)
print(f"\n{tiny.count_params():,} parameters in the place of {large.count_params():,}")
print(f"accuracy on {len(test)} test samples of {MOVED[0]} and {MOVED[1]}, the large: {whole:.4f}")
print(f"{'samples of each':30}", *(f"{size:>8}" for size in SIZES))
for way, values in found.items():
    print(f"{way:30}", *(f"{value:8.4f}" for value in values))

figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
for way, values in found.items():
    axes.plot(SIZES, values, marker="o", label=way)
axes.axhline(whole, color="grey", linestyle="--", label="the large network")
axes.set(xscale="log", xlabel="samples of each label", ylabel="accuracy", title="3 or 8?")
axes.legend()
figure.savefig("big_to_small.png", dpi=120)
nns.save_model(done.model, "tiny.keras", overwrite=True)
print("\nwrote big_to_small.png and tiny.keras")
