"""A cut network against TFMOT's magnitude pruning, at equal accuracy on the MNIST CNN.

    python benchmarks/export_tfmot.py FOLDER [--samples 54000] [--epochs 4]
    python benchmarks/export_tfmot.py FOLDER --shapes

FOLDER holds `mnist/` and `models/mnist_cnn_moonflower.keras`. Needs keras-nns[tfmot]. Both retrain
on the same samples for as many epochs with Adam: TFMOT on the labels while it prunes, the cut
networks on the labels and the parent's answers (`nns.distill`). The parent was trained on the first
54,000 training images, from which the samples are drawn; the choice is made on the other 6,000,
which no network has seen: TFMOT's largest sparsity that costs at most 0.5 points of accuracy (or
else its most accurate one), and the smallest cut network that is at least as accurate as that (or
else the most accurate one). Test images are read once. Latency is of the bare call on one thread,
in turns, the smallest shape's beside them whether it was accurate enough or not.

`--shapes` trains nothing: latency in int8 of networks of many shapes that were cut and not trained,
beside the parent's, which is also that of TFMOT's network.
"""

from __future__ import annotations

import argparse
import gzip
import os
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
from export_cut import decided, latency
from timing import machine

import keras_nns as nns
import tflite_export
from keras_nns.data.named import load_dataset

SPARSITIES = (0.8, 0.9)
# Units of the first and the second convolution, from large to small by the bytes they take. Bytes
# fall with the second (its kernels and what reads them), multiply-adds with both.
SHAPES = ((12, 24), (8, 24), (8, 20), (8, 16))
SEEN = 54000
LOSS = 0.005
VARIANTS = ("float32", "int8")
UNTRAINED = (
    (16, 32), (16, 24), (12, 24), (8, 32), (8, 24), (4, 32),
    (16, 16), (12, 16), (8, 16), (4, 16), (8, 8), (4, 8), (1, 1),
)  # fmt: skip


def accuracy(model: Any, data: tuple[np.ndarray, np.ndarray]) -> float:
    answers = model.predict(data[0], batch_size=500, verbose=0)
    return float((answers.argmax(axis=1) == data[1]).mean())


def shape_of(units: tuple[int, int]) -> str:
    return f"cut to {units[0]} + {units[1]} units"


def watched(parent: Any, part: Any) -> list[Any]:
    """Observe each convolution by itself, so that each can be cut to a number of its own."""
    return [
        nns.observe(parent, part, layers=[name], verbose=False) for name in ("conv2d", "conv2d_1")
    ]


def cut_to(parent: Any, activities: list[Any], score: Any, units: tuple[int, int]) -> Any:
    """Cut the network of all ten labels to so many units of each convolution."""
    # What was not observed stays, so the intersection has so many units of each.
    first, second = (
        nns.select(activity, labels=list(range(10)), score=score, keep=nns.top(count))
        for activity, count in zip(activities, units, strict=True)
    )
    return nns.cut(parent, first & second)


def cut_networks(parent: Any, train: tuple[np.ndarray, np.ndarray], epochs: int) -> dict[str, Any]:
    """The network of all ten labels in several shapes, repaired and retrained."""
    part = tuple(array[:6000] for array in train)
    score = nns.scores.forward_selection(parent, part, jointly=True)
    activities = watched(parent, part)
    made = {}
    for units in SHAPES:
        small = cut_to(parent, activities, score, units)
        small = nns.repair(small, parent, part, steps=[nns.steps.least_squares()]).model
        made[shape_of(units)] = nns.distill(
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


def untrained(parent: Any, x: np.ndarray) -> None:
    """Print the latency in int8 of shapes of the parent that were cut and nothing more."""
    activities = watched(parent, (x, np.arange(len(x)) % 10))
    made = {"parent": parent} | {
        shape_of(units): cut_to(parent, activities, nns.scores.magnitude(parent), units)
        for units in UNTRAINED
    }
    latency(
        {
            name: tflite_export.convert(model, quantize="int8", samples=x)
            for name, model in made.items()
        }
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--samples", type=int, default=SEEN)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--shapes", action="store_true")
    given = parser.parse_args()
    print(machine())
    data = load_dataset(given.folder / "mnist")
    x, y = data.x_train.reshape(-1, 28, 28, 1), data.y_train
    drawn = np.random.default_rng(0).permutation(SEEN)[: given.samples]
    train, held = (x[drawn], y[drawn]), (x[SEEN:], y[SEEN:])
    test = data.x_test.reshape(-1, 28, 28, 1), data.y_test
    parent = nns.load_model(given.folder / "models" / "mnist_cnn_moonflower.keras")
    if given.shapes:
        untrained(parent, train[0][:512])
        return
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
    last = shape_of(SHAPES[-1])
    ours = smallest(cut, held, accuracy(pruned[theirs], held))
    chosen = {theirs: pruned[theirs], ours: cut[ours]}
    reached = {name: f"{accuracy(model, test):.4f}" for name, model in chosen.items()}
    print(f"taken, on the test images: {reached}, parent {accuracy(parent, test):.4f}")
    for variant in VARIANTS:
        print(variant)
        flats = {
            name: tflite_export.convert(model, quantize=variant, samples=train[0], targets=train[1])
            for name, model in (chosen | {last: cut[last]}).items()
        }
        for name in chosen:
            flat = flats[name]
            right = (decided(flat, test[0]) == test[1]).mean()
            print(
                f"  {name:24} {len(flat):,} bytes, {len(gzip.compress(flat, 9)):,} of gzip, "
                f"{right:.4f} of the test images"
            )
        latency(flats)


if __name__ == "__main__":
    main()
