"""Depth and width in one search: networks that are thinned alone, beside such that lose branches.

    python benchmarks/empty_branches.py --data FOLDER           # judged on training images
    python benchmarks/empty_branches.py --data FOLDER --test    # on the test images, read last
    python benchmarks/empty_branches.py --data FOLDER --parts fashion --shares 0.02

FOLDER (or the environment variable KERAS_NNS_DATA) holds `fashion_mnist/`, and for the part
`mlperf` `models/cifar10_resnet8_mlperftiny.h5` with `cifar10/`, as the page of the data says.

- fashion: the ResNet-8 shape of `extract_speed.py`, trained there for two epochs on 20,000 images;
  two pairs of labels, 3,000 images to extract with; balanced accuracy on 5,000 training images that
  nothing has seen, or on the 10,000 test images.
- mlperf: MLPerf Tiny's ResNet-8, five pairs of labels, the 4,000 exact training images; accuracy
  among the two labels on 2,000 of the 20,000 JPEG training images (200 of each label), or on the
  10,000 JPEG test images. The head is left as least squares leaves it, as in `extract_budget.py`.

Budgets are shares of the parent's parameters, and of its multiply-adds. "thinned" is
`empty_branches=False`, "auto" the default, "emptied" `empty_branches=True`.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import extract_speed
import keras
import numpy as np
from extract_budget import PAIRS, jpegs
from rich.console import Console
from rich.table import Table
from timing import machine

import keras_nns as nns

SEED = 0
SHARES = {"fashion": (0.1, 0.05, 0.02), "mlperf": (0.25, 0.1, 0.05)}
UNITS = {"parameters": "parameters", "macs": "multiply_adds"}
WAYS = {"thinned": False, "auto": "auto", "emptied": True}
CHECKED = 200
"""JPEG training images of each label to judge on."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("KERAS_NNS_DATA", ""))
    parser.add_argument("--cache", type=Path, default=Path("build/extract_speed"))
    parser.add_argument("--parts", nargs="+", choices=tuple(SHARES), default=tuple(SHARES))
    parser.add_argument("--shares", type=float, nargs="+", help="instead of those of the part")
    parser.add_argument("--units", nargs="+", choices=tuple(UNITS), default=tuple(UNITS))
    parser.add_argument("--ways", nargs="+", choices=tuple(WAYS), default=tuple(WAYS))
    parser.add_argument("--pairs", type=int, default=len(PAIRS), help="how many of mlperf's")
    parser.add_argument("--images", type=int, default=3_000, help="to extract with")
    parser.add_argument("--test", action="store_true", help="judge on the test images")
    args = parser.parse_args()
    args.data = Path(args.data)
    if not (args.data / "fashion_mnist").is_dir():
        parser.error("pass --data FOLDER, or set KERAS_NNS_DATA")
    return args


def fashion(args: argparse.Namespace):
    bench = extract_speed.Bench(args)
    return bench.model, (bench.x, bench.y), extract_speed.PAIRS, {}, lambda: bench.judge


def mlperf(args: argparse.Namespace):
    model = nns.load_model(args.data / "models" / "cifar10_resnet8_mlperftiny.h5")
    train = np.load(args.data / "cifar10" / "train_first4000_lossless.npz")
    told = {"head": "labels", "repair": nns.steps.least_squares()}

    def judge():
        if args.test:
            return jpegs(args.data / "cifar10" / "test_jpeg_10000.zip")
        x, y = jpegs(args.data / "cifar10" / "train_jpeg_20000.zip")
        some = np.concatenate([np.flatnonzero(y == label)[-CHECKED:] for label in range(10)])
        return x[some], y[some]

    data = train["x"].astype("float32"), train["y"].ravel()
    return model, data, PAIRS[: args.pairs], told, judge


def figures(judged: nns.results.Comparison, told: dict) -> tuple[float, float]:
    if "head" in told:
        return judged.before.accuracy, judged.after.accuracy
    return judged.before.mean_balanced_accuracy, judged.after.mean_balanced_accuracy


def compare_ways(console: Console, name: str, args: argparse.Namespace) -> None:
    model, data, pairs, told, judge = {"fashion": fashion, "mlperf": mlperf}[name](args)
    inspected = nns.inspect(model)
    made = []
    for labels in pairs:
        for unit in args.units:
            for share in args.shares or SHARES[name]:
                budget = nns.Budget(**{unit: int(share * getattr(inspected, UNITS[unit]))})
                for way in args.ways:
                    start = time.process_time()
                    asked = {"labels": list(labels), "budget": budget, "seed": SEED, **told}
                    try:
                        found = nns.extract(model, data, empty_branches=WAYS[way], **asked)
                    except nns.errors.NNSError as error:
                        console.print(f"{labels} {budget} {way}: {error}", style="dim")
                        continue
                    seconds = time.process_time() - start
                    made.append((labels, unit, share, way, found, seconds))
                    console.print(f"{labels} {way}: {found.summary}", style="dim")
                    keras.backend.clear_session()
    # From here on nothing is decided.
    images = judge()
    table = Table("labels", "budget", "way", "parameters", "multiply-adds", "gone", "CPU s")
    table.add_column("parent → network")
    gains: dict[tuple[str, str, float], list[float]] = {}
    thinned: dict[tuple, float] = {}
    for labels, unit, share, way, found, seconds in made:
        before, after = figures(nns.compare(model, found.model, images), told)
        small = nns.inspect(found.model)
        table.add_row(
            str(labels),
            f"{share:.0%} of {unit}",
            way,
            f"{small.parameters:,}",
            f"{small.multiply_adds:,}",
            ", ".join(found.plan.empty),
            f"{seconds:.1f}",
            f"{before:.4f} → {after:.4f}",
        )
        if way == "thinned":
            thinned[labels, unit, share] = after
        elif (labels, unit, share) in thinned:
            gain = after - thinned[labels, unit, share]
            gains.setdefault((way, unit, share), []).append(gain)
    console.print(table)
    for (way, unit, share), own in gains.items():
        console.print(
            f"{way} over thinned, {share:.0%} of {unit}: {100 * np.mean(own):+.2f} points on "
            f"average ({', '.join(f'{100 * gain:+.2f}' for gain in own)})"
        )


def main() -> None:
    args, console = arguments(), Console(width=150)
    images = "test images" if args.test else "training images that nothing has seen"
    console.print(f"{machine()}; seed {SEED}; judged on {images}")
    for name in args.parts:
        console.print(name, style="bold")
        compare_ways(console, name, args)


if __name__ == "__main__":
    main()
