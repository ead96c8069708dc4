"""Ten one-label networks composed into one that decides ten ways, on MNIST.

    python benchmarks/judgement.py --data FOLDER [--units N]

FOLDER (or the environment variable KERAS_NNS_DATA) holds `mnist/` with the four IDX files.

The parent is a 784-100-10 network trained here. Units are selected and each label's network is
repaired without a gradient step on 50,000 training images; the composition is calibrated on the
other 10,000. Nothing is chosen by looking at a figure. The test images are read once, at the end.
Beside the composition stand its parent, the same networks with their scores as they are, the
networks after one epoch of distillation each, the merged network of as many units, and networks of
the composition's shape from scratch: after one epoch, and after as many epochs as the parent had.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
from rich.console import Console
from rich.table import Table

import keras_nns as nns
from keras_nns.data.named import load_dataset

SEED = 0
FIT = 50_000
EPOCHS = 8


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("KERAS_NNS_DATA", ""))
    parser.add_argument("--units", type=int, default=16, help="of 100, for each label")
    args = parser.parse_args()
    args.data = Path(args.data)
    if not (args.data / "mnist").is_dir():
        parser.error("pass --data FOLDER, or set KERAS_NNS_DATA")
    return args


def train(x, y) -> keras.Sequential:
    keras.utils.set_random_seed(SEED)
    model = keras.Sequential(
        [
            keras.Input((784,)),
            keras.layers.Dense(100, activation="relu", name="hidden"),
            keras.layers.Dense(10, activation="softmax", name="digit"),
        ],
        name="parent",
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(x, y, batch_size=128, epochs=EPOCHS, verbose=0)
    return model


def cell(figures, name: str) -> str:
    low, high = figures.intervals[name]
    return f"{getattr(figures, name):.4f}  {low:.4f}-{high:.4f}"


def main() -> None:
    args = arguments()
    console = Console(width=150)
    mnist = load_dataset(args.data / "mnist")
    x, y = mnist.x_train.reshape(-1, 784), mnist.y_train
    fit, calibrate = (x[:FIT], y[:FIT]), (x[FIT:], y[FIT:])
    started = time.time()

    def lap(what: str) -> None:
        console.print(f"{time.time() - started:5.0f} s  {what}", style="dim")

    parent = train(*fit)
    lap("parent trained")
    activity = nns.observe(parent, fit, verbose=False)
    score = nns.scores.forward_selection(parent, fit)
    plans = nns.select(activity, "each", score=score, keep=nns.top(args.units))
    cuts = [nns.cut(parent, plan, head="binary") for plan in plans]
    repaired = [nns.repair(cut, parent, fit).model for cut in cuts]
    lap("ten networks cut and repaired")
    distilled = [nns.distill(small, parent, fit, seed=SEED).model for small in repaired]
    lap("ten networks distilled, one epoch each")
    whole = nns.compose(repaired, calibrate)
    shape = {
        f"the same shape from scratch, {epochs} epochs": nns.from_scratch(
            whole, fit, epochs=epochs, patience=None, seed=SEED, batch_size=128
        ).model
        for epochs in (1, EPOCHS)
    }
    lap("networks from scratch")
    union = nns.merge(plans)
    models = {
        "composition": whole,
        "composition, each calibrated alone": nns.compose(repaired, calibrate, calibrate="each"),
        "composition, scores as they are": nns.compose(repaired),
        "composition of cuts without repair": nns.compose(cuts, calibrate),
        "composition, one epoch of distillation": nns.compose(distilled, calibrate),
        f"merged: {len(union.kept['hidden'])} units, repaired": nns.repair(
            nns.cut(parent, union), parent, fit
        ).model,
        **shape,
    }
    # From here on nothing is made: the test images are read.
    found = nns.compare(
        parent,
        whole,
        mnist.x_test.reshape(-1, 784),
        mnist.y_test,
        beside={name: model for name, model in models.items() if model is not whole},
        confidence=0.95,
    )
    rows = [("parent, 100 units", found.before, found.parent_costs)]
    rows.append(("composition", found.after, found.costs))
    rows += [(one.name, one.figures, one.costs) for one in found.beside]
    table = Table("model", "accuracy, 95 %", "least recall", "Brier", "calibration error", "params")
    for name, figures, costs in rows:
        least = min(figures.rows, key=lambda row: row.recall)
        table.add_row(
            name,
            cell(figures, "accuracy"),
            f"{least.recall:.3f} ({least.name})",
            f"{figures.brier:.4f}",
            f"{figures.calibration_error:.4f}",
            f"{costs.parameters:,}",
        )
    console.print(f"{figures.samples:,} test images, ten ways; {args.units} of 100 units per label")
    console.print(table)
    shared = nns.overlap(repaired)
    console.print(
        f"coupling of the ten networks, mean Jaccard index of units: {shared.coupling:.3f}"
    )
    modular = nns.modularity(parent, calibrate)
    alike, apart = modular.cohesion, modular.coupling
    console.print(f"the parent's samples: cohesion {alike:.3f}, coupling {apart:.3f} (Jaccard)")


if __name__ == "__main__":
    main()
