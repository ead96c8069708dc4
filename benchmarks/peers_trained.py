"""Subnetworks for some labels, beside pruners that fine-tune between steps and training at length.

    pip install -e . torch==2.13.0 torch-pruning==1.6.1 torch-kirigami==0.2.1
    python benchmarks/peers_trained.py [--data FOLDER] [--sets 5] [--shares 0.25 0.1] [--seeds 0 1]

FOLDER (or the environment variable KERAS_NNS_DATA) holds `fashion_mnist/` with the four IDX files.
The parent is the residual CNN of `fashion_curves.py`, trained on 50,000 images. For pairs of labels
drawn at random, each way makes a network of at most a share of the parent's parameters that says
which of the two an image shows, or another. The figure is balanced accuracy on the test images, the
mean recall of the three answers; its 95 % interval is by bootstrap over images.

All ways see the same 3,000 training images, others with each seed. What a way leaves open is chosen
for each cell on 5,000 further training images; test images are read by what was chosen.

- `extract`: as it is, five epochs of its distillation; nothing is chosen.
- Torch-Pruning: Taylor of the loss "which of the labels, or another", five steps to the size with
  an epoch of fine-tuning behind each, then five more epochs; over the network or within layers, and
  one of three rates.
- torch-kirigami: its Taylor and its parameter budget in one step, which takes it minutes, and ten
  epochs; one of three rates.
- The shape that `extract` found, from scratch: fifty epochs, ten times its gradient steps, answers
  drawn equally often; one of three rates.
"""

from __future__ import annotations

import argparse
import copy
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import fashion_nets as nets
import keras
import numpy as np
from fashion_curves import SEED, TRAIN, Part, falling_over, trained
from timing import machine

import keras_nns as nns
from keras_nns.data.named import load_dataset

MISSING = ""
try:
    import torch
    import torch_kirigami
    import torch_pruning as tp
    from torch_kirigami import pruning
except ModuleNotFoundError as error:
    # --help works without.
    MISSING = f"{error}. pip install torch==2.13.0 torch-pruning==1.6.1 torch-kirigami==0.2.1"

SEEN, CHECK, BATCH = 3_000, 5_000, 64
EPOCHS, STEPS, LONGER = 5, 5, 10
RATES = (0.001, 0.003, 0.01)

Labels = tuple[int, ...]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("KERAS_NNS_DATA", ""))
    parser.add_argument("--sets", type=int, default=5, help="pairs of labels")
    parser.add_argument("--shares", type=float, nargs="+", default=(0.25, 0.1))
    parser.add_argument("--seeds", type=int, nargs="+", default=(0,))
    args = parser.parse_args()
    args.data = Path(args.data)
    if not (args.data / "fashion_mnist").is_dir():
        parser.error("pass --data FOLDER, or set KERAS_NNS_DATA")
    if MISSING:
        raise SystemExit(MISSING)
    return args


def balanced(said: np.ndarray, truth: np.ndarray) -> float:
    return float(np.mean([(said[truth == a] == a).mean() for a in np.unique(truth)]))


def drawn(truth: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Return places of images, each answer as often as any other."""
    weights = (1 / np.bincount(truth))[truth]
    return np.random.default_rng(seed).choice(len(truth), count, p=weights / weights.sum())


# Networks of PyTorch ------------------------------------------------------------------------------


def given(x: np.ndarray) -> Any:
    return torch.from_numpy(np.ascontiguousarray(x.transpose(0, 3, 1, 2)))


def answers(scores: Any, labels: Labels) -> Any:
    """Return log-probabilities of each label, and of another."""
    rest = [label for label in range(10) if label not in labels]
    others = torch.logsumexp(scores[:, rest], dim=1, keepdim=True)
    return torch.cat([scores[:, list(labels)], others], dim=1)


def says(net: Any, labels: Labels, x: np.ndarray) -> np.ndarray:
    net.eval()
    with torch.no_grad():
        parts = [answers(net(given(x[i : i + 2500])), labels) for i in range(0, len(x), 2500)]
    return torch.cat(parts).argmax(1).numpy()


def tune(net: Any, labels: Labels, seen: Part, *, epochs: int, rate: float, seed: int) -> None:
    """Fine-tune, the rate falling as a half cosine; answers are drawn equally often."""
    truth = seen.truth(labels)
    count = epochs * (len(truth) // BATCH)
    places = drawn(truth, count * BATCH, seed)
    optimizer = torch.optim.Adam(net.parameters(), rate)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, count)
    net.train()
    for start in range(0, len(places), BATCH):
        batch = places[start : start + BATCH]
        found = answers(net(given(seen.x[batch])), labels)
        loss = torch.nn.functional.nll_loss(found, torch.from_numpy(truth[batch]))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        falling.step()
    net.eval()


def size(net: Any) -> int:
    """Count parameters as Keras does: statistics of batch norms are among them."""
    norms = [m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    return sum(p.numel() for p in net.parameters()) + sum(2 * m.num_features for m in norms)


def sizes_of(share: float, steps: int) -> list[int]:
    """Return the most parameters behind each step, each the same share of the one before."""
    whole = nets.size(nets.WIDTHS)
    return [int(whole * share ** (step / steps)) for step in range(1, steps + 1)]


def by_torch_pruning(net: Any, most: int, *, everywhere: bool) -> Any:
    """Remove the least by Taylor, as much as is needed for a size."""

    def left(ratio: float) -> Any:
        small = copy.deepcopy(net)
        for own, theirs in zip(small.parameters(), net.parameters(), strict=True):
            own.grad = theirs.grad.clone()
        pruner = tp.pruner.BasePruner(
            small,
            torch.zeros(1, 1, 28, 28),
            importance=tp.importance.GroupTaylorImportance(),
            global_pruning=everywhere,
            pruning_ratio=ratio,
            ignored_layers=[small.answer],
        )
        pruner.step()
        return small

    low, high, best = 0.0, 1.0, None
    for _ in range(8):
        middle = (low + high) / 2
        small = left(middle)
        if size(small) <= most:
            high, best = middle, small
        else:
            low = middle
    assert best is not None, "not even the smallest fits"
    return best


def by_kirigami(net: Any, most: int) -> Any:
    """Remove the least by Taylor, until a size is reached."""
    budget = most
    while True:
        small = copy.deepcopy(net)
        for own, theirs in zip(small.parameters(), net.parameters(), strict=True):
            own.grad = theirs.grad.clone()
        graph = torch_kirigami.DependencyGraph.build(small, args=(torch.zeros(1, 1, 28, 28),))
        pruner = pruning.Pruner(small, graph=graph)
        small, _ = pruner.prune(
            pruner.discover_candidates(),
            budget=pruning.ParameterBudget(max_params=budget),
            strategy=pruning.Greedy(pruning.WeightTaylor()),
        )
        over = size(small) - most  # Its budget leaves statistics of batch norms out.
        if over <= 0:
            return small
        budget -= over


def in_steps(
    net: Any, labels: Labels, seen: Part, share: float, *, rate: float, everywhere: bool, seed: int
) -> Any:
    """Prune by Torch-Pruning and fine-tune in turn."""
    for step, most in enumerate(sizes_of(share, STEPS)):
        nets.accumulate(net.eval(), seen.x, seen.y, labels)
        net = by_torch_pruning(net, most, everywhere=everywhere)
        tune(net, labels, seen, epochs=1, rate=rate, seed=seed * 100 + step)
    tune(net, labels, seen, epochs=EPOCHS, rate=rate, seed=seed * 100 + 99)
    return net


# Cells --------------------------------------------------------------------------------------------


def cell(model: Any, labels: Labels, share: float, parts: Sequence[Part], seed: int) -> None:
    seen, check, test = parts
    twin = nets.twin(model)
    truth = {id(part): part.truth(labels) for part in parts}
    made: dict[str, tuple[Callable[[np.ndarray], np.ndarray], int]] = {}
    times: dict[str, float] = {}

    def chosen(name: str, tries: Sequence[Callable[[], Any]], say: Any, count: Any) -> Any:
        """Make each, and keep the best on images that none was made from."""
        started = time.process_time()
        found = [one() for one in tries]
        right = [balanced(say(net, check.x), truth[id(check)]) for net in found]
        best = found[int(np.argmax(right))]
        made[name] = (lambda x: say(best, x)), count(best)
        times[name] = time.process_time() - started
        return best

    def by_keras(net: Any, x: np.ndarray) -> np.ndarray:
        return np.asarray(net.predict(x, batch_size=1000, verbose=0)).argmax(1)

    def extracted() -> Any:
        return nns.extract(
            model,
            (seen.x, seen.y),
            labels=list(labels),
            budget=nns.Budget(parameters=sizes_of(share, 1)[0]),
            head="other",
            distill_epochs=EPOCHS,
            seed=seed,
            verbose=False,
        ).model

    def by_torch(net: Any, x: np.ndarray) -> np.ndarray:
        return says(net, labels, x)

    small = chosen("extract", [extracted], by_keras, lambda net: net.count_params())
    pruners = [
        lambda rate=rate, everywhere=everywhere: in_steps(
            copy.deepcopy(twin),
            labels,
            seen,
            share,
            rate=rate,
            everywhere=everywhere,
            seed=seed,
        )
        for rate in RATES
        for everywhere in (False, True)
    ]
    chosen("Torch-Pruning", pruners, by_torch, size)
    nets.accumulate(twin, seen.x, seen.y, labels)
    started = time.process_time()
    folded = by_kirigami(twin, sizes_of(share, 1)[0])
    took = time.process_time() - started

    def tuned(rate: float) -> Any:
        net = copy.deepcopy(folded)
        tune(net, labels, seen, epochs=EPOCHS + STEPS, rate=rate, seed=seed * 100 + 99)
        return net

    tries = [lambda rate=rate: tuned(rate) for rate in RATES]
    chosen("torch-kirigami", tries, by_torch, size)
    times["torch-kirigami"] += took

    def scratch(rate: float) -> Any:
        keras.utils.set_random_seed(seed)
        net = type(small).from_config(small.get_config())
        for layer in net.layers:
            if hasattr(layer, "momentum"):
                layer.momentum = 0.9
        batches = len(seen.x) // BATCH * EPOCHS * LONGER
        places = drawn(truth[id(seen)], batches * BATCH, seed)
        net.compile(falling_over(rate, batches), "sparse_categorical_crossentropy")
        y = truth[id(seen)]
        net.fit(seen.x[places], y[places], batch_size=BATCH, verbose=0, shuffle=False)
        return net

    tries = [lambda rate=rate: scratch(rate) for rate in RATES]
    chosen("from scratch, ten times as long", tries, by_keras, lambda net: net.count_params())

    rng = np.random.default_rng(0)
    resampled = rng.integers(0, len(test.x), (200, len(test.x)))
    whole = truth[id(test)]
    line = [f"{labels} {share:.0%} seed {seed}"]
    for name, (say, count) in made.items():
        said = say(test.x)
        spread = [balanced(said[one], whole[one]) for one in resampled]
        half = (np.quantile(spread, 0.975) - np.quantile(spread, 0.025)) / 2
        line.append(
            f"{name} {balanced(said, whole):.4f} ± {half:.4f} ({count:,}; {times[name]:.0f} s)"
        )
    print(" | ".join(line), flush=True)


def main() -> None:
    args = arguments()
    torch.set_num_threads(1)
    print(machine(), flush=True)
    data = load_dataset(args.data / "fashion_mnist")
    order = np.random.default_rng(SEED).permutation(len(data.x_train))
    x, y = data.x_train[order], data.y_train[order]
    keras.utils.set_random_seed(SEED)
    model = trained(x[:TRAIN], y[:TRAIN])
    print(f"parent: {model.count_params():,} parameters", flush=True)
    random = np.random.default_rng(SEED + 1)
    sets = [tuple(sorted(random.choice(10, 2, replace=False).tolist())) for _ in range(args.sets)]
    check = Part(x[TRAIN : TRAIN + CHECK], y[TRAIN : TRAIN + CHECK])
    test = Part(data.x_test, data.y_test)
    for seed in args.seeds:
        places = np.random.default_rng(100 + seed).choice(TRAIN, SEEN, replace=False)
        seen = Part(x[places], y[places])
        for labels in sets:
            for share in args.shares:
                cell(model, labels, share, (seen, check, test), seed)


if __name__ == "__main__":
    main()
