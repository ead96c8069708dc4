"""What other work on the cores does to the sums of a repair, and to `extract`.

    python benchmarks/busy_machine.py                   # sums alone, of random rows
    python benchmarks/busy_machine.py --data FOLDER     # and `extract` as in `extract_speed.py`

Second moments are products of matrices by numpy's BLAS. Side by side, in turn: with one thread of
BLAS for each core's share of the rows, as it is done, and with BLAS's own threads, which wait for
each other in a loop. Once on the machine as it is, and once beside as many busy processes as there
are cores. Seconds of the clock and of the processor, medians; ratios paired by round.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import extract_speed
import numpy as np
from rich.console import Console
from rich.table import Table
from timing import machine

from keras_nns.engine import blas
from keras_nns.observation.moments import MomentSums

ROWS = {144: 30_000, 288: 15_000, 576: 8_000}
"""Rows of so many features, as the layers of a ResNet-8 give for 40 to 160 images."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="as in extract_speed.py; none: sums alone")
    parser.add_argument("--cache", type=Path, default=Path("build/extract_speed"))
    parser.add_argument("--images", type=int, default=3_000)
    parser.add_argument("--rounds", type=int, default=5)
    return parser.parse_args()


def turn() -> None:
    """Be busy."""
    while True:
        pass


@contextmanager
def beside(count: int) -> Iterator[None]:
    """Run beside so many processes that never rest."""
    others = [multiprocessing.Process(target=turn, daemon=True) for _ in range(count)]
    for other in others:
        other.start()
    try:
        yield
    finally:
        for other in others:
            other.terminate()
            other.join()


@contextmanager
def own_threads() -> Iterator[None]:
    """Let BLAS divide products over threads of its own, as numpy does."""
    held = blas.gram, blas._LIMIT
    blas.gram = lambda rows: np.asarray(rows.T @ rows)
    blas._LIMIT = argparse.Namespace(take=lambda: None, leave=lambda: None)
    try:
        yield
    finally:
        blas.gram, blas._LIMIT = held


def sums() -> None:
    rng = np.random.default_rng(0)
    for features, rows in ROWS.items():
        made = MomentSums(features, 0)
        given = rng.standard_normal((rows // 10, features), dtype=np.float32)
        part, weight = np.zeros(len(given), np.int32), np.ones(len(given))
        for _ in range(10):
            made.update(given, None, part, weight)


def compared(work: Callable[[], object], rounds: int) -> list[str]:
    """Return the cells of a row: seconds of either way, and how many times as long BLAS takes."""
    seconds: dict[str, list[tuple[float, float]]] = {"ours": [], "own": []}
    for number in range(rounds):
        order = ("ours", "own") if number % 2 else ("own", "ours")
        for way in order:
            with own_threads() if way == "own" else nullcontext():
                clock, processor = time.perf_counter(), time.process_time()
                work()
                spent = time.perf_counter() - clock, time.process_time() - processor
                seconds[way].append(spent)
    ours, own = (np.array(seconds[way]) for way in ("ours", "own"))
    ratios = own / ours
    cells = [f"{clock:.2f}, {cpu:.2f}" for clock, cpu in (np.median(ours, 0), np.median(own, 0))]
    for column in ratios.T:
        cells.append(f"{np.median(column):.2f} ({column.min():.2f} to {column.max():.2f})")
    return cells


def main() -> None:
    args = arguments()
    console = Console(width=150)
    console.print(machine())
    works: dict[str, Callable[[], object]] = {"sums": sums}
    if args.data is not None:
        bench = extract_speed.Bench(argparse.Namespace(**vars(args), test=False))
        works["extract"] = bench.extract
    cores = len(os.sched_getaffinity(0))
    head = ("work", "busy processes", "ours: clock, CPU s", "BLAS's threads", "times, clock")
    table = Table(*head, "times, CPU")
    for name, work in works.items():
        work()
        for count in (0, cores):
            with beside(count):
                table.add_row(name, str(count), *compared(work, args.rounds))
    console.print(table)


if __name__ == "__main__":
    main()
