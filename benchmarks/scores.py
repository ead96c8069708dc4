"""Every score on one CNN: how well a label's units tell it from the rest, as cut, without repair.

    python benchmarks/scores.py [--data FOLDER] [--shares 0.5 0.25 0.1] [--epochs 2]

FOLDER (or the environment variable KERAS_NNS_DATA) holds `mnist/` with the four IDX files.

A CNN of two convolutions with batch norms and two Dense layers is trained here on 50,000 training
images. Scores see 5,000 of these. For each score, share of the units and digit a network is cut,
and its operating threshold on the digit's output set on the same 5,000 for the best balanced
accuracy. Which score is best at a size is decided on the 10,000 other training images; the test
images are read once, when all networks are made.
"""

from __future__ import annotations

import argparse
import os
import time
from functools import partial
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from keras import layers
from rich.console import Console
from rich.table import Table

import keras_nns as nns
from keras_nns.data.named import load_dataset

SEED = 0
TRAIN, SEEN = 50_000, 5_000
GLOBAL = partial(nns.fraction, scope="global")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("KERAS_NNS_DATA", ""))
    parser.add_argument("--shares", type=float, nargs="+", default=[0.5, 0.25, 0.1])
    parser.add_argument("--epochs", type=int, default=2)
    args = parser.parse_args()
    args.data = Path(args.data)
    if not (args.data / "mnist").is_dir():
        parser.error("pass --data FOLDER, or set KERAS_NNS_DATA")
    return args


def trained(x, y, epochs: int) -> keras.Model:
    keras.utils.set_random_seed(SEED)
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(16, 3, use_bias=False, name="first"),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.MaxPooling2D(),
            layers.Conv2D(32, 3, use_bias=False, name="second"),
            layers.BatchNormalization(),
            layers.ReLU(),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(64, activation="relu", name="third"),
            layers.Dense(10, activation="softmax", name="digit"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy", metrics=["accuracy"])
    model.fit(x, y, batch_size=128, epochs=epochs, verbose=0)
    return model


def candidates(model, x, y):
    """Name each score, with the rule that makes a plan of it."""
    gradients = nns.observe_gradients(model, (x, y))
    scores = {
        "mean_activation": nns.scores.mean_activation,
        "firing_frequency": nns.scores.firing_frequency,
        "active_share": nns.scores.active_share,
        "contrast": nns.scores.contrast,
        "contrast, signed": partial(nns.scores.contrast, signed=True),
        "d_prime": nns.scores.d_prime,
        "contribution": nns.scores.contribution(model, (x, y)),
        "contribution, signed": nns.scores.contribution(model, (x, y), signed=True),
        "taylor": nns.scores.taylor(gradients),
        "taylor, signed": nns.scores.taylor(gradients, signed=True),
        "fisher": nns.scores.fisher(gradients),
        "forward_selection": nns.scores.forward_selection(model, (x, y)),
        "magnitude, L1": nns.scores.magnitude(model, norm=1),
        "magnitude, L2": nns.scores.magnitude(model),
        "geometric_median": nns.scores.geometric_median(model),
        "batch_norm_scale": nns.scores.batch_norm_scale(model),
        "random_units": nns.scores.random_units(SEED),
    }
    ways = {name: (score, nns.fraction) for name, score in scores.items()}
    for name in ("taylor", "taylor, signed", "fisher", "d_prime"):
        ways[f"{name}; global"] = scores[name], GLOBAL
    normal = partial(GLOBAL, normalise="mean")
    for name in ("contrast", "taylor"):
        ways[f"{name}; global, by mean"] = scores[name], normal
    ways["lamp; global"] = nns.scores.lamp(model), GLOBAL
    return ways


def threshold(values, own) -> float:
    """Return where to decide for the best balanced accuracy."""
    order = np.argsort(values)
    said_no = np.cumsum(~own[order]) / max((~own).sum(), 1)
    missed = np.cumsum(own[order]) / max(own.sum(), 1)
    best = int(np.argmax(said_no - missed))
    after = values[order[min(best + 1, len(order) - 1)]]
    return float((values[order[best]] + after) / 2)


def balanced(values, own, bar: float) -> float:
    said = values > bar
    return float((said[own].mean() + (~said[~own]).mean()) / 2)


def answers(model, x):
    """Log-odds of each digit: where an output is close to 0 or 1 probabilities would tie."""
    logits = keras.Model(model.inputs[0], model.layers[-1].input)(x).numpy()
    kernel, bias = model.layers[-1].get_weights()
    scores = logits @ kernel + bias
    rest = np.stack(
        [np.logaddexp.reduce(np.delete(scores, i, axis=1), axis=1) for i in range(scores.shape[1])]
    ).T
    return scores - rest


def main() -> None:
    args = arguments()
    console = Console(width=140)
    mnist = load_dataset(args.data / "mnist")
    x, y = mnist.x_train, mnist.y_train
    model = trained(x[:TRAIN], y[:TRAIN], args.epochs)
    x_seen, y_seen = x[:SEEN], y[:SEEN]
    x_check, y_check = x[TRAIN:], y[TRAIN:]
    statistics = ["fired", "mean", "variance", "active"]
    activity = nns.observe(model, (x_seen, y_seen), statistics=statistics)
    ways = candidates(model, x_seen, y_seen)
    networks = {}
    started = time.time()
    for name, (score, rule) in ways.items():
        for share in args.shares:
            plans = nns.select(activity, "each", score=score, keep=rule(share))
            networks[name, share] = []
            for label, plan in enumerate(plans):
                small = nns.cut(model, plan)
                bar = threshold(answers(small, x_seen)[:, label], y_seen == label)
                networks[name, share].append((small, bar))
    figures = {key: mean(made, x_check, y_check) for key, made in networks.items()}
    console.print(f"{len(networks) * 10} networks in {time.time() - started:.0f} s", style="dim")
    # From here on nothing is decided: the test images are read.
    x_test, y_test = mnist.x_test, mnist.y_test
    accuracy = float((answers(model, x_test).argmax(axis=1) == y_test).mean())
    table = Table("score; scope", *(f"{s:.0%} held out / test" for s in args.shares), "parameters")
    for name in ways:
        cells = []
        for share in args.shares:
            best = max(ways, key=lambda other, s=share: figures[other, s]) == name
            test = f"{mean(networks[name, share], x_test, y_test):.3f}"
            cells.append(f"{figures[name, share]:.3f} / {f'[b]{test}[/b]' if best else test}")
        sizes = (
            np.mean([small.count_params() for small, _ in networks[name, share]])
            for share in args.shares
        )
        table.add_row(name, *cells, " ".join(f"{size:,.0f}" for size in sizes))
    console.print(
        f"Parent: {model.count_params():,} parameters, accuracy {accuracy:.4f} on "
        f"{len(y_test):,} test images, seed {SEED}. Mean balanced accuracy over ten one-digit "
        "networks as cut; bold: best on held-out training images."
    )
    console.print(table)


def mean(networks, x, y) -> float:
    return float(
        np.mean(
            [
                balanced(answers(small, x)[:, label], y == label, bar)
                for label, (small, bar) in enumerate(networks)
            ]
        )
    )


if __name__ == "__main__":
    main()
