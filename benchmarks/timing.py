"""Time functions side by side in one run, so that what else the machine does hits all alike."""

from __future__ import annotations

import gc
import os
import platform
import resource
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Timing:
    seconds: list[float]
    ratios: list[float]

    @property
    def ratio(self) -> float:
        return statistics.median(self.ratios)

    def row(self) -> str:
        low, high = min(self.ratios), max(self.ratios)
        return (
            f"{min(self.seconds):9.3f} s   ratio {self.ratio:6.3f}   "
            f"(of minima {min(self.seconds) / self.base:6.3f}, paired {low:.3f} to {high:.3f})"
        )

    base: float = 1.0


def side_by_side(
    functions: Mapping[str, Callable[[], object]],
    *,
    repeats: int = 7,
    warm: int = 1,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Timing]:
    """Run every function in turn, `repeats` rounds; ratios are to the first, paired by round.

    `clock=time.process_time` counts the processor's seconds, all threads of this process together,
    which other work on the machine disturbs less.
    """
    for _ in range(warm):
        for function in functions.values():
            function()
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for number in range(repeats):
        order = list(functions)
        for name in order if number % 2 == 0 else reversed(order):
            gc.collect()
            start = clock()
            functions[name]()
            seconds[name].append(clock() - start)
    first = next(iter(functions))
    return {
        name: Timing(
            times,
            [t / b for t, b in zip(times, seconds[first], strict=True)],
            min(seconds[first]),
        )
        for name, times in seconds.items()
    }


def machine() -> str:
    from importlib.metadata import version

    import keras

    backend = keras.config.backend()
    name = {"tensorflow": "TensorFlow", "jax": "JAX", "torch": "PyTorch"}[backend]
    return (
        f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}, "
        f"Keras {keras.__version__}, {name} {version(backend)}"
    )


def peak_memory() -> float:
    """Return the largest resident size of this process so far, in MiB.

    Linux keeps `ru_maxrss` over fork and exec, so a child would report its parent's; its own is in
    `/proc`.
    """
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = [one for one in status.read_text().splitlines() if one.startswith("VmHWM")]
        return int(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
