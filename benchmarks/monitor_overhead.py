"""What gathering inside the training step costs: time of an epoch with and without.

python benchmarks/monitor_overhead.py
"""

from __future__ import annotations

import argparse
import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import models
import numpy as np
from timing import machine

import keras_nns as nns


class EpochTimes(keras.callbacks.Callback):
    """Times epochs after the first, which compiles."""

    def __init__(self) -> None:
        super().__init__()
        self.seconds: list[float] = []

    def on_epoch_begin(self, epoch, logs=None):
        import time

        self.start = time.process_time(), time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        import time

        if epoch:
            self.seconds.append(time.perf_counter() - self.start[1])


def run(title: str, build, x, y, batch: int, rounds: int) -> None:
    ways = {
        "fit": lambda: [],
        "fit, gathering from its batches": lambda: [nns.ActivityMonitor()],
        "fit, observing 20 % at each epoch's end": lambda: [
            nns.ActivityMonitor(data=(x[: len(x) // 5], y[: len(x) // 5]), batch_size=1024)
        ],
    }
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        order = list(ways) if number % 2 == 0 else list(reversed(ways))
        for name in order:
            keras.utils.set_random_seed(0)
            model = build()
            model.compile("adam", "sparse_categorical_crossentropy")
            times = EpochTimes()
            # The monitor's work at an epoch's end must fall inside the measured epoch.
            model.fit(x, y, batch_size=batch, epochs=3, verbose=0, callbacks=[*ways[name](), times])
            seconds[name].append(min(times.seconds))
    print(f"\n{title}, batch {batch}, {len(x)} samples: fastest epoch of each round, in s")
    base = seconds["fit"]
    for name, found in seconds.items():
        ratios = sorted(f / b for f, b in zip(found, base, strict=True))
        print(
            f"  {name:42} {min(found):7.3f}   ratio of minima {min(found) / min(base):6.3f}   "
            f"paired median {ratios[len(ratios) // 2]:6.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f})"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", choices=["mlp", "resnet"])
    args = parser.parse_args()
    print(machine())
    random = np.random.default_rng(0)
    if args.only != "resnet":
        x = random.random((60_000, 784), dtype=np.float32)
        run("MLP 784-512-256-10", models.mlp, x, random.integers(0, 10, len(x)), 256, args.rounds)
    if args.only != "mlp":
        x = random.random((2_000, 32, 32, 3), dtype=np.float32)
        run("ResNet-20", models.resnet20, x, random.integers(0, 10, len(x)), 64, args.rounds)


if __name__ == "__main__":
    main()
