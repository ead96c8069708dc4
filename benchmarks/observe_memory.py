"""Peak memory of observing over that of a bare forward pass, for few and for many samples.

Each figure is the largest resident size of a process of its own, so nothing leaks between them.

    python benchmarks/observe_memory.py
"""

from __future__ import annotations

import argparse
import os
import resource
import subprocess
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def batches(samples: int, batch: int, shape):
    import numpy as np

    random = np.random.default_rng(0)
    x = random.random((batch, *shape), dtype=np.float32)
    y = random.integers(0, 10, batch)
    return lambda: ((x, y) for _ in range(samples // batch))


def measure(way: str, network: str, samples: int, batch: int) -> None:
    import models
    import tensorflow as tf

    import keras_nns as nns

    model = models.mlp() if network == "mlp" else models.resnet20()
    data = batches(samples, batch, model.input_shape[1:])
    if way == "bare":
        forward = tf.function(lambda b: model(b, training=False), autograph=False)
        for x, _ in data():
            forward(tf.convert_to_tensor(x))
    else:
        statistics = (
            ("fired", "mean") if way == "default" else ("fired", "mean", "variance", "maximum")
        )
        nns.observe(model, data, statistics=statistics, verbose=False)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def peak(*args: object) -> float:
    command = [sys.executable, __file__, "--measure", *map(str, args)]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(run.stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measure", nargs=4, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        way, network, samples, batch = args.measure
        measure(way, network, int(samples), int(batch))
        return
    from timing import machine

    print(machine())
    for network, batch, sizes in (
        ("mlp", 1000, (10_000, 1_000_000)),
        ("resnet", 250, (1_000, 10_000)),
    ):
        print(f"\n{network}, batch {batch}: peak resident memory in MiB")
        for samples in sizes:
            bare = peak("bare", network, samples, batch)
            for way in ("default", "full"):
                seen = peak(way, network, samples, batch)
                more = f"over the bare pass {seen - bare:+6.1f}"
                print(f"  {samples:9,} samples  {way:8} {seen:7.0f}  {more}")


if __name__ == "__main__":
    main()
