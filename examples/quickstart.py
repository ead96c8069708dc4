"""Cut the subnetwork that recognises one digit out of a network that recognises ten.

python examples/quickstart.py
"""

import keras
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import keras_nns as nns
import tflite_export

keras.utils.set_random_seed(0)
digits = load_digits()
x_train, x_test, y_train, y_test = train_test_split(
    (digits.data / 16).astype("float32"), digits.target, stratify=digits.target, random_state=0
)
model = keras.Sequential(
    [
        keras.Input((64,), name="pixels"),
        keras.layers.Dense(64, activation="relu", name="hidden"),
        keras.layers.Dense(10, activation="softmax", name="digit"),
    ]
)
model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])

# Watch while training: which unit of `hidden` fires for which digit?
monitor = nns.ActivityMonitor(data=(x_train, y_train))
model.fit(x_train, y_train, epochs=20, batch_size=32, verbose=0, callbacks=[monitor])

# Keep the units that tell a 3 from the rest, and cut the others away.
plan = nns.select(monitor.activity, labels=3, keep=nns.top(24))
three = nns.cut(model, plan, head="binary", prove=True)
print(plan)
print(f"{model.count_params()} parameters became {three.count_params()};", end=" ")
print(f"the cut is {nns.prove(model, plan, head='binary')}")

# Judge it on data that was not used for any choice: recall never stands alone.
print(nns.evaluate(three, (x_test, y_test)))

# Ship it.
flat = tflite_export.convert(three)
print(tflite_export.verify(flat, three, x_test[:100]))
print(f"three.tflite would be {len(flat)} bytes, the parent {len(tflite_export.convert(model))}")
