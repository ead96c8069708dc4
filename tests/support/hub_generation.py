"""What families of KerasHub come to as `.tflite`: the forward pass, and generation with a cache.

    python tests/support/hub_generation.py [FAMILY ...]

writes `hub_generation.json` beside it, and the table of docs/sequences.md. Small random weights.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from hub_families import FAMILIES, models

import tflite_export

ROOT = Path(__file__).parents[2]
RECORD = Path(__file__).with_suffix(".json")
PAGE = ROOT / "docs" / "sequences.md"
MARKS = ("<!-- generation -->", "<!-- /generation -->")
NAMES = (
    "Llama", "Llama 3", "SmolLM", "Mistral", "Qwen 2.5", "Qwen 3", "Phi-3", "Gemma", "Gemma 2",
    "Gemma 3", "GPT-2", "GPT-NeoX", "OPT", "Bloom", "Falcon", "Mixtral", "Qwen MoE", "Qwen 3 MoE",
    "GPT-OSS",
)  # fmt: skip
"""Families whose tasks generate."""

LENGTH, START, TOKENS = 12, 5, 30


def task(name: str) -> Any:
    """A task that generates, with random weights of a size that makes its answers differ."""
    backbone = FAMILIES[name].build()
    kind = getattr(models, type(backbone).__name__.replace("Backbone", "CausalLM"))
    lm = kind(backbone=backbone, preprocessor=None)
    rng = np.random.default_rng(7)
    for weight in lm.weights:
        drawn = 0.4 * rng.standard_normal(weight.shape)
        weight.assign(1 + drawn if weight.path.endswith(("scale", "gamma")) else drawn)
    lm.compile(sampler="greedy", jit_compile=False)
    return lm


def texts(count: int = 3) -> dict[str, np.ndarray]:
    """Texts in tokens, as a task takes them."""
    ids = np.random.default_rng(1).integers(1, TOKENS, (count, LENGTH))
    return {"token_ids": ids, "padding_mask": np.ones_like(ids)}


def greedy(lm: Any, prompt: np.ndarray) -> np.ndarray:
    """What KerasHub's own `generate` makes of a prompt, up to `LENGTH` tokens."""
    ids = np.zeros((1, LENGTH), int)
    ids[0, : len(prompt)] = prompt
    if "Gemma3" in type(lm).__name__:
        # Its `generate` asks for pictures where there is no preprocessor: a pass for each token.
        for place in range(len(prompt), LENGTH):
            given = {"token_ids": ids, "padding_mask": np.ones_like(ids)}
            ids[0, place] = np.asarray(lm(given))[0, place - 1].argmax()
        return ids[0]
    mask = (np.arange(LENGTH) < len(prompt)).astype(int)[None]
    given = {"token_ids": ids, "padding_mask": mask}
    return np.asarray(lm.generate(given, stop_token_ids=None)["token_ids"])[0]


def forward(lm: Any) -> str:
    """Convert the forward pass, and say how far the file is."""
    try:
        flat = tflite_export.convert(lm, sequence_length=LENGTH)
        return f"{tflite_export.verify(flat, lm, texts()).relative:.0e}"
    except tflite_export.ExportError as error:
        return said(error)


def generation(lm: Any) -> str:
    """Convert what generates, and say whether it writes KerasHub's own tokens."""
    try:
        flat = tflite_export.convert_generative(lm, cache_length=LENGTH, prefill_length=4)
        relative = tflite_export.verify(flat, lm, texts()).relative
    except tflite_export.ExportError as error:
        return said(error)
    generator = tflite_export.Generator(flat)
    for prompt in texts()["token_ids"][:, :START]:
        written = generator.generate(prompt)
        if not np.array_equal(written, greedy(lm, prompt)):
            return "other tokens"
    return f"{relative:.0e}"


def said(error: Exception) -> str:
    """The beginning of an error."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:240]}"


def table(measured: dict[str, dict[str, str]]) -> list[str]:
    """The table of the page."""
    rows = ["| family | forward pass | generation |", "| --- | --- | --- |"]
    return [
        *rows,
        *(f"| {n} | {measured[n]['forward']} | {measured[n]['generation']} |" for n in measured),
    ]


def main() -> None:
    """Measure, and write the record and the page."""
    measured = json.loads(RECORD.read_text()) if RECORD.exists() else {}
    for name in sys.argv[1:] or NAMES:
        lm = task(name)
        measured[name] = {"forward": forward(lm), "generation": generation(lm)}
        RECORD.write_text(
            json.dumps({n: measured[n] for n in NAMES if n in measured}, indent=1) + "\n"
        )
    before, rest = PAGE.read_text().split(MARKS[0])
    made = "\n".join(table(json.loads(RECORD.read_text())))
    PAGE.write_text(f"{before}{MARKS[0]}\n{made}\n{MARKS[1]}{rest.split(MARKS[1])[1]}")


if __name__ == "__main__":
    main()
