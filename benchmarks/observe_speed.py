"""How much longer does observing take than a bare compiled forward pass over the same batches?

python benchmarks/observe_speed.py
"""

from __future__ import annotations

import argparse
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import models
import numpy as np
import tensorflow as tf
from timing import machine, side_by_side

from keras_nns.data.batches import Batch
from keras_nns.data.checksums import checksum
from keras_nns.observation.streaming import observe
from keras_nns.observation.watcher import Observer

FULL = ("fired", "mean", "variance", "maximum")


def run(title: str, model, x, y, batch: int, repeats: int) -> None:
    forward = tf.function(lambda b: model(b, training=False), autograph=False)

    def bare() -> None:
        for start in range(0, len(x), batch):
            forward(tf.convert_to_tensor(x[start : start + batch]))

    default, full = Observer(model), Observer(model, statistics=FULL)

    def watch(observer: Observer) -> None:
        observer.observe((x, y), batch_size=batch, verbose=False)

    batches = [
        Batch(x[start : start + batch], y[start : start + batch])
        for start in range(0, len(x), batch)
    ]
    found = side_by_side(
        {
            "bare compiled forward pass": bare,
            "observe: samples, fired, mean": lambda: watch(default),
            "observe: and variance, maximum": lambda: watch(full),
            "checksums for a checkpoint": lambda: [checksum(one) for one in batches],
            "model.predict": lambda: model.predict(x, batch_size=batch, verbose=0),
        },
        repeats=repeats,
    )
    print(f"\n{title}, batch {batch}, {len(x)} images")
    for name, timing in found.items():
        print(f"  {name:32} {timing.row()}")
    start = time.perf_counter()
    observe(model, (x[:batch], y[:batch]), batch_size=batch, verbose=False)
    one = time.perf_counter() - start
    print(f"  a first call on one batch, tracing and compiling included: {one:.3f} s")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--only", choices=["mlp", "resnet"])
    args = parser.parse_args()
    print(machine())
    random = np.random.default_rng(0)
    if args.only != "resnet":
        x = random.random((60_000, 784), dtype=np.float32)
        y = random.integers(0, 10, len(x))
        for batch in (512, 4096):
            run("MLP 784-512-256-10", models.mlp(), x, y, batch, args.repeats)
    if args.only != "mlp":
        x = random.random((10_000, 32, 32, 3), dtype=np.float32)
        run("ResNet-20", models.resnet20(), x, random.integers(0, 10, len(x)), 1024, args.repeats)


if __name__ == "__main__":
    main()
