"""What one epoch of `distill`, all by default, adds to networks made by `extract`.

    python benchmarks/distill_default.py --data FOLDER                          # 18 cells
    python benchmarks/distill_default.py --data FOLDER --heads other --seeds 0 1 2
    python benchmarks/distill_default.py --data FOLDER --nets mlp               # ten cells

FOLDER (or the environment variable KERAS_NNS_DATA) holds `fashion_mnist/`, for `mlp` `mnist/`, with
the four IDX files each.

- cnn: the ResNet-8 of `extract_speed.py` (78,426 parameters, two epochs on 20,000 Fashion-MNIST
  images), two pairs of labels at 25, 10 and 5 % of its parameters, for each head.
- mlp: the 784-100-10 network of `repair_mlp.py` on MNIST, each label at 10 % of its parameters.

A cell is a call of `extract` with 3,000 training images and no epochs, and one of `distill` with
all by default, which holds out the same images as `extract` did. The seed says which images, and is
that of both. The figure is the mean balanced accuracy over the labels on the 10,000 test images,
by which nothing is chosen; held out is what `distill` judged by. Extracted networks are kept in the
cache folder.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import extract_speed
import keras
import numpy as np
import repair_mlp
from rich.console import Console
from rich.table import Table
from timing import machine

import keras_nns as nns
from keras_nns.data.named import load_dataset

IMAGES, HELD_OUT, MLP_SHARE = 3_000, 0.2, 0.1
HEADS = ("other", "binary", "labels")
NETS = ("cnn", "mlp")
SETS = {"cnn": "fashion_mnist", "mlp": "mnist"}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("KERAS_NNS_DATA", ""))
    parser.add_argument("--cache", type=Path, default=Path("build/distill_default"))
    parser.add_argument("--nets", nargs="+", choices=NETS, default=["cnn"])
    parser.add_argument("--heads", nargs="+", choices=HEADS, default=HEADS)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    args = parser.parse_args()
    args.data = Path(args.data)
    if not args.data.is_dir():
        parser.error("pass --data FOLDER, or set KERAS_NNS_DATA")
    return args


def parent(args: argparse.Namespace, net: str, x, y) -> keras.Model:
    """Return the parent, trained once and kept in the cache folder."""
    file = args.cache / f"{net}.keras"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        if net == "mlp":
            model = repair_mlp.trained(x[: repair_mlp.TRAIN], y[: repair_mlp.TRAIN])
        else:
            model = extract_speed.trained(x[: extract_speed.TRAIN], y[: extract_speed.TRAIN])
        model.save(file)
    return keras.models.load_model(file)


def cells(args: argparse.Namespace, net: str) -> Iterator[tuple[str, tuple[int, ...], float]]:
    if net == "mlp":
        yield from (("binary", (label,), MLP_SHARE) for label in range(10))
        return
    for head in args.heads:
        for labels in extract_speed.PAIRS:
            yield from ((head, labels, share) for share in extract_speed.SHARES)


def main() -> None:
    args, console = arguments(), Console(width=150)
    console.print(f"{machine()}; {IMAGES:,} images, seeds {args.seeds}")
    for net in args.nets:
        bench(args, console, net)


def bench(args: argparse.Namespace, console: Console, net: str) -> None:
    found = load_dataset(args.data / SETS[net])
    x, y = found.x_train, found.y_train
    x_test, y_test = found.x_test, found.y_test
    if net == "cnn":
        order = np.random.default_rng(extract_speed.SEED).permutation(len(x))
        x, y = x[order], y[order]
    else:
        x, x_test = x.reshape(len(x), -1), x_test.reshape(len(x_test), -1)
    model = parent(args, net, x, y)
    columns = ["head", "labels", "share", "seed", "held out", "test: 0 epochs", "1 epoch", "adds"]
    table = Table(*columns, "parent", "kept epoch")
    added = []
    for seed in args.seeds:
        some = slice(seed * IMAGES, (seed + 1) * IMAGES)
        data = x[some], y[some]
        for head, labels, share in cells(args, net):
            keras.backend.clear_session()
            name = f"{net}_{head}_{''.join(map(str, labels))}_{share:g}_{seed}.keras"
            file = args.cache / name
            if not file.exists():
                budget = nns.Budget(parameters=int(share * model.count_params()))
                made = nns.extract(model, data, labels=labels, head=head, budget=budget, seed=seed)
                made.save(file)
            small = nns.load_model(file)
            done = nns.distill(small, model, data, held_out=HELD_OUT, seed=seed)
            judged = nns.compare(model, small, (x_test, y_test))
            taught = nns.evaluate(done.model, (x_test, y_test)).mean_balanced_accuracy
            plain = judged.after.mean_balanced_accuracy
            added.append(taught - plain)
            own = next(gain for gain in done.gains if gain.measure == "balanced acc.")
            row = [
                head,
                " ".join(map(str, labels)),
                f"{share:.0%}",
                str(seed),
                f"{own.before:.4f} → {own.after:.4f}",
                f"{plain:.4f}",
                f"{taught:.4f}",
                f"{taught - plain:+.4f}",
                f"{judged.before.mean_balanced_accuracy:.4f}",
                str(done.best_epoch),
            ]
            table.add_row(*row)
            console.print(" | ".join(row), f"| {getattr(done, 'note', '')}")
    console.print(table)
    gains = np.array(added)
    console.print(
        f"{net}: adds in {(gains > 0).sum()} of {len(gains)} cells, changes nothing in "
        f"{(gains == 0).sum()}, takes away in {(gains < 0).sum()}; on average {gains.mean():+.4f}, "
        f"at the least {gains.min():+.4f}"
    )


if __name__ == "__main__":
    main()
