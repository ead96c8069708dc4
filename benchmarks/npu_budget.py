"""A budget of an NPU's cycles: what it gives, beside a budget of multiply-adds.

    python benchmarks/npu_budget.py --data FOLDER
    python benchmarks/npu_budget.py --data FOLDER --labels 2 6 --cycles 0.5 --sram 1

FOLDER (or the environment variable KERAS_NNS_DATA) holds `models/cifar10_resnet8_mlperftiny.h5` and
`cifar10/` as the page of the data says. Needs the extra `keras-nns[npu]`.

MLPerf Tiny's ResNet-8, cut for two labels twice: to shares of the cycles and the SRAM that its own
int8 file takes on the NPU by the NPU's compiler, and to shares of its multiply-adds. Both are made
alike: the score once, least squares, then distillation from the parent on the pair's training
images and on copies of them, mirrored and shifted by up to three pixels. Everything is chosen and
fitted on the 4,000 exact training images. Test images are read at the end, once: accuracy is that
of int8 files among the two labels, beside the parent restricted to them.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from extract_budget import jpegs
from rich.console import Console
from rich.table import Table
from timing import machine

import keras_nns as nns
import tflite_export

SEED = 0
SHIFT = 3


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("KERAS_NNS_DATA"))
    parser.add_argument("--labels", type=int, nargs=2, default=(0, 1))
    parser.add_argument("--target", default="ethos-u55-128")
    parser.add_argument("--cycles", type=float, default=0.4, help="share of the parent's")
    parser.add_argument(
        "--sram", type=float, default=0.6, help="share of the parent's; 1: no limit"
    )
    parser.add_argument("--macs", type=float, nargs="*", default=(0.21,), help="shares, the others")
    parser.add_argument("--copies", type=int, default=8, help="of every image, in distillation")
    parser.add_argument("--epochs", type=int, default=10)
    return parser.parse_args()


def copies(images: np.ndarray, count: int) -> np.ndarray:
    """Every other one mirrored; from the third on moved by up to some pixels."""
    rng = np.random.default_rng(SEED)
    made = []
    for number in range(count):
        one = images[:, :, ::-1] if number % 2 else images
        if number > 1:
            wide = np.pad(one, ((0, 0), (SHIFT, SHIFT), (SHIFT, SHIFT), (0, 0)), mode="edge")
            moves = rng.integers(0, 2 * SHIFT + 1, (len(one), 2))
            one = np.stack(
                [image[i : i + 32, j : j + 32] for image, (i, j) in zip(wide, moves, strict=True)]
            )
        made.append(one)
    return np.concatenate(made)


def main() -> None:
    args = arguments()
    console = Console(width=170)
    console.print(machine())
    model = nns.load_model(args.data / "models" / "cifar10_resnet8_mlperftiny.h5")
    train = np.load(args.data / "cifar10" / "train_first4000_lossless.npz")
    x, y = train["x"].astype("float32"), train["y"].ravel()
    mine = np.isin(y, args.labels)

    def file(net: keras.Model, images: np.ndarray) -> tuple[bytes, tflite_export.Npu]:
        flat = tflite_export.convert(net, quantize="int8", samples=images[:500])
        return flat, tflite_export.npu(flat, target=args.target)

    _, whole = file(model, x)
    arithmetic = nns.inspect(model).multiply_adds
    limits = {"npu_cycles": round(args.cycles * whole.cycles), "target": args.target}
    if args.sram < 1:
        limits["sram"] = round(args.sram * whole.sram)
    budgets = {f"cycles × {args.cycles:g}": nns.Budget(**limits)}
    for share in args.macs:
        budgets[f"multiply-adds × {share:g}"] = nns.Budget(macs=round(share * arithmetic))
    pair = list(args.labels)
    score = nns.scores.reconstruction(model, x[mine], y[mine], labels=pair, alone=True)
    found = {}
    for name, budget in budgets.items():
        start = time.process_time()
        one = nns.extract(
            model, x, y, labels=pair, head="labels", budget=budget, quantize="int8", score=score,
            balance="cost", repair=nns.steps.least_squares(), seed=SEED, verbose=False,
        )  # fmt: skip
        made = time.process_time() - start
        console.print(f"{name}: {one.summary} {made:.0f} s of the processor", style="dim")
        console.print({group: len(units) for group, units in one.plan.kept.items()}, style="dim")
        net = nns.distill(
            one.model, model, (copies(x[mine], args.copies), np.tile(y[mine], args.copies)),
            epochs=args.epochs, held_out=0, patience=None, seed=SEED,
        ).model  # fmt: skip
        found[name] = (net, *file(net, x[mine]))
    # From here on nothing is decided: the test data is read.
    exact = np.load(args.data / "cifar10" / "test200_lossless.npz")
    tests = {
        "200 exact": (exact["x"].astype("float32"), exact["y"].ravel()),
        "10,000 JPEG": jpegs(args.data / "cifar10" / "test_jpeg_10000.zip"),
    }
    table = Table("network", "cycles", "of the parent's", "SRAM", "of it", "multiply-adds", *tests)
    judged = {}
    for name, (images, labels) in tests.items():
        asked = np.isin(labels, pair)
        answers = model.predict(images[asked], verbose=0)[:, pair].argmax(-1)
        right = np.searchsorted(pair, labels[asked])
        judged[name] = (images[asked], right, float((answers == right).mean()))
    table.add_row(
        "parent, restricted (float32)", f"{whole.cycles:,}", "1", f"{whole.sram:,}", "1",
        f"{arithmetic:,}", *(f"{accuracy:.4f}" for _, _, accuracy in judged.values()),
    )  # fmt: skip
    for name, (net, flat, told) in found.items():
        table.add_row(
            name, f"{told.cycles:,}", f"{told.cycles / whole.cycles:.3f}", f"{told.sram:,}",
            f"{told.sram / whole.sram:.3f}",
            f"{nns.inspect(net).multiply_adds / arithmetic:.3f}",
            *(
                f"{tflite_export.card(flat, images, targets=right, seconds=0).rows[0].accuracy:.4f}"
                for images, right, _ in judged.values()
            ),
        )  # fmt: skip
    console.print(f"labels {pair}, {mine.sum()} training images of them, {args.target}")
    console.print(table)


if __name__ == "__main__":
    main()
