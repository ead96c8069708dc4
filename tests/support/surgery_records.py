"""A small operation on images, with names that try to be more than names."""

from __future__ import annotations

import keras
import numpy as np

import keras_nns as nns
from keras_nns.reporting.operation import unit_tiles
from keras_nns.reporting.record import Subnetwork, SurgeryRecord

NAMES = ("</script><script>alert(1)</script>", "<b>dog</b>", "eel|x & \u2028co", "${fox}")
LAYER = "one->b"


def small_record() -> SurgeryRecord:
    """Cut a network for each of four labels at two sizes, and the merged one."""
    keras.utils.set_random_seed(7)
    random = np.random.default_rng(7)
    y = np.arange(160) % 4
    x = random.uniform(0, 0.3, size=(160, 6, 6, 1))
    for label in range(4):
        x[y == label, label : label + 2, :, 0] += 0.7
    x = x.astype("float32")
    parent = keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            keras.layers.Flatten(name="flat"),
            keras.layers.Dense(8, activation="relu", name=LAYER),
            keras.layers.Dense(5, activation="relu", name="two"),
            keras.layers.Dense(4, activation="softmax", name="answer"),
        ],
        name="net->x",
    )
    parent.compile("adam", "sparse_categorical_crossentropy")
    parent.fit(x[:80], y[:80], epochs=8, batch_size=16, verbose=0)
    activity = nns.observe(parent, x[:80], y[:80], label_names=NAMES)

    def network(plan: nns.Plan, way: str, name: str = "", file: str | None = None) -> Subnetwork:
        small = nns.cut(parent, plan)
        beside = nns.compare(parent, small, x[80:], y[80:])
        proof = nns.prove(parent, plan)
        return Subnetwork(name or plan.names[0], plan, small, beside, proof, way=way, file=file)

    plans = nns.select(activity, "each", keep=nns.top(2))
    larger = nns.select(activity, "each", keep=nns.top(4))
    each = tuple(
        network(plan, "two units a layer", file=f"tflite/{i} #%.tflite")
        for i, plan in enumerate(plans)
    )
    union = plans[0] | plans[1] | plans[2] | plans[3]
    return SurgeryRecord(
        parent,
        activity,
        each,
        network(union, "all together", "merged"),
        ("Invented samples.",),
        further=tuple(network(plan, "four units a layer") for plan in larger),
        tiles=unit_tiles(parent, activity, x[:80], y[:80]),
        zeta=0.3,
    )
