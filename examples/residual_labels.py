"""Cut a residual network with batch normalisation down to three labels, and merge two cuts.

The channels of a residual stream live in several convolutions at once; they leave all of them
together, so the cut is exact and the file really smaller.

    python examples/residual_labels.py
"""

import keras
import numpy as np
from keras import layers
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import keras_nns as nns
from keras_nns.graph.tracing import trace


def build() -> keras.Model:
    inputs = keras.Input((8, 8, 1), name="image")
    x = layers.Conv2D(24, 3, padding="same", use_bias=False, name="stem")(inputs)
    x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
    for block in (1, 2):
        y = layers.Conv2D(24, 3, padding="same", use_bias=False, name=f"block{block}_a")(x)
        y = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(y))
        y = layers.Conv2D(24, 3, padding="same", use_bias=False, name=f"block{block}_b")(y)
        y = layers.BatchNormalization(momentum=0.9)(y)
        x = layers.ReLU()(layers.Add()([x, y]))
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(10, activation="softmax", name="digit")(x))


keras.utils.set_random_seed(0)
images, labels = load_digits(return_X_y=True)
images = (images / 16).astype("float32").reshape(-1, 8, 8, 1)
x_train, x_test, y_train, y_test = train_test_split(images, labels, stratify=labels, random_state=0)
model = build()
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
model.fit(x_train, y_train, epochs=12, batch_size=32, verbose=0)

for group in trace(model).layout.groups:
    state = "can be cut" if group.prunable else f"stays: {group.reasons[0]}"
    print(f"{group.name:12} {group.size:3} units in {len(group.members)} layers, {state}")

activity = nns.observe(model, (x_train, y_train))
keep = nns.fraction(0.5)
low = nns.select(activity, labels=[0, 1, 2], score=nns.scores.contrast, keep=keep)
high = nns.select(activity, labels=[8, 9], score=nns.scores.contrast, keep=keep)
print(f"\n{low}\n{high}\nboth need: {low & high}\ntogether:  {low | high}")

# Where a budget is so small that thinning hurts, a block may be left as its shortcut.
tiny = nns.extract(model, (x_train, y_train), labels=[0, 1, 2], budget="parameters=1000")
print(tiny.summary)

small = nns.cut(model, low, head="labels", prove=True)
print(nns.compare(model, small, (x_test, y_test)))
assert np.isfinite(small.predict(x_test[:4], verbose=0)).all()
