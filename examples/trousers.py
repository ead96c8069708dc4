"""What knows the digit 3 is taught to tell a 3 from a pair of trousers.

python examples/trousers.py [--data FOLDER] [--quick]

The digits are MNIST, the trousers those of Fashion-MNIST. FOLDER holds `mnist/` and
`fashion_mnist/` with their IDX files; without it Keras downloads both. --quick takes pictures that
are drawn here and little training, to see that it runs.
"""

import argparse
from pathlib import Path

import keras
import numpy as np
from keras import layers

import keras_nns as nns
from keras_nns.data.named import load_dataset

parser = argparse.ArgumentParser()
parser.add_argument("--data", type=Path)
parser.add_argument("--quick", action="store_true")
given = parser.parse_args()
SIZES = (10, 50) if given.quick else (10, 50, 100, 500)
EPOCHS = 2 if given.quick else 5


def drawn(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Noisy bars in ten places, in the place of pictures."""
    rng = np.random.default_rng(seed)
    y = np.arange(count) % 10
    x = rng.uniform(0, 0.35, (count, 28, 28))
    for image, kind in zip(x, y, strict=True):
        image[2 * kind + 3 : 2 * kind + 7] += 0.62
    return x, y


if given.quick:
    digits, clothes = (drawn(1000, 0), drawn(200, 1)), (drawn(1000, 2), drawn(200, 3))
    clothes = [(np.swapaxes(x, 1, 2), y) for x, y in clothes]
else:
    both = [load_dataset(given.data / n if given.data else n) for n in ("mnist", "fashion_mnist")]
    digits, clothes = (((s.x_train, s.y_train), (s.x_test, s.y_test)) for s in both)


def pictures(x: np.ndarray) -> np.ndarray:
    return x.astype("float32").reshape(-1, 28, 28, 1)


(x, y), (x_test, y_test) = digits
(c, k), (c_test, k_test) = clothes
keras.utils.set_random_seed(0)
parent = keras.Sequential(
    [
        keras.Input((28, 28, 1)),
        layers.Conv2D(16, 3, strides=2, activation="relu", name="low"),
        layers.Conv2D(32, 3, strides=2, activation="relu", name="high"),
        layers.Flatten(),
        layers.Dense(64, activation="relu", name="hidden"),
        layers.Dense(10, activation="softmax", name="digit"),
    ],
    name="digits",
)
parent.compile(keras.optimizers.Adam(2e-3), "sparse_categorical_crossentropy")
x, y = pictures(x[:20_000]), y[:20_000]
parent.fit(x, y, batch_size=64, epochs=EPOCHS, verbose=0)

# The subnetwork that knows the 3: no pair of trousers was ever seen.
activity = nns.observe(parent, x, y, verbose=False)
three = nns.cut(parent, nns.select(activity, 3, score=nns.scores.contrast, keep=nns.fraction(0.25)))
print(f"{parent.count_params():,} parameters know ten digits, {three.count_params():,} a 3")

names = ["3", "trouser"]


def mixed(count: int | None, threes: np.ndarray, trousers: np.ndarray):
    both = pictures(np.concatenate([threes[:count], trousers[:count]]))
    return both, np.repeat([0, 1], [len(threes[:count]), len(trousers[:count])])


trousers, test = c[k == 1], mixed(None, x_test[y_test == 3], c_test[k_test == 1])
threes = digits[0][0][20_000:][digits[0][1][20_000:] == 3]
if given.quick:
    threes = digits[0][0][digits[0][1] == 3]

how = {"label_names": names, "held_out": 0, "epochs": 4 if given.quick else 40, "batch_size": 20}
ways = {
    "features, new head": lambda data: nns.transfer(three, *data, rates=[0.01], **how),
    "fine-tuned in stages": lambda data: nns.transfer(three, *data, rates=[0.01, 0.001], **how),
    "the whole parent, fine-tuned": lambda data: nns.transfer(
        parent, *data, rates=[0.01, 0.001], up_to="hidden", **how
    ),
}
print(f"\naccuracy on {len(test[1]):,} test pictures, taught with so many of each")
print(f"{'':30}{'parameters':>12}", *(f"{size:>8}" for size in SIZES))
found = {}
for way, teach in ways.items():
    models = [teach(mixed(size, threes, trousers)).model for size in SIZES]
    found[way] = [nns.evaluate(model, test, allow_overlap=True).accuracy for model in models]
    cells = (f"{value:8.4f}" for value in found[way])
    print(f"{way:30}{models[0].count_params():>12,}", *cells)

import matplotlib.pyplot as plt  # noqa: E402

figure, axes = plt.subplots(figsize=(6, 3.5), layout="constrained")
for way, values in found.items():
    axes.plot(SIZES, values, marker="o", label=way)
axes.set(xscale="log", xlabel="samples of each label", ylabel="accuracy", title="3 or trouser?")
axes.legend()
figure.savefig("trousers.png", dpi=120)
nns.save_model(models[0], "three_or_trouser.keras", overwrite=True)
print("\nwrote trousers.png and three_or_trouser.keras")
