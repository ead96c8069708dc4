"""Labels learned one after another, from 5 to 10, on MNIST; and taken away again.

    python benchmarks/continual.py --data FOLDER [--tune]

FOLDER (or the environment variable KERAS_NNS_DATA) holds `mnist/` with the four IDX files.

A small convolutional network learns five digits, drawn anew for each of five seeds, from 1,500
training images of each. The other five join one by one. `add_label` gets 1,500 images of the new
digit and 300 of each old one. Beside it: plain fine-tuning of everything, on the new digit's images
alone, and on what `add_label` gets; and training on all ten at once.

Figures: balanced accuracy of each label among all, on average; forgetting of a label: its best
balanced accuracy at an earlier step less that at the end, on average over the labels that were
there before the last step (Chaudhry et al. 2018, "Riemannian walk for incremental learning", with
balanced accuracy in the place of accuracy). Telling more labels apart is harder: a network trained
on all ten at once is worse at the first five than one trained on those alone, and that difference
is shown as its forgetting.

Nothing was tuned on test images. --tune takes another seed and judges on training images that
nothing learns from; so were other widths, rates and dropouts of the new part looked at, and none
did clearly better than the defaults of `add_label`. Test images are read once, at the end of each
seed. Figures of seeds 0 and 1 were seen while the script was written, so the seeds are others.
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
EACH, OLD, HELD = 1500, 300, 300
EPOCHS = 6


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("KERAS_NNS_DATA", ""))
    parser.add_argument("--tune", action="store_true", help="one seed, on training images")
    parser.add_argument("--seeds", type=int, nargs="*", default=SEEDS)
    args = parser.parse_args()
    args.data = Path(args.data)
    if not (args.data / "mnist").is_dir():
        parser.error("pass --data FOLDER, or set KERAS_NNS_DATA")
    return args


def network(labels: int, seed: int) -> keras.Model:
    keras.utils.set_random_seed(seed)
    model = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(8, 3, strides=2, activation="relu"),
            layers.Conv2D(16, 3, strides=2, activation="relu"),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dense(labels, activation="softmax"),
        ],
        name="digits",
    )
    model.compile(keras.optimizers.Adam(2e-3), "sparse_categorical_crossentropy")
    return model


def learned(labels: int, seed: int, x, y) -> keras.Model:
    model = network(labels, seed)
    model.fit(x, y, batch_size=64, epochs=EPOCHS, verbose=0)
    return model


def widened(model: keras.Model, seed: int) -> keras.Model:
    """The same network with one output more: what plain fine-tuning starts from."""
    count = model.output_shape[-1]
    new = network(count + 1, seed)
    for old, layer in zip(model.layers[:-1], new.layers[:-1], strict=True):
        layer.set_weights(old.get_weights())
    kernel, bias = new.layers[-1].get_weights()
    kernel[:, :count], bias[:count] = model.layers[-1].get_weights()
    new.layers[-1].set_weights([kernel, bias])
    return new


def balanced(model: keras.Model, x, y) -> list[float]:
    """Balanced accuracy of every label that a model has."""
    labels = model.output_shape[-1]
    known = y < labels
    said = model.predict(x[known], batch_size=1000, verbose=0).argmax(axis=1)
    y = y[known]
    return [
        float(np.mean(said[y == k] == k) + np.mean(said[y != k] != k)) / 2 for k in range(labels)
    ]


def forgetting(steps: list[list[float]]) -> float:
    end = steps[-1]
    known = len(steps[-2])
    return float(
        np.mean([max(s[k] for s in steps[:-1] if len(s) > k) - end[k] for k in range(known)])
    )


def repeat(data, seed: int, *, tune: bool):
    rng = np.random.default_rng(seed)
    order = rng.permutation(10)
    rows, kept = [], []
    for digit in order:
        own = rng.permutation(np.flatnonzero(data.y_train == digit))
        rows.append(own[:EACH])
        kept.append(own[EACH : EACH + HELD])
    x = [data.x_train[r].reshape(-1, 28, 28, 1) for r in rows]

    def joined(labels, count=EACH):
        parts = [x[k][:count] for k in labels]
        return np.concatenate(parts), np.repeat(list(labels), [len(p) for p in parts])

    names = [str(digit) for digit in order]
    base = learned(5, seed, *joined(range(5)))
    models = {"add_label": [base], "fine-tuned": [base], "fine-tuned, old samples": [base]}
    models["all at once"] = [base]
    moved, added = 0.0, []
    for k in range(5, 10):
        old_x, old_y = joined(range(k), OLD)
        both = np.concatenate([old_x, x[k]]), np.append(old_y, np.full(EACH, k))
        grown = nns.add_label(
            models["add_label"][-1], *both, name=names[k], label_names=names[:k], seed=seed
        )
        moved = max(moved, grown.logits.relative)
        added.append(grown.added)
        models["add_label"].append(grown.model)
        for way, own in (
            ("fine-tuned", (x[k], np.full(EACH, k))),
            ("fine-tuned, old samples", both),
        ):
            model = widened(models[way][-1], seed)
            model.fit(*own, batch_size=64, epochs=2, verbose=0)
            models[way].append(model)
    models["all at once"].append(learned(10, seed, *joined(range(10))))
    last = models["add_label"][-1]
    removed = max(nns.remove_label(last, name).logits.relative for name in names[::3])
    # From here on nothing is decided: what was held back is read.
    if tune:
        test_x = data.x_train[np.concatenate(kept)]
        test_y = np.repeat(range(10), HELD)
    else:
        test_x, test_y = data.x_test, np.argsort(order)[data.y_test]
    test_x = test_x.reshape(-1, 28, 28, 1)
    figures = {}
    for way, course in models.items():
        steps = [balanced(model, test_x, test_y) for model in course]
        figures[way] = (float(np.mean(steps[-1])), forgetting(steps), course[-1].count_params())
    return figures, moved, removed, added


def main() -> None:
    args = arguments()
    print(machine())
    data = load_dataset(args.data / "mnist")
    found, moved, removed = [], 0.0, 0.0
    for seed in [99] if args.tune else args.seeds:
        started = time.time()
        figures, most, left, added = repeat(data, seed, tune=args.tune)
        moved, removed = max(moved, most), max(removed, left)
        found.append(figures)
        said = "; ".join(f"{w} {100 * a:.2f} ({100 * f:+.2f})" for w, (a, f, _) in figures.items())
        print(f"seed {seed}, {time.time() - started:.0f} s, {added[-1]} added: {said}", flush=True)
    print("\nin points, mean ± standard deviation over the seeds (lowest to highest)")
    print(f"{'':24} {'balanced accuracy':>28} {'less than all at once':>28} {'forgetting':>26}")
    for way in found[0]:
        whole = [100 * one[way][0] for one in found]
        less = [100 * (one["all at once"][0] - one[way][0]) for one in found]
        lost = [100 * one[way][1] for one in found]
        cells = (
            f"{np.mean(v):.2f} ± {np.std(v):.2f} ({min(v):.2f} to {max(v):.2f})"
            for v in (whole, less, lost)
        )
        print(f"{way:24}", *(f"{cell:>28}" for cell in cells), f"{found[0][way][2]:,} parameters")
    print(f"\nadding moved the old logits by at most {moved:.1e} of their scale,")
    print(f"removing a label those of the others by at most {removed:.1e}")


if __name__ == "__main__":
    main()
