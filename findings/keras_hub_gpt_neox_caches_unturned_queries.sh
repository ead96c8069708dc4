#!/usr/bin/env bash
# KerasHub: GPT-NeoX scores the next token otherwise with its cache than without.
#
# Versions: keras-hub 0.32.0, keras 3.15.1, tensorflow 2.21.0.
# Guess: a cache saves work and changes nothing: the scores of token 5, given the cache of tokens 0
#   to 4, are those of the whole forward pass, and `generate` is greedy decoding.
# Happens: rotary positions are counted from 0 in each call. Queries of the one token that is asked
#   for are turned as those of position 0, while the keys in the cache, kept unturned, are turned
#   by their places. The first token is right, since the prompt is scored in one call.
# Seen:
#   with and without the cache, of scores up to 3.5: GPT-NeoX apart by 0.5; Llama by 4e-07
set -euo pipefail
unset PYTHONPATH KERAS_BACKEND
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
python3 -m venv venv
venv/bin/pip install --quiet keras-hub==0.32.0 keras==3.15.1 tensorflow==2.21.0
TF_CPP_MIN_LOG_LEVEL=3 venv/bin/python -W ignore - 2>/dev/null <<'PYTHON'
import numpy as np
from keras_hub import models

COMMON = {"vocabulary_size": 30, "num_layers": 2, "hidden_dim": 16, "intermediate_dim": 12}


def apart(task):
    rng = np.random.default_rng(0)
    task.set_weights([rng.normal(size=w.shape) * 0.5 for w in task.weights])
    ids = rng.integers(1, 30, (3, 8))
    whole = np.asarray(task({"token_ids": ids, "padding_mask": np.ones_like(ids)}))
    _, cache = task._build_cache(ids)
    scores, _, _ = task.call_with_cache(ids[:, 5:6], cache, 5)
    return np.abs(np.asarray(scores)[:, 0] - whole[:, 5]).max(), np.abs(whole[:, 5]).max()


neox = models.GPTNeoXBackbone(
    **COMMON, num_heads=4, rotary_percentage=0.5, max_sequence_length=20
)
llama = models.LlamaBackbone(**COMMON, num_query_heads=4, num_key_value_heads=2)
far, scale = apart(models.GPTNeoXCausalLM(neox, preprocessor=None))
near, _ = apart(models.LlamaCausalLM(llama, preprocessor=None))
print(
    f"with and without the cache, of scores up to {scale:.1f}: GPT-NeoX apart by {far:.1f}; "
    f"Llama by {near:.0e}"
)
assert near < 1e-4 < 0.1 < far
PYTHON
