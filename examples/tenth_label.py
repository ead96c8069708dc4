"""A network of nine digits grows to its tenth, and gives one away again.

python examples/tenth_label.py [--quick]

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

x, y = load_digits(return_X_y=True)
x = (x / 16).astype("float32").reshape(-1, 8, 8, 1)
order = np.random.default_rng(0).permutation(len(x))
train, test = order[:1300], order[1300:]
names = [str(digit) for digit in range(10)]

keras.utils.set_random_seed(0)
nine = keras.Sequential(
    [
        keras.Input((8, 8, 1)),
        layers.Conv2D(16, 3, activation="relu", name="conv"),
        layers.Flatten(name="flat"),
        layers.Dense(32, activation="relu", name="hidden"),
        layers.Dense(9, activation="softmax", name="digit"),
    ],
    name="nine",
)
nine.compile("adam", "sparse_categorical_crossentropy")
known = train[y[train] < 9]
nine.fit(x[known], y[known], batch_size=32, epochs=5 if given.quick else 30, verbose=0)

# The tenth label: all its samples, and some of the others. What is there does not change.
rehearsed = np.concatenate([train[y[train] == digit][:60] for digit in range(9)])
data = np.concatenate([rehearsed, train[y[train] == 9]])
grown = nns.add_label(
    nine, x[data], y[data], name="9", label_names=names[:9], epochs=5 if given.quick else 40
)
print(grown)
np.testing.assert_array_equal(nine.get_layer("conv").kernel, grown.model.get_layer("conv").kernel)

before = nns.evaluate(nine, x[test[y[test] < 9]], y[test[y[test] < 9]], label_names=names[:9])
after = nns.evaluate(grown.model, x[test], y[test])
print("\non test samples")
print(after)

eight = nns.remove_label(grown.model, "3")
print(f"\n{eight}")

figure, axes = plt.subplots(figsize=(7, 3.5), layout="constrained")
values = [row.balanced_accuracy for row in before.rows]
axes.bar(np.arange(9) - 0.2, values, 0.4, label="nine labels")
axes.bar(np.arange(10) + 0.2, [row.balanced_accuracy for row in after.rows], 0.4, label="ten")
axes.set(xticks=range(10), ylim=(0.5, 1.05), xlabel="digit", ylabel="balanced accuracy")
axes.set_title("The tenth label, beside the others before and after")
axes.legend(loc="lower left")
figure.savefig("tenth_label.png", dpi=120)
nns.save_model(grown.model, "ten.keras", overwrite=True)
print("wrote tenth_label.png and ten.keras")
