"""Do two processes on two cores observe two shards in half the time of one process on one core?

python benchmarks/shards.py [--images 50000] [--rounds 3]

A ResNet-20 over random images (seed 0), which both read from one file by memory map. Every process
has one core and one thread, loads and compiles before the clock starts, and waits for the word.
"Together" ends when the slower of the two has ended and their activities are added. Rounds change
which way goes first; what else the machine does shows between the seconds on the clock and those
that the processor gave.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

BATCH = 256


def work(folder: Path, core: int) -> None:
    """Wait for shards on standard input, observe each, write its activity and tell the seconds."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})
    import keras
    import models

    from keras_nns.observation.watcher import Observer

    keras.utils.set_random_seed(0)
    observer = Observer(models.resnet20())
    x, y = np.load(folder / "x.npy", mmap_mode="r"), np.load(folder / "y.npy")
    observer.observe((x[:BATCH], y[:BATCH]), batch_size=BATCH, verbose=False)
    print("ready", flush=True)
    for line in sys.stdin:
        number, count = map(int, line.split())
        start, used = time.perf_counter(), time.process_time()
        seen = observer.observe((x, y), batch_size=BATCH, shard=(number, count), verbose=False)
        seen.save(folder / f"{number}_of_{count}.npz", overwrite=True)
        seconds = [time.perf_counter() - start, time.process_time() - used]
        print(json.dumps(seconds), flush=True)


def start(folder: Path, core: int) -> subprocess.Popen[str]:
    one = {"OMP_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, __file__, "--worker", str(folder), str(core)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, **one, "TF_CPP_MIN_LOG_LEVEL": "3"},
    )


def ask(workers: list[subprocess.Popen[str]]) -> float:
    """Give each its shard; return the most seconds of the processor that one of them took."""
    for number, worker in enumerate(workers, start=1):
        worker.stdin.write(f"{number} {len(workers)}\n")
        worker.stdin.flush()
    return max(json.loads(worker.stdout.readline())[1] for worker in workers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        work(Path(args.worker[0]), int(args.worker[1]))
        return
    import keras_nns as nns

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        random = np.random.default_rng(0)
        np.save(folder / "x.npy", random.random((args.images, 32, 32, 3), dtype=np.float32))
        np.save(folder / "y.npy", random.integers(0, 10, args.images))
        workers = [start(folder, core) for core in (0, 1)]
        for worker in workers:
            assert worker.stdout.readline() == "ready\n"

        def alone() -> tuple[float, float]:
            begun = time.perf_counter()
            used = ask(workers[:1])
            return time.perf_counter() - begun, used

        def together() -> tuple[float, float]:
            begun = time.perf_counter()
            used = ask(workers)
            total = nns.add([folder / "1_of_2.npz", folder / "2_of_2.npz"])
            total.save(folder / "added.npz", overwrite=True)
            return time.perf_counter() - begun, used

        rounds = []
        for number in range(args.rounds):
            both = [alone, together] if number % 2 == 0 else [together, alone]
            found = {one.__name__: one() for one in both}
            rounds.append((found["alone"], found["together"]))
            (one, one_cpu), (two, two_cpu) = rounds[-1]
            print(
                f"round {number + 1}: alone {one:.1f} s ({one_cpu:.1f} s of the processor), "
                f"together {two:.1f} s ({two_cpu:.1f} s, the slower one), ratio {one / two:.2f} "
                f"({one_cpu / two_cpu:.2f} by the processor's seconds)",
                flush=True,
            )
        for worker in workers:
            worker.stdin.close()
            worker.wait()
        whole = nns.Activity.load(folder / "1_of_1.npz")
        added = nns.Activity.load(folder / "added.npz")
    on_clock = statistics.median(one[0] / two[0] for one, two in rounds)
    of_cpu = statistics.median(one[1] / two[1] for one, two in rounds)
    means = [(whole.mean(name), added.mean(name)) for name in whole.layers]
    off = max(np.abs(one - two).max() / np.abs(one).max() for one, two in means)
    odd = sum(int((whole.layers[n].fired != added.layers[n].fired).sum()) for n in whole.layers)
    print(
        f"{args.images} images, medians: {on_clock:.2f}x on the clock, {of_cpu:.2f}x by the "
        f"processor's seconds; counts that differ: {odd}; means by {off:.1e} of a layer's largest"
    )


if __name__ == "__main__":
    main()
