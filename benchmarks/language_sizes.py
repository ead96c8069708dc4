"""SmolLM2 cut for Python code by every score at every size, without gradient steps, in one run.

    python benchmarks/language_sizes.py [--windows 12] [--shares 0.9,0.8,…] [--refit 0.8]

Needs what `smollm2.py` names. Perplexity of windows of 128 tokens of code, held out by file; in
brackets of the parent's. Seeds fixed.
"""

from __future__ import annotations

import argparse
import time

import keras
import numpy as np
import smollm2

import keras_nns as nns
from keras_nns.extraction.language_sizes import Sizes
from keras_nns.graph.tracing import trace

RIDGE = 3.0
"""Of the refits of `sizes`: between 1, which the choice by halves of the text takes for projections
behind hidden units, and 10, which it takes behind attention. Given, a refit takes half the time."""


def sizes(windows: int, shares: list[float], refit: list[float]) -> None:
    """Take units out down to shares of the decoder, by every score, without gradient steps.

    Whole blocks by block influence; hidden units, the same number in every block, by the scores of
    the field; heads and hidden units of all blocks by branch reconstruction, and what is left
    refitted. Units that are gone are silenced in the parent, which equals the cut, so that all are
    judged by one compiled step. Everything is chosen on windows of code that nothing is judged on.
    """
    model, tokenizer = smollm2.read()
    seen = smollm2.inputs(smollm2.windows(tokenizer, "code", 4 * windows, held_out=False))
    kinds = np.zeros(4 * windows, int)
    held = {k: smollm2.windows(tokenizer, k, windows, held_out=True) for k in smollm2.KINDS}
    told = {"label_names": ["code"], "batch_size": 4}
    statistics = ["mean", "mean_square"]
    activity = nns.observe(model, (seen, kinds), statistics=statistics, verbose=False, **told)
    start = time.perf_counter()
    ours = nns.scores.branch_reconstruction(model, (seen, kinds), **told)
    print(f"branch reconstruction scored in {time.perf_counter() - start:.0f} s", flush=True)
    scores = {
        "random": nns.scores.random_units(0),
        "magnitude": nns.scores.magnitude(model),
        "Wanda": nns.scores.wanda(model),
        "FLAP": nns.scores.fluctuation(model, (seen, kinds), **told),
        "branch reconstruction": ours,
    }
    judge = Silenced(smollm2.read()[0])
    parent = judge.perplexity(held["code"])
    print(f"parent | code {parent:.2f}", flush=True)
    group_sizes = {group.name: group.size for group in activity.layout.prunable}
    whole, tables = model.count_params(), model.backbone.token_embedding.count_params()
    decoder = whole - tables
    each = 3 * model.backbone.hidden_dim
    names = [name for name in group_sizes if name.endswith(":hidden")]
    for share in shares:
        left = 1 - (1 - share) * decoder / (each * sum(group_sizes[name] for name in names))
        for title, score in scores.items():
            keep = nns.uniform(nns.fraction(left))
            plan = nns.select(activity, "code", score=score, keep=keep, groups="*:hidden")
            found = judge.perplexity(held["code"], plan)
            told_by = f"{found:.2f} ({found / parent:.2f})"
            if title == "FLAP":
                moved = judge.perplexity(held["code"], plan, means=activity)
                told_by += f", with its means in biases {moved:.2f} ({moved / parent:.2f})"
            print(f"{share:.0%} | {title}, hidden units | code {told_by}", flush=True)
        gone = round((1 - share) * model.backbone.num_layers)
        keep = nns.top(model.backbone.num_layers - gone, scope="global")
        plan = nns.select(activity, "code", score=nns.scores.block_influence, keep=keep)
        found = judge.perplexity(held["code"], plan)
        print(
            f"{share:.0%} | block influence | code {found:.2f} ({found / parent:.2f})", flush=True
        )
        plan = by_loss(model, activity, ours, share)
        found = judge.perplexity(held["code"], plan)
        heads = sum(len(units) for name, units in plan.kept.items() if name.endswith(":heads"))
        print(
            f"{share:.0%} | branch reconstruction, {heads} of 90 heads and hidden units of all "
            f"blocks by loss for size | code {found:.2f} ({found / parent:.2f})",
            flush=True,
        )
        if share in refit:
            refitted(model, plan, (seen, held), share, parent)


def by_loss(model, activity, score, share: float) -> nns.Plan:
    """Choose heads and hidden units as `extract` does."""
    graph = trace(model)
    values = {name: found[0] for name, found in score(activity).items()}
    tables = model.backbone.token_embedding.count_params()
    allowed = tables + int(share * (model.count_params() - tables))
    kept = {n: np.flatnonzero(m).tolist() for n, m in Sizes(graph, values).by_loss(allowed).items()}
    group_sizes = {group.name: group.size for group in graph.layout.prunable}
    every = {name: tuple(range(size)) for name, size in group_sizes.items()}
    return nns.Plan(
        graph.fingerprint, group_sizes, every | {name: tuple(units) for name, units in kept.items()}
    )


def refitted(model, plan, texts, share: float, parent: float) -> None:
    """Cut, refit the ends of branches, and judge on all kinds."""
    seen, held = texts
    small = nns.cut(model, plan)
    start = time.perf_counter()
    steps = nns.steps.least_squares(ridge=RIDGE)
    small = nns.repair(small, model, seen, steps=steps, batch_size=8).model
    print(f"refitted in {time.perf_counter() - start:.0f} s", flush=True)
    rows = np.concatenate(list(held.values()))
    of = np.repeat(np.arange(len(held)), len(held["code"]))
    told = {"label_names": list(held), "batch_size": 4, "allow_overlap": True}
    found = nns.perplexity({"ours": small}, smollm2.inputs(rows), of, **told)
    code = found["ours", "code"].perplexity
    print(f"{share:.0%} | the same, refitted | code {code:.2f} ({code / parent:.2f})")
    print(found, flush=True)


class Silenced:
    """A parent whose units are silenced by zeroing what reads them, judged by one compiled step."""

    def __init__(self, model) -> None:
        self._model = model
        self._blocks = model.backbone.transformer_layers
        ends = [self._ends(block) for block in self._blocks]
        # Named before the step is compiled: FLAP puts means of what is gone there.
        for out, down in ends:
            for dense in (out, down):
                # Past Keras's book of weights, which is closed: only its call is to find it.
                vars(dense)["bias"] = keras.Variable(np.zeros(model.backbone.hidden_dim, "float32"))
        self._whole = [[np.array(dense.kernel) for dense in pair] for pair in ends]

    @staticmethod
    def _ends(block):
        return block._self_attention_layer._output_dense, block._feedforward_output_dense

    def perplexity(self, tokens, plan=None, means=None) -> float:
        """Return the perplexity of windows, the units that a plan leaves out silenced."""
        for block, kernels in zip(self._blocks, self._whole, strict=True):
            out, down = (kernel.copy() for kernel in kernels)
            moved = np.zeros(out.shape[-1], "float32")
            if plan is not None:
                # The plan is of another copy, whose backbone has a name of its own.
                name = next(n for n in plan.kept if f"/{block.name}:" in n).rpartition(":")[0]
                hidden = np.setdiff1d(np.arange(len(down)), plan.kept[f"{name}:hidden"])
                heads = np.arange(len(out)) // (len(out) // plan.sizes[f"{name}:heads"])
                out[~np.isin(heads, plan.kept[f"{name}:heads"])] = 0.0
                if means is not None:
                    moved = means.mean(f"{name}:hidden")[0][hidden] @ down[hidden]
                down[hidden] = 0.0
                if not plan.kept[f"{name}:block"]:
                    out[:], down[:] = 0.0, 0.0
            for dense, kernel in zip(self._ends(block), (out, down), strict=True):
                dense.kernel.assign(kernel)
            self._ends(block)[1].bias.assign(moved)
        found = smollm2.perplexity(self._model, tokens)
        for block, kernels in zip(self._blocks, self._whole, strict=True):
            for dense, kernel in zip(self._ends(block), kernels, strict=True):
                dense.kernel.assign(kernel)
            self._ends(block)[1].bias.assign(np.zeros(kernels[1].shape[-1], "float32"))
        return found


def _shares(text: str) -> list[float]:
    return [float(part) for part in text.split(",")]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--windows", type=int, default=12)
    parser.add_argument("--shares", type=_shares, default=[0.9, 0.8, 0.7, 0.6, 0.5])
    parser.add_argument(
        "--refit", type=_shares, help="the shares at which what is left is refitted (default: all)"
    )
    given = parser.parse_args()
    sizes(given.windows, given.shares, given.shares if given.refit is None else given.refit)
