"""Three labels of a large MNIST network in small architectures: does its knowledge help?

    python benchmarks/transplanting.py --data FOLDER [--sizes 50 500] [--shapes narrower dense]

FOLDER (or the environment variable KERAS_NNS_DATA) holds `mnist/` with the four IDX files.

For each of five seeds three digits are drawn, and a convolutional network learns all ten from
20,000 training images. From 50 and from 500 images of each of the three that it has not seen, three
small architectures learn to tell them apart:

    narrower          of the same kind: all layers can start from the large one's weights
    pooled            the first convolution can, the rest is of another kind
    dense             nothing can: hidden Dense layers alone

    transplanted      `transplant`: started from the large network as far as that goes, distilled
    distilled         the same distillation from fresh weights
    from scratch      the same labels without the large network

All take as many steps of as many samples, and hold none out. Nothing was tuned but the rate of from
scratch, which is chosen on a tenth of its samples before it learns from all; distillation has its
defaults. Test images are read once, at the
end of each seed.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from keras import layers
from timing import machine

import keras_nns as nns
from keras_nns.data.named import load_dataset
from keras_nns.training.scratch import forgotten

SEEDS = range(5)
TRAIN, LABELS = 20_000, 3
SIZES = (50, 500)
EPOCHS, BATCH = 10, 32
RATES = (1e-3, 5e-3, 2.5e-2)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("KERAS_NNS_DATA", ""))
    parser.add_argument("--seeds", type=int, nargs="*", default=SEEDS)
    parser.add_argument("--sizes", type=int, nargs="*", default=SIZES, help="images of each digit")
    parser.add_argument("--shapes", nargs="*", help="some of the architectures")
    args = parser.parse_args()
    args.data = Path(args.data)
    if not (args.data / "mnist").is_dir():
        parser.error("pass --data FOLDER, or set KERAS_NNS_DATA")
    return args


def network(name: str, middle: list, outputs: int, seed: int) -> keras.Model:
    keras.utils.set_random_seed(seed)
    answer = layers.Dense(outputs, activation="softmax", name="answer")
    return keras.Sequential([keras.Input((28, 28, 1)), *middle, answer], name=name)


def alike(low: int, high: int, hidden: int) -> list:
    return [
        layers.Conv2D(low, 3, strides=2, activation="relu", name="low"),
        layers.Conv2D(high, 3, strides=2, activation="relu", name="high"),
        layers.Flatten(),
        layers.Dense(hidden, activation="relu", name="hidden"),
    ]


def architectures(seed: int) -> dict[str, keras.Model]:
    pooled = [
        layers.Conv2D(6, 3, strides=2, activation="relu", name="low"),
        layers.SeparableConv2D(12, 3, strides=2, activation="relu", name="apart"),
        layers.GlobalAveragePooling2D(),
    ]
    dense = [
        layers.Flatten(),
        layers.Dense(16, activation="relu", name="first"),
        layers.Dense(16, activation="relu", name="second"),
    ]
    shapes = {"narrower": alike(4, 8, 12), "pooled": pooled, "dense": dense}
    return {name: network(name, middle, LABELS, seed) for name, middle in shapes.items()}


def large_one(x, y, seed: int) -> keras.Model:
    model = network("large", alike(16, 32, 64), 10, seed)
    model.compile(keras.optimizers.Adam(2e-3), "sparse_categorical_crossentropy")
    model.fit(x, y, batch_size=64, epochs=5, verbose=0)
    return model


def repeat(data, seed: int, sizes, shapes):
    rng = np.random.default_rng(seed)
    digits = np.sort(rng.permutation(10)[:LABELS])
    order = rng.permutation(len(data.y_train))
    x, y = data.x_train.reshape(-1, 28, 28, 1), data.y_train
    large = large_one(x[order[:TRAIN]], y[order[:TRAIN]], seed)
    rows = [order[TRAIN:][y[order[TRAIN:]] == digit] for digit in digits]
    taught, origins = {}, {}
    for size in sizes:
        few = np.concatenate([own[:size] for own in rows])
        how = {"epochs": EPOCHS, "batch_size": BATCH, "held_out": 0, "seed": seed}
        for shape, small in architectures(seed).items():
            if shapes and shape not in shapes:
                continue
            some = x[few], y[few]
            done = nns.transplant(large, small, *some, labels=digits.tolist(), **how)
            fresh = forgotten(done.model, seed=seed)
            taught["transplanted", shape, size] = done.model
            taught["distilled", shape, size] = nns.distill(fresh, large, some, **how).model
            tried = nns.from_scratch(done.model, some, rates=RATES, **{**how, "held_out": 0.1})
            losses = [gain.after for gain in tried.gains if "rate" in gain.measure]
            rate = RATES[int(np.argmin(losses))]
            alone = nns.from_scratch(done.model, some, rates=[rate], **how)
            taught["from scratch", shape, size] = alone.model
            begun = sum(one.parents is not None for one in done.origins)
            origins[shape] = (f"{begun} of {len(done.origins)}", small.count_params())
    # From here on nothing is decided: what was held back is read.
    own = np.isin(data.y_test, digits)
    test_x = data.x_test[own].reshape(-1, 28, 28, 1)
    truth = np.searchsorted(digits, data.y_test[own])

    def accuracy(model: keras.Model, columns) -> float:
        said = model.predict(test_x, batch_size=1000, verbose=0)[:, columns].argmax(axis=1)
        return 100 * float(np.mean([(said == k)[truth == k].mean() for k in range(LABELS)]))

    figures = {key: accuracy(model, range(LABELS)) for key, model in taught.items()}
    return figures, accuracy(large, digits), origins, (digits, large.count_params())


def main() -> None:
    args = arguments()
    print(machine())
    data = load_dataset(args.data / "mnist")
    found, wholes = [], []
    for seed in args.seeds:
        started = time.time()
        figures, whole, origins, (digits, size) = repeat(data, seed, args.sizes, args.shapes)
        found.append(figures)
        wholes.append(whole)
        seconds = time.time() - started
        print(f"seed {seed}, {seconds:.0f} s: digits {digits.tolist()}, large {whole:.2f}")
        for key, value in figures.items():
            print(f"    {key}: {value:.2f}", flush=True)
    print(f"\nmean recall in %, mean ± standard deviation over the seeds (lowest to highest)\n"
          f"large network, {size:,} parameters: {spread(wholes)}")  # fmt: skip
    ways = list(dict.fromkeys(way for way, _, _ in found[0]))
    for shape, (begun, parameters) in origins.items():
        print(f"{shape}, {parameters:,} parameters, {begun} layers from the large one's weights")
        for way in ways:
            cells = (spread([one[way, shape, size] for one in found]) for size in args.sizes)
            print(f"    {way:20}", *(f"{cell:>32}" for cell in cells))
        cells = (
            spread([one["transplanted", shape, n] - one["from scratch", shape, n] for one in found])
            for n in args.sizes
        )
        print(f"    {'less from scratch':20}", *(f"{cell:>32}" for cell in cells))


def spread(values: list[float]) -> str:
    low, high = min(values), max(values)
    return f"{np.mean(values):.2f} ± {np.std(values, ddof=1):.2f} ({low:.2f} to {high:.2f})"


if __name__ == "__main__":
    main()
