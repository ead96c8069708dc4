"""A cut network against TFMOT's magnitude pruning, at equal accuracy on the MNIST CNN.

    python benchmarks/export_tfmot.py FOLDER [--samples 20000] [--epochs 3]

FOLDER holds `mnist/` and `models/mnist_cnn_moonflower.keras`. Needs keras-nns[tfmot]. Both retrain
on the same samples for as many epochs with Adam: TFMOT on the labels while it prunes, the cut
networks on the labels and the parent's answers (`nns.distill`). On 10,000 other training images
TFMOT's largest sparsity is taken that costs at most 0.5 points of accuracy (or else its most
accurate one), and the smallest cut network that is at least as accurate as that (or else the most
accurate one). Test images are read once. Latency is of the bare call on one thread, in turns.
"""

from __future__ import annotations

import argparse
import gzip
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from export_cut import latency, shuffled
from timing import machine

import keras_nns as nns
import tflite_export
from keras_nns.datasets import load_dataset

SPARSITIES = (0.7, 0.8)
SHARES = (0.5, 0.4375, 0.375)
LOSS = 0.005
VARIANTS = ("float32", "int8")


def accuracy(model: Any, data: tuple[np.ndarray, np.ndarray]) -> float:
    answers = model.predict(data[0], batch_size=500, verbose=0)
    return float((answers.argmax(axis=1) == data[1]).mean())


def cut_networks(parent: Any, train: tuple[np.ndarray, np.ndarray], epochs: int) -> dict[str, Any]:
    """The network of all ten labels, at several sizes, repaired and retrained."""
    part = tuple(array[:6000] for array in train)
    activity = nns.observe(parent, part, verbose=False)
    score = nns.forward_selection(parent, part, jointly=True)
    made = {}
    for share in SHARES:
        plan = nns.select(activity, labels=list(range(10)), score=score, keep=nns.fraction(share))
        small = nns.repair(nns.cut(parent, plan), parent, part, steps=[nns.least_squares()]).model
        made[f"cut, {share:.1%} of units"] = nns.distill(
            small, parent, train, epochs=epochs, held_out=0, patience=None
        ).model
    return made


def smallest(models: dict[str, Any], held: tuple[np.ndarray, np.ndarray], floor: float) -> str:
    """Name the last model, from large to small, that is accurate enough; or the most accurate."""
    reached = {name: accuracy(model, held) for name, model in models.items()}
    for name, model in models.items():
        size = len(gzip.compress(tflite_export.convert(model), 9))
        print(f"  {name:24} {reached[name]:.4f} held, {size:,} bytes of gzip", flush=True)
    enough = [name for name in models if reached[name] >= floor]
    return enough[-1] if enough else max(reached, key=lambda name: reached[name])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--samples", type=int, default=20000)
    parser.add_argument("--epochs", type=int, default=3)
    given = parser.parse_args()
    print(machine())
    data = load_dataset(given.folder / "mnist")
    x, y = shuffled(data)
    train, held = (x[: given.samples], y[: given.samples]), (x[50000:], y[50000:])
    test = data.x_test.reshape(-1, 28, 28, 1), data.y_test
    parent = nns.load_model(given.folder / "models" / "mnist_cnn_moonflower.keras")
    floor = accuracy(parent, held) - LOSS
    print(f"parent: {accuracy(parent, held):.4f} on the held images; needed: {floor:.4f}")

    pruned = {
        f"TFMOT, sparsity {sparsity}": tflite_export.prune_weights(
            parent, *train, sparsity=sparsity, epochs=given.epochs, batch_size=64
        )
        for sparsity in SPARSITIES
    }
    theirs = smallest(pruned, held, floor)
    cut = cut_networks(parent, train, given.epochs)
    ours = smallest(cut, held, accuracy(pruned[theirs], held))
    chosen = {theirs: pruned[theirs], ours: cut[ours]}
    reached = {name: f"{accuracy(model, test):.4f}" for name, model in chosen.items()}
    print(f"taken, on the test images: {reached}, parent {accuracy(parent, test):.4f}")
    for variant in VARIANTS:
        print(variant)
        flats = {
            name: tflite_export.convert(model, quantize=variant, samples=train[0], targets=train[1])
            for name, model in chosen.items()
        }
        for name, flat in flats.items():
            print(f"  {name:24} {len(flat):,} bytes, {len(gzip.compress(flat, 9)):,} of gzip")
        latency(flats)


if __name__ == "__main__":
    main()
