"""SmolLM2 cut for Python code: perplexity of each kind of text, and tokens per second.

    python benchmarks/language_model.py check     # the reader beside llama-cpp-python, same file
    python benchmarks/language_model.py blocks    # whole blocks out, by their influence on code
    python benchmarks/language_model.py hidden    # hidden units out, and what is left refitted
    python benchmarks/language_model.py speed     # tokens per second with fewer hidden units
    python benchmarks/language_model.py vocabulary   # tokens out that code does not use

Needs what `smollm2.py` names, `check` also llama-cpp-python. Windows of 128 tokens, held out by
file; seeds fixed. Perplexity in brackets is that of the other kinds of text.
"""

from __future__ import annotations

import argparse
import time
from functools import partial
from pathlib import Path

import numpy as np
import smollm2
from timing import machine, side_by_side

import keras_nns as nns


def check(windows: int) -> None:
    """Compare next tokens and perplexity with llama.cpp on the same file."""
    import llama_cpp

    model, tokenizer = smollm2.read()
    theirs = llama_cpp.Llama(
        str(smollm2.model_file()), n_ctx=smollm2.WINDOW, logits_all=True, verbose=False, n_threads=1
    )
    tokens = np.concatenate(
        [
            smollm2.windows(tokenizer, kind, windows // 2, held_out=True)
            for kind in ("code", "licences")
        ]
    )
    same, ours, others = [], [], []
    for row in tokens:
        theirs.reset()
        theirs.eval(row.tolist())
        logits = np.array(theirs.scores[: len(row)], np.float64)
        mine = np.asarray(smollm2.logits(model, row[None])[0], np.float64)
        same.append(logits.argmax(-1) == mine.argmax(-1))
        ours.append(smollm2.losses(mine, row))
        others.append(smollm2.losses(logits, row))
    positions = np.concatenate(same)
    print(f"{positions.size} positions: same next token {positions.mean():.2%}")
    mine, other = (float(np.exp(np.concatenate(found).mean())) for found in (ours, others))
    print(f"perplexity {mine:.3f}, of llama.cpp {other:.3f} ({mine / other - 1:+.2%})")


def speed(model, tokens) -> tuple[float, float]:
    """Return tokens per second of a prompt of a window, and of generation behind it."""
    row = tokens[:1]
    prompts = []
    for _ in range(5):
        start = time.perf_counter()
        smollm2.logits(model, row)
        prompts.append(row.size / (time.perf_counter() - start))
    half = smollm2.WINDOW // 2
    mask = (np.arange(smollm2.WINDOW) < half).astype("int32")[None]
    prompt = {"token_ids": row * mask, "padding_mask": mask}
    model.generate(prompt, stop_token_ids=None)
    start = time.perf_counter()
    model.generate(prompt, stop_token_ids=None)
    return float(np.median(prompts)), half / (time.perf_counter() - start)


def blocks(windows: int) -> None:
    """Take the blocks out that turn code the least."""
    model, tokenizer = smollm2.read()
    seen = smollm2.windows(tokenizer, "code", windows, held_out=False)
    held = {k: smollm2.windows(tokenizer, k, windows, held_out=True) for k in smollm2.KINDS}
    start = time.perf_counter()
    activity = nns.observe(
        model,
        (smollm2.inputs(seen), np.zeros(len(seen), int)),
        label_names=["code"],
        batch_size=4,
        verbose=False,
    )
    print(f"observed {seen.size} tokens in {time.perf_counter() - start:.0f} s")
    report(model, held, 0)
    for gone in (3, 6, 9):
        keep = nns.top(model.backbone.num_layers - gone, scope="global")
        plan = nns.select(activity, "code", score=nns.scores.block_influence, keep=keep)
        start = time.perf_counter()
        small = nns.cut(model, plan)
        print(f"cut in {time.perf_counter() - start:.1f} s: {type(small).__name__}")
        report(small, held, gone)


def report(model, held, gone: int) -> None:
    """Print one row of the table."""
    found = {kind: smollm2.perplexity(model, tokens) for kind, tokens in held.items()}
    others = ", ".join(f"{kind} {value:.1f}" for kind, value in found.items() if kind != "code")
    prompt, generation = speed(model, held["code"])
    print(
        f"{gone} of 30 blocks out | {model.count_params() / 1e6:.1f} M | code {found['code']:.2f} "
        f"({others}) | {prompt:.0f} and {generation:.1f} tokens/s",
        flush=True,
    )


def hidden(windows: int, shares: list[float]) -> None:
    """Take hidden units of every block out, by several scores, down to shares of the decoder.

    All through the same cut, at the same size. Scores are of windows of code that nothing is judged
    on; the repair is fitted on the same windows. Nothing is chosen on what is held out.
    """
    model, tokenizer = smollm2.read()
    seen = smollm2.inputs(smollm2.windows(tokenizer, "code", 4 * windows, held_out=False))
    held = {k: smollm2.windows(tokenizer, k, windows, held_out=True) for k in smollm2.KINDS}
    texts = smollm2.inputs(np.concatenate(list(held.values())))
    kinds = np.repeat(np.arange(len(held)), windows)
    activity = nns.observe(
        model,
        (seen, np.zeros(4 * windows, int)),
        label_names=["code"],
        statistics=["mean", "mean_square"],
        batch_size=4,
        verbose=False,
    )
    scores = {
        "random": nns.scores.random_units(0),
        "magnitude": nns.scores.magnitude(model),
        "mean activation": nns.scores.mean_activation,
        "Wanda": nns.scores.wanda(model),
    }
    told = {"label_names": list(held), "batch_size": 4}
    whole = nns.perplexity({"whole": model}, texts, kinds, **told)
    print(whole, flush=True)
    decoder = whole.sizes["whole"].without_embeddings
    sizes = {group.name: group.size for group in activity.layout.prunable}
    names = [name for name in sizes if name.endswith(":hidden")]
    each = 3 * model.backbone.hidden_dim
    for share in shares:
        left = 1 - (1 - share) * decoder / (each * sum(sizes[name] for name in names))
        for title, score in scores.items():
            keep = nns.uniform(nns.fraction(left))
            plan = nns.select(activity, "code", score=score, keep=keep, groups="*:hidden")
            networks = {title: nns.cut(model, plan)}
            if title == "Wanda":
                start = time.perf_counter()
                fitted = nns.repair(
                    networks[title], model, seen, steps=nns.steps.least_squares(), batch_size=8
                )
                print(f"refitted in {time.perf_counter() - start:.0f} s", flush=True)
                networks["Wanda, refitted"] = fitted.model
            found = nns.perplexity(networks, texts, kinds, allow_overlap=True, **told)
            print(f"{share:.0%} of the decoder, {left:.1%} of hidden units")
            print(found, flush=True)


def vocabulary(windows: int, least: list[int]) -> None:
    """Take the tokens out that code does not use so often, counted on files not held out.

    What is cut tells texts in more tokens, so models are judged in bits per byte of the same texts:
    windows of 128 of the parent's tokens, of which the first is given.
    """
    model, tokenizer = smollm2.read()
    counts = nns.count_tokens(model, smollm2.texts("code", held_out=False), tokenizer=tokenizer)
    print(counts)
    others = {
        kind: nns.count_tokens(model, smollm2.texts(kind, held_out=True), tokenizer=tokenizer)
        for kind in smollm2.KINDS
    }
    pieces = {
        kind: [
            (tokenizer.decode(row[:1]), tokenizer.decode(row[1:]))
            for row in smollm2.windows(tokenizer, kind, windows, held_out=True).tolist()
        ]
        for kind in smollm2.KINDS
    }
    whole = model.count_params()
    print("min_count | tokens | parameters | one token of held-out code (others) | perplexity and")
    print("tokens of code | bits per byte of code (others)")
    for count in (0, *least):
        start = time.perf_counter()
        network, words, kept = model, tokenizer, range(len(counts.counts))
        if count:
            cut = nns.cut_vocabulary(model, counts, min_count=count, tokenizer=tokenizer)
            network, words, kept = cut.model, cut.tokenizer, cut.tokens
            print(cut)
            print(f"cut in {time.perf_counter() - start:.1f} s")
        same = {kind: counted.covered(kept) for kind, counted in others.items()}
        found = {kind: told_in(network, words, texts) for kind, texts in pieces.items()}
        code = found["code"]
        rest = [kind for kind in found if kind != "code"]
        print(
            f"{count or 'whole'} | {len(kept):,} | {network.count_params() / 1e6:.1f} M, "
            f"{network.count_params() / whole:.1%} | {same['code']:.2%} "
            f"({', '.join(f'{kind} {same[kind]:.2%}' for kind in rest)}) | "
            f"{np.exp(code['nats'] / code['tokens']):.2f}, {code['tokens']:,} | "
            f"{code['nats'] / np.log(2) / code['bytes']:.4f} ("
            + ", ".join(
                f"{kind} {found[kind]['nats'] / np.log(2) / found[kind]['bytes']:.4f}"
                for kind in rest
            )
            + ")",
            flush=True,
        )


def faster(share: float) -> None:
    """Time a prompt of a window and generation behind one, with fewer hidden units in every block.

    Which of them leave makes no difference here, so that they go by magnitude.
    """
    model, tokenizer = smollm2.read()
    tokens = smollm2.windows(tokenizer, "code", 2, held_out=True)
    activity = nns.observe(
        model, (smollm2.inputs(tokens), [0, 0]), label_names=["code"], verbose=False
    )
    hidden_units = sum(g.size for g in activity.layout.prunable if g.name.endswith(":hidden"))
    decoder = model.count_params() - model.backbone.token_embedding.count_params()
    left = 1 - (1 - share) * decoder / (3 * model.backbone.hidden_dim * hidden_units)
    thin = nns.cut(
        model,
        nns.select(
            activity,
            "code",
            score=nns.scores.magnitude(model),
            keep=nns.uniform(nns.fraction(left)),
            groups="*:hidden",
        ),
    )
    beside({"whole": model, f"{share:.0%}, hidden units": thin}, tokens[:1])


def beside(networks, row) -> None:
    """Time a prompt of a window and generation behind half of one, side by side.

    Numbers of tokens that a network does not know are taken by what is left of a division.
    """
    half = smollm2.WINDOW // 2
    mask = (np.arange(smollm2.WINDOW) < half).astype("int32")[None]
    rows = {id(m): row % m.backbone.vocabulary_size for m in networks.values()}

    def written(network):
        begun = {"token_ids": rows[id(network)] * mask, "padding_mask": mask}
        return network.generate(begun, stop_token_ids=None)

    print(machine())
    for title, work, count in (
        ("prompt", lambda m: smollm2.logits(m, rows[id(m)]), row.size),
        ("generation", written, half),
    ):
        found = side_by_side(
            {name: partial(work, network) for name, network in networks.items()}, repeats=5
        )
        for name, timing in found.items():
            size = networks[name].count_params() / 1e6
            print(
                f"{title:10} {name:18} {size:6.1f} M {count / min(timing.seconds):7.1f} tokens/s, "
                f"{1 / timing.ratio:.2f} times ({1 / max(timing.ratios):.2f} to "
                f"{1 / min(timing.ratios):.2f})",
                flush=True,
            )


def told_in(network, words, texts: list[tuple[str, str]]) -> dict[str, float]:
    """Return what a model makes of texts whose beginning is given: nats, tokens and bytes."""
    rows = [(words.encode(given).ids, words.encode(text).ids) for given, text in texts]
    longest = max(len(given) + len(text) for given, text in rows)
    nats = tokens = 0.0
    for given, text in rows:
        row = np.zeros((1, longest), np.int32)
        length = len(given) + len(text)
        row[0, :length] = [*given, *text]
        mask = (np.arange(longest) < length).astype("int32")[None]
        scores = network.predict_on_batch({"token_ids": row, "padding_mask": mask})[0]
        nats += smollm2.losses(scores[:length], row[0, :length])[len(given) - 1 :].sum()
        tokens += len(text)
    size = sum(len(text.encode()) for _, text in texts)
    return {"nats": nats, "tokens": int(tokens), "bytes": size}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=["check", "blocks", "hidden", "vocabulary", "speed"])
    parser.add_argument("--windows", type=int, default=32)
    parser.add_argument(
        "--shares",
        type=lambda text: [float(part) for part in text.split(",")],
        default=[0.9, 0.8, 0.7, 0.6, 0.5],
        help="of the decoder's parameters, for `hidden` and `speed`",
    )
    parser.add_argument(
        "--min-counts",
        type=lambda text: [int(part) for part in text.split(",")],
        default=[1, 2, 5, 20, 100],
        help="how often a token has to occur in code, for `vocabulary`",
    )
    parser.add_argument(
        "--network", type=Path, help="a network in a file, to time with `speed` instead"
    )
    given = parser.parse_args()
    if given.what == "hidden":
        hidden(given.windows, given.shares)
    elif given.what == "speed" and given.network:
        parent, tokenizer = smollm2.read()
        small = nns.load_model(given.network)
        small.compile(sampler="greedy", jit_compile=False)
        row = smollm2.windows(tokenizer, "code", 1, held_out=True)
        beside({"whole": parent, given.network.name: small}, row)
    elif given.what == "speed":
        for share in given.shares:
            faster(share)
    elif given.what == "vocabulary":
        vocabulary(given.windows, given.min_counts)
    else:
        {"check": check, "blocks": blocks}[given.what](given.windows)
