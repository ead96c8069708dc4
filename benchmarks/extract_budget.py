"""Extraction to a budget: how near it comes, what the search takes, what networks are worth.

    python benchmarks/extract_budget.py                     # scikit-learn's digits, no download
    python benchmarks/extract_budget.py --data FOLDER       # MNIST CNN and MLPerf Tiny ResNet-8
    python benchmarks/extract_budget.py --data FOLDER --part mnist --samples 5000 --bytes-only

FOLDER (or the environment variable KERAS_NNS_DATA) holds `mnist/` with the four IDX files, and
`models/cifar10_resnet8_mlperftiny.h5` with `cifar10/` as the page of the data says.

For each budget: what the network costs as a share of it, how many `.tflite` files were exported to
measure, and the time of the search itself (choosing plans from the scores of one observation, and
cutting them to be exported; without exports and repair) in times of one evaluation of the parent on
the same data. All networks are chosen and repaired on training data. Test data is read at the end.

The part for ResNet-8 cuts pairs of labels to a quarter of the multiply-adds, and judges networks
beside the parent restricted to the two labels: without a gradient step; distilled on the pair's
images, mirrored and moved at random; and on those of all labels likewise, as `distill` does unless
told otherwise. The number of epochs was set on training images.
"""

from __future__ import annotations

import argparse
import io
import os
import time
import zipfile
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from keras import layers
from models import trained_mnist_cnn
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from timing import machine

import keras_nns as nns
import tflite_export
from keras_nns.data.named import load_dataset

SEED = 0
FIT = 50_000
PAIRS = ((0, 1), (2, 6), (3, 5), (4, 7), (8, 9))
BYTE_SHARES = (0.5, 0.25, 0.1, 0.05)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of the real data sets and models")
    parser.add_argument("--part", choices=("mnist", "resnet8"), help="one part of --data alone")
    parser.add_argument("--samples", type=int, default=20_000, help="of MNIST, to extract with")
    parser.add_argument("--bytes-only", action="store_true", help="byte budgets alone")
    parser.add_argument("--epochs", type=int, default=160, help="of distillation, for pairs")
    parser.add_argument("--pairs", type=int, default=len(PAIRS), help="how many pairs of labels")
    return parser.parse_args()


def digits():
    images, labels = load_digits(return_X_y=True)
    images = (images / 16).astype("float32").reshape(-1, 8, 8, 1)
    x, x_test, y, y_test = train_test_split(images, labels, stratify=labels, random_state=SEED)
    keras.utils.set_random_seed(SEED)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(24, 3, activation="relu", name="conv1"),
            layers.Conv2D(48, 3, activation="relu", name="conv2"),
            layers.Flatten(),
            layers.Dense(64, activation="relu", name="hidden"),
            layers.Dense(10, activation="softmax", name="digit"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(x, y, batch_size=32, epochs=12, verbose=0)
    return model, (x, y), (x_test, y_test)


def mnist(folder: Path, samples: int):
    found = load_dataset(folder / "mnist")
    x, x_test = (np.reshape(part, (-1, 28, 28, 1)) for part in (found.x_train, found.x_test))
    model = trained_mnist_cnn(x[:FIT], found.y_train[:FIT], seed=SEED)
    return model, (x[:samples], found.y_train[:samples]), (x_test, found.y_test)


def budgets(model: keras.Model, *, bytes_only: bool) -> list[nns.Budget]:
    flat = tflite_export.convert(model)
    found = [nns.Budget(bytes=round(share * len(flat))) for share in BYTE_SHARES]
    if bytes_only:
        return found
    inspected, alive = nns.inspect(model), tflite_export.anatomy(flat).activation_bytes
    return [
        *found,
        nns.Budget(parameters=inspected.parameters // 10),
        nns.Budget(macs=inspected.multiply_adds // 10),
        nns.Budget(activation_memory=alive // 2),
        nns.Budget(drop=0.01),
    ]


def to_budgets(console: Console, title: str, model, train, test, *, bytes_only: bool) -> None:
    flat = len(tflite_export.convert(model))
    # The first evaluation compiles the model; the second is what one takes.
    nns.evaluate(model, train)
    start = time.perf_counter()
    nns.evaluate(model, train)
    evaluation = time.perf_counter() - start
    console.print(
        f"{title}: {model.count_params():,} parameters, {flat:,} bytes of .tflite, "
        f"{len(train[0]):,} samples to extract with; one evaluation on them {evaluation:.1f} s"
    )
    columns = ("labels", "budget", "cost", "of it", "exports", "search, s", "in evaluations")
    table = Table(*columns, "exports, s", "rest, s", "balanced acc., parent →", title="")
    found = []
    for labels in (3, [3, 8]):
        # The other units once: they are searched alike whatever the labels.
        for budget in budgets(model, bytes_only=bytes_only or labels != 3):
            one = nns.extract(model, train, labels=labels, budget=budget, seed=SEED)
            found.append((labels, one))
            console.print(f"{labels}: {one.summary}", style="dim")
    # From here on nothing is decided: the test data is read.
    for labels, one in found:
        judged = nns.compare(model, one.model, test)
        seconds, limit = one.seconds, one.budget.limit
        before, after = (
            np.mean([row.balanced_accuracy for row in side.rows])
            for side in (judged.before, judged.after)
        )
        rest = sum(seconds.values()) - seconds["search"] - seconds["export"]
        table.add_row(
            str(labels),
            str(one.budget),
            one.budget.shown(one.costs, unit=False),
            f"{100 * one.cost / limit:.1f} %",
            str(one.exports),
            f"{seconds['search']:.2f}",
            f"{seconds['search'] / evaluation:.2f}",
            f"{seconds['export']:.1f}",
            f"{rest:.1f}",
            f"{before:.4f} → {after:.4f}",
        )
    console.print(table)
    sized = [one for _, one in found if one.budget.bytes is not None]
    shares = [one.cost / one.budget.limit for one in sized]
    spent = [one.seconds["search"] / evaluation for one in sized]
    console.print(
        f"byte budgets: {100 * min(shares):.1f} to {100 * max(shares):.1f} % of the budget; search "
        f"{min(spent):.2f} to {max(spent):.2f} evaluations; asked for: 95 to 100 %, 3 at most\n"
    )


def resnet8(console: Console, folder: Path, pairs, epochs: int) -> None:
    model = nns.load_model(folder / "models" / "cifar10_resnet8_mlperftiny.h5")
    train = np.load(folder / "cifar10" / "train_first4000_lossless.npz")
    x, y = train["x"].astype("float32"), train["y"].ravel()
    macs = nns.inspect(model).multiply_adds
    console.print(f"MLPerf Tiny ResNet-8: {macs:,} multiply-adds; pairs at a quarter of them")
    moved = keras.Sequential(
        [
            layers.RandomFlip("horizontal"),
            layers.RandomTranslation(0.1, 0.1, fill_mode="nearest"),
        ]
    )
    # Whether images of other labels teach too; None where nothing is taught.
    ways = {"no gradient steps": None, "distilled, the pair": False, "distilled, all images": True}
    found = []
    for pair in pairs:
        # Some 600 samples of a pair are few for a head fitted anew: it stays as least squares left
        # it.
        one = nns.extract(
            model, (x, y), labels=list(pair), head="labels", budget=nns.Budget(macs=macs // 4),
            repair=nns.steps.least_squares(), seed=SEED,
        )  # fmt: skip
        for way, others in ways.items():
            net, start = one.model, time.process_time()
            if others is not None:
                taught = nns.distill(
                    net, model, (x, y), epochs=epochs, held_out=0.2, seed=SEED,
                    augment=moved, other_labels=others,
                )  # fmt: skip
                net = taught.model
                spent = time.process_time() - start
                console.print(f"{pair} {way}: {spent:.0f} s; {taught.note}", style="dim")
            found.append((pair, way, one, net))
    exact = np.load(folder / "cifar10" / "test200_lossless.npz")
    tests = {
        "200 exact": (exact["x"].astype("float32"), exact["y"].ravel()),
        "10,000 JPEG": jpegs(folder / "cifar10" / "test_jpeg_10000.zip"),
    }
    table = Table("labels", "way", "multiply-adds", *tests)
    means = {way: [] for way in ways}
    for pair, way, one, net in found:
        sides = []
        for images in tests.values():
            judged = nns.compare(model, net, images)
            sides.append((judged.before.accuracy, judged.after.accuracy))
        means[way].append(sides)
        share = f"{100 * one.cost / macs:.1f} %"
        table.add_row(str(pair), way, share, *(f"{a:.3f} → {b:.3f}" for a, b in sides))
    for way, sides in means.items():
        mean = np.mean(sides, axis=0)
        table.add_row("mean", way, "", *(f"{a:.3f} → {b:.3f}" for a, b in mean))
    console.print("accuracy among the two labels, parent restricted to them → network")
    console.print(table)


def jpegs(path: Path):
    images, labels = [], []
    with zipfile.ZipFile(path) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith((".jpg", ".jpeg")))
        classes = sorted({name.split("/")[-2] for name in names})
        for name in names:
            image = keras.utils.load_img(io.BytesIO(archive.read(name)))
            images.append(np.asarray(image, dtype="float32"))
            labels.append(classes.index(name.split("/")[-2]))
    return np.stack(images), np.array(labels)


def main() -> None:
    args = arguments()
    console = Console(width=170)
    console.print(machine())
    if args.data is None:
        to_budgets(console, "CNN on digits", *digits(), bytes_only=args.bytes_only)
        return
    if args.part != "resnet8":
        found = mnist(args.data, args.samples)
        to_budgets(console, "CNN on MNIST", *found, bytes_only=args.bytes_only)
    if args.part != "mnist":
        resnet8(console, args.data, PAIRS[: args.pairs], args.epochs)


if __name__ == "__main__":
    main()
