"""Watch units specialise while a network trains, without a second pass over the data.

    python examples/watch_training.py [log_dir]

With a folder as argument it writes histograms and label × unit pictures for TensorBoard there.
"""

import sys

import keras
import numpy as np
from sklearn.datasets import load_digits

import keras_nns as nns

keras.utils.set_random_seed(0)
x, y = load_digits(return_X_y=True)
x = (x / 16).astype("float32")
model = keras.Sequential(
    [
        keras.Input((64,)),
        keras.layers.Dense(32, activation="relu", name="hidden"),
        keras.layers.Dense(10, activation="softmax"),
    ]
)
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])

monitor = nns.ActivityMonitor(keep_history=True, log_dir=sys.argv[1] if len(sys.argv) > 1 else None)
model.fit(x, y, epochs=10, batch_size=32, verbose=0, callbacks=[monitor])

print("epoch  share of (label, unit) pairs in which the unit fires on most samples of the label")
for epoch, activity in monitor.history.items():
    rates = activity.firing_rate("hidden")
    print(f"{epoch:5}  {np.mean(rates > 0.5):.3f}")
loudest = monitor.activity.mean("hidden").argmax(axis=1)
print("loudest unit of each digit:", dict(enumerate(loudest.tolist())))
