"""Language models of KerasHub as files: the forward pass, and generation with a cache."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter

import tflite_export

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_spec("keras_hub") is None, reason="needs KerasHub: pip install 'keras-nns[hub]'"
    ),
    pytest.mark.filterwarnings(
        "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning",
    ),
]

CACHE, PREFILL = 16, 4
ALWAYS = ("Gemma", "GPT-2", "Qwen 2.5")
"""Families that the table is held to in every run; Llama is what the other tests are of."""

RUN = """
import sys, litert_lm
from litert_lm import interfaces
engine = litert_lm.Engine(
    sys.argv[1], backend=interfaces.Backend.CPU(thread_count=1), cache_dir=":nocache"
)
greedy = interfaces.SamplerConfig(top_k=1, top_p=1.0, temperature=1.0, seed=0)
session = engine.create_session(apply_prompt_template=False, sampler_config=greedy)
session.run_prefill([sys.argv[2]])
print("answer", session.run_decode().texts[0])
"""
LETTERS = "abcdefghijklmnopqrstuvwxyz.,;:"


@pytest.fixture(scope="module")
def hub() -> Any:
    import hub_generation

    return hub_generation


@pytest.fixture(scope="module")
def llama(hub: Any) -> Any:
    return hub.task("Llama")


@pytest.fixture(scope="module")
def flat(llama: Any) -> bytes:
    return tflite_export.convert_generative(llama, cache_length=CACHE, prefill_length=PREFILL)


@pytest.fixture(scope="module")
def generator(flat: bytes) -> tflite_export.Generator:
    return tflite_export.Generator(flat)


def prompt(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(1, 30, count)


def without_cache(lm: Any, tokens: np.ndarray, length: int) -> np.ndarray:
    """Decode greedily, one whole forward pass for each token."""
    ids = np.zeros((1, length), int)
    ids[0, : len(tokens)] = tokens
    for place in range(len(tokens), length):
        given = {"token_ids": ids, "padding_mask": np.ones_like(ids)}
        ids[0, place] = np.asarray(lm(given))[0, place - 1].argmax()
    return ids[0]


@pytest.mark.parametrize("count", [1, 2, 5, 9, 14, 15, 16])
def test_tokens_are_those_of_the_model_without_a_cache(
    count: int, generator: tflite_export.Generator, llama: Any
) -> None:
    written = generator.generate(prompt(count))
    np.testing.assert_array_equal(written, without_cache(llama, prompt(count), CACHE))
    assert written.dtype == np.int32


def test_scores_behind_a_beginning_are_the_models(
    generator: tflite_export.Generator, llama: Any
) -> None:
    text = prompt(CACHE, seed=5)
    whole = np.asarray(llama({"token_ids": text[None], "padding_mask": np.ones((1, CACHE), int)}))[
        0
    ]
    for start in (0, 3, 4, 11, 13, 15):
        found = generator.scores(text, start=start)
        np.testing.assert_allclose(found, whole[start:], atol=1e-5 * np.abs(whole).max())


def test_an_answer_ends_where_it_is_told_to(generator: tflite_export.Generator) -> None:
    whole = generator.generate(prompt(5))
    assert len(generator.generate(prompt(5), max_new_tokens=3)) == 8
    ended = generator.generate(prompt(5), stop_tokens=[int(whole[6])])
    np.testing.assert_array_equal(ended, whole[: len(ended)])
    assert ended[-1] == whole[6]
    assert list(generator.stream(prompt(5), max_new_tokens=2)) == whole[5:7].tolist()
    least = generator.generate(prompt(5), max_new_tokens=1, choose=lambda scores: scores.argmin())
    assert least[-1] == generator.scores(prompt(5), start=4)[0].argmin()


@pytest.mark.parametrize("start", [-1, 5, 6])
def test_scores_of_no_token_are_refused(generator: tflite_export.Generator, start: int) -> None:
    with pytest.raises(tflite_export.OptionError, match="leave a token to score, 0 to 4"):
        generator.scores(prompt(5), start=start)


@pytest.mark.parametrize(
    ("tokens", "said"),
    [
        ([], "one token or more"),
        ([[1, 2]], "one token or more"),
        ([1.5], "whole numbers"),
        ([1, 30], "knows 30 tokens"),
        ([-1], "knows 30 tokens"),
        ([1] * 17, "holds 16 tokens"),
    ],
)
def test_what_is_no_prompt_is_refused(
    tokens: list[Any], said: str, generator: tflite_export.Generator
) -> None:
    with pytest.raises(tflite_export.OptionError, match=said):
        generator.generate(tokens)


def test_the_file_has_the_names_and_shapes_that_runtimes_look_for(flat: bytes) -> None:
    signatures = Interpreter(model_content=flat).get_signature_list()
    caches = [f"kv_cache_{kind}_{layer}" for kind in "kv" for layer in (0, 1)]
    assert sorted(signatures["prefill"]["inputs"]) == sorted(["tokens", "input_pos", *caches])
    assert sorted(signatures["prefill"]["outputs"]) == sorted(caches)
    assert sorted(signatures["decode"]["outputs"]) == sorted(["logits", *caches])
    runner = Interpreter(model_content=flat).get_signature_runner("decode")
    # Two key and value heads of four numbers; the tokens on the last axis but one.
    assert tuple(runner.get_input_details()["kv_cache_k_0"]["shape"]) == (1, 1, CACHE, 8)


def test_a_file_is_verified_and_another_models_is_refused(
    flat: bytes, llama: Any, hub: Any
) -> None:
    found = tflite_export.verify(flat, llama, hub.texts())
    assert found.relative < 1e-5
    # Of twelve tokens the first six are prefilled, and five of those behind them foretold.
    assert found.tokens.tokens == 3 * 5
    padded = hub.texts()
    padded["padding_mask"] = padded["padding_mask"] * (np.arange(12) < 8)
    with pytest.raises(tflite_export.VerificationError, match="without padding"):
        tflite_export.verify(flat, llama, padded)
    weight = llama.backbone.layers[-1].weights[-1]
    before = weight.numpy()
    weight.assign(before + 0.5)
    try:
        with pytest.raises(tflite_export.VerificationError, match="is away from the model"):
            tflite_export.verify(flat, llama, hub.texts())
    finally:
        weight.assign(before)


@pytest.mark.parametrize("quantize", ["dynamic", {"*": "dynamic_int4"}])
def test_variants_of_a_file_that_generates(
    quantize: Any, flat: bytes, llama: Any, hub: Any
) -> None:
    pytest.importorskip("ai_edge_quantizer")
    small = tflite_export.convert_generative(
        llama, cache_length=CACHE, prefill_length=PREFILL, quantize=quantize
    )
    assert len(small) < len(flat)
    loose = tflite_export.Tolerance(rms=0.2)
    assert tflite_export.verify(small, llama, hub.texts(), tolerance=loose).tokens is not None


def test_what_cannot_be_asked_for_is_refused(llama: Any, hub: Any) -> None:
    convert = tflite_export.convert_generative
    with pytest.raises(tflite_export.OptionError, match="cache_length must be"):
        convert(llama, cache_length=0)
    with pytest.raises(tflite_export.OptionError, match="prefill_length must be"):
        convert(llama, cache_length=4, prefill_length=5)
    with pytest.raises(tflite_export.OptionError, match="ranges are measured"):
        convert(llama, cache_length=4, quantize="int8")
    with pytest.raises(tflite_export.OptionError, match="knows 20 positions"):
        convert(hub.task("GPT-2"), cache_length=20, prefill_length=2)


def test_a_cut_model_generates_as_before(llama: Any) -> None:
    import keras_nns as nns
    from keras_nns.graph.tracing import trace

    graph = trace(llama)
    sizes = {group.name: group.size for group in graph.layout.prunable}
    kept = {n: (0, 2, 3, 7) if n.endswith("hidden") else (*range(s),) for n, s in sizes.items()}
    small = nns.cut(llama, nns.Plan(graph.fingerprint, sizes, kept))
    made = tflite_export.convert_generative(small, cache_length=CACHE, prefill_length=PREFILL)
    written = tflite_export.Generator(made).generate(prompt(6))
    np.testing.assert_array_equal(written, without_cache(small, prompt(6), CACHE))


@pytest.mark.parametrize("name", ALWAYS)
def test_the_table_of_families(name: str, hub: Any) -> None:
    check(name, hub)


@pytest.mark.skipif("KERAS_NNS_ALL_FAMILIES" not in os.environ, reason="takes minutes")
def test_the_whole_table_of_families(hub: Any) -> None:
    for name in json.loads(hub.RECORD.read_text()):
        check(name, hub)


def check(name: str, hub: Any) -> None:
    """Hold a family to its row: what runs is exact, and what does not is refused."""
    recorded = json.loads(hub.RECORD.read_text())[name]
    lm = hub.task(name)
    for what, found in (("forward", hub.forward(lm)), ("generation", hub.generation(lm))):
        if recorded[what][0].isdigit():
            assert float(found) < 1e-4, (name, what, found)
        else:
            assert found.split(":")[0] == recorded[what].split(":")[0], (name, what, found)


def test_the_page_shows_the_table(hub: Any) -> None:
    shown = hub.PAGE.read_text().split(hub.MARKS[0])[1].split(hub.MARKS[1])[0]
    assert shown.strip().splitlines() == hub.table(json.loads(hub.RECORD.read_text()))


def test_the_command_line_writes_a_file_that_generates(
    llama: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from tflite_export.cli import main

    llama.save(tmp_path / "lm.keras")
    output = tmp_path / "lm.tflite"
    command = ["export", str(tmp_path / "lm.keras"), "-o", str(output), "--cache-length", "16"]
    assert main([*command, "--sequence-length", "8"]) == 1
    assert "leave --sequence-length out" in capsys.readouterr().err
    assert main(command) == 0
    written = tflite_export.Generator(output).generate(prompt(5))
    np.testing.assert_array_equal(written, without_cache(llama, prompt(5), CACHE))


def tokenizer() -> Any:
    tokenizers = pytest.importorskip("tokenizers")
    numbers = {letter: number for number, letter in enumerate(LETTERS)}
    made = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=numbers, merges=[]))
    made.decoder = tokenizers.decoders.Fuse()
    return made


def test_litert_lm_writes_the_models_tokens(flat: bytes, llama: Any, tmp_path: Path) -> None:
    pytest.importorskip("litert_lm_builder")
    path = tflite_export.to_litertlm(
        flat, tmp_path / "llama.litertlm", tokenizer=tokenizer(), stop_tokens=[0]
    )
    if find_spec("litert_lm") is None:
        pytest.skip("needs LiteRT-LM: pip install litert-lm-api")
    for count in (2, 6, 11):
        asked = "".join(LETTERS[token] for token in prompt(count))
        done = subprocess.run(
            [sys.executable, "-c", RUN, str(path), asked],
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
        answer = next(line for line in done.stdout.splitlines() if line.startswith("answer "))
        expected = without_cache(llama, prompt(count), CACHE)[count:].tolist()
        expected = expected[: expected.index(0)] if 0 in expected else expected
        assert [LETTERS.index(letter) for letter in answer[7:]] == expected


def test_what_litert_lm_cannot_hold_is_refused(flat: bytes, tmp_path: Path) -> None:
    pytest.importorskip("litert_lm_builder")
    wanted = tmp_path / "llama.litertlm"
    given: dict[str, Any] = {"tokenizer": tokenizer(), "stop_tokens": [0]}
    for wrong, said in (
        ({"stop_tokens": []}, "stop_tokens is empty"),
        ({"stop_tokens": [30]}, "knows 30"),
        ({"start_token": -1}, "knows 30"),
        ({"tokenizer": 3}, "cannot be packed"),
        ({"tokenizer": "words.txt"}, "cannot be packed"),
    ):
        with pytest.raises(tflite_export.OptionError, match=said):
            tflite_export.to_litertlm(flat, wanted, **given | wrong)
    with pytest.raises(tflite_export.OptionError, match=r"end in \.litertlm"):
        tflite_export.to_litertlm(flat, tmp_path / "llama.bin", **given)
    wanted.write_bytes(b"mine")
    with pytest.raises(tflite_export.ExportFileError, match="exists already"):
        tflite_export.to_litertlm(flat, wanted, **given)
    assert wanted.read_bytes() == b"mine"
