"""Small subnetworks of a Fashion-MNIST network: ours beside other criteria and beside training.

    python benchmarks/fashion_curves.py [--data FOLDER] [--cache FOLDER]
        [--only one|three] [--shares 0.1 0.05 0.25]
    python benchmarks/fashion_curves.py --quick      # three points
    python benchmarks/fashion_curves.py --choose     # what ours is made of, on training images

FOLDER (or the environment variable KERAS_NNS_DATA) holds `fashion_mnist/` with the four IDX files.
With `torch` and `torch-pruning` installed, their Taylor criterion runs on the same weights; without
them its row is left out.

The parent is a residual CNN with batch norms, trained here on 50,000 training images. For every
label, and for ten sets of three labels drawn at random, each way makes a network of at most 25, 10
and 5 % of the parent's parameters that says which of the labels an image shows, or another. The
figure is balanced accuracy: the mean recall of its answers.

All ways see the same 3,000 training images.

- Without gradient steps: `ours` is a score, least squares layer by layer, and a refitted head.
  Magnitude, random, the paper's rule and Torch-Pruning's Taylor are cut as they are. One-label
  networks of all ways have their operating point set on the seen images. Whether magnitude, random
  and Taylor compare units within layers or over the network is chosen for each point on 5,000 other
  training images; the test images are read by what was chosen.
- With gradient steps: `ours` after `distill`, beside the same shape trained from scratch on the
  same images for the same number of steps. The rate of either is one of three, chosen for each
  point on the 5,000 other images.

Results are kept in the cache folder after each point, so that a run that was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import fashion_nets as nets
import keras
import numpy as np
from rich.console import Console
from rich.table import Table
from scipy.special import logsumexp

import keras_nns as nns
from keras_nns.data.named import load_dataset

try:
    import torch
    import torch_pruning  # noqa: F401
except ImportError:
    torch = None

SEED = 0
TRAIN, SEEN, CHECK, EPOCHS = 50_000, 3_000, 5_000, 5
SHARES = (0.1, 0.05, 0.25)
BATCH, HELD_OUT, STEPS_EPOCHS = 64, 0.1, 2
WITHIN, OVER = {}, {"scope": "global", "normalise": "mean"}
OUR_SCORE, OUR_SCOPE = "forward_selection", WITHIN
RATES = (0.008, 0.016, 0.032)
CHOOSE = (((6,), 0.05), ((2, 5, 6), 0.1), ((2,), 0.25))
OURS = "ours"
STEPS = "ours, then distilled"
SCRATCH = "same shape from scratch"

Labels = tuple[int, ...]
Widths = Mapping[str, int]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("KERAS_NNS_DATA", ""))
    parser.add_argument("--cache", type=Path, default=Path("build/fashion_curves"))
    parser.add_argument("--only", choices=("one", "three"), help="sets of one label, or of three")
    parser.add_argument("--shares", type=float, nargs="+", default=SHARES)
    parser.add_argument("--quick", action="store_true", help="two labels and one set, at 10 %%")
    parser.add_argument("--choose", action="store_true", help="compare scores on training images")
    args = parser.parse_args()
    args.data = Path(args.data)
    if not (args.data / "fashion_mnist").is_dir():
        parser.error("pass --data FOLDER, or set KERAS_NNS_DATA")
    return args


def label_sets() -> list[Labels]:
    random = np.random.default_rng(SEED)
    triples: set[Labels] = set()
    while len(triples) < 10:
        triples.add(tuple(sorted(random.choice(10, 3, replace=False).tolist())))
    return [(label,) for label in range(10)] + sorted(triples)


@dataclass(frozen=True)
class Part:
    """Images with labels."""

    x: np.ndarray
    y: np.ndarray

    def truth(self, labels: Labels) -> np.ndarray:
        """Return which answer is right: the place of its label, or one more for another."""
        truth = np.full(len(self.y), len(labels))
        for place, label in enumerate(labels):
            truth[self.y == label] = place
        return truth


def recalls(said: np.ndarray, truth: np.ndarray) -> float:
    return float(np.mean([(said[truth == a] == a).mean() for a in np.unique(truth)]))


def point(odds: np.ndarray, own: np.ndarray) -> float:
    """Return where to say yes for the best balanced accuracy."""
    order = np.argsort(odds)
    gain = np.cumsum(~own[order]) / (~own).sum() - np.cumsum(own[order]) / own.sum()
    best = int(np.argmax(gain))
    return float((odds[order[best]] + odds[order[min(best + 1, len(order) - 1)]]) / 2)


class Network:
    """A network that answers which of the labels it sees, or another."""

    def __init__(self, model: keras.Model, labels: Labels) -> None:
        self.model, self.labels = model, labels
        self.bar: float | None = None

    def set_point(self, part: Part) -> Network:
        """Set the operating point of a one-label network."""
        if len(self.labels) == 1:
            self.bar = point(self._odds(part.x), part.truth(self.labels) == 0)
        return self

    def balanced(self, part: Part) -> float:
        if len(self.labels) == 1:
            said = (self._odds(part.x) <= (self.bar or 0.0)).astype(int)
        else:
            said = self._answers(part.x).argmax(axis=1)
        return recalls(said, part.truth(self.labels))

    def _odds(self, x: np.ndarray) -> np.ndarray:
        answers = self._answers(x)
        return answers[:, 0] - (answers[:, 1] if answers.shape[1] > 1 else 0.0)

    def _answers(self, x: np.ndarray) -> np.ndarray:
        """Return log-probabilities but for a constant; from logits, so that none is 0 or 1."""
        logits = self.logits(x)
        if logits.shape[1] != 10:
            return logits
        rest = [label for label in range(10) if label not in self.labels]
        others = logsumexp(logits[:, rest], axis=1)
        return np.column_stack([logits[:, list(self.labels)], others])

    def logits(self, x: np.ndarray) -> np.ndarray:
        last = self.model.layers[-1]
        reader = keras.Model(self.model.inputs, last.input)
        read = [np.asarray(reader(x[i : i + 2500], training=False)) for i in range(0, len(x), 2500)]
        kernel, bias = last.get_weights()
        return np.concatenate(read).astype(float) @ kernel + bias


class Bench:
    """The parent, and what was seen of it once."""

    def __init__(self, data: Any, cache: Path, console: Console) -> None:
        order = np.random.default_rng(SEED).permutation(len(data.x_train))
        x, y = data.x_train[order], data.y_train[order]
        self.seen = Part(x[:SEEN], y[:SEEN])
        self.check = Part(x[TRAIN : TRAIN + CHECK], y[TRAIN : TRAIN + CHECK])
        self.test = Part(data.x_test, data.y_test)
        file = cache / "parent.keras"
        if not file.exists():
            started = time.time()
            trained(x[:TRAIN], y[:TRAIN]).save(file)
            console.print(f"parent trained in {time.time() - started:.0f} s", style="dim")
        self.model = keras.models.load_model(file)

    @cached_property
    def activity(self) -> nns.Activity:
        statistics = ["fired", "mean", "variance"]
        return nns.observe(self.model, (self.seen.x, self.seen.y), statistics=statistics)

    @cached_property
    def scores(self) -> dict[str, Any]:
        seen = self.seen.x, self.seen.y
        made = {
            "magnitude": nns.scores.magnitude(self.model),
            "random": nns.scores.random_units(SEED),
            "contrast": nns.scores.contrast,
            "d_prime": nns.scores.d_prime,
            "forward_selection": nns.scores.forward_selection(self.model, seen),
            "taylor": nns.scores.taylor(nns.observe_gradients(self.model, seen)),
        }
        # Computed once: what is searched for is how much to keep.
        return {name: _once(score(self.activity)) for name, score in made.items()}

    @cached_property
    def twin(self) -> Any:
        torch.set_num_threads(1)
        net = nets.twin(self.model)
        x = self.seen.x[:200]
        with torch.no_grad():
            theirs = net(torch.from_numpy(x.transpose(0, 3, 1, 2).copy())).exp().numpy()
        assert np.abs(theirs - np.asarray(self.model(x))).max() < 1e-4
        return net

    def widths(self, plan: nns.Plan) -> dict[str, int]:
        return {name: len(plan.kept[self.group(layer)]) for name, layer in nets.MADE_BY.items()}

    def group(self, layer: str) -> str:
        groups = self.activity.layout.groups
        return next(g.name for g in groups if layer in [m.layer for m in g.members])

    # Ways to choose units ---------------------------------------------------------------------

    def fitting(self, choose: Callable[[float], nns.Plan], share: float) -> nns.Plan:
        """Search how much to keep, for the largest network within the share of parameters."""
        most = share * nets.size(nets.WIDTHS)
        low, high, best = 0.0, 1.0, None
        for _ in range(8):
            middle = (low + high) / 2
            plan = choose(middle)
            if nets.size(self.widths(plan)) <= most:
                low, best = middle, plan
            else:
                high = middle
        assert best is not None, "not even the smallest fits"
        return best

    def by_score(self, labels: Labels, share: float, score: str, **scope: Any) -> nns.Plan:
        return self.fitting(
            lambda part: nns.select(
                self.activity, labels, score=self.scores[score], keep=nns.fraction(part, **scope)
            ),
            share,
        )

    def by_paper(self, labels: Labels, share: float) -> nns.Plan:
        return self.fitting(
            lambda part: nns.select(self.activity, labels, keep=nns.above(1 - part)), share
        )

    def by_torch(self, labels: Labels, share: float, *, everywhere: bool) -> nns.Plan:
        """Let Torch-Pruning choose; its channels as a plan, so that all ways are cut alike."""
        whole = nns.select(self.activity, labels, keep=nns.fraction(1.0))
        nets.accumulate(self.twin, self.seen.x, self.seen.y, labels)

        def choose(part: float) -> nns.Plan:
            _, left = nets.pruned(self.twin, 1 - part, everywhere=everywhere)
            kept = {
                self.group(layer): tuple(left[layer].tolist()) for layer in nets.MADE_BY.values()
            }
            return _with_kept(whole, kept)

        return self.fitting(choose, share)

    def plans(self, labels: Labels, share: float) -> dict[str, list[nns.Plan]]:
        """Return the plans of every way, one for each of its variants."""
        made = {
            name: [self.by_score(labels, share, name, **scope) for scope in (WITHIN, OVER)]
            for name in ("magnitude", "random")
        }
        made["paper's rule"] = [self.by_paper(labels, share)]
        if torch is not None:
            made["Torch-Pruning's Taylor"] = [
                self.by_torch(labels, share, everywhere=everywhere) for everywhere in (False, True)
            ]
        made[OURS] = [self.by_score(labels, share, OUR_SCORE, **OUR_SCOPE)]
        return made

    # What is made of a plan -------------------------------------------------------------------

    def cut(self, plan: nns.Plan, labels: Labels) -> Network:
        return Network(nns.cut(self.model, plan), labels).set_point(self.seen)

    def repaired(self, plan: nns.Plan, labels: Labels) -> Network:
        small = nns.cut(self.model, plan, head="binary" if len(labels) == 1 else "other")
        seen = self.seen.x, self.seen.y
        steps = [nns.steps.least_squares(balance=True), nns.steps.calibrate_head()]
        fixed = nns.repair(small, self.model, seen, steps=steps, held_out=HELD_OUT, seed=SEED)
        return Network(fixed.model, labels)

    def distilled(self, network: Network, rate: float) -> Network:
        seen = self.seen.x, self.seen.y
        after = nns.distill(
            network.model,
            self.model,
            seen,
            optimizer=falling(rate),
            epochs=STEPS_EPOCHS,
            batch_size=BATCH,
            held_out=HELD_OUT,
            seed=SEED,
        )
        return Network(after.model, network.labels).set_point(self.seen)

    def from_scratch(self, widths: Widths, labels: Labels, rate: float) -> Network:
        """Train the same shape on the same images, answers drawn equally often, as `distill`."""
        keras.utils.set_random_seed(SEED)
        single = len(labels) == 1
        # Few steps: a momentum of 0.99 would leave the statistics where they began.
        net = nets.network(widths, answers=1 if single else len(labels) + 1, momentum=0.9)
        count = steps_taken()
        loss = "binary_crossentropy" if single else "sparse_categorical_crossentropy"
        net.compile(falling(rate), loss)
        truth = self.seen.truth(labels)
        random = np.random.default_rng(SEED)
        weights = (1 / np.bincount(truth))[truth]
        drawn = random.choice(len(truth), count * BATCH, p=weights / weights.sum())
        wanted = (truth == 0).astype("float32") if single else truth
        net.fit(self.seen.x[drawn], wanted[drawn], batch_size=BATCH, verbose=0, shuffle=False)
        return Network(net, labels).set_point(self.seen)

    def best(self, networks: Sequence[Network]) -> Network:
        """Choose among variants, on images that none was made from."""
        return max(networks, key=lambda network: network.balanced(self.check))

    def at(self, labels: Labels, share: float) -> dict[str, Any]:
        """Make every network of one point; the test images are read by those that were chosen."""
        made: dict[str, Network] = {}
        for name, plans in self.plans(labels, share).items():
            if name == OURS:
                made[name] = self.repaired(plans[0], labels)
                shape = self.widths(plans[0])
            else:
                made[name] = self.best([self.cut(p, labels) for p in plans])
        made[STEPS] = self.best([self.distilled(made[OURS], rate) for rate in RATES])
        made[SCRATCH] = self.best([self.from_scratch(shape, labels, rate) for rate in RATES])
        return {
            name: {"test": network.balanced(self.test), "size": network.model.count_params()}
            for name, network in made.items()
        }


def _once(values: Any) -> Callable[[Any], Any]:
    return lambda _: values


def _with_kept(plan: nns.Plan, kept: Mapping[str, tuple[int, ...]]) -> nns.Plan:
    return replace(plan, kept=dict(kept), choices=())


def falling(rate: float) -> keras.optimizers.Optimizer:
    """Return Adam with a rate that falls to zero along a cosine, over the steps of `distill`."""
    return falling_over(rate, steps_taken())


def falling_over(rate: float, steps: int) -> keras.optimizers.Optimizer:
    """Return Adam with a rate that falls to zero along a cosine."""
    return keras.optimizers.Adam(keras.optimizers.schedules.CosineDecay(rate, steps))


def steps_taken() -> int:
    """Gradient steps of `distill` over the seen images less those held out."""
    return STEPS_EPOCHS * -(-round(SEEN * (1 - HELD_OUT)) // BATCH)


def trained(x, y) -> keras.Model:
    keras.utils.set_random_seed(SEED)
    model = nets.network()
    rate = keras.optimizers.schedules.CosineDecay(3e-3, EPOCHS * len(x) // 128)
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy")
    model.fit(x, y, batch_size=128, epochs=EPOCHS, verbose=0)
    return model


def show(
    console: Console, bench: Bench, known: Mapping[str, Any], points: Sequence[tuple[Labels, float]]
) -> None:
    """Print the curves: mean and least over sets, and at how many points ours is above."""
    parent = Network(bench.model, (0,))
    logits = parent.logits(bench.test.x)
    right = float((logits.argmax(axis=1) == bench.test.y).mean())
    whole = nets.size(nets.WIDTHS)
    console.print(
        f"Parent: {whole:,} parameters, accuracy {right:.4f} on {len(bench.test.y):,} test images; "
        f"{SEEN:,} training images seen; {steps_taken()} gradient steps of {BATCH}; seed {SEED}."
    )
    for size, title in ((1, "one label"), (3, "three labels")):
        table = Table("way", title=f"Balanced accuracy, {title}: mean (least) over sets")
        shares = sorted({share for labels, share in points if len(labels) == size}, reverse=True)
        for share in shares:
            table.add_column(f"{share:.0%} of parameters")
            table.add_column("ours above at")
        rows: dict[str, list[str]] = {}
        for share in shares:
            sets = [key(labels, s) for labels, s in points if len(labels) == size and s == share]
            for name in known[sets[0]]:
                found = np.array([known[k][name]["test"] for k in sets])
                ours = STEPS if name == SCRATCH else OURS
                own = np.array([known[k][ours]["test"] for k in sets])
                said = "" if name in (OURS, STEPS) else f"{(own > found).sum()} of {len(sets)}"
                rows.setdefault(name, []).extend((f"{found.mean():.3f} ({found.min():.3f})", said))
            restricted = [
                Network(bench.model, labels)
                for labels, s in points
                if len(labels) == size and s == share
            ]
            held = np.array([net.set_point(bench.seen).balanced(bench.test) for net in restricted])
            rows.setdefault("the parent, restricted", []).extend(
                (f"{held.mean():.3f} ({held.min():.3f})", "")
            )
        for name, cells in rows.items():
            table.add_row(name, *cells)
        console.print(table)


def choose(console: Console, bench: Bench) -> None:
    """Compare what ours could be made of, on training images that no network was made from."""
    table = Table("score", "scope", *(key(*at) for at in CHOOSE), title="cut / repaired")
    for name in bench.scores:
        for scope in (WITHIN, OVER):
            cells = []
            for labels, share in CHOOSE:
                plan = bench.by_score(labels, share, name, **scope)
                found = (bench.cut(plan, labels), bench.repaired(plan, labels))
                cells.append(" / ".join(f"{net.balanced(bench.check):.3f}" for net in found))
            table.add_row(name, scope.get("scope", "layer"), *cells)
    console.print(table)


def key(labels: Labels, share: float) -> str:
    return f"labels {' '.join(map(str, labels))} at {share:.0%}"


def main() -> None:
    args = arguments()
    args.cache.mkdir(parents=True, exist_ok=True)
    console = Console(width=140)
    bench = Bench(load_dataset(args.data / "fashion_mnist"), args.cache, console)
    if args.choose:
        choose(console, bench)
        return
    sets, shares = label_sets(), args.shares
    if args.quick:
        sets, shares = [sets[2], sets[6], sets[12]], (0.1,)
    if args.only is not None:
        sets = [labels for labels in sets if len(labels) == (1 if args.only == "one" else 3)]
    # Each size for all sets before the next, so that what is there is a curve's point.
    points = [(labels, share) for share in shares for labels in sets]
    known = {}
    for labels, share in points:
        name = key(labels, share)
        file = args.cache / f"{name}.json"
        if not file.exists():
            started = time.process_time()
            file.write_text(json.dumps(bench.at(labels, share), indent=1))
            keras.backend.clear_session()
            console.print(f"{name}: {time.process_time() - started:.0f} s", style="dim")
        known[name] = json.loads(file.read_text())
    show(console, bench, known, points)


if __name__ == "__main__":
    main()
