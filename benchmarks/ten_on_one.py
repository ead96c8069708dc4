"""Ten one-label networks on one microcontroller: flash and arena of all ten.

    python benchmarks/ten_on_one.py --data FOLDER [--fit 6000] [--flash 6400] [--arena 16000]

FOLDER (or the environment variable KERAS_NNS_DATA) holds `mnist/` with the four IDX files and
`models/mnist_cnn_moonflower.keras`. Needs the extra `keras-nns[micro]`.

An MNIST CNN of 34,826 parameters, trained by others, is cut for each digit to an int8 file of which
at most `--flash` bytes lie in flash (its C array, without labels and record), and which runs in at
most `--arena` bytes of TFLite Micro. The networks run one after another in one arena, so that the
largest counts. They are made from the first `--fit` training images. Everything
is set before it starts, so each file is judged on the test images as soon as it is made, once:
recall and specificity are those of the files in LiteRT; their decisions in TFLite Micro are
compared with Keras's on the first 1,000.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from rich.console import Console
from rich.table import Table
from timing import machine

import keras_nns as nns
import tflite_export
from keras_nns.data.named import load_dataset

SEED = 0
IN_MICRO = 1_000


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("KERAS_NNS_DATA"))
    parser.add_argument("--fit", type=int, default=6_000, help="images that networks are made from")
    parser.add_argument("--flash", type=int, default=6_400, help="bytes of one network")
    parser.add_argument("--arena", type=int, default=16_000, help="bytes")
    parser.add_argument("--epochs", type=int, default=4, help="of distillation behind repair")
    parser.add_argument("--labels", type=int, nargs="*", default=range(10))
    return parser.parse_args()


def main() -> None:
    args = arguments()
    console = Console(width=150)
    console.print(machine())
    data = load_dataset(args.data / "mnist")
    parent = nns.load_model(args.data / "models" / "mnist_cnn_moonflower.keras")
    x, y = data.x_train[: args.fit].reshape(-1, 28, 28, 1), data.y_train[: args.fit]
    x_test = data.x_test.reshape(-1, 28, 28, 1)
    table = Table(
        "label", "file", "flash", "arena", "recall", "specificity", "balanced", "Micro as Keras"
    )
    flash, arenas, worst = 0, [], 1.0
    for label in args.labels:
        start = time.process_time()
        one = nns.extract(
            parent, x, y, labels=label, quantize="int8", distill_epochs=args.epochs, seed=SEED,
            budget=nns.Budget(flash=args.flash, arena=args.arena), verbose=False,
        )  # fmt: skip
        seconds = time.process_time() - start
        right = (data.y_test == label).astype(int)
        loose = dict(tolerance=1.0)
        told = tflite_export.verify(one.flat, one.model, x_test, targets=right, **loose)
        specificity, recall = (both.file.recall for both in told.labels)
        micro = tflite_export.verify(
            one.flat, one.model, x_test[:IN_MICRO], runtime="micro", **loose
        )
        in_flash = round(one.costs["flash"])
        balanced = (recall + specificity) / 2
        flash, worst = flash + in_flash, min(worst, balanced)
        arenas.append(tflite_export.arena(one.flat))
        row = (
            str(label), f"{len(one.flat):,}", f"{in_flash:,}", f"{arenas[-1]:,}", f"{recall:.4f}",
            f"{specificity:.4f}", f"{balanced:.4f}", f"{micro.outputs[0].agreement:.4f}",
        )  # fmt: skip
        table.add_row(*row)
        console.print(*row, f"({seconds:.0f} s of the processor)", style="dim")
    table.add_section()
    table.add_row(
        "all, one arena", "", f"{flash:,}", f"{max(arenas):,}", "", "", f"{worst:.4f} worst", ""
    )
    console.print(table)


if __name__ == "__main__":
    main()
