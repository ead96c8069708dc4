"""A CNN of 421,642 parameters on MNIST, cut to a few per cent of them for some labels.

    python benchmarks/repair_cnn.py --data FOLDER [--fit 10000] [--epochs 1] [--model FILE]

FOLDER (or the environment variable KERAS_NNS_DATA) holds `mnist/` with the four IDX files.

The parent is trained on the first 50,000 training images. Networks are observed, cut, repaired and
taught on the first `--fit` of them. Which score chooses the units is decided for each case on the
10,000 training images that nothing else sees, among the networks without gradient steps. The test
images are read at the very end.

Beside each figure stands what Torch-Pruning's Taylor reached on weights of the same shape, as the
project's issue reports it; it is not run here.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from models import trained_mnist_cnn
from rich.console import Console
from rich.table import Table
from timing import machine

import keras_nns as nns
from keras_nns.data.named import load_dataset

SEED = 0
TRAIN = 50_000


@dataclass(frozen=True)
class Case:
    """Labels at a share of the parameters, and the figures others reached."""

    labels: tuple[int, ...]
    share: float
    asked: str
    theirs: str


CASES = (
    Case((3,), 0.052, "recall, specificity ≥ .990", ".970, .947"),
    Case((3,), 0.007, "recall, specificity ≥ .960", ".498, .957"),
    Case((3, 8), 0.064, "among ≥ .995, recall ≥ .985, spec. ≥ .975", "among .521"),
    Case((0, 1, 2, 3, 4), 0.051, "among ≥ .993, spec. ≥ .96", "among .642"),
)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("KERAS_NNS_DATA", ""))
    parser.add_argument("--model", type=Path, help="the parent, trained by an earlier run")
    parser.add_argument("--fit", type=int, default=TRAIN, help="how many images to cut with")
    parser.add_argument("--scores", nargs="+", default=["reconstruction", "forward_selection"])
    parser.add_argument("--cases", type=int, nargs="+", default=range(len(CASES)))
    parser.add_argument("--epochs", type=int, default=1, help="of distillation; 0 for none")
    args = parser.parse_args()
    args.data = Path(args.data)
    if not (args.data / "mnist").is_dir():
        parser.error("pass --data FOLDER, or set KERAS_NNS_DATA")
    return args


def figures(parent, small, case: Case, x, y) -> dict[str, float]:
    """Accuracy among the labels, and recall and specificity of "one of them" against the rest."""
    own = np.isin(y, case.labels)
    answers = small.predict(x, batch_size=1000, verbose=0)
    if answers.shape[1] == 1:
        said, among = answers[:, 0] >= 0.5, np.nan
    else:
        said = answers.argmax(axis=1) < len(case.labels)
        inside = np.array(case.labels)[answers[own][:, : len(case.labels)].argmax(axis=1)]
        among = float((inside == y[own]).mean())
    restricted = parent.predict(x[own], batch_size=1000, verbose=0)[:, case.labels].argmax(axis=1)
    theirs = float((np.array(case.labels)[restricted] == y[own]).mean())
    return {
        "recall": float(said[own].mean()),
        "specificity": float((~said[~own]).mean()),
        "among": among,
        "parent among": theirs if len(case.labels) > 1 else np.nan,
    }


def worth(found: dict[str, float]) -> float:
    return float(np.nanmean([found["recall"], found["specificity"], found["among"]]))


def main() -> None:
    args, console = arguments(), Console(width=150)
    console.print(machine())
    mnist = load_dataset(args.data / "mnist")
    x, y = np.reshape(mnist.x_train, (-1, 28, 28, 1)), mnist.y_train
    model = (
        keras.models.load_model(args.model)
        if args.model
        else trained_mnist_cnn(x[:TRAIN], y[:TRAIN], seed=SEED)
    )
    fit, check = (x[: args.fit], y[: args.fit]), (x[TRAIN:], y[TRAIN:])
    scores = {
        # What search takes where no score is given: it is made for the labels.
        "reconstruction": lambda: None,
        "forward_selection": lambda: nns.scores.forward_selection(model, fit),
        "fisher": lambda: nns.scores.fisher(nns.observe_gradients(model, fit)),
        "taylor": lambda: nns.scores.taylor(nns.observe_gradients(model, fit)),
        "contrast": lambda: nns.scores.contrast,
    }
    made = {name: scores[name]() for name in args.scores}
    chosen = []
    for case in (CASES[number] for number in args.cases):
        budget = nns.Budget(parameters=int(case.share * model.count_params()))
        asked = {"labels": list(case.labels), "budget": budget, "seed": SEED}
        tried = {}
        for name, score in made.items():
            found = nns.extract(model, fit, score=score, **asked)
            tried[name] = (worth(figures(model, found.model, case, *check)), found)
            console.print(f"{case.labels} {budget}: {name} {tried[name][0]:.4f} held out")
        best = max(tried, key=lambda name: tried[name][0])
        chosen.append((case, f"{best}, no gradient steps", tried[best][1]))
        if args.epochs:
            taught = nns.extract(model, fit, score=made[best], distill_epochs=args.epochs, **asked)
            chosen.append((case, f"{best}, {args.epochs} epoch of distillation", taught))
    # From here on nothing is decided: the test images are read.
    x_test, y_test = np.reshape(mnist.x_test, (-1, 28, 28, 1)), mnist.y_test
    accuracy = float(np.mean(model.predict(x_test, verbose=0).argmax(axis=1) == y_test))
    console.print(f"parent: {model.count_params():,} parameters, accuracy {accuracy:.4f}")
    table = Table(
        "labels", "parameters", "way", "recall", "spec.", "among", "parent among", "asked"
    )
    table.add_column("Torch-Pruning")
    for case, way, found in chosen:
        values = figures(model, found.model, case, x_test, y_test).values()
        share = f"{100 * found.cost / model.count_params():.2f} %"
        cells = ("" if np.isnan(value) else f"{value:.4f}" for value in values)
        table.add_row(str(case.labels), share, way, *cells, case.asked, case.theirs)
    console.print(table)


if __name__ == "__main__":
    main()
