"""Ten one-label networks on one trunk, composed: what they take and what they decide.

    python benchmarks/one_trunk.py --data FOLDER [--seeds 0 1 2]

FOLDER (or the environment variable KERAS_NNS_DATA) holds `mnist/` and `fashion_mnist/` with the
four IDX files each. Parents are trained here: 784-100-10 on MNIST, a CNN of 421,642 parameters on
MNIST, and a ResNet-8 shape of 78,426 on Fashion-MNIST (`extract_speed.py`). Of each

- one trunk: `extract` for all labels to 55 % of the parameters, `one_vs_rest`, `compose`;
- side by side: ten networks of `extract`, each to 5.5 % of the parameters, `compose`.

Both are made from 10,000 training images and calibrated on 5,000 others, without a gradient step.
Test images are read once, in the end. The shares were given beforehand.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import extract_speed
import keras
import numpy as np
from keras import layers
from models import trained_mnist_cnn
from rich.console import Console
from rich.table import Table
from timing import machine

import keras_nns as nns
from keras_nns.data.named import load_dataset

TRAIN, FIT, CALIBRATE = 50_000, 10_000, 5_000
TRUNK, EACH = 0.55, 0.055
SETS = {"MLP": "mnist", "CNN": "mnist", "ResNet-8": "fashion_mnist"}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("KERAS_NNS_DATA", ""))
    parser.add_argument("--nets", nargs="+", choices=SETS, default=list(SETS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    args = parser.parse_args()
    args.data = Path(args.data)
    if not (args.data / "mnist").is_dir():
        parser.error("pass --data FOLDER, or set KERAS_NNS_DATA")
    return args


def parent_of(net: str, x: np.ndarray, y: np.ndarray, seed: int) -> keras.Model:
    if net == "CNN":
        return trained_mnist_cnn(x[:TRAIN], y[:TRAIN], seed=seed)
    if net == "ResNet-8":
        return extract_speed.trained(x[:TRAIN], y[:TRAIN], seed)
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input((784,)),
            layers.Dense(100, activation="relu"),
            layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(x[:TRAIN], y[:TRAIN], batch_size=128, epochs=5, verbose=0)
    return model


def networks(model, x, y, seed: int) -> dict[str, keras.Model]:
    fit, rest = (x[:FIT], y[:FIT]), (x[TRAIN:], y[TRAIN:])
    calibrate = tuple(part[:CALIBRATE] for part in rest)
    size = model.count_params()
    trunk = nns.extract(
        model, fit, budget=nns.Budget(parameters=int(TRUNK * size)), seed=seed, verbose=False
    )
    ten = [
        nns.extract(
            model,
            fit,
            labels=label,
            budget=nns.Budget(parameters=int(EACH * size)),
            seed=seed,
            verbose=False,
        ).model
        for label in range(10)
    ]
    return {
        "one trunk": nns.compose(nns.one_vs_rest(trunk.model, *fit, seed=seed), *calibrate),
        "side by side": nns.compose(ten, *calibrate),
    }


def main() -> None:
    args = arguments()
    console = Console(width=140)
    console.print(machine())
    table = Table("network", "seed", "way", "of its parameters", "accuracy, parent →", "points")
    for net in args.nets:
        data = load_dataset(args.data / SETS[net])
        shape = {"MLP": (-1, 784)}.get(net, (-1, 28, 28, 1))
        x, x_test = data.x_train.reshape(shape), data.x_test.reshape(shape)
        for seed in args.seeds:
            model = parent_of(net, x, data.y_train, seed)
            for way, whole in networks(model, x, data.y_train, seed).items():
                judged = nns.compare(model, whole, (x_test, data.y_test))
                before, after = judged.before.accuracy, judged.after.accuracy
                table.add_row(
                    net,
                    str(seed),
                    way,
                    f"{whole.count_params() / model.count_params():.1%}",
                    f"{before:.4f} → {after:.4f}",
                    f"{100 * (after - before):+.2f}",
                )
                console.print(net, seed, way, f"{after:.4f}", style="dim")
    console.print(table)


if __name__ == "__main__":
    main()
