"""SmolLM2 as `.tflite`: bytes, and perplexity beside Keras's; the file that generates, its speed.

    python benchmarks/language_files.py [forward|generate] [--windows N] [--variants NAME ...]

Needs what `smollm2.py` names and the extra `quantize`; `blocks` stands for ai-edge-quantizer's int4
with a scale for each 32 weights. Windows of 128 tokens of Python code, held out by file; seed 0.
A conversion takes minutes and 7 GB.
"""

from __future__ import annotations

import argparse
import gc
import time

import numpy as np
import smollm2
from timing import machine

import tflite_export

VARIANTS = ("float32", "dynamic", "weight_int4", "dynamic_int4", "blocks")
CACHE, PREFILL, PROMPT = 256, 32, 64


def recipe(name: str):
    if name != "blocks":
        return name
    from ai_edge_quantizer import recipe as recipes

    return recipes.dynamic_wi4b32_afp32()


def forward(model, tokens, variants) -> None:
    """The forward pass of a window."""
    texts = smollm2.inputs(tokens)
    for name in variants:
        start = time.perf_counter()
        flat = tflite_export.convert(model, quantize=recipe(name), sequence_length=smollm2.WINDOW)
        took = time.perf_counter() - start
        found = tflite_export.verify(flat, model, texts, tolerance=tflite_export.Tolerance())
        print(
            f"{name}: {len(flat):,} bytes, perplexity {found.tokens.file:.2f} "
            f"({found.tokens.model:.2f} in Keras, {found.tokens.ratio:.3f}x), "
            f"{found.agreement:.1%} same next tokens, rms {found.rms:.2%}, largest "
            f"{found.relative:.2g}; converted in {took:.0f} s",
            flush=True,
        )
        del flat
        gc.collect()


def generate(model, tokens, variants) -> None:
    """Prefill and decode with a cache, beside KerasHub's own greedy decoding."""
    row = tokens[0]
    ids = np.zeros((1, CACHE), np.int32)
    ids[0, :PROMPT] = row[:PROMPT]
    mask = (np.arange(CACHE) < PROMPT).astype(np.int32)[None]
    asked = {"token_ids": ids[:, : smollm2.WINDOW], "padding_mask": mask[:, : smollm2.WINDOW]}
    own = np.asarray(model.generate(asked, stop_token_ids=None)["token_ids"])[0]
    start = time.perf_counter()
    model.generate(asked, stop_token_ids=None)
    added = smollm2.WINDOW - PROMPT
    print(f"KerasHub: {added / (time.perf_counter() - start):.1f} tokens a second, prompt read in")
    for name in variants:
        start = time.perf_counter()
        flat = tflite_export.convert_generative(
            model, quantize=recipe(name), cache_length=CACHE, prefill_length=PREFILL
        )
        took = time.perf_counter() - start
        generator = tflite_export.Generator(flat)
        generator.generate(row[:2], max_new_tokens=2)
        start = time.perf_counter()
        written = generator.generate(row[:PROMPT], max_new_tokens=added)
        speed = added / (time.perf_counter() - start)
        same = int((written != own).argmax()) - PROMPT if (written != own).any() else added
        found = tflite_export.verify(
            flat, model, smollm2.inputs(tokens[:2]), tolerance=tflite_export.Tolerance()
        )
        print(
            f"{name}: {len(flat):,} bytes, {speed:.1f} tokens a second, prompt read in; the first "
            f"{same} of {added} tokens are KerasHub's; perplexity of the second halves of 2 "
            f"windows {found.tokens.file:.2f} ({found.tokens.model:.2f} in Keras); converted in "
            f"{took:.0f} s",
            flush=True,
        )
        del flat, generator
        gc.collect()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", choices=("forward", "generate"), nargs="?", default="forward")
    parser.add_argument("--windows", type=int, default=12)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=VARIANTS)
    given = parser.parse_args()
    print(machine())
    model, tokenizer = smollm2.read()
    tokens = smollm2.windows(tokenizer, "code", given.windows, held_out=True)
    {"forward": forward, "generate": generate}[given.what](model, tokens, given.variants)


if __name__ == "__main__":
    main()
