"""Peak memory of observing over that of a bare forward pass, for few and for many samples.

Each figure is the largest resident size of a process of its own, so nothing leaks between them.
ResNet50 has 1,000 labels here, and images of 64 x 64, random like all others; beside the default
stands what `memory=` of None and of a size makes of it.

    python benchmarks/observe_memory.py [--only mlp|resnet20|resnet50]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def batches(samples: int, batch: int, shape, labels: int):
    import numpy as np

    random = np.random.default_rng(0)
    x = random.random((batch, *shape), dtype=np.float32)
    y = random.integers(0, labels, batch)
    return lambda: ((x, y) for _ in range(samples // batch))


def measure(way: str, network: str, samples: int, batch: int) -> None:
    import keras
    import models
    import tensorflow as tf
    from timing import peak_memory

    import keras_nns as nns

    if network == "resnet50":
        model = keras.applications.ResNet50(weights=None, input_shape=(64, 64, 3))
    else:
        model = models.mlp() if network == "mlp" else models.resnet20()
    data = batches(samples, batch, model.input_shape[1:], model.output_shape[-1])
    if way == "bare":
        forward = tf.function(lambda b: model(b, training=False), autograph=False)
        for x, _ in data():
            forward(tf.convert_to_tensor(x))
    else:
        full = ("fired", "mean", "variance", "maximum")
        statistics = full if way == "full" else ("fired", "mean")
        memory = {"default": "auto", "full": "auto", "one pass": None}.get(way, way)
        nns.observe(model, data, statistics=statistics, verbose=False, memory=memory)
    print(peak_memory())


def peak(*args: object) -> float:
    command = [sys.executable, __file__, "--measure", *map(str, args)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(run.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measure", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--only", choices=("mlp", "resnet20", "resnet50"))
    args = parser.parse_args()
    if args.measure:
        way, network, samples, batch = args.measure
        measure(way, network, int(samples), int(batch))
        return
    from timing import machine

    print(machine())
    few = ("default", "full")
    for network, batch, sizes, ways in (
        ("mlp", 1000, (10_000, 1_000_000), few),
        ("resnet20", 250, (1_000, 10_000), few),
        ("resnet50", 16, (32,), ("one pass", "default", "128MB")),
    ):
        if args.only not in (None, network):
            continue
        print(f"\n{network}, batch {batch}: peak resident memory in MiB")
        for samples in sizes:
            bare = peak("bare", network, samples, batch)
            for way in ways:
                seen = peak(way, network, samples, batch)
                more = f"over the bare pass {seen - bare:+6.1f}"
                print(f"  {samples:9,} samples  {way:8} {seen:7.0f}  {more}", flush=True)


if __name__ == "__main__":
    main()
