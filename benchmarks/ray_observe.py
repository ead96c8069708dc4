"""Is Ray with one of two workers killed as quick as two plain processes, and does it hold little?

python benchmarks/ray_observe.py [--images 100000] [--rounds 1]
python benchmarks/ray_observe.py --memory [--samples 1000000]

Needs Ray (`pip install 'keras-nns[ray]'`).

A ResNet-20 over random images of 32 x 32 (seed 0), which all read from one file by memory map, one
thread each. "Plain" is two processes that each observe a shard, from their start to their files,
and their sum. "Ray" is one call of `nns.distributed.observe` with two workers, of which the system
kills one (SIGKILL) when half of the images have been handed in; another comes in its place. Both
start their processes, load and compile on the clock; Ray itself runs before. Rounds change which
goes first. Counts must be equal bit for bit, means to 1e-6.

`--memory`: the most that the coordinator's process takes over what it took before, and what its one
sum takes, for 1,000 samples and ten times as many, up to `--samples`, with 1, 2 and 4 workers.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np

BATCH = 256
ONE = {"OMP_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1", "TF_NUM_INTEROP_THREADS": "1"}


def observe_shard(folder: Path, number: int) -> None:
    """What one of the two plain processes does."""
    import keras_nns as nns

    x, y = np.load(folder / "x.npy", mmap_mode="r"), np.load(folder / "y.npy")
    model = nns.load_model(folder / "net.keras")
    part = nns.observe(model, x, y, batch_size=BATCH, shard=(number, 2), verbose=False)
    part.save(folder / f"part{number}.npz", overwrite=True)


def plain(folder: Path) -> tuple[float, object]:
    import keras_nns as nns

    begun = time.perf_counter()
    both = [
        subprocess.Popen(
            [sys.executable, __file__, "--shard", str(folder), str(number)],
            stderr=subprocess.DEVNULL,
            env={**os.environ, **ONE, "TF_CPP_MIN_LOG_LEVEL": "3"},
        )
        for number in (1, 2)
    ]
    assert [process.wait() for process in both] == [0, 0]
    total = nns.add([folder / "part1.npz", folder / "part2.npz"])
    return time.perf_counter() - begun, total


def dataset(folder: Path, images: int, *, rows: int = 1024) -> object:
    """Read rows of the two files in tasks of Ray's."""
    import ray

    def read(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        places = batch["id"]
        x, y = np.load(folder / "x.npy", mmap_mode="r"), np.load(folder / "y.npy", mmap_mode="r")
        return {"x": x[places[0] : places[-1] + 1], "y": y[places[0] : places[-1] + 1]}

    numbers = ray.data.range(images, override_num_blocks=-(-images // rows))
    return numbers.map_batches(read, batch_size=rows)


def on_ray(folder: Path, images: int, killed: list[int]) -> tuple[float, object]:
    """Observe with two workers; kill one when half is handed in."""
    import keras_nns as nns
    from keras_nns.cluster import coordination

    processes: dict[int, int] = {}
    at_work = coordination._Coordinator
    begin, receive = at_work._begin, at_work._receive

    def note(self: object, worker: object, begun: object) -> None:
        processes[worker.number] = begun.process
        begin(self, worker, begun)

    def kill(self: object, worker: object, receipt: object, found: object) -> None:
        receive(self, worker, receipt, found)
        if not killed and self._ledger.seen >= images / 2:
            other = next((w for w in self._workers if w is not worker and w.begun), None)
            if other is not None and self._ledger.held_by(other.number):
                killed.append(self._ledger.held_by(other.number))
                os.kill(processes[other.number], signal.SIGKILL)

    at_work._begin, at_work._receive = note, kill
    try:
        data = dataset(folder, images)
        begun = time.perf_counter()
        found = nns.distributed.observe(
            folder / "net.keras", data, workers=2, batch_size=BATCH, verbose=False
        )
        return time.perf_counter() - begun, found
    finally:
        at_work._begin, at_work._receive = begin, receive


def compare(args: argparse.Namespace) -> None:
    import keras
    import models

    import keras_nns as nns

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        random = np.random.default_rng(0)
        shape = (args.images, 32, 32, 3)
        x = np.lib.format.open_memmap(folder / "x.npy", "w+", np.float32, shape)
        for start in range(0, args.images, 1000):
            x[start : start + 1000] = random.random(x[start : start + 1000].shape, np.float32)
        x.flush()
        np.save(folder / "y.npy", random.integers(0, 10, args.images))
        keras.utils.set_random_seed(0)
        nns.save_model(models.resnet20(), folder / "net.keras")
        ratios = []
        for number in range(args.rounds):
            killed: list[int] = []
            if number % 2 == 0:
                one, whole = plain(folder)
                two, total = on_ray(folder, args.images, killed)
            else:
                two, total = on_ray(folder, args.images, killed)
                one, whole = plain(folder)
            assert killed, "no worker was killed"
            ratios.append(one / two)
            odd = int((whole.samples != total.samples).sum())
            odd += sum(
                int((a.fired != total.layers[n].fired).sum()) for n, a in whole.layers.items()
            )
            means = [(whole.mean(n), total.mean(n)) for n in whole.layers]
            off = max(np.abs(a - b).max() / np.abs(a).max() for a, b in means)
            print(
                f"round {number + 1}, {args.images} images: two plain processes {one:.1f} s, Ray "
                f"with one of two workers killed while it had {killed[0]} units of work {two:.1f} "
                f"s, {one / two:.2f}x; counts that differ: {odd}; means by {off:.1e} of a layer's "
                "largest",
                flush=True,
            )
        print(f"median of {args.rounds}: {statistics.median(ratios):.2f}x")


class Peak:
    """The most resident memory of this process while the block runs, over what it was before."""

    def __enter__(self) -> Peak:
        self.before = self.most = self._now()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(0.02):
            self.most = max(self.most, self._now())

    @staticmethod
    def _now() -> int:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    @property
    def mib(self) -> float:
        return (self.most - self.before) / 2**20


def memory(args: argparse.Namespace) -> None:
    import keras
    import ray

    import keras_nns as nns

    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((16,)),
            *(keras.layers.Dense(256, "relu") for _ in range(4)),
            keras.layers.Dense(100, "softmax"),
        ]
    )

    def draw(batch: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        places = batch["id"]
        x = np.random.default_rng(int(places[0])).random((len(places), 16), np.float32)
        return {"x": x, "y": places % 100}

    sizes = [10**k for k in range(3, 8) if 10**k <= args.samples]
    for workers in (1, 2, 4):
        # Once before: what is imported and started by the first run is no matter of size.
        for samples in [1000, *sizes] if workers == 1 else sizes:
            rows = ray.data.range(samples, override_num_blocks=max(1, samples // 50_000))
            data = rows.map_batches(draw, batch_size=50_000)
            with Peak() as peak:
                found = nns.distributed.observe(
                    model, data, workers=workers, batch_size=1024, samples=samples, verbose=False
                )
            assert int(found.samples.sum()) == samples
            arrays = {id(a): a for one in found.layers.values() for a in one.arrays().values()}
            held = sum(a.nbytes for a in arrays.values()) / 2**20
            print(
                f"{samples:>9,} samples, {workers} workers: {peak.mib:5.1f} MiB over what it took "
                f"before, the sum {held:.1f} MiB",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--memory", action="store_true")
    parser.add_argument("--samples", type=int, default=10**6)
    parser.add_argument("--shard", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.shard:
        observe_shard(Path(args.shard[0]), int(args.shard[1]))
        return
    if find_spec("ray") is None:
        sys.exit("Needs Ray: pip install 'keras-nns[ray]'")
    import logging

    import ray

    os.environ |= ONE
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    (memory if args.memory else compare)(args)


if __name__ == "__main__":
    main()
