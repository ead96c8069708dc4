"""Empty a residual block, fold the batch norms, train what is left, and write it back.

python examples/clean_up.py
"""

import keras
import numpy as np
from keras import layers
from sklearn.datasets import load_digits

import keras_nns as nns


def build() -> keras.Model:
    inputs = keras.Input((8, 8, 1), name="image")
    x = layers.Conv2D(16, 3, padding="same", use_bias=False, name="stem")(inputs)
    x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
    for block in (1, 2):
        y = layers.Conv2D(16, 3, padding="same", use_bias=False, name=f"block{block}_a")(x)
        y = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(y))
        y = layers.Conv2D(16, 3, padding="same", use_bias=False, name=f"block{block}_b")(y)
        y = layers.BatchNormalization(momentum=0.9)(y)
        x = layers.ReLU()(layers.Add(name=f"block{block}_add")([x, y]))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(10, activation="softmax", name="digit")(x))


keras.utils.set_random_seed(0)
images, labels = load_digits(return_X_y=True)
images = (images / 16).astype("float32").reshape(-1, 8, 8, 1)
model = build()
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
model.fit(images, labels, epochs=3, batch_size=64, verbose=0)

activity = nns.observe(model, (images, labels))
plan = nns.select(activity, labels=[0, 1], score=nns.scores.contrast, keep=nns.fraction(0.5))
# Keep nothing of the first block: its two convolutions and batch norms go, the Add stays.
empty = nns.Plan(plan.fingerprint, plan.sizes, {**plan.kept, "block1_a": ()}, plan.labels)
small = nns.cut(model, empty, allow_empty=True, prove=True)
print(f"{model.count_params():,} parameters, {small.count_params():,} after the cut")

lean = nns.simplify(small, fold_batch_norm=True)
print(lean)
assert not any(isinstance(layer, layers.BatchNormalization) for layer in lean.model.layers)

# Two subnetworks, trained apart, compared, merged and put back where they came from.
parts = []
for chosen in ([0, 1], [8, 9]):
    part = nns.select(activity, labels=chosen, score=nns.scores.contrast, keep=nns.fraction(0.5))
    part = nns.cut(model, part)
    part.fit(images, labels, epochs=1, batch_size=64, verbose=0)
    parts.append(part)
print(nns.overlap(parts))
full = nns.write_back(parts[0], model, prove=True)
np.testing.assert_allclose(full(images[:8]), parts[0](images[:8]), atol=1e-4)
merged = nns.merge(parts, model, shared="mean")
print(f"merged: {merged.count_params():,} parameters, {nns.lineage(merged).plan}")
