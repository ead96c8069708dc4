"""Repair on MNIST, without gradient steps and with one epoch, beside the paper's rule.

    python benchmarks/repair_mlp.py --data FOLDER [--model paper|trained] [--fit 10000] [--quick]

FOLDER (or the environment variable KERAS_NNS_DATA) holds `mnist/` with the four IDX files and
`nns_paper/simpleMLPWghts.json`.

Two parents: the paper's own 784-100-10 weights at the unit counts of the paper's table (ζ 0.4), and
a 784-100-10 network that is trained here, at 16 units for each label. Units are selected, networks
repaired and heads calibrated on the first `--fit` of 50,000 training images; then the way that is
best so far has one epoch of distillation from the parent on all 50,000. A repaired head has its
operating point set on those images, so the parent and the paper's rule have a row each with theirs
set on the same, beside one as they decide by themselves. Which of several ways is
taken for each parent is decided on the other 10,000 training images, as is how the epoch is spent;
`--quick` tries only the way that is taken for the paper's weights. The test images are read at the
very end, and judged once.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import keras
import numpy as np
from rich.console import Console
from rich.table import Table
from sklearn.metrics import roc_curve

import keras_nns as nns
from keras_nns.data.named import load_dataset

SEED = 0
TRAIN = 50_000
BATCH = 64
ZETA = 0.4
PAPERS_UNITS = (8, 7, 12, 12, 4, 14, 9, 3, 11, 3)
UNITS = 16
WAYS = {
    "contrast, least squares": ("contrast", [nns.steps.least_squares()]),
    "contrast, logistic head": ("contrast", [nns.steps.calibrate_head()]),
    "forward selection, logistic head": ("forward", [nns.steps.calibrate_head()]),
    "reconstruction, logistic head": ("reconstruction", [nns.steps.calibrate_head()]),
    "reconstruction, head of all labels": (
        "reconstruction",
        [nns.steps.calibrate_head(every_label=True)],
    ),
    "forward selection, head of all labels": (
        "forward",
        [nns.steps.calibrate_head(every_label=True)],
    ),
}
# Learning rate (falling to zero along a cosine) and share of the parent in the loss.
LESSONS = ((2e-3, 0.5), (8e-3, 0.5), (8e-3, 0.1))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("KERAS_NNS_DATA", ""))
    parser.add_argument("--model", choices=("paper", "trained", "both"), default="both")
    parser.add_argument("--fit", type=int, default=TRAIN, help="images that repair is fitted on")
    parser.add_argument("--quick", action="store_true", help="only what is usually chosen")
    args = parser.parse_args()
    args.data = Path(args.data)
    if not (args.data / "mnist").is_dir():
        parser.error("pass --data FOLDER, or set KERAS_NNS_DATA")
    return args


def mlp() -> keras.Sequential:
    return keras.Sequential(
        [
            keras.Input((784,)),
            keras.layers.Dense(100, activation="relu", name="hidden"),
            keras.layers.Dense(10, activation="softmax", name="digit"),
        ]
    )


def papers(folder: Path) -> keras.Sequential:
    weights = json.loads((folder / "nns_paper" / "simpleMLPWghts.json").read_text())
    w1, b1, w2, b2 = (np.array(weights[k], dtype="float32") for k in ("w1", "b1", "w2", "b2"))
    model = mlp()
    model.set_weights([w1.T, b1.ravel(), w2.T, b2.ravel()])
    return model


def trained(x, y) -> keras.Sequential:
    keras.utils.set_random_seed(SEED)
    model = mlp()
    model.compile("adam", "sparse_categorical_crossentropy")
    model.fit(x, y, batch_size=128, epochs=8, verbose=0)
    return model


def bench(console: Console, args, title: str, model, counts, x, y, test) -> None:
    fit, train, check = slice(None, args.fit), slice(None, TRAIN), slice(TRAIN, None)
    activity = nns.observe(model, (x[fit], y[fit]))
    forward = nns.scores.forward_selection(model, (x[fit], y[fit]))
    scores = {
        "paper": lambda label: nns.scores.mean_activation,
        "contrast": lambda label: nns.scores.contrast,
        "forward": lambda label: forward,
        "reconstruction": lambda label: nns.scores.reconstruction(
            model, (x[fit], y[fit]), labels=label
        ),
    }

    def cuts(score: str, head: str):
        for label, count in enumerate(counts):
            plan = nns.select(activity, label, score=scores[score](label), keep=nns.top(count))
            yield nns.cut(model, plan, head=head)

    candidates: dict[str, list[keras.Model]] = {
        "paper's rule, as it is": list(cuts("paper", "parent")),
        "paper's rule, yes or no": list(cuts("paper", "binary")),
    }
    cut, asked = candidates["paper's rule, yes or no"], [alone(model, label) for label in range(10)]
    candidates |= {
        "paper's rule, its point set": at_best(cut, x[fit], y[fit]),
        "parent, yes or no": asked,
        "parent, its point set": at_best(asked, x[fit], y[fit]),
    }
    ways = dict(list(WAYS.items())[-1:]) if args.quick else WAYS
    for name, (score, steps) in ways.items():
        started = time.time()
        candidates[name] = [
            nns.repair(small, model, (x[fit], y[fit]), steps=steps).model
            for small in cuts(score, "binary")
        ]
        console.print(f"{name}: {time.time() - started:.0f} s", style="dim")
    chosen = [max(ways, key=lambda name: mean(candidates[name], x[check], y[check]))]
    lessons = {}
    for rate, alpha in LESSONS:
        started = time.time()
        name = f"{chosen[0]}; one epoch, rate {rate:g}, parent's share {alpha:g}"
        lessons[name] = [
            distilled(small, model, x[train], y[train], rate, alpha)
            for small in candidates[chosen[0]]
        ]
        console.print(f"{name}: {time.time() - started:.0f} s", style="dim")
    chosen.append(max(lessons, key=lambda name: mean(lessons[name], x[check], y[check])))
    candidates |= lessons
    # From here on nothing is decided: the test images are read.
    test_x, test_y = test()
    accuracy = float(np.mean(model(test_x).numpy().argmax(axis=1) == test_y))
    table = Table("way", "units", *map(str, range(10)), "mean", "least", "held out")
    for name, models in candidates.items():
        each = balanced(models, test_x, test_y)
        table.add_row(
            f"[b]{name}[/b]" if name in chosen else name,
            "1000" if name.startswith("parent") else str(sum(counts)),
            *(f"{value:.3f}" for value in each),
            f"{np.mean(each):.4f}",
            f"{min(each):.3f}",
            f"{mean(models, x[check], y[check]):.4f}",
        )
    console.print(
        f"{title}: parent's accuracy {accuracy:.4f} on {len(test_y)} test images; "
        f"repairs fitted on {args.fit:,};"
    )
    console.print(f"units {list(counts)}; balanced accuracy of each label's network; bold: chosen")
    console.print("on 10,000 held-out training images, before the test images were read")
    console.print(table)


def alone(model, label: int):
    """Return a function that gives the parent's probability of one label."""
    return lambda x: model.predict(x, batch_size=1000, verbose=0)[:, [label]]


def at_best(models, x, y):
    """Move the answers of yes/no models so that 0.5 is their best balanced accuracy on images."""
    found = []
    for label, model in enumerate(models):
        false, true, edges = roc_curve(y == label, answers_of(model, x)[:, 0])
        edge = edges[1:][np.argmax((true - false)[1:])]
        found.append(lambda new, m=model, e=edge: 0.5 + answers_of(m, new) - e)
    return found


def answers_of(model, x):
    """Return what a model, or a function, answers."""
    if isinstance(model, keras.Model):
        return model.predict(x, batch_size=1000, verbose=0)
    return model(x)


def distilled(small, model, x, y, rate: float, alpha: float) -> keras.Model:
    """Give a network one epoch of distillation on nine tenths of the images, judged on the rest."""
    steps = round(0.9 * len(x)) // BATCH
    adam = keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(rate, steps))
    return nns.distill(
        small, model, (x, y), epochs=1, alpha=alpha, optimizer=adam, batch_size=BATCH, seed=SEED
    ).model


def balanced(models, x, y) -> list[float]:
    """Balanced accuracy of each label's network at its own question."""
    found = []
    for label, model in enumerate(models):
        answers = answers_of(model, x)
        said = answers[:, 0] >= 0.5 if answers.shape[1] == 1 else answers.argmax(axis=1) == label
        found.append((said[y == label].mean() + (~said[y != label]).mean()) / 2)
    return found


def mean(models, x, y) -> float:
    return float(np.mean(balanced(models, x, y)))


def merged(console: Console, args, model, x, y, test) -> None:
    """All ten labels in one network, at most 23 units."""
    fit, train, check = slice(None, args.fit), slice(None, TRAIN), slice(TRAIN, None)
    activity = nns.observe(model, (x[fit], y[fit]))
    forward = nns.scores.forward_selection(model, (x[fit], y[fit]))
    joint = nns.scores.forward_selection(model, (x[fit], y[fit]), jointly=True)
    ways = {
        "paper's rule": (nns.merge(nns.select(activity, "each", keep=nns.above(ZETA))), []),
    }
    together = nns.scores.reconstruction(model, (x[fit], y[fit]), labels=range(10))
    plans = {
        "contrast": union(activity, nns.scores.contrast, 23),
        "forward selection": union(activity, forward, 23),
        "joint forward selection": nns.select(activity, "all", score=joint, keep=nns.top(23)),
        "reconstruction": nns.select(activity, "all", score=together, keep=nns.top(23)),
    }
    for name, plan in plans.items():
        ways[f"{name}, least squares"] = (plan, [nns.steps.least_squares()])
        ways[f"{name}, multinomial head"] = (plan, [nns.steps.calibrate_head()])
    models = {}
    for name, (plan, steps) in ways.items():
        small = nns.cut(model, plan)
        data = (x[fit], y[fit])
        models[name] = nns.repair(small, model, data, steps=steps).model if steps else small
    units = {name: len(plan.kept["hidden"]) for name, (plan, _) in ways.items()}
    chosen = [max(models, key=lambda name: accuracy(models[name], x[check], y[check]))]
    lessons = {}
    for rate, alpha in LESSONS:
        name = f"{chosen[0]}; one epoch, rate {rate:g}, parent's share {alpha:g}"
        lessons[name] = distilled(models[chosen[0]], model, x[train], y[train], rate, alpha)
        units[name] = units[chosen[0]]
    chosen.append(max(lessons, key=lambda name: accuracy(lessons[name], x[check], y[check])))
    models |= lessons
    test_x, test_y = test()
    table = Table("merged", "units", "test accuracy", "held out")
    table.add_row("parent", "100", f"{accuracy(model, test_x, test_y):.4f}", "")
    for name, small in models.items():
        table.add_row(
            f"[b]{name}[/b]" if name in chosen else name,
            str(units[name]),
            f"{accuracy(small, test_x, test_y):.4f}",
            f"{accuracy(small, x[check], y[check]):.4f}",
        )
    console.print(table)


def union(activity, score, most: int):
    """Take each label's best units, one more each time, while they fit."""
    best = None
    for count in range(1, most + 1):
        plan = nns.merge(nns.select(activity, "each", score=score, keep=nns.top(count)))
        if len(plan.kept["hidden"]) > most:
            break
        best = plan
    return best


def accuracy(model, x, y) -> float:
    return float(np.mean(model.predict(x, batch_size=1000, verbose=0).argmax(axis=1) == y))


def main() -> None:
    args = arguments()
    console = Console(width=150)
    mnist = load_dataset(args.data / "mnist")
    x, y = mnist.x_train.reshape(-1, 784), mnist.y_train

    def test():
        return mnist.x_test.reshape(-1, 784), mnist.y_test

    if args.model in ("paper", "both"):
        model = papers(args.data)
        bench(console, args, "The paper's weights", model, PAPERS_UNITS, x, y, test)
        merged(console, args, model, x, y, test)
    if args.model in ("trained", "both"):
        model = trained(x[:TRAIN], y[:TRAIN])
        bench(console, args, "784-100-10 trained here", model, [UNITS] * 10, x, y, test)


if __name__ == "__main__":
    main()
