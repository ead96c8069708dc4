"""Peak memory of `cut`: at most the parent, the child and one layer.

Each figure comes from a process of its own: a small network is cut to warm up, the parent is
built, what is free goes back to the system, the kernel's mark of the largest resident size is
reset, and the parent is cut for the first time. Linux with glibc only.

    python benchmarks/cut_memory.py
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import os
import subprocess
import sys
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

CASES = (("dense", 1.0), ("dense", 0.5), ("dense", 0.1), ("ResNet152", 1.0), ("ResNet152", 0.5))
MIB = 2**20


def status(field: str) -> float:
    """Read a size of this process in MiB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    raise OSError(f"/proc/self/status has no {field}")


def build(name: str):
    import keras
    from keras import layers

    if name == "warm":
        x = start = keras.Input((8, 8, 3))
        for _ in range(2):
            x = layers.ReLU()(layers.BatchNormalization()(layers.Conv2D(4, 3)(x)))
        return keras.Model(start, layers.Dense(2)(layers.GlobalAveragePooling2D()(x)))
    if name != "dense":
        return getattr(keras.applications, name)(weights=None)
    hidden = [layers.Dense(4096, activation="relu") for _ in range(5)]
    return keras.Sequential([keras.Input((1024,)), *hidden, layers.Dense(10)])


def random_plan(model, share: float):
    import numpy as np

    from keras_nns.graph.tracing import trace
    from keras_nns.plans.kept_units import Plan

    graph = trace(model)
    random = np.random.default_rng(0)
    sizes = {group.name: group.size for group in graph.layout.prunable}
    kept = {
        group: tuple(random.permutation(size)[: max(1, round(share * size))].tolist())
        for group, size in sizes.items()
    }
    return Plan(graph.fingerprint, sizes, kept)


def measure(name: str, share: float) -> None:
    import keras_nns as nns

    # What TensorFlow allocates once, and never again, belongs to no cut.
    warm = build("warm")
    nns.cut(warm, random_plan(warm, 0.5))
    model = build(name)
    plan = random_plan(model, share)
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    before = status("VmRSS")
    small = nns.cut(model, plan)
    peak = status("VmHWM") - before
    sizes_of = [4 * sum(w.size for w in layer.get_weights()) / MIB for layer in model.layers]
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    held = status("VmRSS") - before
    child = sum(4 * w.size for w in small.get_weights()) / MIB
    verdict = "within" if peak <= held + max(sizes_of) else "OVER"
    print(
        f"| {name}, {share:.0%} of the units | {sum(sizes_of):.0f} | {child:.0f} | {held:.0f} | "
        f"{max(sizes_of):.0f} | {peak:.0f}: {verdict} |"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measure", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        measure(args.measure[0], float(args.measure[1]))
        return
    from timing import machine

    print(f"{machine()}\n\nIn MiB; the peak is over what the process held with the parent in it.\n")
    print(
        "| model | parent's weights | child's weights | held after | largest layer | peak of cut |"
    )
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    for name, share in CASES:
        command = [sys.executable, __file__, "--measure", name, str(share)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        print(done.stdout.splitlines()[-1], flush=True)


if __name__ == "__main__":
    main()
