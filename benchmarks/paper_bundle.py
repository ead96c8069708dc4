"""Bundles beside the paper's JSON, and watching beside the paper's loop: sizes, times, ratios.

    python benchmarks/paper_bundle.py FOLDER

FOLDER holds `simpleMLPWghts.json` and `train_first1000.csv` of *NNS: neural network surgery*.
Loading is from a file to numpy arrays on both sides; for the bundle that includes opening it,
reading its plans, and comparing every checksum.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from timing import machine, side_by_side

import keras_nns as nns
from keras_nns.observation.watcher import Observer
from keras_nns.paper import method

CLOCKS = {"seconds passed": time.perf_counter, "processor's seconds": time.process_time}

PAPERS_MERGED = 684_000
"""Bytes of the paper's file of the merged network."""


def from_json(path: Path) -> dict[str, np.ndarray]:
    return {k: np.array(v, np.float32) for k, v in json.loads(path.read_bytes()).items()}


def from_bundle(path: Path, *, full: bool = False) -> dict[str, np.ndarray]:
    bundle = nns.Bundle.open(path)
    return bundle.weights(bundle.names, full=full)


def watch_by_hand(weights: dict[str, np.ndarray], x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The paper's loop: one forward pass for each sample, its snapshot added to its label's."""
    w1, b1 = weights["w1"], weights["b1"]
    w2, b2 = weights["w2"], weights["b2"]
    total, count = np.zeros((len(b2), len(b1))), np.zeros(len(b2))
    for pixels, label in zip(x, y, strict=True):
        hidden = np.maximum(w1 @ pixels[:, None] + b1, 0)
        answer = np.exp(w2 @ hidden + b2)
        answer /= answer.sum()
        total[label] += hidden[:, 0]
        count[label] += 1
    return total / count[:, None]


def watch_at_once(weights: dict[str, np.ndarray], x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The least that anyone must do: one matrix product for all rows, one for the labels."""
    hidden = np.maximum(x @ weights["w1"].T + weights["b1"].T, 0)
    one_hot = (y[:, None] == np.arange(len(weights["b2"]))).astype(x.dtype)
    return one_hot.T @ hidden / one_hot.sum(axis=0)[:, None]


def show(title: str, timings: dict, base: str) -> None:
    print(f"\n{title}")
    for name, timing in timings.items():
        faster = 1 / timing.ratio
        low, high = 1 / max(timing.ratios), 1 / min(timing.ratios)
        note = "" if name == base else f"{faster:8.1f}× faster (paired {low:.1f} to {high:.1f})"
        print(f"  {name:34} {1e3 * min(timing.seconds):9.3f} ms {note}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    print(machine())
    subject = method.read_subject(folder)
    model, x, y = subject.model, subject.x, subject.y
    activity = nns.observe(model, (x, y), verbose=False)
    plans = nns.select(activity, "each", keep=nns.above(0.4))
    merged = nns.merge(plans)
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        print("\nBytes, ζ 0.4")
        for values in ("exact", "float16", "int8"):
            one = place / f"merged_{values}.safetensors"
            ten = place / f"labels_{values}.safetensors"
            nns.store(model, {"merged": merged}, one, values=values)
            nns.store(model, plans, ten, values=values)
            for what, path in (("merged", one), ("ten labels", ten)):
                size = path.stat().st_size
                print(f"  {what:10} {values:8} {size:8,}   1/{PAPERS_MERGED / size:.1f} of 684 KB")
        one, ten = place / "merged_exact.safetensors", place / "labels_exact.safetensors"
        exact = from_bundle(one)["hidden/kernel"]
        kept = model.get_layer("hidden").kernel.numpy()[:, merged.kept["hidden"]]
        print(f"  merged, exact: every bit the parent's: {np.array_equal(exact, kept)}")
        full = nns.restore(one, "merged", full=True)
        line = place / "merged.json"
        method.write_network(full, line, indent=None)
        print(f"  merged, JSON on one line: {line.stat().st_size:,}")
        whole = folder / method.WEIGHTS_FILE

        readers = {
            "merged, bundle": lambda: from_bundle(one),
            "merged with zeros, bundle": lambda: from_bundle(one, full=True),
            "ten labels, bundle": lambda: from_bundle(ten),
            "one label of ten, bundle": lambda: nns.Bundle.open(ten).weights("3"),
        }
        for title, path in (("merged, JSON on one line", line), ("whole, the paper's JSON", whole)):
            base = {
                title: lambda path=path: from_json(path),
                f"{title}, parsed alone": lambda path=path: json.loads(path.read_bytes()),
            }
            for unit, clock in CLOCKS.items():
                timings = side_by_side({**base, **readers}, repeats=61, warm=3, clock=clock)
                show(f"Loading, {unit}, beside: {title}", timings, title)

        observer = Observer(model)
        weights = from_json(whole)
        found = observer.observe((x, y), verbose=False).mean("hidden")
        difference = np.abs(found - watch_by_hand(weights, x, y)).max()
        print(f"\nWatching {len(y):,} rows: both say the same to {difference:.1e}")
        wide = {k: v.astype(np.float64) for k, v in weights.items()}
        watching = {
            "numpy loop, float64 as the paper": lambda: watch_by_hand(wide, x, y),
            "numpy loop, float32": lambda: watch_by_hand(weights, x, y),
            "numpy, all rows at once, float32": lambda: watch_at_once(weights, x, y),
            "Observer.observe, compiled before": lambda: observer.observe(
                (x, y), verbose=False, batch_size=1024
            ),
            "observe, traced and compiled anew": lambda: nns.observe(
                model, (x, y), verbose=False, batch_size=1024
            ),
        }
        for unit, clock in CLOCKS.items():
            timings = side_by_side(watching, repeats=7, clock=clock)
            show(f"Watching, {unit}", timings, next(iter(timings)))


if __name__ == "__main__":
    main()
