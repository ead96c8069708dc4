"""What extracting takes beside training on the same images, and what the networks are worth.

    python benchmarks/extract_speed.py --data FOLDER                      # every row
    python benchmarks/extract_speed.py --data FOLDER --rows extract worth # some of them
    python benchmarks/extract_speed.py --data FOLDER --repeats 1 --images 1000

FOLDER (or the environment variable KERAS_NNS_DATA) holds `fashion_mnist/` with the four IDX files,
and for the row `mobilenet` `cifar10/train_first4000_lossless.npz`.

The parent is a ResNet-8 (78,426 parameters), trained here for two epochs on 20,000 images and kept
in the cache folder. Each row is one work beside another in the same run, in seconds of the
processor, all threads together, which other work on the machine disturbs less; ratios are paired by
round. A first training epoch is that of a copy of the parent, compiled anew: batches of 256, the
tracing of its step included.

- extract: two labels at 25 % of the parameters, beside the first training epoch, a later one, and
  `predict`.
- sweep: eight sizes, beside one `extract`.
- labels: ten one-label networks of one parent, beside one of them.
- worth: balanced accuracy of the networks of two pairs at 25, 10 and 5 %, beside the parent
  restricted to them, on 5,000 training images that nothing has seen (`--test`: on the test images).
- memory: the largest resident size of a process that extracts, over that of one that predicts.
- mobilenet: MobileNetV2 (α 0.35, 96 x 96, an output for 1,000 labels of which ten are trained, for
  ten epochs on 2,000 CIFAR-10 images three times as large) for five labels in 500 kB with 1,000
  images, beside the same three works; and its memory over a process that predicts.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import fashion_nets
import keras
import numpy as np
from rich.console import Console
from rich.table import Table
from timing import machine, peak_memory, side_by_side

import keras_nns as nns
from keras_nns.data.named import load_dataset

SEED, BATCH = 0, 256
TRAIN, CHECK, EPOCHS = 20_000, 5_000, 2
PAIRS = ((2, 6), (3, 8))
SHARES = (0.25, 0.1, 0.05)
ROWS = ("extract", "sweep", "labels", "worth", "memory", "mobilenet")
FEW, LARGE, LARGE_EPOCHS = 1_000, 2_000, 10


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("KERAS_NNS_DATA", ""))
    parser.add_argument("--cache", type=Path, default=Path("build/extract_speed"))
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=ROWS)
    parser.add_argument("--images", type=int, default=3_000, help="to extract with")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--test", action="store_true", help="judge on the test images")
    parser.add_argument("--measure", choices=("predict", "extract"), help=argparse.SUPPRESS)
    parser.add_argument("--large", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.data = Path(args.data)
    if not (args.data / "fashion_mnist").is_dir():
        parser.error("pass --data FOLDER, or set KERAS_NNS_DATA")
    return args


class Bench:
    def __init__(self, args: argparse.Namespace) -> None:
        data = load_dataset(args.data / "fashion_mnist")
        order = np.random.default_rng(SEED).permutation(len(data.x_train))
        x, y = data.x_train[order], data.y_train[order]
        self.x, self.y = x[: args.images], y[: args.images]
        self.judge = x[TRAIN : TRAIN + CHECK], y[TRAIN : TRAIN + CHECK]
        if args.test:
            self.judge = data.x_test, data.y_test
        file = args.cache / "parent.keras"
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            trained(x[:TRAIN], y[:TRAIN]).save(file)
        self.model = keras.models.load_model(file)

    def extract(self, labels=PAIRS[0], share: float = SHARES[0]) -> nns.results.Extraction:
        budget = nns.Budget(parameters=int(share * self.model.count_params()))
        return nns.extract(self.model, (self.x, self.y), labels=labels, budget=budget, seed=SEED)

    def first_epoch(self) -> keras.Model:
        model = keras.models.clone_model(self.model)
        model.set_weights(self.model.get_weights())
        model.compile("adam", "sparse_categorical_crossentropy")
        model.fit(self.x, self.y, batch_size=BATCH, verbose=0)
        return model


class LargeBench(Bench):
    """A MobileNetV2, with CIFAR-10."""

    def __init__(self, args: argparse.Namespace) -> None:
        held = np.load(args.data / "cifar10" / "train_first4000_lossless.npz")
        x = held["x"][:LARGE].repeat(3, axis=1).repeat(3, axis=2)
        y = held["y"][:LARGE].astype(int).ravel()
        self.x, self.y = x[:FEW], y[:FEW]
        file = args.cache / "mobilenet.keras"
        if not file.exists():
            file.parent.mkdir(parents=True, exist_ok=True)
            trained_mobilenet(x, y).save(file)
        self.model = keras.models.load_model(file)

    def extract(self, labels=range(5), share: object = "500kB") -> nns.results.Extraction:
        return nns.extract(self.model, (self.x, self.y), labels=labels, budget=share, seed=SEED)


def trained_mobilenet(x, y) -> keras.Model:
    keras.utils.set_random_seed(SEED)
    scaled = keras.layers.Rescaling(1 / 127.5, offset=-1)(keras.Input((96, 96, 3)))
    model = keras.applications.MobileNetV2(
        input_tensor=scaled, alpha=0.35, weights=None, classes=1000
    )
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = 0.9
    model.compile(keras.optimizers.Adam(2e-3), "sparse_categorical_crossentropy")
    model.fit(x, y, batch_size=64, epochs=LARGE_EPOCHS, verbose=0)
    return model


def trained(x, y, seed: int = SEED) -> keras.Model:
    keras.utils.set_random_seed(seed)
    model = fashion_nets.network(momentum=0.9)
    rate = keras.optimizers.schedules.CosineDecay(3e-3, EPOCHS * len(x) // 128)
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy")
    model.fit(x, y, batch_size=128, epochs=EPOCHS, verbose=0)
    return model


def show(console: Console, title: str, functions, repeats: int) -> None:
    found = side_by_side(functions, repeats=repeats, warm=0, clock=time.process_time)
    table = Table("work", "CPU s", "ratio", "paired", title=title)
    for name, timing in found.items():
        spread = f"{min(timing.ratios):.2f} to {max(timing.ratios):.2f}"
        table.add_row(name, f"{min(timing.seconds):.2f}", f"{timing.ratio:.2f}", spread)
    console.print(table)


def beside_training(console: Console, title: str, bench: Bench, repeats: int) -> None:
    ready = bench.first_epoch()
    ready.predict(bench.x, batch_size=BATCH, verbose=0)
    works = {
        "first training epoch": bench.first_epoch,
        "a later epoch": lambda: ready.fit(bench.x, bench.y, batch_size=BATCH, verbose=0),
        "predict": lambda: ready.predict(bench.x, batch_size=BATCH, verbose=0),
        "extract": bench.extract,
    }
    show(console, title, works, repeats)
    seconds = {part: round(value, 2) for part, value in bench.extract().seconds.items()}
    console.print(f"by part, seconds of the clock: {seconds}")


def sweeping(console: Console, bench: Bench, repeats: int) -> None:
    def sweep() -> object:
        return nns.sweep(bench.model, (bench.x, bench.y), labels=PAIRS[0], seed=SEED)

    show(console, "sweep, eight sizes", {"extract": bench.extract, "sweep": sweep}, repeats)


def ten_labels(console: Console, bench: Bench, repeats: int) -> None:
    works = {
        "one label": lambda: bench.extract(0),
        "ten labels": lambda: [bench.extract(label) for label in range(10)],
    }
    show(console, "one-label networks, 25 %", works, repeats)


def worth(console: Console, bench: Bench) -> None:
    columns = [f"{share:.0%}" for share in SHARES]
    table = Table("labels", *columns, "parent", title="balanced accuracy")
    for labels in PAIRS:
        row = []
        for share in SHARES:
            found = bench.extract(labels, share)
            judged = nns.compare(bench.model, found.model, bench.judge)
            row.append(f"{judged.after.mean_balanced_accuracy:.4f}")
        table.add_row(str(labels), *row, f"{judged.before.mean_balanced_accuracy:.4f}")
    console.print(table)


def memory(console: Console, args: argparse.Namespace, *, large: bool = False) -> None:
    """Measure the largest resident size of two processes of their own."""
    peaks = {}
    for work in ("predict", "extract"):
        command = [sys.executable, __file__, "--data", args.data, "--cache", args.cache]
        command += ["--images", args.images, "--measure", work]
        command += ["--large"] if large else []
        run = subprocess.run([*map(str, command)], capture_output=True, text=True, check=True)
        peaks[work] = float(run.stdout.split()[-1])
    over = peaks["extract"] - peaks["predict"]
    console.print(f"memory: predict {peaks['predict']:.0f} MiB, extract {over:.0f} MiB more")


def large(console: Console, args: argparse.Namespace) -> None:
    bench = LargeBench(args)
    beside_training(console, "MobileNetV2, five labels in 500 kB", bench, args.repeats)
    memory(console, args, large=True)


def main() -> None:
    args = arguments()
    if args.measure:
        measured = LargeBench(args) if args.large else Bench(args)
        if args.measure == "predict":
            measured.model.predict(measured.x, batch_size=BATCH, verbose=0)
        else:
            measured.extract()
        print(peak_memory())
        return
    console = Console(width=110)
    console.print(f"{machine()}; {args.images:,} images, seed {SEED}")
    bench = None if args.rows == ["mobilenet"] else Bench(args)
    rows = {
        "extract": lambda: beside_training(console, "two labels, 25 %", bench, args.repeats),
        "sweep": lambda: sweeping(console, bench, args.repeats),
        "labels": lambda: ten_labels(console, bench, args.repeats),
        "worth": lambda: worth(console, bench),
        "memory": lambda: memory(console, args),
        "mobilenet": lambda: large(console, args),
    }
    for name in args.rows:
        rows[name]()


if __name__ == "__main__":
    main()
