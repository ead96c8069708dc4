"""Ten one-label networks on one microcontroller: flash and arena of all ten.

    python benchmarks/ten_on_one.py --data FOLDER [--fit 20000] [--bytes 8000] [--arena 16000]

FOLDER (or the environment variable KERAS_NNS_DATA) holds `mnist/` with the four IDX files. Needs
the extra `keras-nns[micro]`.

A CNN of 421,642 parameters on MNIST, trained on the first 50,000 training images, is cut for each
digit to an int8 file of at most `--bytes`, labels and record in it, that runs in at most `--arena`
bytes of TFLite Micro; what lies in flash is its C array, without labels and record. The networks
run one after another in one arena, so that the largest counts. They are made from the first `--fit`
training images. The test images are read at the end, once: recall and specificity are those of the
files in LiteRT; their decisions in TFLite Micro are compared with Keras's on the first 1,000.
"""

from __future__ import annotations

import argparse
import os
import re
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from models import trained_mnist_cnn
from rich.console import Console
from rich.table import Table
from timing import machine

import keras_nns as nns
import tflite_export
from keras_nns.data.named import load_dataset

SEED = 0
TRAIN = 50_000
IN_MICRO = 1_000


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("KERAS_NNS_DATA"))
    parser.add_argument(
        "--fit", type=int, default=20_000, help="images that networks are made from"
    )
    parser.add_argument("--bytes", type=int, default=8_000, help="of a file")
    parser.add_argument("--arena", type=int, default=16_000, help="bytes")
    parser.add_argument("--epochs", type=int, default=1, help="of distillation behind repair")
    parser.add_argument("--labels", type=int, nargs="*", default=range(10))
    return parser.parse_args()


def main() -> None:
    args = arguments()
    console = Console(width=150)
    console.print(machine())
    data = load_dataset(args.data / "mnist")
    parent = trained_mnist_cnn(data.x_train[:TRAIN], data.y_train[:TRAIN], seed=SEED)
    x, y = data.x_train[: args.fit], data.y_train[: args.fit]
    made = {}
    for label in args.labels:
        start = time.process_time()
        made[label] = nns.extract(
            parent, x, y, labels=label, quantize="int8", distill_epochs=args.epochs, seed=SEED,
            budget=nns.Budget(bytes=args.bytes, arena=args.arena), verbose=False,
        )  # fmt: skip
        seconds = time.process_time() - start
        after = made[label].comparison.after
        console.print(
            f"{label}: {made[label].summary} {seconds:.0f} s of the processor", style="dim"
        )
        console.print(f"   held out: {after.worth:.4f}", style="dim")
    # From here on nothing is decided: the test images are read.
    table = Table(
        "label", "file", "flash", "arena", "recall", "specificity", "balanced", "Micro as Keras"
    )
    flash, arenas, worst = 0, [], 1.0
    for label, one in made.items():
        right = (data.y_test == label).astype(int)
        loose = dict(tolerance=1.0)
        told = tflite_export.verify(one.flat, one.model, data.x_test, targets=right, **loose)
        specificity, recall = (both.file.recall for both in told.labels)
        micro = tflite_export.verify(
            one.flat, one.model, data.x_test[:IN_MICRO], runtime="micro", **loose
        )
        in_flash = int(re.search(r"_len = (\d+)", tflite_export.to_c(one.flat))[1])
        balanced = (recall + specificity) / 2
        flash, worst = flash + in_flash, min(worst, balanced)
        arenas.append(tflite_export.arena(one.flat))
        table.add_row(
            str(label), f"{len(one.flat):,}", f"{in_flash:,}", f"{arenas[-1]:,}", f"{recall:.4f}",
            f"{specificity:.4f}", f"{balanced:.4f}", f"{micro.outputs[0].agreement:.4f}",
        )  # fmt: skip
    table.add_section()
    table.add_row(
        "all, one arena", "", f"{flash:,}", f"{max(arenas):,}", "", "", f"{worst:.4f} worst", ""
    )
    console.print(table)


if __name__ == "__main__":
    main()
