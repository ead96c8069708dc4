"""Five labels of Fashion-MNIST learned from few samples by what knows the other five.

    python benchmarks/transfer_few_samples.py --data FOLDER [--tune]

FOLDER (or the environment variable KERAS_NNS_DATA) holds `fashion_mnist/` with the four IDX files.

For each of five seeds five labels are drawn. A small convolutional network learns them from 2,000
training images of each; a subnetwork is cut out that keeps the filters that speak most for one of
them, six tenths for each. The other five labels are then learned from 10, 50, 100 and 500 samples
of each, always with as many gradient steps of as many samples:

    from scratch      the subnetwork's shape and head, with fresh weights
    features          the subnetwork frozen, up to what its Dense layers read; a new head
    fine-tuned        the same; after half of the steps everything learns
    whole parent      a new last layer for half of the steps, then everything, hidden layer included

The new head has a hidden layer, with as many units as make a quarter of the parent's parameters.

What to take over, the head and the rates, those from scratch included, were chosen after trials
with seeds 97 to 99 on training images that nothing learns from, as --tune judges on. Of the shares
0.3, 0.5 and 0.75 the last was best; 0.6 leaves room for the head. Test images are read once, at the
end of each seed. Figures of seeds 0 to 4, with features of the last hidden layer and another cut,
were seen before; so the seeds are others.
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

SEEDS = range(10, 15)
SIZES = (10, 50, 100, 500)
EACH, STEPS, BATCH = 2000, 200, 32
FILTERS, SHARE = 0.6, 0.25
RATES = {
    "from scratch": (3e-3,),
    "features": (3e-3,),
    "fine-tuned": (3e-3, 1e-3),
    "whole parent": (3e-3, 1e-3),
}
TRIED = {
    "from scratch": [(1e-3,), (3e-3,)],
    "features": [(1e-3,), (3e-3,)],
    "fine-tuned": [(3e-3, 1e-3), (3e-3, 3e-4)],
    "whole parent": [(3e-3, 1e-3), (1e-2, 1e-3)],
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("KERAS_NNS_DATA", ""))
    parser.add_argument("--tune", action="store_true", help="try rates, on training images")
    parser.add_argument("--seeds", type=int, nargs="*", default=SEEDS)
    args = parser.parse_args()
    args.data = Path(args.data)
    if not (args.data / "fashion_mnist").is_dir():
        parser.error("pass --data FOLDER, or set KERAS_NNS_DATA")
    return args


def parent_of(x, y, seed: int) -> keras.Model:
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(16, 3, strides=2, activation="relu", name="low"),
            layers.Conv2D(32, 3, strides=2, activation="relu", name="high"),
            layers.Flatten(name="flat"),
            layers.Dense(64, activation="relu", name="hidden"),
            layers.Dense(5, activation="softmax", name="answer"),
        ],
        name="parent",
    )
    model.compile(keras.optimizers.Adam(2e-3), "sparse_categorical_crossentropy")
    model.fit(x, y, batch_size=64, epochs=5, verbose=0)
    return model


def subnetwork(parent: keras.Model, x, y) -> keras.Model:
    activity = nns.observe(parent, x, y, verbose=False)
    plan = nns.select(activity, "all", score=nns.scores.contrast, keep=nns.fraction(FILTERS))
    return nns.cut(parent, plan)


def head_for(extractor: keras.Model, most: int, seed: int) -> keras.Model:
    """A hidden layer and five answers: as many hidden units as there are parameters left for."""
    width = extractor.output_shape[-1]
    units = (most - extractor.count_params() - 5) // (width + 1 + 5)
    first, second = (keras.initializers.GlorotUniform(seed + i) for i in (100, 200))
    return keras.Sequential(
        [
            keras.Input((width,)),
            layers.Dense(units, activation="relu", kernel_initializer=first),
            layers.Dense(5, activation="softmax", kernel_initializer=second),
        ],
        name="head",
    )


def passes(x, y, steps: int, seed: int):
    """As many samples as the steps take: the few over and over, in another order every time."""
    rng = np.random.default_rng(seed)
    rows = np.concatenate([rng.permutation(len(y)) for _ in range(-(-steps * BATCH // len(y)))])[
        : steps * BATCH
    ]
    return x[rows], y[rows]


def teach(way: str, rates, parent, small, x, y, names, seed: int) -> keras.Model:
    how = {"label_names": names, "epochs": 1, "held_out": 0, "batch_size": BATCH, "seed": seed}
    data = passes(x, y, STEPS // len(rates), seed)
    if way == "whole parent":
        return nns.transfer(parent, *data, rates=rates, up_to="hidden", **how).model
    extractor = nns.feature_extractor(small)
    head = head_for(extractor, int(SHARE * parent.count_params()), seed)
    if way != "from scratch":
        return nns.transfer(small, *data, rates=rates, head=head, **how).model
    keras.utils.set_random_seed(seed)
    model = keras.models.clone_model(nns.attach_head(extractor, names, head))
    for layer in model.layers:
        layer.trainable = True
    model.compile(keras.optimizers.Adam(rates[0]), "sparse_categorical_crossentropy")
    model.fit(*data, batch_size=BATCH, epochs=1, shuffle=False, verbose=0)
    return model


def accuracy(model: keras.Model, x, y) -> float:
    """Mean recall: the labels are equally frequent."""
    return float(np.mean(model.predict(x, batch_size=1000, verbose=0).argmax(axis=1) == y))


def repeat(data, seed: int, ways, sizes, *, tune: bool):
    rng = np.random.default_rng(seed)
    order = rng.permutation(10)
    rows = [rng.permutation(np.flatnonzero(data.y_train == label)) for label in order]

    def joined(labels, cut: slice):
        parts = [rows[k][cut] for k in labels]
        x = data.x_train[np.concatenate(parts)].reshape(-1, 28, 28, 1)
        return x, np.repeat(np.arange(5), [len(p) for p in parts])

    source = joined(range(5), slice(EACH))
    parent = parent_of(*source, seed)
    small = subnetwork(parent, *source)
    names = [str(data.label_names[k]) if data.label_names else str(k) for k in order[5:]]
    taught = {}
    for size in sizes:
        few = joined(range(5, 10), slice(size))
        for way, rates in ways:
            taught[way, rates, size] = teach(way, rates, parent, small, *few, names, seed)
    # From here on nothing is decided: what was held back is read.
    if tune:
        test_x, test_y = joined(range(5, 10), slice(1000, 1500))
    else:
        place = np.argsort(order)[data.y_test]
        test_x, test_y = data.x_test[place >= 5].reshape(-1, 28, 28, 1), place[place >= 5] - 5
    figures = {key: accuracy(model, test_x, test_y) for key, model in taught.items()}
    used = taught["fine-tuned", dict(ways)["fine-tuned"], sizes[0]].count_params()
    return figures, used / parent.count_params(), (names, used, parent.count_params())


def main() -> None:
    args = arguments()
    print(machine())
    data = load_dataset(args.data / "fashion_mnist")
    each = TRIED if args.tune else {way: [rates] for way, rates in RATES.items()}
    ways = [(way, rates) for way, several in each.items() for rates in several]
    sizes = SIZES[::2] if args.tune else SIZES
    found = []
    for seed in (97, 98) if args.tune else args.seeds:
        started = time.time()
        figures, share, about = repeat(data, seed, ways, sizes, tune=args.tune)
        found.append(figures)
        names, small, parent = about
        print(
            f"seed {seed}, {time.time() - started:.0f} s: {small:,} of {parent:,} parameters, "
            f"{share:.3f}; learns {', '.join(names)}",
            flush=True,
        )
        for way, rates in ways:
            row = "  ".join(f"{100 * figures[way, rates, size]:.1f}" for size in sizes)
            print(f"    {way:14} {rates!s:16} {row}", flush=True)
    print("\naccuracy in %, mean ± standard deviation over the seeds (lowest to highest)")
    print(f"{'samples of each label':32}", *(f"{size:>26}" for size in sizes))
    for way, rates in ways:
        cells = []
        for size in sizes:
            v = [100 * one[way, rates, size] for one in found]
            cells.append(f"{np.mean(v):.1f} ± {np.std(v):.1f} ({min(v):.1f} to {max(v):.1f})")
        print(f"{way:14} {rates!s:17}", *(f"{cell:>26}" for cell in cells))
    if args.tune:
        return
    print("\ndifference to, points: mean (lowest to highest over the seeds)")
    for way, other in (
        ("features", "from scratch"),
        ("fine-tuned", "from scratch"),
        ("features", "whole parent"),
        ("fine-tuned", "whole parent"),
    ):
        cells = []
        for size in sizes:
            v = [100 * (f[way, RATES[way], size] - f[other, RATES[other], size]) for f in found]
            cells.append(f"{np.mean(v):+.1f} ({min(v):+.1f} to {max(v):+.1f})")
        print(f"{way:10} less {other:16}", *(f"{cell:>26}" for cell in cells))


if __name__ == "__main__":
    main()
