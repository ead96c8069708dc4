"""SmolLM2 for Python code: units out, refitted, distilled for a few steps; also with fewer tokens.

    python benchmarks/language_distilled.py --share 0.6            # of the decoder's parameters
    python benchmarks/language_distilled.py --vocabulary --half    # half of all parameters

Needs what `smollm2.py` names. Tokens are counted, units scored and refitted, and networks distilled
on files that nothing is judged on: two of three files of Python's library, and its packages.
Judged in nats of the same held-out windows of 128 of the parent's tokens, the first of them given,
so that networks that tell texts in other tokens stand beside the parent: `exp(nats / tokens of the
parent)` is its perplexity. Nothing is chosen on what is held out: the ridge, the rate, `alpha` and
the number of steps are defaults or given beforehand. Seeds fixed.
"""

from __future__ import annotations

import argparse
import sysconfig
import time
from pathlib import Path

import keras
import numpy as np
import smollm2
from language_model import told_in
from language_sizes import RIDGE
from timing import machine

import keras_nns as nns
from keras_nns.data.texts import Texts
from keras_nns.extraction.language_sizes import Sizes
from keras_nns.graph.tracing import trace
from keras_nns.observation.next_token import NextToken
from keras_nns.training.next_tokens import Limits, distill_next_tokens


def packages() -> list[str]:
    """Return the files of the packages of Python's library, none of which is held out."""
    library = Path(sysconfig.get_path("stdlib"))
    skipped = {"site-packages", "dist-packages", "test", "tests", "__pycache__", "idle_test"}
    found = [
        path
        for path in sorted(library.glob("*/**/*.py"))
        if not skipped & set(path.relative_to(library).parts) and path.stat().st_size > 4000
    ]
    return [path.read_text(errors="ignore")[:60_000] for path in found]


def drawn(tokenizer, texts: list[str], count: int, seed: int) -> np.ndarray:
    """Return windows `(count, WINDOW)` that no two of which overlap, at random places of texts."""
    rows = []
    for text in texts:
        ids = tokenizer.encode(text).ids
        whole = len(ids) // smollm2.WINDOW
        rows += np.reshape(ids[: whole * smollm2.WINDOW], (whole, smollm2.WINDOW)).tolist()
    assert len(rows) >= count, f"{len(rows)} windows of {count}"
    chosen = np.random.default_rng(seed).permutation(len(rows))[:count]
    return np.asarray(rows, np.int32)[chosen]


class Judge:
    """Judges networks on the same held-out texts."""

    def __init__(self, tokenizer, code: int, others: int) -> None:
        self._pieces = {}
        for kind in smollm2.KINDS:
            count = code if kind == "code" else others
            rows = smollm2.windows(tokenizer, kind, count, held_out=True).tolist()
            self._pieces[kind] = [(tokenizer.decode(r[:1]), tokenizer.decode(r[1:])) for r in rows]
        self._tokens = {kind: None for kind in smollm2.KINDS}

    def __call__(self, title: str, network, words) -> None:
        """Print what held-out texts cost a network."""
        told = {kind: told_in(network, words, texts) for kind, texts in self._pieces.items()}
        if self._tokens["code"] is None:
            self._tokens = {kind: found["tokens"] for kind, found in told.items()}
            self._whole = {k: np.exp(f["nats"] / f["tokens"]) for k, f in told.items()}
        parts = []
        for kind, found in told.items():
            value = np.exp(found["nats"] / self._tokens[kind])
            bits = found["nats"] / np.log(2) / found["bytes"]
            parts.append(
                f"{kind} {value:.2f} ({value / self._whole[kind]:.3f}), {bits:.4f} bits a byte"
            )
        size = network.count_params()
        tables = network.backbone.token_embedding.count_params()
        print(
            f"{title} | {size / 1e6:.1f} M, {(size - tables) / 1e6:.1f} without embeddings | "
            + " | ".join(parts),
            flush=True,
        )


def refitted(parent, words, seen, allowed: int, judge: Judge) -> keras.Model:
    """Cut a parent to so many parameters as `extract` does, and refit what is left."""
    kinds = np.zeros(len(seen["token_ids"]), int)
    start = time.perf_counter()
    score = nns.scores.branch_reconstruction(
        parent, (seen, kinds), label_names=["code"], batch_size=4
    )
    activity = nns.observe(parent, (seen, kinds), label_names=["code"], batch_size=4, verbose=False)
    print(f"observed and scored in {time.perf_counter() - start:.0f} s", flush=True)
    graph = trace(parent)
    values = {name: found[0] for name, found in score(activity).items()}
    kept = {n: np.flatnonzero(m).tolist() for n, m in Sizes(graph, values).by_loss(allowed).items()}
    sizes = {group.name: group.size for group in graph.layout.prunable}
    every = {name: tuple(range(size)) for name, size in sizes.items()}
    plan = nns.Plan(graph.fingerprint, sizes, every | {n: tuple(u) for n, u in kept.items()})
    small = nns.cut(parent, plan)
    judge("cut", small, words)
    start = time.perf_counter()
    steps = nns.steps.least_squares(ridge=RIDGE)
    small = nns.repair(small, parent, seen, steps=steps, batch_size=8).model
    print(f"refitted in {time.perf_counter() - start:.0f} s", flush=True)
    judge("refitted", small, words)
    return small


def main(given: argparse.Namespace) -> None:
    """Make one network, and say after every step what it is worth."""
    print(machine())
    keras.utils.set_random_seed(0)
    model, tokenizer = smollm2.read()
    judge = Judge(tokenizer, given.windows, given.others)
    judge("parent", model, tokenizer)
    whole = model.count_params()
    texts = [*smollm2.texts("code", held_out=False), *packages()]
    parent, words = model, tokenizer
    if given.vocabulary:
        start = time.perf_counter()
        done = nns.cut_vocabulary(model, texts, min_count=given.min_count, tokenizer=tokenizer)
        parent, words = done.model, done.tokenizer
        print(f"{done}\ncut in {time.perf_counter() - start:.0f} s")
        if not given.begin:
            judge(f"{len(done.tokens):,} tokens", parent, words)
    tables = parent.backbone.token_embedding.count_params()
    decoder = parent.count_params() - tables
    allowed = whole // 2 if given.half else tables + int(given.share * decoder)
    rows = drawn(words, texts, given.calibration + given.steps * given.batch, seed=0)
    seen = smollm2.inputs(rows[: given.calibration])
    if given.begin:
        small = nns.load_model(given.begin)
    else:
        small = refitted(parent, words, seen, allowed, judge)
    if given.folder and not given.begin:
        given.folder.mkdir(parents=True, exist_ok=True)
        small.save(given.folder / "refitted.keras")
    taught = rows[given.calibration :]
    count = np.arange(len(taught))
    found = distill_next_tokens(
        small,
        parent,
        Texts(smollm2.inputs(taught), count * 0, ("code",), count),
        Limits(steps=given.steps),
        asked=NextToken(parent),
        alpha=given.alpha,
        batch_size=given.batch,
    )
    print(
        f"distilled for {found.steps} steps, {found.tokens:,} tokens, in {found.seconds:.0f} s: "
        f"loss {found.loss[0]:.3f} to {found.loss[1]:.3f} nats a token",
        flush=True,
    )
    if given.folder:
        found.model.save(given.folder / "distilled.keras")
    judge("distilled", found.model, words)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--share", type=float, default=0.6, help="of the decoder's parameters")
    parser.add_argument("--half", action="store_true", help="half of all of the parent's instead")
    parser.add_argument("--vocabulary", action="store_true", help="leave out tokens first")
    parser.add_argument("--min-count", type=int, default=1, help="how often a token has to occur")
    parser.add_argument("--windows", type=int, default=32, help="held-out windows of code")
    parser.add_argument("--others", type=int, default=8, help="of each other kind")
    parser.add_argument("--calibration", type=int, default=64, help="windows to score and refit on")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch", type=int, default=4, help="windows of a step")
    parser.add_argument("--alpha", type=float, default=0.5)
    parser.add_argument("--begin", type=Path, help="a refitted network of such a folder")
    parser.add_argument("--folder", type=Path, help="where networks are kept")
    main(parser.parse_args())
